"""Workers: RQ's engine, fitted to runs. One pool on a host, forked from a parent that has all code in memory.

    pool ── worker ── process of a run
         └─ worker ── process of a run

Each dies with its parent. RQ's own word on a job is not read by anybody: what a run is, Dagster's database says.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import dagster as dg
import redis
from rq import Worker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.worker_pool import ForkProcess, WorkerPool
from rq.worker_registration import register
from setproctitle import setproctitle

from passari_dagster import stopping
from passari_dagster.run_queue import execution, runs
from passari_dagster.run_queue.ledger import QUEUES, Ledger, connect

log = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
WATCH_EVERY = 2
"""Seconds between two looks at the process of a run."""
STATUS_EVERY = 10.0
"""Seconds between two looks at what Dagster's database says of it."""
CANCEL_GRACE = 10.0
"""Seconds that a cancelled run has to end by itself."""
ENDED_GRACE = 20.0
"""Seconds that a process may live after its run has ended."""
WORKER_TTL = 30
"""Seconds after which RQ shows a silent worker no longer, but for one minute more. An idle one listens for fifteen less
at a time: so long Redis may give runs to a worker whose host was cut off, which `reconcile.py` has to bring back."""


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent dies.

    Arguments:
        parent: process id of the parent, which may have died already.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class RunWorker(Worker):
    """An RQ worker whose jobs are runs.

    Arguments:
        instance: Dagster's.
        redis_url: of the queue.
        recycle_mb: ends, to be replaced, when it has grown to this many megabytes.
    """

    def __init__(self, *, instance: dg.DagsterInstance, redis_url: str, name: str, recycle_mb: int) -> None:
        self._instance = instance
        self._recycle_mb = recycle_mb
        self._ledger = Ledger(connect(redis_url))
        self._cancel_seen: float | None = None
        self._ended_seen: float | None = None
        self._status_seen = 0.0
        self._exit: int | None = None
        connection = connect(redis_url, patient=True)
        super().__init__(
            [Queue(queue, connection=connection, serializer=JSONSerializer) for queue in QUEUES],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL,
            job_monitoring_interval=WATCH_EVERY,
            log_job_description=False,
        )
        execution.execute_here(execution.Place(instance, redis_url, name))

    # RQ's pub/sub thread takes commands of the `rq` tool. Ours come by the ledger, and without threads a fork is safe.
    def subscribe(self) -> None:
        """Listen to nobody."""

    def unsubscribe(self) -> None:
        """Nobody was listened to."""

    def procline(self, message: str) -> None:
        """RQ's words for `ps`; ours are set where the work changes."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Tell that it lives; and tell who it is, if Redis has forgotten that."""
        if pipeline is None and not self.connection.exists(self.key) and self.birth_date is not None:
            self.connection.hset(self.key, mapping=self.serialize())
            register(self)
        super().heartbeat(timeout, pipeline)

    def set_shutdown_requested_date(self) -> None:
        """Nobody reads it; and a signal's handler is no place to wait for Redis."""

    def register_death(self) -> None:
        """Say goodbye, to a Redis that is there: one that is away hears no more of this worker soon enough."""
        patient, self.connection = self.connection, self._ledger.connection
        try:
            super().register_death()  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            log.warning("worker %s ends, and Redis is not told: %s", self.name, type(error).__name__)
        finally:
            self.connection = patient

    def setup_work_horse_signals(self) -> None:
        """In the process of a run."""
        execution.prepare_signals()

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """In the process of a run: execute it, and exit."""
        die_with_parent(self._parent)
        setproctitle(f"passari run: {job.description}")
        super().main_work_horse(job, queue)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Have a run executed, and see to it that the database tells of its end."""
        self._parent = os.getpid()
        self._cancel_seen = self._ended_seen = None
        # Workers that began together do not all look in the same second.
        self._status_seen = time.monotonic() - os.getpid() % STATUS_EVERY
        self._exit = None
        setproctitle(f"passari worker: executes {job.description}")
        super().execute_job(job, queue)
        setproctitle("passari worker: waits")
        if self._exit != 0:
            self._bury(job.id)
        if _own_megabytes() > self._recycle_mb:
            log.info("worker %s has grown to %d MB and ends", self.name, _own_megabytes())
            self._stop_requested = True

    def wait_for_horse(self) -> tuple[int | None, int | None, resource.struct_rusage | None]:
        """How the run's process ended."""
        pid, self._exit, usage = super().wait_for_horse()
        return pid, self._exit, usage

    @contextlib.contextmanager
    def _database(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's database, needed for a moment now and then: no connection to it is kept, beside that of the run."""
        try:
            yield self._instance
        finally:
            self._instance.event_log_storage.dispose()

    def _bury(self, run_id: str) -> None:
        """The run's process was killed. If it had not told of the run's end before, it is told now."""
        try:
            with self._database() as instance:
                self._bury_in(instance, run_id)
        except StopRequested:  # of a signal that came just now; what is left here is run monitoring's
            raise
        except Exception:  # the database or Redis is away: run monitoring finds the run without a lease
            log.exception("run %s: its end could not be told", run_id)

    def _bury_in(self, instance: dg.DagsterInstance, run_id: str) -> None:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished or run.status is dg.DagsterRunStatus.QUEUED:
            return
        lease = self._ledger.lease_of(run_id)
        if lease is not None and lease.worker != self.name:
            return
        runs.report_dead(instance, self._ledger, run_id, "The process that executed the run has died.")
        if lease is not None:
            self._ledger.drop_lease(lease)

    def maintain_heartbeats(self, job: Job, execution: Any) -> None:
        """Every few seconds while a run executes. A Redis that is away is no reason to end."""
        with contextlib.suppress(redis.RedisError):
            super().maintain_heartbeats(job, execution)
        with contextlib.suppress(redis.RedisError):
            self._watch_cancel(job.id)
        self._watch_status(job.id)

    def _watch_cancel(self, run_id: str) -> None:
        """Kill a run that was cancelled and does not end."""
        if not self._ledger.is_to_be_cancelled(run_id):
            self._cancel_seen = None
        elif self._cancel_seen is None:
            self._cancel_seen = time.monotonic()
        elif time.monotonic() - self._cancel_seen > CANCEL_GRACE:
            log.warning("run %s was cancelled and does not end: killed", run_id)
            self.kill_horse()

    def _watch_status(self, run_id: str) -> None:
        """Kill a process whose run has ended without it, such as one that stood still for longer than its lease."""
        if time.monotonic() - self._status_seen < STATUS_EVERY:
            return
        self._status_seen = time.monotonic()
        try:
            with self._database() as instance:
                run = instance.get_run_by_id(run_id)
        except Exception as error:  # the database is away
            log.warning("run %s cannot be looked up: %s", run_id, type(error).__name__)
            return
        if run is not None and not run.is_finished:
            self._ended_seen = None
        elif self._ended_seen is None:
            self._ended_seen = time.monotonic()
        elif time.monotonic() - self._ended_seen > ENDED_GRACE - STATUS_EVERY:
            log.warning("run %s has ended, its process has not: killed", run_id)
            self.kill_horse()

    def handle_warm_shutdown_request(self) -> None:
        """Asked to stop: the run goes on, unless it can stop at a good place and go on another time."""
        log.info("worker %s stops when its run has ended", self.name)
        if self.horse_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.horse_pid, stopping.SIGNAL)


def _own_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@dataclass(frozen=True)
class PoolOptions:
    """How a host's workers are kept.

    Arguments:
        workers: how many.
        recycle_runs: a worker is replaced after this many runs.
        recycle_mb: and when it has grown to this many megabytes.
        grace: seconds from SIGTERM until runs that have not ended are killed.
    """

    workers: int
    recycle_runs: int
    recycle_mb: int
    grace: float


class RunWorkerPool(WorkerPool):
    """The workers of one host.

    Arguments:
        instance: Dagster's; workers inherit it.
        redis_url: of the queue.
        options: how they are kept.
    """

    def __init__(self, instance: dg.DagsterInstance, redis_url: str, options: PoolOptions) -> None:
        super().__init__(list(QUEUES), connect(redis_url, patient=True), options.workers, serializer=JSONSerializer)
        self._instance, self._redis_url, self._options = instance, redis_url, options
        self._pid = os.getpid()
        self._asked_to_stop: float | None = None
        self._told_to_stop: set[str] = set()

    def get_worker_process(self, name: str, burst: bool, _sleep: float = 0, logging_level: str = "INFO") -> BaseProcess:
        """A fork of this process, which is warm."""
        return ForkProcess(target=self._work, args=(name, os.getpid()), name=f"worker {name}")

    def _work(self, name: str, parent: int) -> None:
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        setproctitle("passari worker: waits")
        worker = RunWorker(
            instance=self._instance,
            redis_url=self._redis_url,
            name=name,
            recycle_mb=self._options.recycle_mb,
        )
        worker.work(max_jobs=self._options.recycle_runs, logging_level="WARNING")

    def request_stop(self, signum: int | None = None, frame: Any = None) -> None:
        """SIGTERM or SIGINT: no run is begun any more, those that execute end."""
        if os.getpid() != self._pid:
            os._exit(0)  # a fork has this handler for its first moment, in which it has begun nothing
        if self._asked_to_stop is None:
            self._asked_to_stop = time.monotonic()
            self._told_to_stop.update(self.worker_dict)
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def reap_workers(self) -> None:
        """Forget dead workers; when the grace is over, see to it that they die."""
        if self._asked_to_stop is not None:
            for name in self.worker_dict.keys() - self._told_to_stop:  # was being forked when the signal came
                self._told_to_stop.add(name)
                self.stop_worker(self.worker_dict[name])
        if self._asked_to_stop is not None and time.monotonic() - self._asked_to_stop > self._options.grace:
            for data in self.worker_dict.values():
                log.warning("worker %s has not ended in %g s: killed", data.name, self._options.grace)
                data.process.kill()  # and its run with it
        super().reap_workers()  # type: ignore[no-untyped-call]


def run_pool(instance: dg.DagsterInstance, redis_url: str, options: PoolOptions, warm: Callable[[], None]) -> None:
    """Keep the workers of this host until SIGTERM.

    Arguments:
        warm: brings into memory what runs need, before workers are forked.
    """
    setproctitle("passari worker pool")
    warm()
    # What the storage has learned of its tables is kept by the forks; its connection is of no use to them.
    instance.get_runs(limit=1)
    instance.dispose()
    pool = RunWorkerPool(instance, redis_url, options)
    log.info("%d workers take runs", options.workers)
    pool.start(logging_level="WARNING")
    sys.stdout.flush()
