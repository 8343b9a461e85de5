"""The whole path, with nothing left out: real PostgreSQL, Redis, daemon and webserver, launched as the UI launches."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree

from passari_dagster.workflow import adoption_plan, old_queues
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.house import object_row, package_rows
from passari_dagster_tests.running import Running, as_json, judge
from passari_dagster_tests.workflow.old_workflow import OldWorkflow

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("system"), pytest.mark.timeout(600)]

METS = "{http://www.loc.gov/METS/}"


def _header(tar: Path) -> dict[str, Any]:
    with tarfile.open(tar) as archive:
        member = next(m for m in archive.getmembers() if m.name.removeprefix("./") == "mets.xml")
        stream = archive.extractfile(member)
        assert stream is not None
        root = etree.fromstring(stream.read())
    header = root.find(f"{METS}metsHdr")
    assert header is not None
    return {"OBJID": root.get("OBJID"), **header.attrib}


def test_objects_enqueued_in_the_ui_end_preserved_and_museumplus_is_told(running: Running, judge_cache: Path) -> None:
    ids = running.good_objects()[:2]
    enqueued = running.enqueue(*ids)
    assert enqueued["stepStats"] == [{"stepKey": "enqueue", "status": "SUCCESS"}]
    running.wait_until("preserved", *ids)

    backfills = running.webserver.ask(
        "{partitionBackfillsOrError{...on PartitionBackfills{results{title partitionNames}}}}"
    )["partitionBackfillsOrError"]["results"]
    assert {"title": "enqueue 2 objects", "partitionNames": [str(id_) for id_ in ids]} in backfills

    for object_id in ids:
        first, confirm = running.runs_of(object_id)
        stats = {stat["stepKey"]: stat["status"] for stat in running.details(first["runId"])["stepStats"]}
        assert stats == {
            "download_object": "SUCCESS",
            "create_sip": "SUCCESS",
            "submit_sip": "SUCCESS",
            "confirm_sip": "SKIPPED",
        }
        assert confirm["stepKeysToExecute"] == ["confirm_sip"]
        assert confirm["parentRunId"] == first["runId"]
        running.wait(lambda: running._ended(confirm["runId"]), "the confirmation to end")  # noqa: B023

        with running.environment() as env:
            (package,) = package_rows(env, object_id)
            archive = env.settings.archive_dir
        assert package.preserved
        digits = str(object_id)
        logs = (
            archive / digits[:3] / digits[3:6] / digits[6:] / f"Object_{object_id}" / str(package.sip_filename) / "logs"
        )
        names = {path.name for path in logs.iterdir()}
        report = f"{package.transfer_id}-ingest-report"
        assert {f"{report}.xml.gz", f"{report}.html.gz", "create-sip.log.gz", "confirm-sip.log.gz"} <= names
        assert b"premis" in gzip.decompress((logs / f"{report}.xml.gz").read_bytes())
        (entry,) = running.house.museum.log_field(object_id)
        assert (entry["filename"], entry["status"]) == (package.sip_filename, "accepted")

        (tar,) = running.received(object_id)
        said = judge(tar, running.house.certificate, judge_cache)
        assert said.returncode == 0, said.stdout


def test_a_changed_object_is_sent_again_as_an_update_of_its_first_package(running: Running, judge_cache: Path) -> None:
    object_id = running.good_objects()[2]
    running.enqueue(object_id)
    running.wait_until("preserved", object_id)
    running.house.museum.edit_object(object_id, title="Kirves, korjattu")
    running.run("sync_objects")
    running.run("sync_hashes")
    running.enqueue(object_id)
    running.wait(lambda: len(running.received(object_id)) == 2, "the update to be received")
    running.wait_until("preserved", object_id)

    first, update = (_header(tar) for tar in running.received(object_id))
    assert (first["RECORDSTATUS"], update["RECORDSTATUS"]) == ("submission", "update")
    assert update["CREATEDATE"] == first["CREATEDATE"]
    assert update["LASTMODDATE"] > first["CREATEDATE"]
    assert update["OBJID"] == first["OBJID"]
    assert [entry["status"] for entry in running.house.museum.log_field(object_id)] == ["accepted", "accepted"]
    said = judge(running.received(object_id)[1], running.house.certificate, judge_cache)
    assert said.returncode == 0, said.stdout


def test_a_failed_object_is_launched_again_from_the_command_line_and_goes_on(running: Running) -> None:
    object_id, museum = running.good_objects()[3], running.house.museum
    assert "dagster job launch -j preserve_object --tags" in (PROJECT / "README.md").read_text(encoding="utf-8")
    # The SIP is made, and cannot be sent.
    running.house.dps.faults.disk_full = True
    try:
        running.enqueue(object_id)
        failed = running.wait(
            lambda: next((r for r in running.runs_of(object_id) if r["status"] == "FAILURE"), None), "the run to fail"
        )
    finally:
        running.house.dps.faults.disk_full = False
    stats = {stat["stepKey"]: stat["status"] for stat in running.details(failed["runId"])["stepStats"]}
    assert (stats["create_sip"], stats["submit_sip"]) == ("SUCCESS", "FAILURE")
    assert len(running.runs_of(object_id)) == 1, "an op's error is retried in its run, and not by a new run"
    downloads = museum.count(f"/Object/{object_id}", "GET")

    done = running.dagster(
        "job", "launch", "-j", "preserve_object", "--tags", as_json({"dagster/partition": str(object_id)})
    )
    assert done.returncode == 0, done.stderr
    running.wait_until("preserved", object_id)
    assert len(running.received(object_id)) == 1
    with running.environment() as env:
        assert len(package_rows(env, object_id)) == 1, "it went on with its package"
    _, again, confirm = running.runs_of(object_id)
    assert confirm["parentRunId"] == again["runId"]
    told = museum.count(f"/Object/{object_id}", "GET") - downloads
    assert told <= 2, "nothing was downloaded again; only the preservation log was read"


def test_several_objects_are_launched_from_the_command_line(running: Running) -> None:
    ids = running.good_objects()[4:6]
    assert "dagster job backfill -j preserve_object --partitions" in (PROJECT / "README.md").read_text(encoding="utf-8")
    done = running.dagster(
        "job", "backfill", "-j", "preserve_object", "--partitions", ",".join(map(str, ids)), "--noprompt"
    )
    assert done.returncode == 0, done.stderr
    running.wait_until("preserved", *ids)
    again = running.dagster(
        "job", "launch", "-j", "preserve_object", "--tags", as_json({"dagster/partition": str(ids[0])})
    )
    assert again.returncode == 0, again.stderr
    skipped = running.wait(
        lambda: next((r for r in running.runs_of(ids[0])[2:] if r["status"] == "SUCCESS"), None), "the third run"
    )
    tags = {tag["key"]: tag["value"] for tag in running.details(skipped["runId"])["tags"]}
    assert tags["passari/outcome"] == "skipped"
    assert "not changed since the last package" in tags["passari/reason"]
    assert len(running.received(ids[0])) == 1, "nothing is sent twice"


def test_an_unsupported_file_freezes_its_object_in_green(running: Running) -> None:
    museum = running.house.museum
    object_id = next(
        id_
        for id_ in museum.object_ids
        if any((museum.attachment(a).filename or "").endswith(".psd") for a in museum.object(id_).multimedia_ids)
    )
    running.enqueue(object_id)
    running.wait_until("frozen", object_id)
    run = running.wait(
        lambda: next((r for r in running.runs_of(object_id) if r["status"] in ("SUCCESS", "FAILURE")), None), "its run"
    )
    details = running.details(run["runId"])
    tags = {tag["key"]: tag["value"] for tag in details["tags"]}
    assert details["status"] == "SUCCESS"
    assert tags["passari/outcome"] == "frozen"
    assert tags["passari/reason"] == "Unsupported file format: psd", "as it is unfrozen"
    # Nobody waits for it any more: its key goes.
    running.wait(lambda: str(object_id) not in _keys(running), "the partition key to be pruned", seconds=150)


def _keys(running: Running) -> set[str]:
    data = running.webserver.ask(
        """{ partitionSetOrError(
            repositorySelector: {repositoryLocationName: "passari_dagster", repositoryName: "__repository__"},
            partitionSetName: "preserve_object_partition_set"
        ) { ...on PartitionSet { partitionsOrError { ...on Partitions { results { name } } } } } }"""
    )
    return {partition["name"] for partition in data["partitionSetOrError"]["partitionsOrError"]["results"]}


def test_a_sync_reports_numbers_that_the_ui_plots(running: Running) -> None:
    details = running.run("sync_attachments")
    numbers = {
        entry["label"]: entry.get("intValue", entry.get("floatValue"))
        for materialization in details["assetMaterializations"]  # with that of the overview, which follows
        for entry in materialization["metadataEntries"]
    }
    assert {"items", "new_attachments", "items_per_second", "duration_s", "candidates"} <= set(numbers)
    assert all(isinstance(numbers[name], (int, float)) for name in ("items", "items_per_second", "duration_s"))


def test_the_instance_that_runs_is_that_of_the_repository(running: Running) -> None:
    info = yaml.safe_load(running.webserver.ask("{instance{info}}")["instance"]["info"])
    ours = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    for section in ("run_monitoring", "run_retries", "backfills", "sensors", "schedules", "retention", "telemetry"):
        for key, value in ours[section].items():
            assert info[section][key] == value, (section, key)
    for section in ("run_coordinator", "run_launcher", "local_artifact_storage"):
        assert ours[section]["class"] in str(info[section])
    assert running.system.environment["DAGSTER_HOME"] == str(PROJECT)
    assert info["run_coordinator"]["config"] == ours["run_coordinator"]["config"], "the URL stays in the environment"


def test_schedules_and_sensors_run_by_themselves(running: Running) -> None:
    data = running.webserver.ask(
        """{ repositoryOrError(
            repositorySelector: {repositoryLocationName: "passari_dagster", repositoryName: "__repository__"}
        ) { ...on Repository {
            schedules { name cronSchedule executionTimezone scheduleState { status } }
            sensors { name sensorState { status } } } } }"""
    )["repositoryOrError"]
    assert {s["name"]: s["sensorState"]["status"] for s in data["sensors"]} == {
        "processed_sips": "RUNNING",
        "killed_runs": "RUNNING",
        "partition_keys": "RUNNING",
        "run_queue": "RUNNING",
    }
    schedules = {s["name"]: (s["cronSchedule"], s["executionTimezone"]) for s in data["schedules"]}
    assert schedules == {
        "sync_objects_schedule": ("0 20 1-31/2 * *", "Europe/Helsinki"),
        "sync_attachments_schedule": ("0 20 2-30/2 * *", "Europe/Helsinki"),
        "sync_hashes_schedule": ("0 5 * * *", "Europe/Helsinki"),
        "housekeeping_schedule": ("30 4 * * *", "Europe/Helsinki"),
        "overview_schedule": ("0 * * * *", "Europe/Helsinki"),
    }
    assert {s["scheduleState"]["status"] for s in data["schedules"]} == {"RUNNING"}


def test_no_password_is_in_any_log_event_or_run_config(running: Running) -> None:
    """Runs after the others of its group, which have filled the logs."""
    from sqlalchemy import create_engine, text

    house = running.house
    secrets = [house.museum.password, house.dps.rest_password]
    engine = create_engine(running.system.environment["DAGSTER_PG_URL"])
    with engine.connect() as connection:
        stored = [
            str(row)
            for query in ("SELECT event FROM event_logs", "SELECT run_body FROM runs", "SELECT body FROM bulk_actions")
            for row in connection.execute(text(query))
        ]
    engine.dispose()
    assert len(stored) > 100
    files = [path.read_text(errors="replace") for path in (running.system.data / "logs").rglob("*.log")]
    files += [
        path.read_text(errors="replace") for path in running.system.data.rglob("compute_logs/**/*.*") if path.is_file()
    ]
    for secret in secrets:
        assert not any(secret in line for line in stored)
        assert not any(secret in content for content in files)


def test_what_passari_workflow_had_sent_is_confirmed_by_the_sensor(running: Running) -> None:
    """It was uploaded before the move; nothing is launched by hand, and no run of the object was ever made here."""
    sent, told_late = running.good_objects()[13:15]
    with running.environment() as env:
        old = OldWorkflow(running.house, env, running.house.redis_url.get_secret_value(), moved=True)
        for object_id in (sent, told_late):
            old.download(object_id)
            old.create_sip(object_id)
            old.submit(object_id)
        names = [old.name(object_id) for object_id in (sent, told_late)]
        old.sync_processed_sips(told_late)
        old.confirm(told_late, killed="telling")
        before = {path.name: path.read_bytes() for path in old.archive(told_late).iterdir()}
        assert before
        # As our migration says of them: the one is watched, and so is the other.
        old.sql(
            "UPDATE museum_packages SET submission_date = created_date WHERE sip_filename = ANY(:names)", names=names
        )
        plan = adoption_plan.make_plan(env, old_queues.read(running.house.redis_url))
        told = {step.object_id: step.fate for step in plan.steps if step.object_id in (sent, told_late)}
        assert told[told_late] is adoption_plan.Fate.FINISH
        assert told.get(sent, adoption_plan.Fate.WAIT) in (adoption_plan.Fate.WAIT, adoption_plan.Fate.FINISH)

        running.wait_until("preserved", sent, told_late)
        for object_id in (sent, told_late):
            (confirmation,) = running.runs_of(object_id)
            assert confirmation["stepKeysToExecute"] == ["confirm_sip"]
            running.wait(lambda: running._ended(confirmation["runId"]), "the confirmation to end")  # noqa: B023
            (package,) = package_rows(env, object_id)
            assert package.confirmed_date is not None
            assert object_row(env, object_id).preserved
            (entry,) = running.house.museum.log_field(object_id)
            assert (entry["filename"], entry["status"]) == (package.sip_filename, "accepted")
            assert len(running.received(object_id)) == 1
            assert not old.root(object_id).exists()
            kept = {path.name for path in old.archive(object_id).iterdir()}
            report = f"{package.transfer_id}-ingest-report"
            assert {"import-object.log.gz", "confirm-sip.log.gz", f"{report}.xml.gz", f"{report}.html.gz"} <= kept
        after = {path.name: path.read_bytes() for path in old.archive(told_late).iterdir()}
        assert before.items() <= after.items(), "nothing that was archived before is overwritten"
