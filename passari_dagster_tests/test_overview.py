"""What an administrator looks at first, on the running system: the overview, the standing list, what is late."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from passari_dagster_tests.post_office import PostOffice, post_office
from passari_dagster_tests.running import Running, running_system
from passari_dagster_tests.screenshots import CHROMIUM, DRIVER, LARGEST, WORKBENCH, browser_at, photograph_workbench
from passari_dagster_tests.trouble import freshness, make_trouble

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.slow,
    pytest.mark.xdist_group("overview"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostOffice]:
    """Where the system's letters go."""
    with post_office(tmp_path_factory.mktemp("office")) as office:
        yield office


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, office: PostOffice) -> Iterator[Running]:
    values = {f"PASSARI_MAIL__{name.upper()}": value for name, value in office.section().items()}
    variables = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    with running_system(tmp_path_factory.mktemp("overview"), 40, variables) as running:
        yield running


def letter(system: Running, office: PostOffice, subject: str) -> str:
    """Text of a letter with a subject."""

    def came() -> EmailMessage | None:
        return next((message for message in office.messages if subject in message["Subject"]), None)

    message = system.wait(came, f"a letter that says {subject}", 300)
    return str(message.get_content()).replace("\r\n", "\n")


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


OUTCOMES = {
    "preserved": ["waiting", "preserved"],
    "rejected": ["waiting", "rejected"],
    "overdue": ["waiting"],
    "unsupported": ["frozen"],
    "unforeseen": ["content-failure"],
    "permanent": ["system-error"],
    "spent": ["system-error"],
}
"""Of each run of each object in trouble, the oldest first, as the Runs page filters by it."""


def outcomes(system: Running, object_id: int) -> list[str | None]:
    """The tags of the object's runs."""
    tags = [
        {tag["key"]: tag["value"] for tag in system.details(run["runId"])["tags"]} for run in system.runs_of(object_id)
    ]
    return [each.get("passari/outcome") for each in tags]


def retries(system: Running, object_id: int) -> int:
    """How often a step of the object's first run was tried again."""
    data = system.webserver.ask(
        "query($id: ID!) { logsForRun(runId: $id) { ...on EventConnection { events { __typename } } } }",
        id=system.runs_of(object_id)[0]["runId"],
    )
    return [event["__typename"] for event in data["logsForRun"]["events"]].count("ExecutionStepUpForRetryEvent")


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


def test_what_went_wrong_is_counted_listed_and_red(system: Running, office: PostOffice, tmp_path: Path) -> None:
    made = make_trouble(system)
    permanent, spent, unforeseen = made.permanent, made.spent, made.unforeseen
    assert {name: outcomes(system, getattr(made, name)) for name in OUTCOMES} == OUTCOMES
    assert retries(system, spent) > 0
    assert retries(system, unforeseen) == retries(system, permanent) == 0
    system.run("overview")

    told = materialized(system, "workflow_overview")
    assert (told["preserved"], told["failed"], told["frozen"], told["rejected"], told["submitted"]) == (1, 3, 4, 1, 1)

    failed = checked(system, "workflow_overview", "no_objects_left_failed")
    assert not failed["success"]
    assert (failed["objects"], failed["first_ids"]) == (3, f"{spent}, {unforeseen}, {permanent}")
    # A key that cannot be read is no matter of the content; a file that nothing can read is.
    assert failed["candidates"] == 1
    assert re.search(rf"has no verdict.*\[{unforeseen}\]\(/runs/", failed["detector_candidates"])
    assert "private key" not in failed["detector_candidates"]
    assert "holds no private key" in failed["by_message"]
    assert "requeue_failed" in failed["what_to_do"]
    assert re.search(rf"\| 1 \| download\\_object \| retries spent \|.*\[{spent}\]\(/runs/", failed["by_message"])
    refused = checked(system, "workflow_overview", "no_rejections_unhandled")
    assert (refused["success"], refused["objects"], refused["first_ids"]) == (False, 1, str(made.rejected))
    waits = checked(system, "workflow_overview", "no_submission_overdue")
    assert (waits["success"], waits["objects"], waits["first_ids"]) == (False, 1, str(made.overdue))
    assert "14 days" in waits["description"]

    frozen = materialized(system, "frozen_objects")
    assert (frozen["frozen"], frozen["reasons"], frozen["frozen_by_people"]) == (4, 3, 3)
    assert frozen["picture"].startswith("![frozen objects by reason](data:image/png;base64,")
    assert "| 2 | 2 | On loan \\| until 2027 |" in frozen["by_reason"]
    assert re.search(r"\| 1 \| 0 \| .*psd", frozen["by_reason"], re.IGNORECASE)
    log = materialized(system, "audit_log")
    assert log["events_last_24_hours"] == 7, "enqueued in five times, and frozen in two"
    who, what, objects = log["last_events"].splitlines()[2].split(" | ")[1:4]
    assert (who, objects) == ("unknown \\(ui\\)", f"1: {made.frozen[-1]}")
    assert what.startswith("[freeze\\_objects](/runs/")

    for asset, passes in (("museum_objects", True), ("museum_attachments", False), ("metadata_hashes", False)):
        assert checked(system, asset, "not_late")["success"] is passes
    assert "launch the job" in checked(system, "metadata_hashes", "not_late")["what_to_do"]
    assert system.wait(lambda: freshness(system, "metadata_hashes") == "DEGRADED", "Dagster to see that it is late", 90)

    if CHROMIUM.exists() and DRIVER.exists():
        with browser_at(system) as browser:
            photograph_workbench(browser, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == WORKBENCH
        assert all(path.stat().st_size < LARGEST for path in tmp_path.iterdir())

    system.enqueue(permanent, spent, unforeseen)
    system.wait_until("preserved", permanent, spent, unforeseen)
    system.run("overview")
    assert checked(system, "workflow_overview", "no_objects_left_failed")["success"]

    # It came meanwhile.
    written = letter(system, office, "5 checks not green")
    assert "* no_rejections_unhandled (workflow_overview)\n  1 objects are rejected\n  What to do: read the" in written
    assert "* not_late (metadata_hashes)\n  last done" in written
