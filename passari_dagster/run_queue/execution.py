"""Executing one run, in a process of its own: a fork of a warmed worker.

The lease says that this process executes the run. A thread renews it, and sees whether somebody wants the run to end.
What the worker, its parent, does meanwhile is in `worker.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import redis

from passari_dagster import stopping
from passari_dagster.run_queue import runs
from passari_dagster.run_queue.dagster_internals import execute, report_starting
from passari_dagster.run_queue.ledger import Lease, Ledger, connect

log = logging.getLogger(__name__)
RENEW_EVERY = 1.0
"""Seconds between two renewals of the lease, and two looks for a request to cancel."""


@dataclass(frozen=True)
class Place:
    """Where runs are executed.

    Arguments:
        instance: Dagster's, inherited by the fork.
        redis_url: of the queue.
        worker: name of the RQ worker.
    """

    instance: dg.DagsterInstance
    redis_url: str
    worker: str


_place: Place | None = None


def execute_here(place: Place) -> None:
    """Runs that RQ gives to this process, or to its forks, are executed at this place."""
    global _place
    _place = place


def execute_run(run_id: str) -> None:
    """Execute a run that was taken from the queue, unless it has ended, was cancelled, or is executed elsewhere."""
    place = _place
    assert place is not None, "a worker has called execute_here"
    ledger = Ledger(connect(place.redis_url, patient=True))
    try:
        run = place.instance.get_run_by_id(run_id)
        if run is None or run.status is not dg.DagsterRunStatus.QUEUED:
            log.info("run %s is %s: not executed", run_id, "unknown" if run is None else run.status.value)
            return
        lease = Lease(run_id, socket.gethostname(), place.worker, os.getpid(), time.time(), runs.described(run))
        if not ledger.take_lease(lease):
            log.info("run %s is executed by another worker", run_id)
            return
        try:
            with _kept(place.redis_url, lease):
                _execute(place.instance, ledger, run_id)
        finally:
            ledger.drop_lease(lease)
    finally:
        ledger.close()


def _execute(instance: dg.DagsterInstance, ledger: Ledger, run_id: str) -> None:
    # Asked in this order: whoever cancels a run without a lease forgets the request when the database says CANCELED.
    cancelled = ledger.is_to_be_cancelled(run_id)
    # Read again: with the lease in hand nobody else changes it from QUEUED, but for somebody who cancels it.
    run = instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.QUEUED or not runs.admit(instance, ledger, run):
        return
    if cancelled:
        runs.report_canceled(instance, run_id, "Cancelled before it was executed.")
    else:
        log.info("run %s (%s) begins", run_id, runs.described(run))
        report_starting(instance, run)
        execute(instance, run_id)
    run = instance.get_run_by_id(run_id)
    if run is not None and run.is_finished:
        log.info("run %s (%s) ended %s", run_id, runs.described(run), run.status.value)
        runs.release(ledger, run)


@contextlib.contextmanager
def _kept(redis_url: str, lease: Lease) -> Iterator[None]:
    """The lease is ours while the block runs; a request to cancel interrupts the block."""
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(redis_url, lease, over), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)


def _keep(redis_url: str, lease: Lease, over: threading.Event) -> None:
    ledger = Ledger(connect(redis_url))
    interrupted = False
    while not over.wait(RENEW_EVERY):
        # With Redis away nobody else can take the lease, either.
        with contextlib.suppress(redis.RedisError):
            if not ledger.renew_lease(lease):
                log.error("run %s has a second process: this one ends", lease.run_id)
                os.kill(os.getpid(), signal.SIGKILL)
            if not interrupted and ledger.is_to_be_cancelled(lease.run_id):
                interrupted = True
                os.kill(os.getpid(), signal.SIGINT)
    ledger.close()


def prepare_signals() -> None:
    """Signals of a process that executes a run: SIGINT cancels it, SIGUSR1 asks it to stop at a good place.

    SIGTERM, which a host that is shut down may send to everybody, is for the worker to obey. Dagster would end the run
    as if a person had cancelled it, and nothing starts such a run again; so it is not even delivered.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    stopping.listen()
