"""Killed runs that Dagster's run retries have passed over; what they start again by themselves is their own affair.

They read of each failure once. If they cannot start the run again in that moment, as when the code server is not up yet
after a power cut, they never do (1.13.27); nor if the run's backfill has ended. And a failure that was committed when
they had read on is not read at all.
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from passari_dagster.run_queue.dagster_internals import (
    AUTO_RETRY_RUN_ID_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
    RunFailureReason,
    auto_reexecution_should_retry_run,
    retries_have_read_of,
)


def passed_over(instance: dg.DagsterInstance, since: datetime) -> list[dg.DagsterRun]:
    """Killed runs that were to be started again, and were not; the oldest first.

    Arguments:
        since: runs that ended before are left alone.
    """

    def failed(tags: dict[str, str]) -> set[str]:
        filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags=tags, updated_after=since)
        return set(instance.get_run_ids(filters))

    # An op's error is no affair of the run retries. There may be thousands of those, and few killed runs.
    others = failed({}) - failed({RUN_FAILURE_REASON_TAG: RunFailureReason.STEP_FAILURE.value, WILL_RETRY_TAG: "false"})
    if not others:
        return []
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(others)), ascending=True)
    return [run for run in runs if _was_passed_over(instance, run)]


def tell_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Report the failure of a run that was passed over once more: then Dagster looks at it again, and starts it.

    To be called again and again until it is not among those any more. A run whose backfill has ended it leaves alone.
    """
    instance.report_run_failed(run, "It was not started again when it had failed: that is tried once more.")


def _was_passed_over(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    by_an_op = run.tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.STEP_FAILURE.value
    return (
        AUTO_RETRY_RUN_ID_TAG not in run.tags
        and auto_reexecution_should_retry_run(instance, run, RunFailureReason.STEP_FAILURE if by_an_op else None)
        and retries_have_read_of(instance, run)
        and not _was_started_again(instance, run)
    )


def _was_started_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    group = instance.get_run_group(run.run_id)
    relatives = group[1] if group else []
    # The tags tell it also of those that a sensor has started, which have no parent otherwise.
    return any(
        other.tags.get(PARENT_RUN_ID_TAG) == run.run_id and RETRY_NUMBER_TAG in other.tags for other in relatives
    )
