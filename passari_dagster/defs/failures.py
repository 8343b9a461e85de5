"""Objects that are left failed: Dagster's runs joined with what the database says of their objects.

Runs are read newest first, some at a time; of each page only those stay in memory whose objects are not done with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
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
_WRAPPER = re.compile(r"Dagster\w+|RetryRequested\w*|Failure")
_CLASS = re.compile(r"^[A-Za-z_][\w.]*: ")


@dataclass(frozen=True)
class Left:
    """An object that is left failed, and its last run.

    Arguments:
        ended: when that failed.
    """

    object_id: int
    run_id: str
    ended: datetime


def left(env: Environment, instance: dg.DagsterInstance) -> list[Left]:
    """Objects whose last run failed, with its retries spent, and that are in the workflow or eligible.

    The latest failure comes first.
    """
    return search(env, instance)[0]


def search(
    env: Environment,
    instance: dg.DagsterInstance,
    *,
    among: Collection[int] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    most: float = math.inf,
) -> tuple[list[Left], bool]:
    """As `left`, of some only.

    Arguments:
        among: these objects only; empty: all.
        since: runs that failed from that moment on only.
        until: runs that failed before that moment only.
        most: after so many failed runs were looked at, no more are.

    Returns:
        what was found, and whether there are more failed runs than were looked at.
    """
    found: list[Left] = []
    seen: set[int] = set()
    looked_at = 0
    for page in _failed(instance, among, since):
        if looked_at >= most:
            return found, True
        looked_at += len(page)
        runs: dict[int, Left] = {}
        for record in page:
            ended = _ended(record)
            for object_id in ids_of([record.dagster_run.tags.get(PARTITION_TAG, "")]) - seen:
                seen.add(object_id)
                in_time = (since is None or ended >= since) and (until is None or ended < until)
                if in_time and not _is_retried(record):
                    runs[object_id] = Left(object_id, record.dagster_run.run_id, ended)
        waiting = standing.unfinished(env, {id_: one.ended for id_, one in runs.items()})
        last = _last_runs(instance, sorted(waiting))
        found += [one for id_, one in runs.items() if id_ in waiting and last.get(id_) == one.run_id]
    return found, False


def _failed(
    instance: dg.DagsterInstance, among: Collection[int], since: datetime | None
) -> Iterator[Sequence[dg.RunRecord]]:
    failed = dg.RunsFilter(
        job_name=launch.JOB_NAME,
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={PARTITION_TAG: [str(object_id) for object_id in among]} if among else None,
        # Only to read less: a day is more than any difference between time zones, which the database may take for UTC.
        updated_after=since and since.astimezone(timezone.utc) - timedelta(days=1),
    )
    cursor = None
    while page := instance.get_run_records(failed, limit=AT_ONCE, cursor=cursor):
        yield page
        cursor = page[-1].dagster_run.run_id


def _ended(record: dg.RunRecord) -> datetime:
    if record.end_time is not None:
        return datetime.fromtimestamp(record.end_time, timezone.utc)
    return record.update_timestamp.replace(tzinfo=timezone.utc)


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
    return [read_one(instance, each) for each in failed[:READ]]


def read_one(instance: dg.DagsterInstance, failed: Left) -> Failure:
    """What the run said when it failed."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    events = [entry.dagster_event for entry in instance.all_logs(failed.run_id, of_type=kinds)]
    for event in events:
        if event is not None and event.is_step_failure:
            data = event.step_failure_data
            error = data.error
            # What wraps the error says nothing: Dagster's own, and the Failure by which an op forbids a retry.
            while error is not None and error.cause is not None and _WRAPPER.fullmatch(error.cls_name or ""):
                error = error.cause
            message, name = ("", "") if error is None else (_CLASS.sub("", error.message.strip()), error.cls_name or "")
            final = data.user_failure_data is not None
            return Failure(failed.object_id, failed.run_id, event.step_key or "", message, final, name)
    told = next((event.message for event in events if event is not None and event.message), "")
    return Failure(failed.object_id, failed.run_id, "", told, final=False, error="")


def still_last(instance: dg.DagsterInstance, failed: Sequence[Failure]) -> list[Failure]:
    """Those whose run is the last one of its object still."""
    found: list[Failure] = []
    for start in range(0, len(failed), AT_ONCE):
        some = failed[start : start + AT_ONCE]
        last = _last_runs(instance, [failure.object_id for failure in some])
        found += [failure for failure in some if last.get(failure.object_id) == failure.run_id]
    return found
