"""What passari-workflow's Redis tells: whether its workers live, and what waits in its queues. Nothing is written.

Its jobs are RQ 1.4's. Their data, which is pickled, is not looked at: the id of a job says which step of which object
it is. [passari-workflow 1.1: `queue/queues.py`, `jobs/utils.py`, `heartbeat.py`; rq 1.4.0: `registry.py`, `worker.py`]
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import redis
from pydantic import SecretStr

from passari_dagster.connections import redis_arguments
from passari_dagster.errors import SettingsError

STEPS = ("download_object", "create_sip", "submit_sip", "confirm_sip")
"""Its queues of objects; the job of an object is `<queue>_<object id>`."""
ENQUEUE = "enqueue_objects"
"""Its queue of requests to enqueue a number of objects."""
WORKFLOW_LOCK = "lock:workflow-lock"
"""Held, for a quarter of an hour at most, while it enqueues, freezes or resets."""
TIMEOUT = 15.0

_JOB = re.compile(rf"({'|'.join(STEPS)})_(\d+)(?::.*)?")
_OBJECT_LOCK = re.compile(r"lock:lock-object-(\d+)")
_TRACES = ("started_at", "ended_at", "exc_info", "last_heartbeat", "worker_name")
"""Fields of a job that was ever tried: a requeue empties the first two, and leaves the error."""


@dataclass(frozen=True)
class Job:
    """A job of an object.

    Arguments:
        step: which queue it is of.
        state: queued, started or failed.
        tried: a worker began it at least once, as far as is known.
    """

    object_id: int
    step: str
    state: str
    tried: bool


@dataclass(frozen=True)
class OldQueues:
    """What Redis tells of passari-workflow.

    Arguments:
        known: there is any trace of it; without one it is perhaps another Redis.
        workers: workers that live, or were killed minutes ago: name, and what each does.
        at_work: it enqueues, freezes or resets at this moment.
        jobs: of objects, in the order of the queues.
        requests: how many requests to enqueue objects wait.
        locked: objects whose lock is held; that of a killed job is held for ever.
        ran: when its commands of cron ended last.
    """

    known: bool
    workers: tuple[str, ...]
    at_work: bool
    jobs: tuple[Job, ...]
    requests: int
    locked: frozenset[int]
    ran: dict[str, datetime]

    def never_tried(self, object_id: int, step: str) -> bool:
        """Whether the step's job waits, and was never begun."""
        of_step = [job for job in self.jobs if (job.object_id, job.step) == (object_id, step)]
        return bool(of_step) and all(job.state == "queued" and not job.tried for job in of_step)


def read(url: SecretStr) -> OldQueues:
    """Look at its Redis.

    Raises:
        SettingsError: it cannot be reached.
    """
    address = url.get_secret_value()
    try:
        with redis.Redis.from_url(
            address, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT, **redis_arguments(address)
        ) as client:
            return _read(client)
    except (redis.RedisError, ValueError, OSError) as error:
        raise SettingsError(
            f"passari-workflow's Redis cannot be reached: {type(error).__name__}. Name it by --redis, or say "
            "--no-redis if it is gone"
        ) from error


def _read(client: redis.Redis) -> OldQueues:
    jobs = tuple(_jobs(client))
    workers = tuple(sorted({worker for queue in (*STEPS, ENQUEUE) for worker in _workers(client, queue)}))
    requests = int(client.llen(f"rq:queue:{ENQUEUE}"))
    locks = (_OBJECT_LOCK.fullmatch(_text(key)) for key in client.scan_iter("lock:lock-object-*", count=1000))
    locked = frozenset(int(match[1]) for match in locks if match)
    ran = dict(_heartbeats(client))
    named = {f"rq:queue:{queue}" for queue in (*STEPS, ENQUEUE)}.intersection(_texts(client.smembers("rq:queues")))
    return OldQueues(
        known=bool(jobs or workers or requests or ran or locked or named),
        workers=workers,
        at_work=bool(client.exists(WORKFLOW_LOCK)),
        jobs=jobs,
        requests=requests,
        locked=locked,
        ran=ran,
    )


def _jobs(client: redis.Redis) -> Iterator[Job]:
    now = time.time()
    for step in STEPS:
        for state, ids in (
            ("queued", client.lrange(f"rq:queue:{step}", 0, -1)),
            # Until then a job may run; later it is taken for lost, by RQ too.
            ("started", client.zrangebyscore(f"rq:wip:{step}", now, "+inf")),
            ("failed", client.zrangebyscore(f"rq:wip:{step}", "-inf", f"({now}")),
            ("failed", client.zrange(f"rq:failed:{step}", 0, -1)),
        ):
            matches = (_JOB.fullmatch(job_id) for job_id in dict.fromkeys(_texts(ids)))
            found = [match for match in matches if match and match[1] == step]
            pipeline = client.pipeline(transaction=False)
            for match in found:
                pipeline.hmget(f"rq:job:{match[0]}", ["created_at", *_TRACES])
            for match, (created, *traces) in zip(found, pipeline.execute(), strict=True):
                # A job whose data is gone tells nothing: it counts as tried.
                yield Job(int(match[2]), step, state, tried=created is None or any(traces))


def _workers(client: redis.Redis, queue: str) -> Iterator[str]:
    for key in _texts(client.smembers(f"rq:workers:{queue}")):
        state, job, death = client.hmget(key, ["state", "current_job", "death"])
        if client.exists(key) and death is None:
            yield f"{key.removeprefix('rq:worker:')} ({_text(job or state or 'state not known')})"


def _heartbeats(client: redis.Redis) -> Iterator[tuple[str, datetime]]:
    for key in _texts(client.scan_iter("heartbeat:sync_*", count=1000)):
        moment = _text(client.get(key) or "")
        if moment.isdecimal():
            yield key.partition(":")[2], datetime.fromtimestamp(int(moment), timezone.utc)


def _texts(values: Iterable[Any]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
