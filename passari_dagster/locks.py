"""Locks in Redis: one holder over all processes and hosts.

A lock expires when its holder is killed, and is renewed as long as the holder lives; a Redis that is away is asked
again until it is back, which is in time if that is within the expiry. A holder that lost it all the same (its process
stood still, Redis lost its data) does not know: so it checks before it records anything.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
import redis_lock
from pydantic import SecretStr
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from passari_dagster.connections import redis_arguments
from passari_dagster.errors import TransientFailure

WORKFLOW = "workflow"
"""Held while objects are chosen and launched, frozen, unfrozen or reset, or keys pruned."""
WORKFLOW_WAIT = 300.0
"""Seconds to wait for it: for an enqueue, a registration or the like to end."""
POLL = "poll"
"""Held while the DPS is asked for verdicts and confirmations are launched."""
MUSEUMPLUS_SYNC = "museumplus-sync"
"""Held while a scrape of MuseumPlus runs: the two never run at once."""
HASHES = "hashes"
"""Held while attachment hashes are computed."""
ADOPTION = "adoption"
"""Held while packages of passari-workflow are taken over."""


RETRIES = 8
"""Of one command: about ten seconds in all."""
RENEWALS = 4
"""How often a lock is renewed in the time that it lives."""
ASK_AGAIN = 1.0
"""Seconds until a Redis that is away is asked again for a renewal."""
JOIN = 30.0
"""Seconds to wait for a renewal that is under way; it ends by its own time-outs."""
SLICE = 1
"""Seconds that a waiter listens at a time: a holder that was killed tells nobody, its lock only expires."""


def object_lock(object_id: int) -> str:
    """Name of the lock that a run of an object holds."""
    return f"object-{object_id}"


def preflight_lock(run: str) -> str:
    """Name of the lock that a preflight holds on its workspace of that name."""
    return f"preflight-{run}"


def dip_lock(file: str) -> str:
    """Name of the lock that is held while a DIP is fetched into that file."""
    return f"dip-{file}"


class LockBusyError(TransientFailure):
    """Somebody else held the lock all the while that we were ready to wait."""


class LockLostError(TransientFailure):
    """The lock is not ours any more, and may be somebody else's: what we do under it must not be recorded."""


@dataclass(frozen=True, eq=False)
class Held:
    """A lock that is held, as far as its holder knows.

    Arguments:
        name: which lock.
    """

    name: str
    _lock: redis_lock.Lock

    def check(self) -> None:
        """Make sure that the lock is ours still; it then is for another expiry.

        Raises:
            LockLostError: it is not.
            TransientFailure: Redis does not say.
        """
        try:
            # Compares the owner and renews in one: a lock that is ours by a hair's breadth lasts through the commit.
            self._lock.extend()
        except redis_lock.NotAcquired as error:
            raise LockLostError(
                f"the lock {self.name!r} is lost: this process stood still for longer than the lock lives, or Redis "
                "was away or lost its data. Another process may hold it: nothing more is recorded here"
            ) from error
        except redis.RedisError as error:
            raise TransientFailure(
                f"Redis does not say whether the lock {self.name!r} is ours still: {type(error).__name__}"
            ) from error


@contextlib.contextmanager
def hold(redis_url: SecretStr, name: str, *, expiry: int, wait: float) -> Iterator[Held]:
    """Hold a lock while the block runs.

    Arguments:
        redis_url: where the locks are.
        name: which lock.
        expiry: seconds until a killed holder's lock is free; a living holder renews it several times in that.
        wait: seconds to wait for another holder; 0: do not wait.

    Returns:
        the lock, to be checked before anything is recorded.

    Raises:
        LockBusyError: not got within `wait`.
        TransientFailure: Redis cannot be reached.
    """
    client = redis.Redis.from_url(
        redis_url.get_secret_value(),
        socket_connect_timeout=10,
        socket_timeout=10,
        health_check_interval=30,
        **redis_arguments(redis_url.get_secret_value()),
        retry=Retry(ExponentialBackoff(cap=2, base=0.05), RETRIES),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )
    lock = redis_lock.Lock(client, f"passari:{name}", expire=expiry)
    try:
        try:
            got = _acquire(lock, wait)
        except redis.RedisError as error:
            raise TransientFailure(f"cannot take the lock {name!r} in Redis: {type(error).__name__}") from error
        if not got:
            raise LockBusyError(f"the lock {name!r} is held by another process, waited {wait:g} s")
        over = threading.Event()
        thread = threading.Thread(target=_renew, args=(lock, expiry / RENEWALS, over), name=f"lock {name}", daemon=True)
        thread.start()
        try:
            yield Held(name, lock)
        finally:
            over.set()
            thread.join(timeout=JOIN)
            # Not to be had back: expired, or Redis is gone. What was recorded was recorded while it was ours.
            with contextlib.suppress(redis_lock.NotAcquired, redis.RedisError):
                lock.release()
    finally:
        client.close()


def _renew(lock: redis_lock.Lock, every: float, over: threading.Event) -> None:
    """Keep the lock until it is over. The library's own thread gives up when Redis does not answer."""
    wait = every
    while not over.wait(wait):
        try:
            lock.extend()
            wait = every
        except redis.RedisError:
            wait = min(ASK_AGAIN, every)
        except redis_lock.NotAcquired:
            return  # lost: the holder finds out when it checks


def _acquire(lock: redis_lock.Lock, wait: float) -> bool:
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0:
        if _ask(lock, timeout=min(SLICE, math.ceil(left))):
            return True
    return _ask(lock, blocking=False)


def _ask(lock: redis_lock.Lock, **how: Any) -> bool:
    try:
        return bool(lock.acquire(**how))
    except redis_lock.AlreadyAcquired:  # it was given, and the answer lost with the connection
        with contextlib.suppress(redis_lock.NotAcquired):
            lock.extend()
            return True
        return False
