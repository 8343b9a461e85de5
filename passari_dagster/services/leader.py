"""Who runs Dagster's daemon: on one of several hosts somebody leads, the others stand by. A lock in Redis decides.

Dagster allows one daemon only: two would start every schedule twice. So the leader's child runs under a rule that does
not trust anybody's good health: **it is dead before another host may start one.** With a lock that expires after E
seconds, counted from the last time that the leader asked Redis to renew it:

| seconds | |
|---|---|
| each E/15 | the leader renews the lock |
| E · 2/3 without success | it stops the child: SIGTERM, later SIGKILL |
| E · 5/6 | the guard, a process beside the child, kills it, whatever has become of the leader: see `leader_guard.py` |
| E | the lock is free |

Redis may also lose the lock before its time: FLUSHALL, a restart without its data, a replica that takes over, a clock
that is set. Then the old leader finds that out within E/15, but somebody else may have been quicker. So whoever takes
the lock waits for E · 5/6 before it starts a child, unless it knows that the former leader's child is dead: it saw the
lock in its last sixth, or the former leader said so.

A whole machine that is paused with its clocks, as some hypervisors do, is out of this module's reach.

Here the child is any service; how the daemon is started is told by `system.py` and `cli.py`.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import redis
import redis_lock
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from passari_dagster.errors import TransientFailure
from passari_dagster.services.leader_guard import clock
from passari_dagster.services.supervisor import Child, Service, start

LOCK = "passari:daemon"
KEY = f"lock:{LOCK}"
"""What `redis_lock` makes of it; holds the leader's name."""
GOODBYE = "passari:daemon:goodbye:"
"""And a name: the child of that leader is dead."""
INTRUDER = "passari:daemon:intruder"
"""Holds the name of a leader whose child has met another daemon lately."""
EXPIRY = 15
GUARD = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leader_guard.py")))
COMPLAINT = b"daemon is still sending heartbeats"
"""What Dagster's daemon logs at each heartbeat, every 30 seconds, when another one has sent one since."""
REMEMBER_INTRUDER = 90
"""Seconds."""

Report = Callable[[str], None]


class _LostLead(Exception):
    """Somebody else may lead from now on, or soon."""


def lead(
    redis_url: SecretStr,
    service: Service,
    logs: Path,
    *,
    expiry: int = EXPIRY,
    alone: bool = False,
    report: Report = lambda _: None,
) -> NoReturn:
    """Wait for the lead, run the service as long as it is ours, and begin anew when it is lost.

    To be called in the main thread. `Stop`, and every other exception, stops the service and frees the lead: a stand-by
    takes over at once.

    Arguments:
        redis_url: where the lock is. Redis may be away at any time: then nobody leads.
        service: what the leader runs. Its `ready` is not asked: the leader waits for nothing but Redis.
        logs: folder of the service's log.
        expiry: seconds that the lock outlives its last renewal; the same for all who may lead.
        alone: nobody else can lead, Redis being our own: do not wait for an unknown leader's child to be dead.
        report: told in a few words what happens.

    Raises:
        ServiceFailed: the service ended by itself. Others may lead now.
    """
    with contextlib.closing(_connect(redis_url, min(2.0, expiry / 10))) as client:
        former = _Former(name=None, is_gone=alone)
        while True:
            lease = _wait_for_lease(client, expiry, former, report)
            try:
                _run(lease, service, logs, report)
            except _LostLead as lost:
                report(f"does not lead any more: {lost}")
            finally:
                lease.give_back()
            former = _Former(lease.lock.id, is_gone=True)


def leader_of(redis_url: SecretStr) -> str | None:
    """Name of the leader, as host:pid; None: nobody leads.

    Raises:
        TransientFailure: Redis cannot be reached.
    """
    name = _read(redis_url, KEY)
    return None if name is None else _in_short(name)


def intruder_beside(redis_url: SecretStr) -> bool:
    """Whether the leader's daemon has met another one within the last minutes, which stands under no lead.

    Raises:
        TransientFailure: Redis cannot be reached.
    """
    return _read(redis_url, INTRUDER) is not None


@dataclass
class _Former:
    """Who led before, as far as we know.

    Arguments:
        name: its lock's id; None: we have not seen anybody.
        is_gone: its child is dead for sure.
    """

    name: str | None
    is_gone: bool


@dataclass
class _Lease:
    """The lead, while it is ours. Times are readings of `clock`.

    Arguments:
        client: of Redis.
        lock: taken.
        expiry: seconds.
        renewed: when we asked for it last, with success: Redis heard it later, so the lock ends later than we reckon.
        former: who led before.
        told: the last deadline that the guard has heard of; there is none without a child.
    """

    client: redis.Redis
    lock: redis_lock.Lock
    expiry: int
    renewed: float
    former: _Former
    told: float = math.inf

    @property
    def pause(self) -> float:
        """Seconds between two renewals."""
        return self.expiry / 15

    @property
    def give_up(self) -> float:
        """When the child has to be stopped."""
        return self.renewed + self.expiry * 2 / 3

    @property
    def deadline(self) -> float:
        """When the child has to be dead."""
        return self.renewed + self.expiry * 5 / 6

    def renew(self) -> redis.RedisError | None:
        """Ask Redis for another expiry; answers with the error if it could not be asked, and there is time left.

        Raises:
            _LostLead: the lock is not ours, or no time is left.
        """
        asked = clock()
        problem = None
        try:
            self.lock.extend()
        except redis_lock.NotAcquired:
            raise _LostLead("the lock is gone from Redis") from None
        except redis.RedisError as error:
            problem = error
        else:
            self.renewed = asked
        # We may have stood still anywhere, and the guard has not.
        if clock() >= min(self.told, self.give_up):
            away = f", Redis cannot be reached ({type(problem).__name__})" if problem else ""
            raise _LostLead(f"the lock was not renewed in time{away}")
        return problem

    def give_back(self) -> None:
        """Free the lock, if it is ours still, and say that our child is dead."""
        with contextlib.suppress(redis.RedisError, redis_lock.NotAcquired):
            self.client.set(GOODBYE + self.lock.id, 1, ex=self.expiry * 20)
            self.lock.release()


def _connect(redis_url: SecretStr, timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        redis_url.get_secret_value(),
        socket_connect_timeout=timeout,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 0),  # our loops try again, and look at the clock between
    )


def _wait_for_lease(client: redis.Redis, expiry: int, former: _Former, report: Report) -> _Lease:
    """Stand by until the lock is free, and take it."""
    # Another name for each lease: a good-bye is for ever.
    lock = redis_lock.Lock(client, LOCK, expire=expiry, id=f"{_whoami()}:{secrets.token_hex(4)}")
    told = ""
    while True:
        try:
            holder, left = _holder(client)
            if holder is None or holder == lock.id:
                asked = clock()
                if _take(lock, holder):
                    return _Lease(client, lock, expiry, asked, former)
                continue
            former = _Former(holder, is_gone=left < expiry / 6)
            news = f"stands by, {_in_short(holder)} leads"
        except redis.RedisError as error:
            news = f"stands by, Redis cannot be reached ({type(error).__name__})"
        if news != told:
            report(news)
            told = news
        time.sleep(expiry / 15)


def _take(lock: redis_lock.Lock, holder: str | None) -> bool:
    """Take the lock, also where we have it: the answer to an earlier attempt may have been lost."""
    try:
        if holder is None:
            return bool(lock.acquire(blocking=False))
        lock.extend()
    except (redis_lock.AlreadyAcquired, redis_lock.NotAcquired):
        return False
    return True


def _holder(client: redis.Redis) -> tuple[str | None, float]:
    """Who has the lock, and for how many seconds it will live."""
    with client.pipeline() as pipeline:
        pipeline.get(KEY)
        pipeline.pttl(KEY)
        name, milliseconds = pipeline.execute()
    if name is None:
        return None, 0.0
    return _text(name), math.inf if milliseconds < 0 else milliseconds / 1000


def _run(lease: _Lease, service: Service, logs: Path, report: Report) -> None:
    """Run the service until it ends, or the lead does, or we are stopped; it is dead then.

    Raises:
        _LostLead: the lead ended.
        ServiceFailed: the service did.
    """
    report("leads")
    _wait_until_former_is_gone(lease, report)
    with _started(lease, service, logs) as (child, tell_guard):
        report(f"runs the {service.name}")
        complaints = _Complaints(child.log)
        away = False
        while True:
            # Looked at first: a child that the guard has killed is dead after `told`, which `renew` sees.
            dead = child.died()
            problem = lease.renew()
            if dead:
                raise child.failure(f"ended by itself (exit code {child.process.returncode})")
            tell_guard()
            if bool(problem) != away:
                away = not away
                name = type(problem).__name__
                report(f"Redis cannot be reached ({name}), waits a while" if away else "Redis is back, still leads")
            if complaints.is_new_one():
                report(f"another {service.name} runs beside ours, and is not under this lead: stop it")
                with contextlib.suppress(redis.RedisError):
                    lease.client.set(INTRUDER, lease.lock.id, ex=REMEMBER_INTRUDER)
            time.sleep(lease.pause)


def _wait_until_former_is_gone(lease: _Lease, report: Report) -> None:
    """Keep the lock, and start nothing, as long as a child of the leader before us may live."""
    gone = clock() + lease.expiry * 5 / 6
    told = False
    while not _is_gone(lease.client, lease.former) and clock() < gone:
        if not told:
            report("waits until a former leader's child is dead for sure")
            told = True
        time.sleep(lease.pause)
        lease.renew()


def _is_gone(client: redis.Redis, former: _Former) -> bool:
    if former.is_gone or former.name is None:
        return former.is_gone
    with contextlib.suppress(redis.RedisError):
        return bool(client.exists(GOODBYE + former.name))
    return False


@contextlib.contextmanager
def _started(lease: _Lease, service: Service, logs: Path) -> Iterator[tuple[Child, Callable[[], None]]]:
    """The child, started under a guard; and a function that tells the guard the deadline. It is dead at the end."""
    path = Path(tempfile.gettempdir()) / f"passari-leader-{secrets.token_hex(8)}"
    os.mkfifo(path, 0o600)
    # For reading, too: it does not wait for the guard. Its end, which the guard sees, is our death.
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def tell_guard() -> None:
        with contextlib.suppress(BlockingIOError):  # a guard that reads nothing: we have our own clock
            os.write(pipe, b"%f\n" % lease.deadline)
            lease.told = lease.deadline

    try:
        lease.told = lease.deadline
        argv = [*GUARD, str(path), str(lease.deadline), *service.argv]
        child = start(replace(service, argv=argv, ready=None), logs)
        try:
            yield child, tell_guard
        finally:
            left = max(0.0, lease.deadline - clock())
            child.service = replace(child.service, grace=min(service.grace, left))
            child.stop()
    finally:
        os.close(pipe)
        path.unlink(missing_ok=True)


class _Complaints:
    """What the child complains of in its log from now on."""

    def __init__(self, log: Path) -> None:
        self._log, self._read_to = log, log.stat().st_size

    def is_new_one(self) -> bool:
        """Whether it has met another daemon since we were asked last."""
        with contextlib.suppress(OSError), self._log.open("rb") as stream:
            if self._log.stat().st_size < self._read_to:  # logrotate has cut it
                self._read_to = 0
            stream.seek(self._read_to)
            whole_lines, newline, _ = stream.read().rpartition(b"\n")
            self._read_to += len(whole_lines) + len(newline)
            return COMPLAINT in whole_lines
        return False


def _read(redis_url: SecretStr, key: str) -> str | None:
    with contextlib.closing(_connect(redis_url, 10)) as client:
        try:
            value = client.get(key)
        except redis.RedisError as error:
            raise TransientFailure(f"Redis cannot be asked who leads: {type(error).__name__}") from None
    return None if value is None else _text(value)


def _whoami() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _in_short(name: str) -> str:
    """A leader's name without the part that makes it unique."""
    return name.rpartition(":")[0]


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
