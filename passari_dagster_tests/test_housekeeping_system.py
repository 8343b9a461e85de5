"""Housekeeping on a running system, months later: what must stay is there, and the workflow goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from passari_dagster_tests.running import Running
from passari_dagster_tests.screenshots import CHROMIUM, DRIVER, PARTITIONS, browser_at

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.xdist_group("look"), pytest.mark.timeout(900)]

OPEN_BACKFILLS = "{partitionBackfillsOrError(status: REQUESTED) {...on PartitionBackfills {results {id}}}}"
ASSETS = ("museum_objects", "museum_attachments", "metadata_hashes")


def materializations(running: Running, asset: str) -> list[str]:
    """Runs that materialized an asset, the latest first."""
    data = running.webserver.ask(
        "query($key: AssetKeyInput!) { assetOrError(assetKey: $key) {"
        " ...on Asset { assetMaterializations { runId } } } }",
        key={"path": [asset]},
    )
    return [event["runId"] for event in data["assetOrError"]["assetMaterializations"]]


def grow_old(running: Running, run_ids: list[str], days: int) -> None:
    """Have the runs, and their backfills, be of that age."""
    values = {"runs": run_ids, "days": days}
    engine = create_engine(running.system.environment["DAGSTER_PG_URL"])
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE runs SET start_time = start_time - :days * 86400, end_time = end_time - :days * 86400"
                " WHERE run_id = ANY(:runs)"
            ),
            values,
        )
        connection.execute(
            text(
                "UPDATE bulk_actions SET timestamp = timestamp - interval '1 day' * :days"
                " WHERE key IN (SELECT backfill_id FROM runs WHERE run_id = ANY(:runs))"
            ),
            values,
        )
    engine.dispose()


def checks_of_records(running: Running) -> dict[str, Any]:
    """What the checks of the asset dagster_records said last."""
    data = running.webserver.ask(
        """query { assetNodes(assetKeys: [{path: ["dagster_records"]}]) { assetChecksOrError { ...on AssetChecks {
            checks { name executionForLatestMaterialization { evaluation { success } } } } } } }"""
    )
    checks = data["assetNodes"][0]["assetChecksOrError"]["checks"]
    return {check["name"]: check["executionForLatestMaterialization"]["evaluation"]["success"] for check in checks}


def test_months_later_only_what_is_needed_is_left_and_packages_that_waited_are_confirmed(running: Running) -> None:
    done, waiting, orphan = running.good_objects()[8:11]
    running.house.dps.delays.update({f"Object_{object_id}-": 3600.0 for object_id in (waiting, orphan)})
    running.enqueue(done, waiting, orphan)
    running.wait_until("preserved", done)
    running.wait(lambda: [run["status"] for run in running.runs_of(done)] == ["SUCCESS"] * 2, "its runs to end")
    for object_id in (waiting, orphan):
        running.wait(lambda id_=object_id: [r["status"] for r in running.runs_of(id_)] == ["SUCCESS"], "the sends")  # type: ignore[misc]
    running.wait(
        lambda: not running.webserver.ask(OPEN_BACKFILLS)["partitionBackfillsOrError"]["results"], "backfills to end"
    )
    running.run("sync_hashes")
    latest = {asset: materializations(running, asset)[0] for asset in ASSETS}
    assert len(materializations(running, "metadata_hashes")) >= 2

    first, confirmation = running.runs_of(done)
    (sent,) = running.runs_of(waiting)
    (lost,) = running.runs_of(orphan)
    of_assets = [run_id for asset in ASSETS for run_id in materializations(running, asset)]
    grow_old(running, [run["runId"] for run in (first, confirmation, sent, lost)] + of_assets, days=500)
    # Somebody deleted this one in the UI.
    running.webserver.ask("mutation($id: String!) { deletePipelineRun(runId: $id) { __typename } }", id=lost["runId"])
    outputs = Path(running.system.environment["PASSARI_COMPUTE_LOG_DIR"])
    assert (outputs / first["runId"]).is_dir()

    told = running.run("housekeeping")
    assert running.runs_of(done) == []
    assert [run["runId"] for run in running.runs_of(waiting)] == [sent["runId"]], "its confirmation will need it"
    assert {asset: materializations(running, asset) for asset in ASSETS} == {
        asset: [run_id] for asset, run_id in latest.items()
    }, "the plots keep their latest points"
    figures = {
        entry["label"]: entry.get("intValue", entry.get("floatValue"))
        for event in told["assetMaterializations"]
        for entry in event["metadataEntries"]
    }
    assert figures["removed_runs"] >= 2
    assert figures["partial"] == 0
    assert figures["partition_keys"] < 20_000
    running.wait(lambda: len(checks_of_records(running)) == 2, "the checks")
    assert checks_of_records(running) == {"partition_count_within_budget": True, "no_record_older_than_settings": True}

    # A folder goes when nobody has written to it for as long as runs are kept.
    assert (outputs / first["runId"]).is_dir()

    running.house.dps.delays.clear()
    running.wait_until("preserved", waiting, orphan)
    child = running.runs_of(waiting)[-1]
    assert (child["parentRunId"], child["stepKeysToExecute"]) == (sent["runId"], ["confirm_sip"])
    (alone,) = running.runs_of(orphan)
    assert (alone["parentRunId"], alone["stepKeysToExecute"]) == (None, ["confirm_sip"])

    if CHROMIUM.exists() and DRIVER.exists():
        with browser_at(running) as browser:
            browser.open(PARTITIONS, "Total partitions", "Backfill history", "Succeeded")
            browser.open("/runs?view=backfills", "Success")
            browser.open("/assets/museum_objects", "Latest materialization", "new_objects")
            browser.open("/assets/dagster_records", "Latest materialization", "removed_runs")
            browser.open(f"/runs/{sent['runId']}", f"partition: {waiting}", "waits for its verdict")
