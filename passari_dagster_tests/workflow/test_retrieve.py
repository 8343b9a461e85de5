"""What is preserved is found at the DPS, and comes back whole; whatever happens on the way, a further call goes on."""

from __future__ import annotations

import errno
import itertools
import json
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from passari_dagster.dps.dip import DamagedDipError
from passari_dagster.errors import PermanentFailure, SettingsError, TransientFailure
from passari_dagster.workflow import audit, preserved, retrieve
from passari_dagster.workflow.audit import Actor
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.house import House, confirm, package_rows, send, synchronise_all

ME = Actor("maija")
DIE = "import os, signal; kill = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)"
KILLED = {
    "while-it-is-made": "from passari_dagster.workflow import retrieve; retrieve._Retrieval._sleep = kill",
    "while-it-is-downloaded": "from passari_dagster.dps import dissemination as d; d._Download.sync = kill",
    "before-it-is-recorded": "from passari_dagster.workflow import audit; audit.record = kill",
    "before-deletion": "from passari_dagster.dps import dissemination as d; d.Dissemination.delete = kill",
}


@pytest.fixture
def house(house: House) -> House:
    """Its first object is preserved."""
    with house.environment() as env:
        synchronise_all(env)
        preserve(house, env, house.museum.object_ids[0])
    return house


def preserve(house: House, env: Environment, object_id: int) -> None:
    send(env, object_id)
    house.dps.wait_for(package_rows(env, object_id)[-1].sip_filename or "")
    confirm(env, object_id)


@pytest.fixture
def aip_id(house: House, env: Environment) -> str:
    (row,) = preserved.search(env, object_id=house.museum.object_ids[0]).rows
    return row.aip_id


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "dips"
    path.mkdir()
    return path


def fetch(env: Environment, aip_id: str, output: Path | None, lines: list[str] | None = None, **options: Any) -> Any:
    log = lines if lines is not None else []
    options.setdefault("intervals", itertools.repeat(0.05))
    return retrieve.retrieve(env, ME, aip_id, log.append, output=output, **options)


def events(env: Environment) -> list[audit.Event]:
    with env.transaction() as session:
        return [event for event in audit.events(session, limit=100) if event.action == retrieve.ACTION]


def dips(house: House) -> list[Any]:
    return house.dps.store.dips.all()


def test_a_search_tells_the_object_and_the_sip_of_each_package(house: House, env: Environment) -> None:
    for object_id in house.museum.object_ids[1:]:
        preserve(house, env, object_id)
    found = preserved.search(env)
    assert sorted(row.object_id or 0 for row in found.rows) == sorted(house.museum.object_ids)
    for row in found.rows:
        assert row.object_id is not None
        assert row.sip_filename == package_rows(env, row.object_id)[-1].sip_filename
        assert row.created[:4].isdigit()
    first, second = (preserved.search(env, limit=2, page=page) for page in (1, 2))
    assert (len(first.rows), first.more, len(second.rows), second.more) == (2, True, 1, False)
    assert {row.aip_id for row in (*first.rows, *second.rows)} == {row.aip_id for row in found.rows}
    assert found.rows[0].aip_id in preserved.markdown(found).replace("\\", "")


def test_interface_2_0_knows_the_object_only_where_it_was_asked_for(house: House) -> None:
    object_id = house.museum.object_ids[0]
    rest = {**house.settings().dps.model_dump()["rest"], "access": "2.0"}
    with house.environment(dps={"rest": rest}) as env:
        assert {row.object_id for row in preserved.search(env).rows} == {None}
        (row,) = preserved.search(env, object_id=object_id).rows
        assert (row.object_id, row.kind) == (object_id, "AIP")
        assert preserved.search(env, query="OBJID:nothing").rows == ()


@pytest.mark.parametrize("access", ["2.0", "3.0"])
@pytest.mark.parametrize("archive", ["zip", "tar"])
def test_a_package_comes_back_whole_and_is_deleted_at_the_dps(
    house: House, aip_id: str, output: Path, access: str, archive: Any
) -> None:
    house.dps.faults.dip_delay = 2.0
    rest = {**house.settings().dps.model_dump()["rest"], "access": access}
    lines: list[str] = []
    with house.environment(dps={"rest": rest}) as env:
        done = fetch(env, aip_id, output, lines, archive=archive, reason="a researcher asks")
    assert done.file == output / f"{aip_id}.{archive}"
    assert [path.name for path in output.iterdir()] == [done.file.name]
    assert (done.object_id, done.deleted, dips(house)) == (house.museum.object_ids[0], True, [])
    (sent,) = house.dps.received.glob(f"*_Object_{done.object_id}-*.tar")
    with tarfile.open(sent) as tar:
        content = {m.name.removeprefix("./"): tar.extractfile(m) for m in tar if m.isfile()}
        wanted = {name: stream.read() for name, stream in content.items() if stream}
    if archive == "zip":
        with zipfile.ZipFile(done.file) as file:
            got = {name: file.read(name) for name in file.namelist()}
    else:
        with tarfile.open(done.file) as file:
            got = {m.name: stream.read() for m in file if (stream := file.extractfile(m))}
    assert set(wanted) - set(got) == {"signature.sig"}
    assert {name for name in got if got[name] != wanted[name]} == {"mets.xml"}
    assert any(f"{len(got) - 1} by SHA-256" in line for line in done.verified), done.verified
    assert any("being made" in line for line in lines)
    (event,) = events(env)
    assert (event.who, event.reason, event.object_ids) == ("maija", "a researcher asks", (done.object_id,))
    assert done.sha256 in event.details


def test_the_directory_of_the_settings_is_the_default_and_nothing_is_overwritten(
    env: Environment, aip_id: str, house: House
) -> None:
    done = fetch(env, aip_id, None)
    assert done.file.parent == env.settings.archive_dir / "dips"
    with pytest.raises(PermanentFailure, match="is there already"):
        fetch(env, aip_id, None)
    assert done.file.exists()


def test_a_directory_for_packages_to_be_sent_and_ids_that_are_paths_are_refused(
    env: Environment, aip_id: str, tmp_path: Path, output: Path
) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(env.settings.package_dir, target_is_directory=True)
    (env.settings.package_dir / "dips").mkdir(parents=True)
    for directory in (env.settings.package_dir, env.settings.package_dir / "dips", link):
        with pytest.raises(PermanentFailure, match="package_dir"):
            fetch(env, aip_id, directory)
    with pytest.raises(PermanentFailure, match="is not a directory"):
        fetch(env, aip_id, tmp_path / "absent")
    for bad in ("../../etc/passwd", "..", ".", "", "a b", "x" * 300):
        with pytest.raises(PermanentFailure, match="not the id of a package"):
            fetch(env, bad, output)
    assert list(output.iterdir()) == []


def test_a_package_that_is_not_preserved_is_told(env: Environment, house: House, output: Path) -> None:
    plan = retrieve.plan(env, "no-such-package", output=output)
    assert not plan.known
    with pytest.raises(PermanentFailure, match="preserves no package"):
        fetch(env, "no-such-package", output)
    assert (list(output.iterdir()), events(env)) == ([], [])


def test_a_dip_that_is_never_ready_is_given_up_and_gone_on_with(
    env: Environment, house: House, aip_id: str, output: Path
) -> None:
    house.dps.faults.dip_never = True
    with pytest.raises(PermanentFailure, match="is not made yet, and the time for it is over"):
        fetch(env, aip_id, output, hours=0.5 / 3600)
    plan = retrieve.plan(env, aip_id, output=output)
    (dip,) = dips(house)
    assert plan.request is not None
    assert plan.request.dip_id == dip.dip_id in str(plan)
    house.dps.faults.dip_never = False
    assert fetch(env, aip_id, output).dip_id == dip.dip_id


@pytest.mark.parametrize("no_ranges", [False, True])
def test_a_download_that_is_cut_goes_on_or_begins_anew(
    env: Environment, house: House, aip_id: str, output: Path, no_ranges: bool
) -> None:
    faults = house.dps.faults
    faults.dip_cut_after_bytes, faults.dip_cuts, faults.dip_no_ranges = 1000, 3, no_ranges
    done = fetch(env, aip_id, output)
    assert (done.resumed, faults.dip_cuts) == (not no_ranges, 0)


def test_server_errors_are_waited_out_and_told_when_they_do_not_end(
    env: Environment, house: House, aip_id: str, output: Path
) -> None:
    house.dps.fail_next(4)
    fetch(env, aip_id, output)
    house.dps.fail_next(1000)
    with pytest.raises(TransientFailure, match="status 500"):
        fetch(env, aip_id, output, archive="tar")


def test_a_file_that_is_not_what_the_mets_tells_of_is_no_success(
    env: Environment, house: House, aip_id: str, output: Path
) -> None:
    house.dps.faults.dip_damage = 1
    with pytest.raises(DamagedDipError, match=r"has the SHA-256 .* and mets.xml tells"):
        fetch(env, aip_id, output)
    assert [path.name for path in output.iterdir()] == [f"{aip_id}.zip.damaged"]
    assert events(env) == []
    (left,) = dips(house)
    assert fetch(env, aip_id, output).dip_id != left.dip_id


def test_a_beginning_that_a_crash_has_damaged_is_fetched_once_more(
    env: Environment, house: House, aip_id: str, output: Path
) -> None:
    done = command(house, "retrieve-dip", aip_id, "--output", output, code=f"{DIE}; {KILLED['while-it-is-downloaded']}")
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    with (output / f"{aip_id}.zip.part").open("r+b") as stream:
        stream.seek(500)
        stream.write(bytes(400))
    lines: list[str] = []
    assert not fetch(env, aip_id, output, lines).resumed
    assert any("fetched once more in one" in line for line in lines)


def test_a_dip_that_is_gone_is_requested_anew(env: Environment, house: House, aip_id: str, output: Path) -> None:
    house.dps.faults.dip_never = True
    with pytest.raises(PermanentFailure):
        fetch(env, aip_id, output, hours=0.2 / 3600)
    (first,) = dips(house)
    house.dps.store.dips.delete(first)
    house.dps.faults.dip_never = False
    assert fetch(env, aip_id, output).dip_id != first.dip_id


def test_two_at_once_do_not_write_the_same_file(house: House, aip_id: str, output: Path) -> None:
    with house.environment(workflow={"lock_expiry": 1}) as env, house.environment() as other:
        name = retrieve._files(env.settings, aip_id, output, "zip").lock
        with other.lock(name, wait=0), pytest.raises(TransientFailure, match="fetched by another process"):
            fetch(env, aip_id, output)
    assert list(output.iterdir()) == []


def test_a_disk_that_takes_nothing_is_told_with_the_file(
    env: Environment, aip_id: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("passari_dagster.dps.dissemination._Download.sync", full)
    with pytest.raises(TransientFailure, match=r"\.zip cannot be written: No space left on device"):
        fetch(env, aip_id, output)
    monkeypatch.undo()
    assert fetch(env, aip_id, output).deleted


def test_what_is_too_large_is_not_fetched(house: House, aip_id: str, output: Path) -> None:
    rest = {**house.settings().dps.model_dump()["rest"], "max_dip_bytes": 1000}
    with (
        house.environment(dps={"rest": rest}) as env,
        pytest.raises(PermanentFailure, match=r"larger than dps\.rest\.max"),
    ):
        fetch(env, aip_id, output)


def have_the_dps_keep_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise TransientFailure("status 500")

    monkeypatch.setattr("passari_dagster.dps.dissemination.Dissemination.delete", refuse)


def test_a_dip_that_the_dps_does_not_delete_is_good_and_deleted_by_a_further_call(
    env: Environment, house: House, aip_id: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_the_dps_keep_its_copy(monkeypatch)
    first = fetch(env, aip_id, output)
    assert (first.deleted, len(dips(house))) == (False, 1)
    monkeypatch.undo()
    second = fetch(env, aip_id, output)
    assert (second.deleted, second.sha256, dips(house), len(events(env))) == (True, first.sha256, [], 1)


def test_whoever_fetches_a_dip_that_is_still_there_is_told_too(
    env: Environment, house: House, aip_id: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_the_dps_keep_its_copy(monkeypatch)
    first = fetch(env, aip_id, output)
    first.file.rename(output / "elsewhere.zip")
    monkeypatch.undo()
    second = fetch(env, aip_id, output)
    assert (second.dip_id, len(events(env))) == (first.dip_id, 2)


def test_without_rest_the_setting_is_named(house: House) -> None:
    with house.environment(dps={"rest": None}) as env, pytest.raises(SettingsError, match=r"\[dps.rest\]"):
        preserved.search(env)


@pytest.mark.parametrize("change", [{"ca_file": None}, {"url": "http://dps.example"}])
def test_an_unknown_certificate_and_a_password_in_the_clear_are_refused(
    house: House, aip_id: str, output: Path, change: dict[str, Any]
) -> None:
    rest = {**house.settings().dps.model_dump()["rest"], "retries": 0, **change}
    with house.environment(dps={"rest": rest}) as env:
        for act in (lambda: preserved.search(env), lambda: fetch(env, aip_id, output)):
            with pytest.raises((TransientFailure, PermanentFailure), match=r"(?i)certificate|only sent over https"):
                act()
    assert dips(house) == []


# Killed


@pytest.mark.parametrize("point", KILLED)
def test_killed_anywhere_the_next_call_goes_on_with_the_same_dip(
    env: Environment, house: House, aip_id: str, output: Path, point: str
) -> None:
    house.dps.faults.dip_never = point == "while-it-is-made"
    done = command(house, "retrieve-dip", aip_id, "--output", output, code=f"{DIE}; {KILLED[point]}")
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    (dip,) = dips(house)
    house.dps.faults.dip_never = False
    lines: list[str] = []
    second = fetch(env, aip_id, output, lines)
    assert second.dip_id == dip.dip_id
    assert "going on with DIP" in lines[0]
    assert len(events(env)) == 1
    assert [path.name for path in output.iterdir()] == [f"{aip_id}.zip"]
    assert dips(house) == []


# The command line


def start(house: House, *arguments: object, code: str = "") -> subprocess.Popen[str]:
    program = f"{code}\nfrom passari_dagster.cli import app\napp()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=house.directory,
        env=house.command_environment(workflow={"lock_expiry": 2}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    with process:
        stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def command(house: House, *arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    return ended(start(house, *arguments, code=code))


def test_the_command_line_searches_and_fetches(house: House, aip_id: str, output: Path) -> None:
    table = command(house, "search-dps")
    assert (table.returncode, max(map(len, table.stdout.splitlines())) <= 100) == (0, True), table.stderr
    assert aip_id in table.stdout
    assert "1 packages on page 1" in table.stdout
    found = json.loads(command(house, "search-dps", "--object-id", house.museum.object_ids[0], "--json").stdout)
    assert [row["aip_id"] for row in found["rows"]] == [aip_id]

    plan = command(house, "retrieve-dip", aip_id, "--output", output, "--dry-run")
    assert (plan.returncode, dips(house)) == (0, [])
    assert f"would be requested, and go to {output}/{aip_id}.zip" in plan.stdout
    done = command(house, "retrieve-dip", aip_id, "--output", output, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == f"{output}/{aip_id}.zip"
    assert "is ready" in done.stderr
    again = command(house, "retrieve-dip", aip_id, "--output", output)
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    assert command(house, "retrieve-dip", "no-such", "--output", output, "--dry-run").returncode == 1


def test_stopped_by_hand_the_command_says_that_it_can_go_on(house: House, aip_id: str, output: Path) -> None:
    house.dps.faults.dip_never = True
    process = start(house, "retrieve-dip", aip_id, "--output", output)
    until = time.monotonic() + 60
    while not list(output.glob("*.request.json")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "call again to go on" in done.stderr
    assert len(dips(house)) == 1
