"""The night of the move from passari-workflow: what it left half-way ends well, whatever slip is made.

Rows, directories and queues are those that its steps leave (`old_workflow`), under our migration.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from rq import Queue, Worker
from rq.registry import StartedJobRegistry

from passari_dagster import locks
from passari_dagster.catalogue import eligibility, packages
from passari_dagster.errors import PermanentFailure, SettingsError
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import adopt, adoption_plan, audit, enqueue, old_queues, poll, preserve
from passari_dagster.workflow.adoption_plan import Fate, Plan
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.workflow.old_workflow import OldWorkflow
from passari_dagster_tests.workflow.stories import (
    JPEG,
    TEXT,
    Killed,
    in_transfer,
    old_object,
    quiet,
    received,
    wait_until,
)

MAIJA = audit.Actor("maija")


@pytest.fixture
def queue_url(redis_url: SecretStr) -> Iterator[SecretStr]:
    """A Redis for passari-workflow: another database of the same server, as a museum may have it."""
    address, _, number = redis_url.get_secret_value().rpartition("=")
    assert number == "0"
    url = f"{address}=5"
    yield SecretStr(url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.fixture
def ids(house: House, env: Environment, request: pytest.FixtureRequest) -> list[int]:
    """Objects with an image and a text each, which the database knows; five, unless a story needs more."""
    many = getattr(request, "param", 5)
    ids = [old_object(house, ("kuva.jpg", JPEG), ("teksti.txt", TEXT)) for _ in range(many)]
    synchronise_all(env)
    return ids


@pytest.fixture
def old(house: House, env: Environment, ids: list[int], queue_url: SecretStr) -> OldWorkflow:
    """A passari-workflow that knows these objects."""
    return OldWorkflow(house, env, queue_url.get_secret_value())


def plan_of(env: Environment, url: SecretStr, **options: bool) -> Plan:
    return adoption_plan.make_plan(env, old_queues.read(url), **options)


def fates(plan: Plan) -> dict[int, tuple[Fate, str]]:
    return {step.object_id: (step.fate, step.state) for step in plan.steps}


def do(env: Environment, url: SecretStr, **options: bool) -> list[str]:
    """`adopt --yes`."""
    lines: list[str] = []
    adopt.carry_out(env, MAIJA, plan_of(env, url, **options), old_queues.read(url), lines.append)
    return lines


def logs(old: OldWorkflow, object_id: int) -> dict[str, bytes]:
    """What is archived of the object's latest package."""
    return {path.name: gzip.decompress(path.read_bytes()) for path in old.archive(object_id).iterdir()}


SIPTOOLS = {"import-object.log.gz", "create-mix.log.gz", "compile-mets.log.gz", "sign-mets.log.gz", "compress.log.gz"}


@pytest.mark.parametrize("ids", [12], indirect=True)
def test_everything_that_was_half_way_ends_preserved_and_is_sent_once(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    downloaded, made, cut, renamed, uploaded, told_late, not_committed, frozen, begun, queued, done, refused = ids
    house.dps.damage_next()
    for object_id in (refused, uploaded, renamed, told_late, not_committed, frozen, done, cut, made, downloaded):
        old.download(object_id)
        if object_id != downloaded:
            old.create_sip(object_id)
        if object_id not in (downloaded, made):
            old.submit(object_id, killed={cut: "upload", renamed: "rename"}.get(object_id, ""))
        if object_id in (refused, told_late, not_committed, done):
            assert old.sync_processed_sips(object_id) == ("rejected" if object_id == refused else "accepted")
    old.confirm(told_late, killed="telling")
    old.confirm(not_committed, killed="commit")
    old.confirm(done)
    old.freeze(frozen, delete_jobs=True)
    old.begin_download(begun)
    old.enqueue("download_object", begun)
    old.enqueue("download_object", queued)
    names = {object_id: old.name(object_id) for object_id in ids if object_id not in (begun, queued)}
    for object_id in (uploaded, renamed, frozen):
        house.dps.wait_for(names[object_id])
    old_logs = logs(old, told_late)
    old.move()

    plan = plan_of(env, queue_url)
    assert plan.obstacles == ()
    assert fates(plan) == {
        downloaded: (Fate.START_AGAIN, "downloaded"),
        made: (Fate.START_AGAIN, "packaged, not sent"),
        cut: (Fate.START_AGAIN, "packaged, and sent in part"),
        renamed: (Fate.WAIT, "packaged, and sent"),
        uploaded: (Fate.WAIT, "uploaded"),
        told_late: (Fate.FINISH, "preserved, not confirmed"),
        not_committed: (Fate.FINISH, "preserved, not confirmed"),
        refused: (Fate.FINISH, "rejected, not confirmed"),
        frozen: (Fate.WAIT, "cancelled, but with the DPS (accepted)"),
        begun: (Fate.CLEAR_UP, "an unfinished download"),
    }
    assert plan.enqueue == tuple(sorted((downloaded, made, cut, begun, queued)))
    do(env, queue_url)
    with env.transaction() as session:
        (event,) = audit.events(session, limit=10)
    assert (event.who, event.action) == ("maija", "adopt")
    assert event.object_ids == tuple(sorted((downloaded, made, cut, frozen, refused, begun)))

    # The sensor.
    assert poll.record_verdicts(env, quiet) == 6
    for object_id in poll.due_confirmations(env).values():
        outcome = Outcome.REJECTED if object_id == refused else Outcome.PRESERVED
        assert preserve.confirm_sip(env, object_id, quiet).outcome is outcome
    for object_id in (renamed, uploaded, told_late, not_committed, frozen):
        (row,) = package_rows(env, object_id)
        assert row.preserved
        assert row.confirmed_date is not None
        assert object_row(env, object_id).preserved
        assert [entry["filename"] for entry in house.museum.log_field(object_id)] == [names[object_id]]
    assert object_row(env, frozen).frozen, "who froze it wanted it so"
    (row,) = package_rows(env, refused)
    assert row.rejected
    assert [entry["status"] for entry in house.museum.log_field(refused)] == ["rejected"]
    # The archive: in the same place, the old files beside the new, and as they were.
    for object_id in (renamed, uploaded, refused, told_late):
        kept = logs(old, object_id)
        assert SIPTOOLS | {"confirm-sip.log.gz"} <= kept.keys()
        assert sum("tar-" in name or "ingest-report" in name for name in kept) == (
            2 if object_id in (renamed, uploaded) else 4
        )
        assert not old.root(object_id).exists()
    assert old_logs.items() <= logs(old, told_late).items()

    # What starts again, and what waited in the queues, is enqueued as it is told.
    chosen = enqueue.choose(env, count=None, object_ids=plan.enqueue, random=False, in_flight=(), registered=())
    assert chosen.ids == plan.enqueue
    for object_id in plan.enqueue:
        send(env, object_id)
        new = package_rows(env, object_id)[-1]
        house.dps.wait_for(str(new.sip_filename))
        assert confirm(env, object_id).outcome is Outcome.PRESERVED
        assert object_row(env, object_id).preserved
        assert not old.root(object_id).exists()
    for object_id in (made, cut):
        before, new = package_rows(env, object_id)
        assert before.cancelled
        assert new.sip_filename != before.sip_filename
        archived = old.archive(object_id).parent.parent / str(before.sip_filename) / "logs"
        assert {path.name for path in archived.iterdir()} == SIPTOOLS
    assert in_transfer(house) == []
    of_objects = [path.name.partition("_Object_")[2].partition("-")[0] for path in received(house)]
    assert sorted(of_objects) == sorted(str(id_) for id_ in ids), "each object was sent once"
    again = plan_of(env, queue_url)
    assert (again.steps, again.enqueue, again.obstacles) == ((), (), ())


def test_what_may_have_been_sent_is_watched_until_a_person_says_otherwise(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    """The DPS is at work on it, and shows it nowhere; of the job nothing is known, or that it was tried before."""
    lost, tried, untried = ids[:3]
    for object_id in (lost, tried, untried):
        old.download(object_id)
        old.create_sip(object_id)
    house.dps.processing = 4
    old.submit(lost, killed="rename")
    # A job that failed and was requeued: RQ empties the times, and leaves the error.
    old.redis.hset(f"rq:job:submit_sip_{tried}", mapping={"started_at": "", "ended_at": "", "exc_info": b"x\x9c\xff"})
    wait_until(lambda: not in_transfer(house))
    old.move()

    plan = plan_of(env, queue_url)
    assert fates(plan) == {
        lost: (Fate.WAIT, "packaged, perhaps sent"),
        tried: (Fate.WAIT, "packaged, perhaps sent"),
        untried: (Fate.START_AGAIN, "packaged, not sent"),
    }
    assert plan.enqueue == (untried,)
    do(env, queue_url)
    for object_id in (lost, tried):
        assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.wait_for(old.name(lost))
    assert confirm(env, lost).outcome is Outcome.PRESERVED
    assert package_rows(env, lost)[0].preserved
    assert len(received(house)) == 1
    # Without its Redis nothing is proved.
    assert fates(adoption_plan.make_plan(env, None, without_directories=True))[tried][0] is Fate.WAIT


def test_a_report_that_the_dps_has_no_longer(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    """Its report was fetched; then it could not be confirmed for months, and the DPS cleared up."""
    accepted, refused = ids[:2]
    house.dps.damage_next()
    for object_id in (refused, accepted):
        old.download(object_id)
        old.create_sip(object_id)
        old.submit(object_id)
        old.sync_processed_sips(object_id)
    old.move()
    for status in ("accepted", "rejected"):
        for day in (house.dps.home / status).iterdir():
            shutil.rmtree(day)
    with house.environment(dps={"rest": None}) as env:
        plan = plan_of(env, queue_url)
        assert {step.fate for step in plan.steps} == {Fate.FINISH}
        assert all("MuseumPlus is not told" in step.what for step in plan.steps)
        do(env, queue_url)
        assert plan_of(env, queue_url).steps == ()
    for object_id in (accepted, refused):
        assert logs(old, object_id).keys() == SIPTOOLS | {"ingest-report.xml.gz", "ingest-report.html.gz"}
        assert not old.root(object_id).exists()
        assert package_rows(env, object_id)[0].confirmed_date is not None
    assert object_row(env, accepted).preserved
    assert package_rows(env, refused)[0].rejected


def test_what_is_only_left_over_is_cleared_up_and_what_is_ours_is_not_touched(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    frozen, part, done, ours, twice = ids[:5]
    for object_id in (frozen, part, done, twice):
        old.download(object_id)
        old.create_sip(object_id)
    old.freeze(frozen, delete_jobs=False)  # its default: files and jobs stay
    old.submit(part, killed="upload")
    old.freeze(part, delete_jobs=True)
    old.submit(done)
    old.sync_processed_sips(done)
    old.confirm(done)
    old.begin_download(done)  # it has changed since, and was enqueued again
    # Enqueued twice: a row that is downloaded for ever, and one that went on.
    old.sql(
        "INSERT INTO museum_packages (id, sip_filename, sip_id, created_date, downloaded, packaged, uploaded, "
        "rejected, preserved, museum_object_id) SELECT nextval('museum_packages_id_seq'), 'twice.tar', "
        "'20200801-010000', created_date, true, false, false, false, false, museum_object_id FROM museum_packages "
        "WHERE sip_filename = :name",
        name=old.name(twice),
    )
    (env.settings.package_dir / "99999999" / "logs").mkdir(parents=True)
    old.move()
    preserve.download_object(env, ours, quiet)

    plan = plan_of(env, queue_url)
    assert fates(plan) == {
        frozen: (Fate.CLEAR_UP, "cancelled"),
        part: (Fate.CLEAR_UP, "cancelled, but with the DPS in part"),
        done: (Fate.CLEAR_UP, "preserved; a directory is left"),
        twice: (Fate.START_AGAIN, "packaged, not sent"),
    }
    assert any("99999999" in note for note in plan.notes)
    do(env, queue_url)
    assert logs(old, frozen).keys() == SIPTOOLS
    assert in_transfer(house) == []
    left = {path.name for path in env.settings.package_dir.iterdir()}
    assert left == {str(ours), "99999999"}
    assert preserve.create_sip(env, ours, quiet).outcome is Outcome.DONE
    assert plan_of(env, queue_url).steps == ()


def test_a_half_way_object_that_is_launched_without_adopt_is_downloaded_anew(
    house: House, env: Environment, old: OldWorkflow, ids: list[int]
) -> None:
    old.download(ids[0])
    stray = old.root(ids[0]) / "sip" / "attachments" / "7" / "leftover.jpg"
    stray.parent.mkdir()
    stray.write_bytes(b"of another time")
    old.move()
    send(env, ids[0])
    house.dps.wait_for(old.name(ids[0]))
    assert confirm(env, ids[0]).outcome is Outcome.PRESERVED
    assert object_row(env, ids[0]).preserved


def test_a_worker_that_was_forgotten_went_on_after_the_migration(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    """Of its rows our migration could say nothing."""
    uploaded, lost, told_late, done = ids[:4]
    old.move()
    for object_id in (uploaded, lost, told_late, done):
        old.download(object_id)
        old.create_sip(object_id)
    for object_id in (uploaded, told_late, done):
        old.submit(object_id)
    old.take("submit_sip", lost)
    for object_id in (told_late, done):
        old.sync_processed_sips(object_id)
    old.confirm(told_late, killed="telling")
    old.confirm(done)
    house.dps.wait_for(old.name(uploaded))
    assert poll.record_verdicts(env, quiet) == 0

    plan = plan_of(env, queue_url)
    assert fates(plan) == {
        uploaded: (Fate.WAIT, "uploaded"),
        lost: (Fate.WAIT, "packaged, perhaps sent"),
        told_late: (Fate.FINISH, "preserved, not confirmed"),
        done: (Fate.FINISH, "preserved, not confirmed"),
    }
    do(env, queue_url)
    assert poll.record_verdicts(env, quiet) == 3
    for object_id in (uploaded, told_late, done):
        assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.PRESERVED
        assert object_row(env, object_id).preserved
        assert len(house.museum.log_field(object_id)) == 1
    assert send(env, lost).outcome is Outcome.WAITING
    assert fates(plan_of(env, queue_url)) == {lost: (Fate.WAIT, "uploaded")}, "nobody sends it a second time"


class Dying:
    """A function that works a number of times, and is then killed."""

    def __init__(self, real: Any, times: int) -> None:
        self._real, self._left = real, times

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return self._real(*arguments, **keywords)


@pytest.mark.parametrize("times", [0, 1])
@pytest.mark.parametrize("place", ["archive_logs", "cancel", "delete", "rmtree"])
def test_killed_in_the_middle_and_run_again(
    env: Environment,
    old: OldWorkflow,
    ids: list[int],
    queue_url: SecretStr,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    times: int,
) -> None:
    begun, *halfway = ids[:3]
    for object_id in halfway:
        old.download(object_id)
        old.create_sip(object_id)
    old.begin_download(begun)
    old.move()
    with monkeypatch.context() as patch:
        owner: Any = {"cancel": packages, "rmtree": shutil}.get(place, Workspace)
        real = getattr(owner, place)
        dying = Dying(real, times)
        patch.setattr(owner, place, dying if owner is not Workspace else lambda *a, **k: dying(*a, **k))
        with pytest.raises(Killed):
            do(env, queue_url)
    do(env, queue_url)
    assert plan_of(env, queue_url).steps == ()
    assert [path for path in env.settings.package_dir.iterdir() if not path.name.startswith(".")] == []
    for object_id in halfway:
        (row,) = package_rows(env, object_id)
        assert row.cancelled
        assert logs(old, object_id).keys() == SIPTOOLS
        with env.transaction() as session:
            assert eligibility.why_not(session, object_id, now=env.now(), delays=env.delays) is None


def test_twice_at_once_and_twice_one_after_the_other(
    env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    old.download(ids[0])
    old.move()
    with env.lock(locks.ADOPTION, wait=0), pytest.raises(locks.LockBusyError):
        do(env, queue_url)
    assert package_rows(env, ids[0])[0].is_open
    stale = plan_of(env, queue_url)
    assert len(do(env, queue_url)) == 1
    (line,) = _carry_out(env, stale)
    assert "has gone on meanwhile" in line
    assert do(env, queue_url) == []


def _carry_out(env: Environment, plan: Plan) -> list[str]:
    lines: list[str] = []
    adopt.carry_out(env, MAIJA, plan, None, lines.append)
    return lines


def test_an_object_that_went_on_between_the_plan_and_the_deed_is_left_to_the_dps(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    """An old worker that nobody thought of renames its upload, after we have looked."""
    old.download(ids[0])
    old.create_sip(ids[0])
    old.submit(ids[0], killed="upload")
    old.move()
    plan = plan_of(env, queue_url)
    assert fates(plan)[ids[0]][0] is Fate.START_AGAIN
    transfer = house.dps.home / "transfer"
    shutil.copy(old.root(ids[0]) / old.name(ids[0]), transfer / f"{old.name(ids[0])}.incomplete")
    (transfer / f"{old.name(ids[0])}.incomplete").rename(transfer / old.name(ids[0]))
    (line,) = _carry_out(env, plan)
    assert "may be with the DPS after all" in line
    house.dps.wait_for(old.name(ids[0]))
    assert confirm(env, ids[0]).outcome is Outcome.PRESERVED
    assert len(received(house)) == 1


def test_old_workers_that_are_alive_or_may_be_are_in_the_way(
    env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    old.download(ids[0])
    old.move()
    worker = Worker([Queue("create_sip", connection=old.redis)], name="create-sip-0", connection=old.redis)
    worker.register_birth()  # type: ignore[no-untyped-call]
    (obstacle,) = plan_of(env, queue_url).obstacles
    assert "workers are alive: create-sip-0" in obstacle
    with pytest.raises(PermanentFailure, match="workers are alive"):
        do(env, queue_url)
    assert package_rows(env, ids[0])[0].is_open
    worker.register_death()  # type: ignore[no-untyped-call]

    # Its work horse may have outlived it.
    registry = StartedJobRegistry("create_sip", connection=old.redis)
    old.redis.zadd(registry.key, {f"create_sip_{ids[0]}": 4_000_000_000})
    (obstacle,) = plan_of(env, queue_url).obstacles
    assert f"has begun create_sip of {ids[0]}" in obstacle
    old.redis.zadd(registry.key, {f"create_sip_{ids[0]}": 1_000_000_000})
    assert plan_of(env, queue_url).obstacles == (), "RQ itself takes it for lost"

    old.redis.set("lock:workflow-lock", "somebody", ex=900)
    (obstacle,) = plan_of(env, queue_url).obstacles
    assert "at this moment" in obstacle
    assert plan_of(env, queue_url, stopped=True).obstacles == ()
    do(env, queue_url, stopped=True)
    assert package_rows(env, ids[0])[0].cancelled


def test_what_its_redis_tells_besides(env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr) -> None:
    old.move()
    assert ["no trace" in note for note in plan_of(env, queue_url).notes] == [True]
    old.redis.set(f"lock:lock-object-{ids[0]}", "a killed worker")
    old.redis.set("heartbeat:sync_processed_sips", int(env.now().timestamp()) - 60)
    old.redis.set("heartbeat:sync_hashes", 1_600_000_000)
    Queue("enqueue_objects", connection=old.redis).enqueue("passari_workflow.jobs.enqueue_objects", object_count=10)
    notes = " / ".join(plan_of(env, queue_url).notes)
    assert f"its locks on objects {ids[0]}" in notes
    assert "its sync-processed-sips ran at" in notes
    assert "sync-hashes" not in notes
    assert "1 requests to enqueue" in notes
    with pytest.raises(SettingsError, match="--redis"):
        old_queues.read(SecretStr("redis://:secret@127.0.0.1:1/0"))


def test_objects_that_waited_in_its_queues_are_told_until_they_are_ours(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr
) -> None:
    waiting, frozen, again, gone = ids[0], ids[1], ids[2], 12_345_678
    old.download(again)
    old.create_sip(again)
    old.submit(again)
    old.sync_processed_sips(again)
    old.confirm(again)
    for object_id in (waiting, frozen, again, gone):
        old.enqueue("download_object", object_id)
    old.sql("UPDATE museum_objects SET frozen = true WHERE id = :id", id=frozen)
    old.move()
    assert plan_of(env, queue_url).enqueue == (waiting, again)
    send(env, waiting)
    assert plan_of(env, queue_url).enqueue == (again,)


def test_another_package_dir_than_the_old_one(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr, tmp_path: Path
) -> None:
    old.download(ids[0])
    old.move()
    old_dir = env.settings.package_dir
    old_dir.rename(tmp_path / "the old one")
    with pytest.raises(PermanentFailure, match="should be the one that passari-workflow had"):
        plan_of(env, queue_url)
    old_dir.mkdir()
    (obstacle,) = plan_of(env, queue_url).obstacles
    assert "1 packages have no directory" in obstacle
    with pytest.raises(PermanentFailure, match="--without-directories"):
        do(env, queue_url)
    assert package_rows(env, ids[0])[0].is_open
    do(env, queue_url, without_directories=True)
    assert package_rows(env, ids[0])[0].cancelled
    assert (tmp_path / "the old one" / str(ids[0]) / "sip" / "reports" / "Object.xml").is_file()


def test_an_archive_that_cannot_be_written(
    env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr, monkeypatch: pytest.MonkeyPatch
) -> None:
    for object_id in ids[:2]:
        old.download(object_id)
        old.create_sip(object_id)
    old.move()
    before = sorted(env.settings.package_dir.rglob("*"))
    archive = env.settings.archive_dir
    archive.rename(archive.with_name("unmounted"))
    (obstacle,) = plan_of(env, queue_url).obstacles
    assert f"archive_dir {archive} cannot be written" in obstacle
    archive.with_name("unmounted").rename(archive)

    # It is writable, and full or read-only further down: found out at the first object, of which nothing has changed.
    digits = str(ids[0])
    (archive / digits[:3]).write_bytes(b"in the way")
    with pytest.raises(PermanentFailure, match=rf"object {ids[0]}: .* cannot be written: .*0 of 2 are done"):
        do(env, queue_url)
    assert sorted(env.settings.package_dir.rglob("*")) == before
    assert package_rows(env, ids[0])[0].is_open
    (archive / digits[:3]).unlink()
    assert len(do(env, queue_url)) == 2


def command(house: House, tmp_path: Path, queue_url: SecretStr, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`passari-dagster adopt`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from passari_dagster.cli import app; app()", "adopt", *arguments],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "COLUMNS": "80",
            "PASSARI_CONFIG": str(house.write_config(tmp_path / "passari.toml")),
            "PASSARI_DB_URL": house.database_url,
            "REDIS_URL": house.redis_url.get_secret_value(),
            "PASSARI_OLD_REDIS_URL": queue_url.get_secret_value(),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_tells_first_and_does_it_on_yes(
    house: House, env: Environment, old: OldWorkflow, ids: list[int], queue_url: SecretStr, tmp_path: Path
) -> None:
    old.download(ids[0])
    old.enqueue("download_object", ids[1])
    early = command(house, tmp_path, queue_url)
    assert early.returncode == 2
    assert "run `passari-dagster migrate`" in early.stderr
    old.move()

    told = command(house, tmp_path, queue_url)
    assert told.returncode == 0, told.stderr
    assert f"start again  {ids[0]} {old.name(ids[0])}: downloaded: " in told.stdout
    assert "0 finish, 0 wait, 1 start again, 0 clear up; 2 to be enqueued here" in told.stdout
    assert f"object_ids): {ids[0]}, {ids[1]}" in told.stdout
    assert "in its queues: 1 download_object queued, 1 create_sip queued" in told.stdout
    assert "Nothing was changed" in told.stdout
    assert package_rows(env, ids[0])[0].is_open

    old.redis.set("lock:workflow-lock", "somebody")
    refused = command(house, tmp_path, queue_url, "--yes")
    assert refused.returncode == 1
    assert "in the way: passari-workflow enqueues" in refused.stdout
    assert package_rows(env, ids[0])[0].is_open
    old.redis.delete("lock:workflow-lock")

    done = command(house, tmp_path, queue_url, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["done"] is True
    assert answer["enqueue"] == ids[:2]
    jobs = {(job["step"], job["object_id"], job["state"]) for job in answer["jobs"]}
    assert jobs == {("create_sip", ids[0], "queued"), ("download_object", ids[1], "queued")}
    (package,) = answer["packages"]
    assert (package["object_id"], package["fate"], package["changes"]) == (ids[0], "start again", True)
    assert package_rows(env, ids[0])[0].cancelled
    again = command(house, tmp_path, queue_url, "--yes", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["packages"] == []
    assert json.loads(again.stdout)["enqueue"] == ids[:2], "until they are enqueued"
