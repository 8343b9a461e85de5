"""Killed runs that Dagster's run retries have passed over; what they start again by themselves is their own affair.

They read of each failure once. If they cannot start the run again in that moment, as when the code server is not up yet
after a power cut, they never do (1.13.27); nor if the run's backfill has ended. And a failure that was committed when
they had read on is not read at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg
from sqlalchemy import text

from passari_dagster.run_queue.dagster_internals import (
    AUTO_RETRY_RUN_ID_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
    RUN_FAILURE_REASON_TAG,
    BulkActionStatus,
    DagsterEventType,
    RunFailureReason,
    auto_reexecution_should_retry_run,
    failures_read_to,
)
from passari_dagster.run_queue.storage import PooledRunStorage

TOLD_AT_MOST = 4
"""Failures of a run that are reported: Dagster may be unable to start it, as when its job is gone, or only its end was
missing. Then it stays red."""
AT_ONCE = 500
CANCELLED = (BulkActionStatus.CANCELING, BulkActionStatus.CANCELED, BulkActionStatus.FAILING)
# In one statement: after an outage there may be ten thousands of failed runs that are no affair of ours.
_PASSED_OVER = text(
    """
    SELECT run_id FROM runs killed
    WHERE status = 'FAILURE' AND update_timestamp > :since
    AND NOT EXISTS (
        SELECT FROM run_tags t WHERE t.run_id = killed.run_id
        AND (t.key = :auto_retry OR t.key = :retry_number AND t.value <> ALL(:numbers))
    )
    -- An op's error is the affair of its retry policy, unless it has lost its lock.
    AND (
        NOT EXISTS (SELECT FROM run_tags t WHERE t.run_id = killed.run_id AND t.key = :reason AND t.value = :by_an_op)
        OR EXISTS (SELECT FROM run_tags t WHERE t.run_id = killed.run_id AND t.key = :by_run AND t.value = 'true')
    )
    -- Nobody wants it any more.
    AND NOT EXISTS (SELECT FROM bulk_actions b WHERE b.key = killed.backfill_id AND b.status = ANY(:cancelled))
    -- A person, or a sensor, has started it again; or another run of the same partition. One that was cancelled counts
    -- if it was after the failure: before, it was only refused.
    AND NOT EXISTS (
        SELECT FROM (
            SELECT t.run_id FROM run_tags t WHERE t.key = :parent AND t.value = killed.run_id
            UNION ALL SELECT r.run_id FROM runs r
            WHERE r.partition_set = killed.partition_set AND r.partition = killed.partition AND r.id > killed.id
        ) later JOIN runs r USING (run_id)
        WHERE r.status <> 'CANCELED' OR r.create_timestamp > (
            SELECT min(e.timestamp) FROM event_logs e
            WHERE e.run_id = killed.run_id AND e.dagster_event_type = :failure
        )
    )
    AND (
        SELECT count(*) < :told_at_most AND coalesce(max(e.id), 0) <= :read_to FROM event_logs e
        WHERE e.run_id = killed.run_id AND e.dagster_event_type = :failure
    )
    ORDER BY id LIMIT :limit
    """
)


def passed_over(instance: dg.DagsterInstance, since: datetime) -> Iterator[dg.DagsterRun]:
    """Killed runs that were to be started again, and were not; the oldest first, so many at a time. None of a backfill
    that was cancelled.

    Arguments:
        instance: with our storage; of another one nothing is told.
        since: runs that ended before are left alone.
    """
    storage, read_to = instance.run_storage, failures_read_to(instance)
    if not isinstance(storage, PooledRunStorage) or not instance.run_retries_enabled or read_to is None:
        return
    values = {
        "since": since.astimezone(timezone.utc).replace(tzinfo=None),  # the column's time zone is UTC, and not said
        "auto_retry": AUTO_RETRY_RUN_ID_TAG,
        "retry_number": RETRY_NUMBER_TAG,
        "numbers": [str(number) for number in range(instance.run_retries_max_retries)],
        "reason": RUN_FAILURE_REASON_TAG,
        "by_an_op": RunFailureReason.STEP_FAILURE.value,
        "by_run": RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
        "cancelled": [status.value for status in CANCELLED],
        "parent": PARENT_RUN_ID_TAG,
        "told_at_most": TOLD_AT_MOST,
        "read_to": read_to,
        "failure": DagsterEventType.RUN_FAILURE.value,
        "limit": AT_ONCE,
    }
    with storage.connect() as connection:
        found = connection.execute(_PASSED_OVER, values).scalars().all()
    for run_id in found:
        run = instance.get_run_by_id(run_id)
        # Asked now: meanwhile it may have gone on, and ended well.
        if run is not None and auto_reexecution_should_retry_run(instance, run, _reason(run)):
            yield run


def _reason(run: dg.DagsterRun) -> RunFailureReason | None:
    by_an_op = run.tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.STEP_FAILURE.value
    return RunFailureReason.STEP_FAILURE if by_an_op else None


def tell_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Report the failure of a run that was passed over once more: then Dagster looks at it again.

    It counts as ended now. One whose backfill has ended Dagster leaves alone all the same.
    """
    instance.report_run_failed(run, "It was not started again when it had failed: that is tried once more.")
