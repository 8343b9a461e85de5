"""Preflight: all that would freeze objects is found, and when it is over everything is as it was before."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from passari_dagster import stopping
from passari_dagster.catalogue import freezing
from passari_dagster.catalogue.models import Base, FreezeSource
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.sip import problems
from passari_dagster.workflow import preflight, preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preflight import Examined
from passari_dagster.workflow.preserve import Outcome
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.sip.content import mets_of
from passari_dagster_tests.workflow.stories import (
    JPEG,
    PSD,
    TEXT,
    eligible_object,
    name_of,
    old_object,
    quiet,
    received,
    wait_until,
    with_toolkit,
)

CUT = JPEG[:-200]


def examined(env: Environment, *object_ids: int, log: list[str] | None = None) -> list[Examined]:
    told: list[Examined] = []
    assert preflight.preflight(env, object_ids, told.append, quiet if log is None else log.append) == 0
    return told


def found(result: Examined) -> set[tuple[str, str]]:
    """The files with their kinds of problems."""
    return {(problem.file, problem.code) for problem in result.problems}


def workspaces(env: Environment) -> list[str]:
    """What is in the preflights' part of the package directory."""
    folder = env.settings.package_dir / "preflight"
    # Not `rglob`, which fails where a directory goes while it looks.
    return sorted(
        (Path(root) / name).relative_to(folder).as_posix()
        for root, directories, names in os.walk(folder)
        for name in (*directories, *names)
    )


def tree(path: Path) -> dict[str, bytes | None]:
    """Everything below a directory."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes() if file.is_file() else None for file in path.rglob("*")
    }


def everything(house: House, env: Environment) -> dict[str, Any]:
    """The state of all objects: rows of all tables, sequences, the archive, what the DPS has, MuseumPlus's log."""
    state: dict[str, Any] = {}
    with env.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            state[table.name] = sorted(map(repr, connection.execute(table.select())))
        state["sequences"] = sorted(connection.execute(text("SELECT sequencename, last_value FROM pg_sequences")))
    state["archive"] = tree(house.directory / "archive")
    state["packages"] = {
        name: data
        for name, data in (tree(env.settings.package_dir) if env.settings.package_dir.exists() else {}).items()
        if name != "preflight"
    }
    state["dps"] = (received(house), sorted(path.name for path in house.dps.home.rglob("*")))
    state["writes"] = house.museum.count("", "PUT")
    return state


# What is found


def test_all_problems_of_an_object_are_found_file_by_file(house: House, env: Environment) -> None:
    bad = old_object(
        house, ("kuva.jpg", JPEG), ("rikki.jpg", CUT), ("kerrokset.psd", PSD), ("käsine.jpg", CUT), ("tyhja.txt", TEXT)
    )
    good = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.edit_object(bad, title="Kirves")
    synchronise_all(env)
    _, second, third, fourth, _ = house.museum.object(bad).multimedia_ids
    result, nothing = examined(env, bad, good)
    assert found(result) == {
        (f"attachments/{second}/rikki.jpg", "jpeg-damaged"),
        (f"attachments/{third}/kerrokset.psd", "unsupported-format"),
        (f"attachments/{fourth}/käsine.jpg", "non-ascii-name"),
        # Under the name that it has for the time being: its own cannot be kept.
        (f"attachments/{fourth}/Multimedia_{fourth}.jpg", "jpeg-damaged"),
    }
    assert result.failure is None
    for problem in result.problems:
        assert (problem.object_id, problem.title) == (bad, "Kirves")
        assert problem.reason
        assert problem.advice
        assert "\n" not in problem.detail
    assert (nothing.object_id, nothing.problems, nothing.failure) == (good, (), None)
    assert str(nothing) == f"object {good}: no problem found"


def test_the_reason_is_what_the_object_is_then_frozen_by(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kerrokset.psd", PSD))
    (result,) = examined(env, object_id)
    send(env, object_id)
    assert object_row(env, object_id).freeze_reason == result.problems[0].reason


def test_objects_are_examined_by_id_whether_they_are_eligible_or_not(house: House, env: Environment) -> None:
    frozen = eligible_object(house, env, ("kuva.jpg", JPEG))
    unknown = old_object(house, ("kerrokset.psd", PSD))  # not synchronised
    with env.transaction() as session:
        freezing.freeze(session, frozen, reason="by hand", source=FreezeSource.USER)
    assert preflight.choose(env, count=1, object_ids=[unknown, frozen, unknown]) == [unknown, frozen]
    first, second = examined(env, unknown, frozen)
    assert [problem.code for problem in first.problems] == ["unsupported-format"]
    assert first.problems[0].title == ""
    assert (second.problems, second.failure) == ((), None)
    assert object_row(env, frozen).freeze_reason == "by hand"


def test_at_random_only_eligible_objects_are_picked(house: House, env: Environment) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(6)]
    young = eligible_object(house, env, ("kuva.jpg", JPEG), created=env.now())
    with env.transaction() as session:
        freezing.freeze(session, ids[0], reason="by hand", source=FreezeSource.USER)
    eligible = set(house.museum.object_ids) | set(ids[1:])
    picks = [tuple(preflight.choose(env, count=4, object_ids=[])) for _ in range(8)]
    assert all(len(set(pick)) == 4 and set(pick) <= eligible for pick in picks)
    assert len(set(picks)) > 1
    assert {ids[0], young}.isdisjoint(preflight.choose(env, count=1000, object_ids=[]))


# System errors


def test_a_system_error_is_told_apart_and_does_not_end_the_rest(house: House, env: Environment) -> None:
    down = old_object(house, ("kuva.jpg", JPEG))
    gone = old_object(house, ("kuva.jpg", JPEG))
    bad = old_object(house, ("kerrokset.psd", PSD))
    good = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.delete_object(gone)
    house.museum.faults.fail_next(3, path_contains=f"/Multimedia/{house.museum.object(down).multimedia_ids[0]}")
    results = examined(env, down, gone, bad, good)
    assert [bool(result.failure) for result in results] == [True, True, False, False]
    assert "(3 attempts)" in str(results[0].failure)
    assert f"Object/{gone}: not found" in str(results[1].failure)
    assert [len(result.problems) for result in results] == [0, 0, 1, 0]
    assert str(results[0]).startswith(f"object {down}: could not be examined: MuseumPlus")


class Breaking:
    """A toolkit without `download_all`, whose packager breaks."""

    def __init__(self, real: Any, error: Exception) -> None:
        self._real, self._error = real, error

    def download(self, package: PackageFacts, root: Path, log: Log) -> Downloaded:
        downloaded: Downloaded = self._real.download(package, root, log)
        return downloaded

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        raise self._error

    def submit(self, package: PackageFacts, root: Path, intend: Callable[[], None], log: Log) -> None:
        raise AssertionError("nothing is submitted")

    def confirm(self, package: PackageFacts, root: Path, log: Log) -> None:
        raise AssertionError("nothing is confirmed")


class Keeping(Breaking):
    """A toolkit whose packages are kept."""

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        packaged: Packaged = self._real.package(package, root, log)
        shutil.copy(root / package.sip_filename, root.parents[3])
        return packaged


def test_of_a_preserved_object_an_update_is_made_as_a_real_run_would(
    house: House, env: Environment, judge: Callable[[Path], list[str]]
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    (first,) = package_rows(env, object_id)
    assert first.created_date is not None
    examined(with_toolkit(env, Keeping(env.toolkit, ZeroDivisionError())), object_id)
    (tar,) = house.directory.glob("Preflight_*.tar")
    assert judge(tar) == []
    header = mets_of(tar).find("{http://www.loc.gov/METS/}metsHdr")
    assert header is not None
    assert header.get("RECORDSTATUS") == "update"
    assert datetime.fromisoformat(str(header.get("CREATEDATE"))) == first.created_date.replace(microsecond=0)


def test_whatever_breaks_with_one_object_is_told_and_nothing_of_it_is_left(house: House, env: Environment) -> None:
    badly_named = old_object(house, ("käsine.jpg", JPEG))
    other = eligible_object(house, env, ("kuva.jpg", JPEG))
    breaking = Breaking(env.toolkit, ZeroDivisionError("nobody has thought of this"))
    first, second = examined(with_toolkit(env, breaking), badly_named, other)
    assert [problem.code for problem in first.problems] == ["non-ascii-name"]
    assert first.failure is None
    assert second.failure == "ZeroDivisionError: nobody has thought of this"
    assert workspaces(env) == []


def test_a_problem_of_no_single_file_is_the_objects(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    breaking = Breaking(env.toolkit, problems.LIDO_INVALID.found("no elements in it"))
    (result,) = examined(with_toolkit(env, breaking), object_id)
    assert found(result) == {("", "lido")}


# What it leaves alone


def test_nothing_changes_anywhere(house: House, env: Environment) -> None:
    sent, begun, down = (old_object(house, ("kuva.jpg", JPEG)) for _ in range(3))
    bad = eligible_object(house, env, ("kerrokset.psd", PSD), ("käsine.jpg", JPEG))
    send(env, sent)
    house.dps.wait_for(name_of(env, sent))
    confirm(env, sent)
    preserve.download_object(env, begun, quiet)
    before = everything(house, env)
    assert before["writes"] == 1, "the museum was told of the one that was sent"
    house.museum.faults.fail_next(3, path_contains=f"/Object/{down}")
    results = examined(env, sent, begun, bad, down, *preflight.choose(env, count=5, object_ids=[]))
    assert sum(len(result.problems) for result in results) >= 2
    assert everything(house, env) == before
    assert workspaces(env) == []


class Watching:
    """The real toolkit; what is in the preflight's workspace is looked at when a package is made."""

    def __init__(self, real: Any, look: Callable[[], None]) -> None:
        self._real, self._look = real, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        packaged: Packaged = self._real.package(package, root, log)
        self._look()
        return packaged


def test_no_more_than_one_object_is_here_at_a_time(house: House, env: Environment) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(3)]
    seen: list[list[str]] = []
    folder = env.settings.package_dir / "preflight"
    watching = Watching(env.toolkit, lambda: seen.append([path.name for path in folder.glob("*/*")]))
    examined(with_toolkit(env, watching), *ids)
    assert seen == [[str(object_id)] for object_id in ids]
    assert house.museum.peak_requests == 1


def test_a_real_run_of_the_same_object_is_not_disturbed(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    during: list[Outcome] = []
    watching = Watching(env.toolkit, lambda: during.append(preserve.create_sip(env, object_id, quiet).outcome))
    (result,) = examined(with_toolkit(env, watching), object_id)
    assert (result.problems, result.failure) == ((), None)
    assert during == [Outcome.DONE]
    assert send(env, object_id).outcome is Outcome.WAITING
    assert len(package_rows(env, object_id)) == 1
    house.dps.wait_for(name_of(env, object_id))
    assert len(received(house)) == 1


def test_preflights_of_the_same_object_at_once_do_not_disturb_each_other(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("rikki.jpg", CUT))
    results: list[list[Examined]] = []
    threads = [threading.Thread(target=lambda: results.append(examined(env, *[object_id] * 3))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[found(result) for result in told] for told in results] == [[found(results[0][0])] * 3] * 3
    assert all(result.failure is None for told in results for result in told)
    assert workspaces(env) == []


# Ends


def test_asked_to_stop_it_tells_how_many_objects_are_left(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(3)]
    told: list[Examined] = []
    monkeypatch.setattr(stopping, "is_asked", lambda: bool(told))
    assert preflight.preflight(env, ids, told.append, quiet) == 2
    assert [result.object_id for result in told] == ids[:1]
    assert workspaces(env) == []


@pytest.fixture
def quick_expiry(monkeypatch: pytest.MonkeyPatch) -> int:
    """Seconds until a killed preflight is taken for dead."""
    monkeypatch.setattr(preflight, "EXPIRY", 3)
    return 3


def in_another_process(house: House, *object_ids: int, expiry: int, csv: Path | None = None) -> subprocess.Popen[bytes]:
    """A preflight by the command, of which nobody waits for the end."""
    code = (
        "from passari_dagster.workflow import preflight; from passari_dagster.cli import app; "
        f"preflight.EXPIRY = {expiry}; app()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "preflight", *map(str, object_ids), *(["--csv", str(csv)] if csv else [])],
        env=house.command_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_after_kill_9_in_the_middle_the_next_preflight_leaves_nothing(
    house: House, env: Environment, quick_expiry: int
) -> None:
    first = old_object(house, ("kuva.jpg", JPEG), ("kuvaus.txt", TEXT))
    second = eligible_object(house, env, ("kuva.jpg", JPEG))
    before = everything(house, env)
    attachment = house.museum.object(first).multimedia_ids[1]
    hold = house.museum.hold(lambda request: f"/Multimedia/{attachment}/attachment" in request.path)
    process = in_another_process(house, first, second, expiry=quick_expiry)
    try:
        wait_until(lambda: any(name.endswith("kuva.jpg") for name in workspaces(env)), 60)
        # While it lives, others leave it alone, however long it has been at work.
        time.sleep(2 * quick_expiry)
        kept = workspaces(env)
        examined(env, second)
        assert workspaces(env) == kept
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        hold.release()
    assert workspaces(env) == kept
    log: list[str] = []
    (result,) = examined(env, second, log=log)
    assert (result.problems, result.failure) == ((), None)
    assert workspaces(env) == []
    assert [line for line in log if "was left by a preflight that was killed" in line]
    assert everything(house, env) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_by_a_person_it_clears_up_itself_and_keeps_what_it_found(
    house: House, env: Environment, number: signal.Signals
) -> None:
    bad = old_object(house, ("rikki.jpg", CUT))
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("kuvaus.txt", TEXT))
    attachment = house.museum.object(object_id).multimedia_ids[1]
    hold = house.museum.hold(lambda request: f"/Multimedia/{attachment}/attachment" in request.path)
    process = in_another_process(house, bad, object_id, expiry=15, csv=(table := house.directory / "found.csv"))
    try:
        wait_until(lambda: any(name.endswith("kuva.jpg") for name in workspaces(env)), 60)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert workspaces(env) == []
        assert "rikki.jpg" in table.read_text(encoding="utf-8"), "what it had found until then"
    finally:
        process.kill()
        process.wait()
        hold.release()
