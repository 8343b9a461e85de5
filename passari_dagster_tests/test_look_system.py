"""Looking at a running system: by the job object_dossier, as the UI launches it, and by the command line.

In the browser: test_ui.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from passari_dagster.catalogue import freezing
from passari_dagster.catalogue.models import FreezeSource
from passari_dagster.workflow.overview import KEYS
from passari_dagster_tests.running import Running

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.xdist_group("look"), pytest.mark.timeout(600)]
PROGRAM = str(Path(sys.executable).parent / "passari-dagster")
REASON = "lent to another museum"


@pytest.fixture(scope="module")
def preserved(running: Running) -> int:
    """An object that was preserved."""
    object_id = running.good_objects()[12]
    running.enqueue(object_id)
    running.wait_until("preserved", object_id)
    return object_id


@pytest.fixture(scope="module")
def frozen(running: Running) -> int:
    """An object that a person froze."""
    object_id = running.good_objects()[13]
    with running.environment() as env, env.transaction() as session:
        freezing.freeze(session, object_id, reason=REASON, source=FreezeSource.USER)
    return object_id


def command(running: Running, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command on this system, as in a pipe."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=running.house.directory,
        env=running.system.environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def output(running: Running, *arguments: str, stdin: str = "") -> str:
    done = command(running, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_job_tells_the_dossier_as_the_ui_launches_it(running: Running, preserved: int) -> None:
    run = running.run("object_dossier", {"ops": {"make_dossier": {"config": {"object_id": preserved}}}})
    data = running.webserver.ask(
        "query($id:ID!){logsForRun(runId:$id){...on EventConnection{events{...on ExecutionStepOutputEvent"
        "{metadataEntries{label ...on MarkdownMetadataEntry{mdStr} ...on IntMetadataEntry{intValue}}}}}}}",
        id=run["runId"],
    )
    entries = [entry for event in data["logsForRun"]["events"] for entry in event.get("metadataEntries", [])]
    told = {entry["label"]: entry for entry in entries}
    assert told["packages"]["intValue"] == 1
    page = told["dossier"]["mdStr"]
    assert f"## Object {preserved}" in page
    for words in ("confirm\\_sip | 1 of 1", "| state | preserved |", "validation | success", "transfer at the DPS"):
        assert words in page
    assert f"](/runs?view=runs&q%5B0%5D=tag%3Adagster%2Fpartition%3D{preserved})" in page


def test_a_dossier_of_nothing_is_a_failure_that_says_why(running: Running) -> None:
    run_id = running.webserver.launch("object_dossier", {"ops": {"make_dossier": {"config": {"object_id": 404}}}})
    running.wait(lambda: running.webserver.run_status(run_id) == "FAILURE", "the run to fail")
    assert any("object 404 is not in the database" in error for error in running.webserver.run_errors(run_id))


def test_the_dossier_by_the_command_line(running: Running, preserved: int, tmp_path: Path) -> None:
    assert f"## Object {preserved}" in output(running, "object-dossier", str(preserved))
    told = json.loads(output(running, "object-dossier", "--json", str(preserved)))
    (package,) = told["packages"]
    assert package["facts"]["state"] == "preserved"
    assert [step["attempts"] for step in package["steps"]] == [1] * 4
    page = tmp_path / "dossier.html"
    assert output(running, "object-dossier", str(preserved), "--html", str(page)).strip() == str(page)
    assert "<iframe sandbox" in page.read_text(encoding="utf-8")

    log = output(running, "object-dossier", str(preserved), "--log", "create-sip")
    assert "--- create-sip" in log
    assert output(running, "object-dossier", str(preserved), "--log", "create-sip.log.gz") == log
    report = next(name for name in (Path(each["path"]).name for each in package["reports"]) if ".html" in name)
    assert "accepted" in output(running, "object-dossier", str(preserved), "--log", report)
    none = command(running, "object-dossier", str(preserved), "--log", "x")
    assert (none.returncode, "it has download-object, create-sip" in none.stderr) == (1, True)

    unknown = command(running, "object-dossier", "404")
    assert (unknown.returncode, unknown.stderr.strip()) == (
        1,
        "object 404 is not in the database: run sync_objects first",
    )
    assert command(running, "object-dossier", "1", "--json", "--markdown").returncode == 2
    assert command(running, "object-dossier", "1", "--ui", "javascript:alert(1)").returncode == 2


def test_packages_are_found_by_the_command_line(running: Running, preserved: int) -> None:
    text = output(running, "packages", str(preserved), "--preserved")
    assert f"_Object_{preserved}-" in text
    assert max(map(len, text.splitlines())) <= 100
    found = json.loads(output(running, "packages", "--json", "--latest", "--limit", "1"))
    assert len(found["packages"]) == 1
    page = json.loads(output(running, "packages", str(preserved), "--json"))
    (package,) = page["packages"]
    assert (package["state"], page["next_after"]) == ("preserved", None)
    name = running.house.museum.attachment(running.house.museum.object(preserved).multimedia_ids[0]).filename
    assert f"_Object_{preserved}-" in output(running, "packages", str(name), "--limit", "10000")
    assert "no package was found" in output(running, "packages", str(preserved), "--rejected", "--cancelled")
    after = str(package["package_id"])
    assert output(running, "packages", str(preserved), "--after", after).endswith("no package was found\n")


def test_frozen_objects_by_the_command_line(running: Running, frozen: int) -> None:
    text = output(running, "frozen")
    assert f"1          1  {REASON}" in text
    assert {"reason": REASON, "objects": 1, "by_people": 1} in json.loads(output(running, "frozen", "--json"))[
        "reasons"
    ]
    for arguments in (["--reason", REASON], ["--search", str(frozen)], ["--search", "LENT", "--limit", "1"]):
        assert "1 frozen objects were found" in output(running, "frozen", *arguments)
        told = json.loads(output(running, "frozen", "--json", *arguments))
        assert [each["object_id"] for each in told["objects"]] == [frozen]
    assert "0 frozen objects were found" in output(running, "frozen", "--reason", "lent")


def test_the_overview_by_the_command_line_is_that_of_the_asset(running: Running, preserved: int, frozen: int) -> None:
    running.wait(lambda: not running.webserver.runs("preserve_object", ("QUEUED", "STARTED")), "runs to end")
    text = output(running, "overview")
    assert max(map(len, text.splitlines())) <= 100
    assert text.endswith("0 runs of objects are queued or live\n")
    told = json.loads(output(running, "overview", "--json"))
    assert set(told) == {*KEYS, "runs_queued_or_live"}
    assert told["preserved"] >= 1, preserved
    assert told["frozen"] >= 1, frozen
    running.run("overview")
    data = running.webserver.ask(
        "query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ...on Asset { assetMaterializations(limit: 1) {"
        "metadataEntries { label ...on IntMetadataEntry { intValue } } } } } }",
        key={"path": ["workflow_overview"]},
    )
    (latest,) = data["assetOrError"]["assetMaterializations"]
    assert {entry["label"]: entry["intValue"] for entry in latest["metadataEntries"] if "intValue" in entry} == told


def test_the_audit_log_by_the_command_line(running: Running, preserved: int) -> None:
    text = output(running, "audit-log", "--object", str(preserved))
    assert max(map(len, text.splitlines())) <= 100
    assert "enqueue_objects" in text
    (event,) = json.loads(output(running, "audit-log", "--object", str(preserved), "--json"))["events"]
    assert (event["action"], preserved in event["object_ids"]) == ("enqueue_objects", True)
    assert output(running, "audit-log", "--since", "2999-12-31").endswith("nothing was done\n")


SET_TITLE = """
with session() as s:
    s.get(MuseumObject, {id}).title = "changed in the shell"
    s.commit()
"""


def test_the_shell_reads_and_changes_only_what_it_may(running: Running, frozen: int, preserved: int) -> None:
    told = output(
        running,
        "shell",
        stdin="with session() as s:\n    rows = s.scalars(select(MuseumObject.id).where(MuseumObject.frozen)).all()\n"
        f"print({frozen} in rows, explain({frozen})[0].reasons[0], len(dossier({preserved}).packages))",
    )
    assert told == f"True frozen: {REASON} 1\n"

    script = SET_TITLE.format(id=frozen)
    refused = command(running, "shell", stdin=script)
    assert refused.returncode == 1
    assert "read-only transaction" in refused.stderr
    silent = command(running, "shell", "--write", stdin=script)
    assert (silent.returncode, "a reason is needed" in silent.stderr) == (1, True)
    output(running, "shell", "--write", "--reason", "a typing error", stdin=script)
    told = output(
        running,
        "shell",
        stdin=f"s = session()\nprint(s.get(MuseumObject, {frozen}).title, events(s, limit=1)[0].reason)",
    )
    assert told == "changed in the shell a typing error\n"
