"""What Redis holds of runs: the queue, claims, leases, and requests to cancel. Dagster is not needed to read it.

None of it is the truth: Dagster's database says what a run is. All that is here may be lost, and is then written anew
by `reconcile.py`.

| key | holds | lives |
|---|---|---|
| RQ's queues `passari-high`, `-normal`, `-low` | ids of queued runs | until a worker takes them |
| hash `passari:claims` | for each object, the one run of it that may be queued or live | until that run has ended |
| `passari:lease:<run>` | who executes the run | as long as its process renews it |
| `passari:cancel:<run>` | somebody wants the run to end | a day |
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from passari_dagster.connections import redis_arguments

QUEUES = ("passari-high", "passari-normal", "passari-low")
"""In the order in which workers look into them."""
EXECUTE = "passari_dagster.run_queue.execution.execute_run"
"""The function that RQ calls with a run's id. Jobs are JSON: nothing that Redis holds is ever unpickled."""
CLAIMS = "passari:claims"
LEASE = "passari:lease:"
CANCEL = "passari:cancel:"
LEASE_SECONDS = 15
LEASE_GRACE = 10.0
"""Seconds that a lease may be missing, after Redis has forgotten it, until its holder has renewed it for sure."""
CANCEL_SECONDS = 86_400
RESULT_SECONDS = 60
"""How long RQ keeps a finished job. Its word on it is not the truth, and nobody reads it."""

# Set, unless somebody else has it. What is there is only prolonged: a Redis without memory refuses SET, not EXPIRE.
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if not holder then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
elseif holder == ARGV[1] then
    redis.call('EXPIRE', KEYS[1], ARGV[2])
else
    return 0
end
return 1
"""
_DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RELEASE = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
"""
_TAKE_OVER = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) return 1 end
return 0
"""


def connect(url: str, *, patient: bool = False) -> redis.Redis:
    """A connection to Redis.

    Arguments:
        url: as REDIS_URL has it.
        patient: wait for a Redis that is away or full, minutes if need be; for workers. Others are told within seconds.
    """
    worth_a_wait: list[type[redis.RedisError]] = [redis.ConnectionError, redis.TimeoutError]
    if patient:
        worth_a_wait.append(redis.OutOfMemoryError)
    return redis.Redis.from_url(
        url,
        **redis_arguments(url),
        socket_connect_timeout=5,
        socket_timeout=None if patient else 10,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=5, base=0.1), 60 if patient else 3),
        retry_on_error=worth_a_wait,
    )


def priority_queue(priority: str | None) -> str:
    """The queue for a run with this `dagster/priority`: above zero, zero or none, below."""
    try:
        number = int(priority or 0)
    except ValueError:
        number = 0
    return QUEUES[0] if number > 0 else QUEUES[2] if number < 0 else QUEUES[1]


@dataclass(frozen=True)
class Lease:
    """Who executes a run.

    Arguments:
        run_id: the run.
        host: the worker host's name.
        worker: name of the RQ worker.
        pid: of the process that executes it.
        since: seconds since the epoch.
        what: the run in a few words, such as its object.
    """

    run_id: str
    host: str
    worker: str
    pid: int
    since: float
    what: str

    def dumps(self) -> str:
        """As it stands in Redis."""
        return json.dumps(asdict(self), sort_keys=True)


class Ledger:
    """The runs' keys in one Redis.

    Arguments:
        connection: is closed by `close()`.
    """

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._queues = {
            name: Queue(name, connection=connection, serializer=JSONSerializer, default_timeout=-1) for name in QUEUES
        }

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    def identity(self) -> str:
        """Another one after each start of Redis: what it holds may be older then."""
        return str(self.connection.info("server")["run_id"])

    # The queue

    def enqueue(self, run_id: str, queue: str, what: str) -> bool:
        """Put a run at the queue's end; False: it stands in a queue already.

        Arguments:
            what: the run in a few words.
        """
        try:
            self._queues[queue].enqueue_call(
                EXECUTE,
                args=(run_id,),
                timeout=-1,
                job_id=run_id,
                unique=True,
                result_ttl=RESULT_SECONDS,
                failure_ttl=RESULT_SECONDS,
                description=what,
            )
        except DuplicateJobError:
            return False
        return True

    def enqueue_anew(self, run_id: str, queue: str, what: str) -> None:
        """Enqueue a run that no queue holds, whatever RQ remembers of it."""
        self._forget(run_id)
        self.enqueue(run_id, queue, what)

    def remove(self, run_id: str) -> bool:
        """Take a run out of the queue; False: no queue held it."""
        with self.connection.pipeline() as pipeline:
            for queue in self._queues.values():
                pipeline.lrem(queue.key, 0, run_id)
            removed = any(pipeline.execute())
        if removed:
            self._forget(run_id)
        return removed

    def _forget(self, run_id: str) -> None:
        with contextlib.suppress(NoSuchJobError):
            Job.fetch(run_id, connection=self.connection, serializer=JSONSerializer).delete()

    def queued(self) -> set[str]:
        """Ids of all runs that stand in a queue."""
        ids: set[str] = set()
        for queue in self._queues.values():
            ids.update(queue.job_ids)
        return ids

    def depth(self) -> dict[str, int]:
        """How many runs stand in each queue."""
        return {name: queue.count for name, queue in self._queues.items()}

    # Claims

    def claim(self, claimed: str, run_id: str) -> str:
        """Claim an object for a run, unless another one has it; answers whose it is."""
        while not self.connection.hsetnx(CLAIMS, claimed, run_id):
            holder = self.connection.hget(CLAIMS, claimed)
            if holder is not None:  # else it was freed between the two
                return _text(holder)
        return run_id

    def take_over(self, claimed: str, former: str, run_id: str) -> bool:
        """Claim what a run has that ended; False: somebody was quicker."""
        return bool(self.connection.eval(_TAKE_OVER, 1, CLAIMS, claimed, former, run_id))

    def release(self, claimed: str, run_id: str) -> bool:
        """Free an object, if this run has it."""
        return bool(self.connection.eval(_RELEASE, 1, CLAIMS, claimed, run_id))

    def claims(self) -> dict[str, str]:
        """All claims: which run has each object."""
        found: Mapping[bytes, bytes] = self.connection.hgetall(CLAIMS)  # type: ignore[assignment]
        return {_text(claimed): _text(run_id) for claimed, run_id in found.items()}

    def claim_count(self) -> int:
        """How many objects are claimed."""
        return int(self.connection.hlen(CLAIMS))

    # Leases

    def take_lease(self, lease: Lease) -> bool:
        """Become the one who executes the run; False: somebody does."""
        return bool(self.connection.set(LEASE + lease.run_id, lease.dumps(), nx=True, ex=LEASE_SECONDS))

    def renew_lease(self, lease: Lease) -> bool:
        """Go on being the one, also after Redis has forgotten it; False: it is somebody else now."""
        return bool(self.connection.eval(_RENEW, 1, LEASE + lease.run_id, lease.dumps(), LEASE_SECONDS))

    def drop_lease(self, lease: Lease) -> None:
        """Execute it no longer."""
        self.connection.eval(_DROP, 1, LEASE + lease.run_id, lease.dumps())

    def lease_of(self, run_id: str) -> Lease | None:
        """Who executes the run; None: nobody."""
        return _read_lease(self.connection.get(LEASE + run_id))

    def leases(self) -> Iterator[Lease]:
        """Everybody who executes a run."""
        for key in self.connection.scan_iter(match=LEASE + "*", count=1000):
            lease = _read_lease(self.connection.get(key))
            if lease is not None:
                yield lease

    # Requests to cancel

    def ask_to_cancel(self, run_id: str) -> None:
        """Whoever executes the run, or is about to, shall end it."""
        self.connection.set(CANCEL + run_id, 1, ex=CANCEL_SECONDS)

    def is_to_be_cancelled(self, run_id: str) -> bool:
        """Whether somebody wants the run to end."""
        return bool(self.connection.exists(CANCEL + run_id))

    def forget_cancel(self, run_id: str) -> None:
        """The request is granted."""
        self.connection.delete(CANCEL + run_id)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_lease(value: object) -> Lease | None:
    if value is None:
        return None
    return Lease(**json.loads(_text(value)))
