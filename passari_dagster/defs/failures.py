"""Objects that are left failed: Dagster's runs joined with what the database says of their objects.

Runs are read newest first, some at a time; of each page only those stay in memory whose objects are not done with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import dagster as dg

from passari_dagster.defs import launch
from passari_dagster.defs.partitions import ids_of
from passari_dagster.defs.resources import PARTITION_TAG
from passari_dagster.workflow import standing
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.standing import Failure

AT_ONCE = 500
READ = 500
"""Most failed runs whose message is read: a query for each."""
RETRIED_WITHIN = timedelta(days=1)
"""A run that Dagster says it will start again counts as failed when it has not done so for that long."""
COUNTING = [status for status in dg.DagsterRunStatus if status is not dg.DagsterRunStatus.CANCELED]
"""A cancelled run says nothing of its object: the second run of an object with a live one is refused so."""
_CLASS = re.compile(r"^[A-Za-z_][\w.]*: ")


@dataclass(frozen=True)
class Left:
    """An object that is left failed, and its last run."""

    object_id: int
    run_id: str


def left(env: Environment, instance: dg.DagsterInstance) -> list[Left]:
    """Objects whose last run failed, with its retries spent, and that are in the workflow or eligible.

    The latest failure comes first.
    """
    found: list[Left] = []
    seen: set[int] = set()
    for page in _failed(instance):
        runs: dict[int, str] = {}
        for record in page:
            for object_id in ids_of([record.dagster_run.tags.get(PARTITION_TAG, "")]) - seen:
                seen.add(object_id)
                if not _is_retried(record):
                    runs[object_id] = record.dagster_run.run_id
        waiting = standing.unfinished(env, runs)
        last = _last_runs(instance, sorted(waiting))
        found += [Left(id_, run_id) for id_, run_id in runs.items() if id_ in waiting and last.get(id_) == run_id]
    return found


def _failed(instance: dg.DagsterInstance) -> Iterator[Sequence[dg.RunRecord]]:
    failed = dg.RunsFilter(job_name=launch.JOB_NAME, statuses=[dg.DagsterRunStatus.FAILURE])
    cursor = None
    while page := instance.get_run_records(failed, limit=AT_ONCE, cursor=cursor):
        yield page
        cursor = page[-1].dagster_run.run_id


def _is_retried(record: dg.RunRecord) -> bool:
    if not record.dagster_run.is_complete_and_waiting_to_retry:
        return False
    return (record.end_time or 0) > (datetime.now(timezone.utc) - RETRIED_WITHIN).timestamp()


def _last_runs(instance: dg.DagsterInstance, object_ids: Sequence[int]) -> dict[int, str]:
    if not object_ids:
        return {}
    tags = {PARTITION_TAG: [str(object_id) for object_id in object_ids]}
    runs = instance.get_runs(dg.RunsFilter(job_name=launch.JOB_NAME, statuses=COUNTING, tags=tags))
    return {int(run.tags[PARTITION_TAG]): run.run_id for run in reversed(runs)}


def read(instance: dg.DagsterInstance, failed: Sequence[Left]) -> list[Failure]:
    """What the runs said when they failed; of the first `READ` of them."""
    return [_read(instance, each) for each in failed[:READ]]


def _read(instance: dg.DagsterInstance, failed: Left) -> Failure:
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    events = [entry.dagster_event for entry in instance.all_logs(failed.run_id, of_type=kinds)]
    for event in events:
        if event is not None and event.is_step_failure:
            data = event.step_failure_data
            error = data.error
            # Dagster's own wrapping tells nothing.
            while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
                error = error.cause
            message = _CLASS.sub("", error.message.strip()) if error is not None else ""
            final = data.user_failure_data is not None
            return Failure(failed.object_id, failed.run_id, event.step_key or "", message, final)
    told = next((event.message for event in events if event is not None and event.message), "")
    return Failure(failed.object_id, failed.run_id, "", told, final=False)
