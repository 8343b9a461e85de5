"""What an administrator looks at first, on the running system: the overview, the standing list, what is late."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from passari_dagster.catalogue.models import MuseumObject
from passari_dagster.workflow import audit
from passari_dagster_tests.catalogue.rows import add_package
from passari_dagster_tests.running import WORKFLOW, Running, running_system
from passari_dagster_tests.screenshots import CHROMIUM, DRIVER, LARGEST, browser_at, photograph_workbench

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("overview"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
]
REASON = "Unsupported | file format"
assert WORKFLOW["step_retries"] == 1


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_system(tmp_path_factory.mktemp("overview"), objects=40) as running:
        yield running


def materialized(system: Running, asset: str) -> dict[str, Any]:
    """The metadata of the latest materialization, as the asset's page shows it."""
    data = system.webserver.ask(
        """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ...on Asset {
            assetMaterializations(limit: 1) { metadataEntries { label ...on IntMetadataEntry { intValue }
            ...on MarkdownMetadataEntry { mdStr } } } } } }""",
        key={"path": [asset]},
    )
    entries = data["assetOrError"]["assetMaterializations"][0]["metadataEntries"]
    return {entry["label"]: entry.get("intValue", entry.get("mdStr")) for entry in entries}


def checked(system: Running, asset: str, name: str) -> dict[str, Any]:
    """The latest evaluation of a check: whether it passed, what it said, and its metadata."""
    data = system.webserver.ask(
        """query($key: AssetKeyInput!, $name: String!) {
            assetCheckExecutions(assetKey: $key, checkName: $name, limit: 1) { evaluation { success severity description
            metadataEntries { label ...on IntMetadataEntry { intValue } ...on MarkdownMetadataEntry { mdStr }
            ...on TextMetadataEntry { text } } } } }""",
        key={"path": [asset]},
        name=name,
    )
    evaluation: dict[str, Any] = data["assetCheckExecutions"][0]["evaluation"]
    entries = {
        entry["label"]: next((entry[kind] for kind in ("intValue", "mdStr", "text") if kind in entry), None)
        for entry in evaluation["metadataEntries"]
    }
    return {**entries, "success": evaluation["success"], "description": evaluation["description"]}


def freshness(system: Running, asset: str) -> str | None:
    data = system.webserver.ask(
        """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ...on AssetNode {
            freshnessStatusInfo { freshnessStatus } } } }""",
        key={"path": [asset]},
    )
    info = data["assetNodeOrError"]["freshnessStatusInfo"]
    return str(info["freshnessStatus"]) if info else None


def made_late(system: Running, *assets: str) -> None:
    """Have Dagster believe that the assets were materialized long ago, as they are when nothing is done any more."""
    engine = create_engine(system.system.environment["DAGSTER_PG_URL"])
    with engine.begin() as connection:
        for asset in assets:
            connection.execute(
                text(
                    r"""UPDATE asset_keys SET last_materialization = regexp_replace(
                        last_materialization, '"timestamp": [0-9.]+', '"timestamp": 1700000000.0')
                    WHERE asset_key = :key"""
                ),
                {"key": json.dumps([asset])},
            )
    engine.dispose()


def test_all_is_well_after_the_syncs(system: Running) -> None:
    trace = system.wait(lambda: freshness(system, "dps_poll") == "HEALTHY", "the first look at the DPS", 90)
    assert trace
    system.run("overview")
    told = materialized(system, "workflow_overview")
    assert told["eligible"] == 40
    assert told["overview"].startswith("![how many objects are where](data:image/png;base64,")
    assert {told[key] for key in ("failed", "frozen", "rejected", "preserved", "submitted")} == {0}
    for name in ("no_objects_left_failed", "no_rejections_unhandled", "no_submission_overdue"):
        assert checked(system, "workflow_overview", name)["success"], name
    for asset in ("museum_objects", "museum_attachments", "metadata_hashes", "dps_poll"):
        assert checked(system, asset, "not_late")["success"], asset
        assert system.wait(lambda asset=asset: freshness(system, asset) == "HEALTHY", f"{asset} to be fresh", 90)  # type: ignore[misc]


def test_what_went_wrong_is_counted_listed_and_red(system: Running, tmp_path: Path) -> None:
    good = system.good_objects()
    preserved, permanent, spent, overdue, first_frozen, second_frozen = good[:6]
    (damaged,) = [id_ for id_ in system.house.museum.object_ids if id_ not in good][:1]
    house = system.house
    system.enqueue(preserved)
    system.wait_until("preserved", preserved)

    key = house.directory / "sign.pem"
    kept = key.read_bytes()
    key.write_bytes(b"no key\n")
    system.enqueue(permanent)
    assert last_status(system, permanent) == "FAILURE"
    key.write_bytes(kept)
    house.museum.faults.path_contains, house.museum.faults.error_rate = f"/{spent}", 1.0
    system.enqueue(spent)
    assert last_status(system, spent) == "FAILURE"
    house.museum.faults.error_rate = 0.0

    with system.environment() as env, env.transaction() as session:
        actor = audit.Actor("maija")
        for object_id, reason in ((first_frozen, REASON), (second_frozen, REASON), (damaged, "Asked by the museum")):
            row = session.get_one(MuseumObject, object_id)
            row.frozen, row.freeze_reason = True, reason
            audit.record(session, actor, "freeze_objects", now=env.now(), reason=reason, object_ids=[object_id])
        add_package(
            session,
            session.get_one(MuseumObject, overdue),
            created_date=env.now() - timedelta(days=20),
            submission_date=env.now() - timedelta(days=20),
            preserved=False,
        )
        rejected = good[7]
        add_package(session, session.get_one(MuseumObject, rejected), preserved=False, rejected=True)
    made_late(system, "museum_attachments", "metadata_hashes")
    system.run("overview")

    told = materialized(system, "workflow_overview")
    assert (told["preserved"], told["failed"], told["frozen"], told["rejected"], told["submitted"]) == (1, 2, 3, 1, 1)

    failed = checked(system, "workflow_overview", "no_objects_left_failed")
    assert not failed["success"]
    assert (failed["objects"], failed["first_ids"], failed["candidates"]) == (2, f"{spent}, {permanent}", 1)
    assert "holds no private key" in failed["detector_candidates"]
    assert re.search(rf"\| 1 \| download\\_object \| retries spent \|.*\[{spent}\]\(/runs/", failed["by_message"])
    refused = checked(system, "workflow_overview", "no_rejections_unhandled")
    assert (refused["success"], refused["objects"], refused["first_ids"]) == (False, 1, str(rejected))
    waits = checked(system, "workflow_overview", "no_submission_overdue")
    assert (waits["success"], waits["objects"], waits["first_ids"]) == (False, 1, str(overdue))
    assert "14 days" in waits["description"]

    frozen = materialized(system, "frozen_objects")
    assert (frozen["frozen"], frozen["reasons"], frozen["frozen_by_people"]) == (3, 2, 0)
    assert "| 2 | 0 | Unsupported \\| file format |" in frozen["by_reason"]
    log = materialized(system, "audit_log")
    assert log["events_last_24_hours"] == 3
    assert log["last_events"].splitlines()[2].split(" | ")[1:4] == ["maija", "freeze\\_objects", f"1: {damaged}"]

    for asset, passes in (("museum_objects", True), ("museum_attachments", False), ("metadata_hashes", False)):
        assert checked(system, asset, "not_late")["success"] is passes
    assert "launch the job" in checked(system, "metadata_hashes", "not_late")["what_to_do"]
    assert system.wait(lambda: freshness(system, "metadata_hashes") == "DEGRADED", "Dagster to see that it is late", 90)

    if CHROMIUM.exists() and DRIVER.exists():
        with browser_at(system) as browser:
            photograph_workbench(browser, tmp_path)
        assert all(path.stat().st_size < LARGEST for path in tmp_path.iterdir())

    system.enqueue(permanent, spent)
    system.wait_until("preserved", permanent, spent)
    system.run("overview")
    assert checked(system, "workflow_overview", "no_objects_left_failed")["success"]


def last_status(system: Running, object_id: int) -> str:
    """How the object's run ended."""

    def ended() -> str | None:
        runs = system.runs_of(object_id)
        return runs[-1]["status"] if runs and runs[-1]["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    return system.wait(ended, f"the run of {object_id} to end")
