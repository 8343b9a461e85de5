"""What happens to a run between its creation and its end, seen from the queue: admitted, enqueued, cancelled, failed.

Plain functions over Dagster's instance and the ledger, for coordinator, launcher, worker and reconciler. Each may be
called twice.
"""

from __future__ import annotations

import dagster as dg

from passari_dagster.run_queue.dagster_internals import PARTITION_NAME_TAG, PRIORITY_TAG
from passari_dagster.run_queue.ledger import Ledger, priority_queue


def claimed_by(run: dg.DagsterRun) -> str | None:
    """What a run claims for itself alone: its job's partition. A run without one claims nothing."""
    partition = run.tags.get(PARTITION_NAME_TAG)
    return f"{run.job_name}:{partition}" if partition else None


def described(run: dg.DagsterRun) -> str:
    """The run in a few words."""
    partition = run.tags.get(PARTITION_NAME_TAG)
    return f"{run.job_name} {partition}" if partition else run.job_name


def admit(instance: dg.DagsterInstance, ledger: Ledger, run: dg.DagsterRun) -> bool:
    """Claim the run's object; another run that has it, and has not ended, makes this one CANCELED.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    claimed = claimed_by(run)
    if claimed is None:
        return True
    while (holder := ledger.claim(claimed, run.run_id)) != run.run_id:
        other = instance.get_run_by_id(holder)
        if other is not None and not other.is_finished:
            report_canceled(
                instance,
                run.run_id,
                f"run {holder} of {described(run)} is {other.status.value.lower()}: one at a time. "
                "Launch it again when that one has ended.",
            )
            return False
        ledger.take_over(claimed, holder, run.run_id)
    return True


def enqueue(ledger: Ledger, run: dg.DagsterRun, *, anew: bool = False) -> None:
    """Put an admitted run in the queue of its priority.

    Arguments:
        anew: whatever RQ remembers of it; no queue holds it.
    """
    put = ledger.enqueue_anew if anew else ledger.enqueue
    put(run.run_id, priority_queue(run.tags.get(PRIORITY_TAG)), described(run))


def release(ledger: Ledger, run: dg.DagsterRun) -> None:
    """The run has ended: its object is free."""
    claimed = claimed_by(run)
    if claimed is not None:
        ledger.release(claimed, run.run_id)
    ledger.forget_cancel(run.run_id)


def cancel(instance: dg.DagsterInstance, ledger: Ledger, run_id: str) -> bool:
    """Cancel a run; False: it has ended.

    Whoever executes it, or takes it from the queue just now, sees the request in Redis; with nobody there, it is over.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return False
    ledger.ask_to_cancel(run_id)
    if run.status is not dg.DagsterRunStatus.QUEUED and run.status is not dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceling(run)
    ledger.remove(run_id)
    # Not whether a queue held it: one may hold what executes, too, where Redis was replaced by an older one of itself.
    if ledger.lease_of(run_id) is None:
        report_canceled(instance, run_id, "Cancelled before a worker executed it.")
        release(ledger, run)
    return True


def report_canceled(instance: dg.DagsterInstance, run_id: str, message: str) -> None:
    """The run is CANCELED, unless it has ended otherwise."""
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_canceled(run, message)


def report_dead(instance: dg.DagsterInstance, ledger: Ledger, run_id: str, message: str) -> None:
    """The run's process is dead: FAILURE, so that `run_retries` starts it again; or CANCELED, if that was wanted."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return
    if not run.is_finished:
        if run.status is dg.DagsterRunStatus.CANCELING or ledger.is_to_be_cancelled(run_id):
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
    release(ledger, run)
