"""A lock has one holder over all processes, and outlives neither a holder that was killed nor one that is done."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import redis
from pydantic import SecretStr

from passari_dagster import locks
from passari_dagster.errors import TransientFailure
from passari_dagster.locks import LockBusyError

HOLDER = """
import sys
from pydantic import SecretStr
from passari_dagster import locks
with locks.hold(SecretStr(sys.argv[1]), sys.argv[2], expiry=int(sys.argv[3]), wait=0):
    print("held", flush=True)
    sys.stdin.read()
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


def test_a_living_holder_keeps_its_lock_beyond_the_expiry(redis_url: SecretStr) -> None:
    name = locks.object_lock(4)
    with locks.hold(redis_url, name, expiry=3, wait=0):
        time.sleep(4)
        with pytest.raises(LockBusyError), locks.hold(redis_url, name, expiry=3, wait=0):
            pass
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


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    url = SecretStr("redis://museum:salaisuus@127.0.0.1:1/0")
    with (
        pytest.raises(TransientFailure, match="cannot take the lock 'workflow' in Redis") as raised,
        locks.hold(url, locks.WORKFLOW, expiry=60, wait=5),
    ):
        pass
    assert "salaisuus" not in f"{raised.value!r} {raised.value.__cause__!r}"
    assert not isinstance(raised.value, LockBusyError)
