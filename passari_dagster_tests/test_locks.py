"""A lock has one holder over all processes, outlives neither a holder that was killed nor one that is done, and tells
a holder that stood still that it is lost."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis_lock
from pydantic import SecretStr

from passari_dagster import locks
from passari_dagster.errors import TransientFailure
from passari_dagster.locks import LockBusyError, LockLostError
from passari_dagster.services.embedded import EmbeddedRedis

HOLDER = """
import sys
from pydantic import SecretStr
from passari_dagster import locks
with locks.hold(SecretStr(sys.argv[1]), sys.argv[2], expiry=int(sys.argv[3]), wait=0) as held:
    print("held", flush=True)
    for line in sys.stdin:  # whoever asks is told whether the lock is held still
        try:
            held.check()
        except locks.LockLostError as error:
            print(f"lost: {error}", flush=True)
        else:
            print("held", flush=True)
"""


@contextlib.contextmanager
def another_process(redis_url: SecretStr, name: str, expiry: int) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLDER, redis_url.get_secret_value(), name, str(expiry)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str]) -> str:
    """What a holder in another process says of its lock."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_one_holder_at_a_time_over_all_processes(redis_url: SecretStr) -> None:
    name = locks.object_lock(1)
    with another_process(redis_url, name, expiry=60) as process:
        for wait in (0.0, 0.3):
            begun = time.monotonic()
            with (
                pytest.raises(LockBusyError, match="'object-1' is held by another process"),
                locks.hold(redis_url, name, expiry=60, wait=wait),
            ):
                pass
            assert time.monotonic() - begun < wait + 5
        with locks.hold(redis_url, locks.object_lock(2), expiry=60, wait=0):
            pass  # another object's
        assert process.stdin is not None
        process.stdin.close()
        with locks.hold(redis_url, name, expiry=60, wait=30):
            pass
    with locks.hold(redis_url, name, expiry=60, wait=0):
        pass


def test_the_lock_of_a_killed_holder_is_free_when_it_has_expired(redis_url: SecretStr) -> None:
    """Also for who has been waiting, and is ready to wait for hours: the killed one tells nobody."""
    name = locks.object_lock(3)
    with another_process(redis_url, name, expiry=2) as process:
        process.kill()
        process.wait()
        with pytest.raises(LockBusyError), locks.hold(redis_url, name, expiry=2, wait=0):
            pass
        begun = time.monotonic()
        with locks.hold(redis_url, name, expiry=2, wait=3600):
            assert time.monotonic() - begun < 10


def test_a_living_holder_keeps_its_lock_beyond_several_expiries(redis_url: SecretStr) -> None:
    name = locks.object_lock(4)
    with locks.hold(redis_url, name, expiry=3, wait=0) as held:
        time.sleep(10)
        with pytest.raises(LockBusyError), locks.hold(redis_url, name, expiry=3, wait=0):
            pass
        held.check()
    with locks.hold(redis_url, name, expiry=3, wait=0):
        pass


def test_the_lock_is_free_after_an_error_in_the_block(redis_url: SecretStr) -> None:
    name = locks.object_lock(5)
    with pytest.raises(ValueError, match="kirves"), locks.hold(redis_url, name, expiry=60, wait=0):
        raise ValueError("kirves")
    with locks.hold(redis_url, name, expiry=60, wait=0):
        pass


def test_a_lock_that_was_lost_meanwhile_does_not_spoil_what_was_done(redis_url: SecretStr) -> None:
    """FLUSHALL, or Redis started anew without its data."""
    name = locks.object_lock(6)
    with locks.hold(redis_url, name, expiry=60, wait=0):
        with contextlib.closing(redis.Redis.from_url(redis_url.get_secret_value())) as client:
            assert client.delete(f"lock:passari:{name}") == 1
        with locks.hold(redis_url, name, expiry=60, wait=0):
            pass


def test_a_holder_that_stood_still_is_told_that_its_lock_is_lost_and_leaves_it_to_the_other(
    redis_url: SecretStr,
) -> None:
    """A machine that slept, a disk that hung: its renewal stood still too."""
    name = locks.object_lock(7)
    with another_process(redis_url, name, expiry=2) as stalled:
        assert ask(stalled) == "held\n"
        stalled.send_signal(signal.SIGSTOP)
        with locks.hold(redis_url, name, expiry=60, wait=30) as held:
            stalled.send_signal(signal.SIGCONT)
            assert ask(stalled).startswith("lost: the lock 'object-7' is lost")
            assert stalled.stdin is not None
            stalled.stdin.close()
            assert stalled.wait(60) == 0
            held.check()
            with pytest.raises(LockBusyError), locks.hold(redis_url, name, expiry=60, wait=0):
                pass


def test_a_lock_that_redis_forgot_is_lost_also_if_nobody_else_took_it(redis_url: SecretStr) -> None:
    with locks.hold(redis_url, locks.WORKFLOW, expiry=60, wait=0) as held:
        held.check()
        with contextlib.closing(redis.Redis.from_url(redis_url.get_secret_value())) as client:
            client.flushall()
        with pytest.raises(LockLostError, match="'workflow' is lost"):
            held.check()


def test_a_redis_that_is_away_does_not_say_that_the_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor that it is lost: when Redis is back with its data within the expiry, it is held as before."""
    monkeypatch.setattr(locks, "RETRIES", 3)
    server = EmbeddedRedis(tmp_path / "redis")
    with server:
        url = SecretStr(server.url())
        with locks.hold(url, locks.WORKFLOW, expiry=60, wait=0) as held:
            assert server.child is not None
            server.child.stop()
            with pytest.raises(TransientFailure, match="does not say whether the lock 'workflow'") as raised:
                held.check()
            assert not isinstance(raised.value, LockLostError)
            with server:
                held.check()


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    url = SecretStr("redis://museum:salaisuus@127.0.0.1:1/0")
    with (
        pytest.raises(TransientFailure, match="cannot take the lock 'workflow' in Redis") as raised,
        locks.hold(url, locks.WORKFLOW, expiry=60, wait=5),
    ):
        pass
    assert "salaisuus" not in f"{raised.value!r} {raised.value.__cause__!r}"
    assert not isinstance(raised.value, LockBusyError)


def test_a_living_holder_keeps_its_lock_through_an_outage_that_is_shorter_than_the_expiry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is away for longer than any one command waits for it."""
    monkeypatch.setattr(locks, "RETRIES", 1)
    server = EmbeddedRedis(tmp_path / "redis")
    with server:
        url = SecretStr(server.url())
        with locks.hold(url, locks.WORKFLOW, expiry=8, wait=0) as held:
            assert server.child is not None
            server.child.stop()
            time.sleep(4)
            with server:
                time.sleep(10)
                held.check()
                with pytest.raises(LockBusyError), locks.hold(url, locks.WORKFLOW, expiry=8, wait=0):
                    pass


def test_a_lock_whose_grant_was_lost_with_the_connection_is_ours(redis_url: SecretStr) -> None:
    """The client asks again, and finds its own name in the lock."""
    with contextlib.closing(redis.Redis.from_url(redis_url.get_secret_value())) as client:
        lock = redis_lock.Lock(client, "passari:granted", expire=5)
        assert lock.acquire(blocking=False)
        assert locks._acquire(lock, 0)
        lock.release()
