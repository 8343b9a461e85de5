"""Who lost its lock records nothing more: what the one that holds it now has recorded stands."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from passari_dagster import locks
from passari_dagster.catalogue.models import MuseumObject
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.errors import TransientFailure
from passari_dagster.locks import LockLostError
from passari_dagster.services.embedded import EmbeddedRedis
from passari_dagster.workflow import preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send
from passari_dagster_tests.workflow.stories import (
    JPEG,
    eligible_object,
    in_transfer,
    name_of,
    package,
    quiet,
    received,
    with_toolkit,
)

STALLED = """
import sys
from passari_dagster import locks, settings
from passari_dagster.workflow import preserve
from passari_dagster.workflow.environment import open_environment

object_id = int(sys.argv[1])

def say(line):
    print(line, flush=True)

with open_environment(settings.load()) as env:
    real = env.toolkit.package

    def package(*arguments):
        packaged = real(*arguments)
        say("about to record")
        sys.stdin.readline()
        return packaged

    env.toolkit.package = package
    try:
        with env.lock(locks.object_lock(object_id), wait=0):
            preserve.create_sip(env, object_id, lambda line: None)
    except locks.LockLostError as error:
        say(f"nothing is recorded: {error}")
    else:
        say("recorded")
"""


def lose(redis_url: SecretStr, name: str) -> None:
    """What is left of a lock that has expired, or of a Redis without its data: nothing."""
    with contextlib.closing(redis.Redis.from_url(redis_url.get_secret_value())) as client:
        assert client.delete(f"lock:passari:{name}") == 1


class Stalling:
    """The real toolkit, whose process stands still where `stall` says so; meanwhile other things happen."""

    def __init__(self, env: Environment, **stall: Callable[[], None]) -> None:
        self._real, self._stall = env.toolkit, stall

    def _reach(self, point: str) -> None:
        self._stall.pop(point, lambda: None)()

    def download(self, package: PackageFacts, root: Path, log: Log) -> Downloaded:
        downloaded = self._real.download(package, root, log)
        self._reach("downloaded")
        return downloaded

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        return self._real.package(package, root, log)

    def submit(self, package: PackageFacts, root: Path, intend: Callable[[], None], log: Log) -> None:
        def stalling() -> None:
            self._reach("before_the_intent")
            intend()
            self._reach("after_the_intent")

        self._real.submit(package, root, stalling, log)

    def confirm(self, package: PackageFacts, root: Path, log: Log) -> None:
        self._real.confirm(package, root, log)


@pytest.fixture
def stalled(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], subprocess.Popen[str]]:
    """Starts a process that makes the object's SIP under its lock, and waits for a word before it records that."""
    config = house.write_config(tmp_path / "passari.toml", workflow={"lock_expiry": 2})
    monkeypatch.setenv("PASSARI_CONFIG", str(config))
    monkeypatch.setenv("PASSARI_DB_URL", house.database_url)
    monkeypatch.setenv("REDIS_URL", house.redis_url.get_secret_value())

    def begin(object_id: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STALLED, str(object_id)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return begin


@pytest.fixture
def short_lived_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis of its own, to be stopped."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


def with_redis(env: Environment, url: str) -> Environment:
    """The same environment with its locks elsewhere."""
    return dataclasses.replace(env, settings=env.settings.model_copy(update={"redis_url": SecretStr(url)}))


def test_a_run_that_stood_still_records_nothing_over_what_another_run_recorded(
    house: House, env: Environment, stalled: Callable[[int], subprocess.Popen[str]]
) -> None:
    """Its machine slept; its lock expired, the object's other run took it, and did all there was to do."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    with stalled(object_id) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "about to record\n"
            process.send_signal(signal.SIGSTOP)
            with env.lock(locks.object_lock(object_id), wait=30):
                send(env, object_id)
                before = _columns(env, object_id)
                assert before["uploaded"]
                process.send_signal(signal.SIGCONT)
                process.stdin.write("go on\n")
                process.stdin.flush()
                assert process.stdout.readline().startswith("nothing is recorded: the lock 'object-")
                assert _columns(env, object_id) == before
        finally:
            process.kill()
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1


def test_a_run_that_lost_its_lock_in_the_download_records_none_of_it(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    name = locks.object_lock(object_id)
    stalling = with_toolkit(env, Stalling(env, downloaded=lambda: lose(house.redis_url, name)))
    with pytest.raises(LockLostError), env.lock(name, wait=1):
        preserve.download_object(stalling, object_id, quiet)
    assert not package(env, object_id).downloaded
    with env.lock(name, wait=1):
        send(env, object_id)
    assert package(env, object_id).uploaded


@pytest.mark.parametrize("point", ["before_the_intent", "after_the_intent"])
def test_a_run_that_lost_its_lock_while_it_sends_leaves_it_to_the_next_one(
    house: House, env: Environment, point: str
) -> None:
    """Before the intent it does not even give the DPS the package; after it, the DPS has it once."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    name = locks.object_lock(object_id)
    house.dps.paused = True
    stalling = with_toolkit(env, Stalling(env, **{point: lambda: lose(house.redis_url, name)}))
    with pytest.raises(LockLostError), env.lock(name, wait=1):
        send(stalling, object_id)
    assert not package(env, object_id).uploaded
    if point == "before_the_intent":
        assert package(env, object_id).submission_date is None
        assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"]
    house.dps.paused = False
    with env.lock(name, wait=1):
        send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1


def test_a_transaction_is_rolled_back_if_any_of_the_locks_is_lost_before_its_end(
    house: House, env: Environment
) -> None:
    """Through a copy of the environment too, as long as the lock is held."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    title = object_row(env, object_id).title
    copy = dataclasses.replace(env)

    def rename(through: Environment, then: Callable[[], None] = lambda: None) -> None:
        with through.transaction() as session:
            session.get_one(MuseumObject, object_id).title = "kirves"
            then()

    with env.lock(locks.WORKFLOW, wait=1), env.lock(locks.POLL, wait=1):
        with pytest.raises(LockLostError, match="'workflow'"):
            rename(env, then=lambda: lose(house.redis_url, locks.WORKFLOW))
        with pytest.raises(LockLostError, match="'workflow'"):
            rename(copy)
    assert object_row(env, object_id).title == title
    rename(copy)
    assert object_row(env, object_id).title == "kirves"


def test_nothing_is_committed_while_redis_does_not_say_whose_the_lock_is(
    house: House, env: Environment, short_lived_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, as after any failure of the world; when Redis is back with its data, all goes on."""
    monkeypatch.setattr(locks, "RETRIES", 3)
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    elsewhere = with_redis(env, short_lived_redis.url())
    assert short_lived_redis.child is not None
    with elsewhere.lock(locks.object_lock(object_id), wait=1):

        def record() -> None:
            with elsewhere.transaction() as session:
                session.get_one(MuseumObject, object_id).title = "kirves"

        short_lived_redis.child.stop()
        with pytest.raises(TransientFailure, match="Redis does not say") as raised:
            record()
        assert not isinstance(raised.value, LockLostError)
        with EmbeddedRedis(short_lived_redis.directory):
            with house.environment() as other:
                assert object_row(other, object_id).title != "kirves"
            record()
    assert object_row(env, object_id).title == "kirves"


def test_who_holds_no_lock_does_not_need_redis(env: Environment) -> None:
    with with_redis(env, "redis://127.0.0.1:1/0").transaction() as session:
        session.add(MuseumObject(id=1, title="kirves"))
    assert object_row(env, 1).title == "kirves"


def _columns(env: Environment, object_id: int) -> dict[str, object]:
    (row,) = package_rows(env, object_id)
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}
