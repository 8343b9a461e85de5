"""Preserved packages are found and fetched on the whole system: as the UI does it, and by the command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from passari_dagster.services.webserver import DagsterRefused
from passari_dagster.workflow import audit
from passari_dagster_tests.running import Running

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.xdist_group("look"), pytest.mark.timeout(600)]

QUERY = """query($id: ID!) { logsForRun(runId: $id) { ...on EventConnection { events {
    ...on MessageEvent { message }
    ...on ExecutionStepOutputEvent { metadataEntries { label
        ...on IntMetadataEntry { intValue } ...on MarkdownMetadataEntry { mdStr } ...on TextMetadataEntry { text }
        ...on PathMetadataEntry { path } ...on BoolMetadataEntry { boolValue } } } } } } }"""


def told(running: Running, run_id: str) -> tuple[dict[str, Any], list[str]]:
    """What a run's output says, by label, and its log."""
    events = running.webserver.ask(QUERY, id=run_id)["logsForRun"]["events"]
    entries = [entry for event in events for entry in event.get("metadataEntries", [])]
    values = {
        entry["label"]: next(value for key, value in entry.items() if key != "label" and value is not None)
        for entry in entries
    }
    return values, [event.get("message", "") for event in events]


def launch(running: Running, job: str, op: str, **config: Any) -> tuple[dict[str, Any], list[str]]:
    return told(running, running.run(job, {"ops": {op: {"config": config}}})["runId"])


def preserved_object(running: Running) -> int:
    object_id = running.good_objects()[5]
    if running.stages(object_id) != ["preserved"]:
        running.enqueue(object_id)
        running.wait_until("preserved", object_id)
    return object_id


def test_a_preserved_package_is_found_and_fetched_in_the_ui(running: Running, tmp_path: Path) -> None:
    object_id = preserved_object(running)
    found, _ = launch(running, "search_dps", "search", object_id=object_id)
    assert found["packages"] == 1
    row = [cell.strip().replace("\\", "") for cell in found["found"].splitlines()[2].split("|")]
    aip_id = row[1]
    assert (row[2], row[3]) == (str(object_id), running.received(object_id)[-1].name.partition("-")[2])

    running.house.dps.faults.dip_delay = 2.0
    config = {"aip_id": aip_id, "output": str(tmp_path), "reason": "to see it"}
    planned, _ = launch(running, "retrieve_dip", "retrieve", **config, dry_run=True)
    assert f"would be requested, and go to {tmp_path}" in planned["plan"]
    assert list(tmp_path.iterdir()) == []
    values, log = launch(running, "retrieve_dip", "retrieve", **config)
    assert any("is being made" in line for line in log)
    file = Path(values["file"])
    assert file == tmp_path / f"{aip_id}.zip"
    assert values["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (values["object"], values["deleted_at_the_dps"]) == (str(object_id), True)
    assert "SHA\\-256" in values["verified"] or "SHA-256" in values["verified"]
    with zipfile.ZipFile(file) as archive:
        assert "mets.xml" in archive.namelist()
    assert running.house.dps.store.dips.all() == []
    with running.environment() as env, env.transaction() as session:
        event = audit.events(session, limit=1, object_id=object_id)[0]
    assert (event.action, event.who, event.reason) == ("retrieve_dip", "unknown (ui)", "to see it")
    assert event.run_id is not None

    run_id = running.webserver.launch("retrieve_dip", {"ops": {"retrieve": {"config": config}}})
    running.wait(lambda: running.webserver.run_status(run_id) == "FAILURE", "a second one to be refused")
    assert any("is there already" in error for error in running.webserver.run_errors(run_id))


@pytest.mark.parametrize("config", [{}, {"aip_id": "x", "format": "rar"}, {"aip_id": "x", "hours": 0}])
def test_config_that_makes_no_sense_is_refused_by_the_launchpad(running: Running, config: dict[str, Any]) -> None:
    with pytest.raises((DagsterRefused, AssertionError)):
        running.run("retrieve_dip", {"ops": {"retrieve": {"config": config}}})


def test_a_preserved_package_is_found_and_fetched_by_the_command_line(running: Running, tmp_path: Path) -> None:
    object_id = preserved_object(running)
    found = json.loads(command(running, "search-dps", "--object-id", object_id, "--json").stdout)
    (row,) = found["rows"]
    assert row["object_id"] == object_id
    table = command(running, "search-dps", "--limit", 1)
    assert max(map(len, table.stdout.splitlines())) <= 100
    done = command(running, "retrieve-dip", row["aip_id"], "--output", tmp_path, "--format", "tar", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == str(tmp_path / f"{row['aip_id']}.tar")
    with running.environment() as env, env.transaction() as session:
        event = audit.events(session, limit=1, object_id=object_id)[0]
    assert event.who.endswith("(command line)")


def command(running: Running, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "passari-dagster"), *map(str, arguments)],
        cwd=running.system.root,
        env=running.system.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
