"""The UI in a browser: objects are launched by clicks, and the pages that the README shows are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from passari_dagster.workflow.audit import events
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.running import Running
from passari_dagster_tests.screenshots import (
    CHROMIUM,
    DRIVER,
    ENQUEUE,
    FREEZE,
    LARGEST,
    WORKBENCH,
    Browser,
    browser_at,
    launch_by_clicks,
    launch_in_the_launchpad,
    photograph_pages,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("system"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="no Chromium installed"),
]


@pytest.fixture(scope="module")
def browser(running: Running) -> Iterator[Browser]:
    with browser_at(running) as opened:
        yield opened


def test_three_objects_picked_and_launched_by_clicks_end_preserved(
    running: Running, browser: Browser, tmp_path: Path
) -> None:
    ids = running.good_objects()[10:13]
    assert running.stages(*ids) == ["new"] * 3
    backfill = launch_by_clicks(browser, ids, tmp_path / "backfill-dialog.png")
    running.wait_until("preserved", *ids)

    data = running.webserver.ask(
        "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ...on PartitionBackfill {"
        " partitionNames partitionSetName } } }",
        id=backfill,
    )["partitionBackfillOrError"]
    assert data == {
        "partitionNames": [str(id_) for id_ in ids],
        "partitionSetName": "preserve_object_partition_set",
    }
    for object_id in ids:
        first, confirm = running.runs_of(object_id)
        assert {"key": "dagster/backfill", "value": backfill} in running.details(first["runId"])["tags"]
        assert confirm["parentRunId"] == first["runId"]
        assert len(running.received(object_id)) == 1


def test_objects_are_enqueued_and_frozen_in_the_launchpad_by_typing_and_clicks(
    running: Running, browser: Browser, tmp_path: Path
) -> None:
    enqueued, frozen = running.good_objects()[15:17], running.good_objects()[17:19]
    picture = tmp_path / "launchpad.png"
    run_id = launch_in_the_launchpad(browser, "enqueue_objects", ENQUEUE.format(enqueued), picture)
    browser.see("RUN_SUCCESS", "2 objects enqueued")
    assert running.webserver.output_numbers(run_id)["enqueued"] == 2

    run_id = launch_in_the_launchpad(browser, "freeze_objects", FREEZE.format(frozen), picture)
    browser.see("RUN_SUCCESS", "frozen")
    assert running.webserver.output_numbers(run_id) == {"frozen": 2}
    assert running.stages(*frozen) == ["frozen"] * 2
    with running.environment() as env, env.transaction() as session:
        event = events(session, limit=1, object_id=frozen[0])[0]
    assert (event.who, event.action, event.reason) == ("unknown (ui)", "freeze_objects", "Rights are not cleared")
    assert event.object_ids == tuple(frozen)
    running.wait_until("preserved", *enqueued)


def test_every_page_that_the_readme_shows_is_there_and_whole(
    running: Running, browser: Browser, tmp_path: Path
) -> None:
    object_id = running.good_objects()[10]
    if running.stages(object_id) != ["preserved"]:
        running.enqueue(object_id)
        running.wait_until("preserved", object_id)
    photograph_pages(running, browser, object_id, tmp_path)

    images = PROJECT / "docs" / "images"
    taken = {path.name for path in tmp_path.iterdir()} | WORKBENCH
    taken |= {"backfill-dialog.png", "launchpad-enqueue.png", "launchpad-freeze.png"}
    kept = {path.name for path in images.iterdir()}
    assert kept <= taken, "each picture can be taken again"
    shown = re.findall(r"docs/images/([\w.-]+)", (PROJECT / "README.md").read_text(encoding="utf-8"))
    assert set(shown) <= kept
    for path in (*tmp_path.iterdir(), *images.iterdir()):
        assert path.stat().st_size < LARGEST, path.name
