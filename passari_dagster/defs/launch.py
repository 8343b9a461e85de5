"""Partition keys and backfills of `preserve_object`: what is registered, what is in flight, how more is launched.

Dagster has no public call by which an op or a sensor starts a backfill: here it is told in the words of its inside.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import dagster as dg
import redis

from passari_dagster import locks
from passari_dagster.defs import outcomes
from passari_dagster.defs.partitions import ids_of, museum_objects
from passari_dagster.defs.resources import PARTITION_TAG
from passari_dagster.errors import SettingsError, TransientFailure
from passari_dagster.run_queue import retries
from passari_dagster.run_queue.dagster_internals import (
    AUTO_RETRY_RUN_ID_TAG,
    BACKFILL_ID_TAG,
    PARENT_RUN_ID_TAG,
    PARTITION_SET_TAG,
    RETRY_NUMBER_TAG,
    ROOT_RUN_ID_TAG,
    SENSOR_NAME_TAG,
    SINGLETON_REPOSITORY_NAME,
    UNFINISHED,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
    location_origins_from_yaml_paths,
    make_new_backfill_id,
    partition_set_snap_name_for_job_name,
)
from passari_dagster.workflow import audit, enqueue
from passari_dagster.workflow.audit import Actor
from passari_dagster.workflow.environment import Environment

JOB_NAME = outcomes.JOB_NAME
PARTITION_SET = partition_set_snap_name_for_job_name(JOB_NAME)
PARTITIONS_NAME = str(museum_objects.name)
WAITING = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED)
CONFIRMATION = ["confirm_sip"]
"""Steps of a run that only records what the DPS has said."""
ENQUEUE = "enqueue_objects"
"""Name of the job in the audit log."""


def registered(instance: dg.DagsterInstance) -> set[int]:
    """Objects that have a partition key."""
    return ids_of(instance.get_dynamic_partitions(PARTITIONS_NAME))


def register(instance: dg.DagsterInstance, object_ids: Sequence[int]) -> None:
    """Give the objects a partition key; those that have one keep it."""
    if object_ids:
        instance.add_dynamic_partitions(PARTITIONS_NAME, [str(id_) for id_ in object_ids])


def live(instance: dg.DagsterInstance, among: Collection[int] | None = None) -> set[int]:
    """Objects with a run that is queued or executes.

    Arguments:
        among: ask about these only.
    """
    tags = None if among is None else {PARTITION_TAG: [str(id_) for id_ in among]}
    runs = instance.get_runs(dg.RunsFilter(job_name=JOB_NAME, statuses=UNFINISHED, tags=tags))
    return ids_of([run.tags[PARTITION_TAG] for run in runs if PARTITION_TAG in run.tags])


def in_flight(instance: dg.DagsterInstance, among: Collection[int] | None = None) -> set[int]:
    """Objects with a run that is queued or executes, or for which a backfill is about to make one.

    Arguments:
        among: ask about these only; the answer may hold others.
    """
    waiting: set[int] = set()
    for backfill in instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED], job_name=JOB_NAME)):
        names = list(backfill.partition_names or ())
        last = backfill.last_submitted_partition_name
        waiting |= ids_of(names[names.index(last) + 1 :] if last in names else names)
    # Runs are read after backfills: what a backfill launches meanwhile is seen in one of the two.
    return waiting | live(instance, among)


def backfill(
    instance: dg.DagsterInstance,
    repository: RemoteRepositoryOrigin,
    object_ids: Sequence[int],
    *,
    title: str,
    launched_by: str | None = None,
    steps: Sequence[str] | None = None,
    backfill_id: str | None = None,
) -> str:
    """Launch `preserve_object` for the objects, as a backfill that the UI shows.

    They get a partition key, unless they have one: that there is room for it under the cap is seen to by who calls.

    Arguments:
        repository: where the job is.
        title: in a few words; GraphQL tells it, this version's Backfills page does not.
        launched_by: sensor that the UI names as the launcher; None: a person.
        steps: execute these only, each run as a child of its object's last one.
        backfill_id: None makes one.

    Returns:
        the backfill's id.
    """
    register(instance, object_ids)
    backfill_id = backfill_id or make_new_backfill_id()
    instance.add_backfill(
        PartitionBackfill(
            backfill_id=backfill_id,
            partition_set_origin=RemotePartitionSetOrigin(
                repository_origin=repository, partition_set_name=PARTITION_SET
            ),
            status=BulkActionStatus.REQUESTED,
            partition_names=[str(id_) for id_ in object_ids],
            from_failure=False,
            reexecution_steps=steps,
            tags={SENSOR_NAME_TAG: launched_by} if launched_by else {},
            backfill_timestamp=time.time(),
            title=title,
        )
    )
    return backfill_id


@dataclass(frozen=True)
class Launched:
    """What was, or would be, launched.

    Arguments:
        chosen: the objects, and why others are not among them.
        backfill_id: None: nothing was launched.
    """

    chosen: enqueue.Chosen
    backfill_id: str | None


def enqueue_eligible(
    env: Environment,
    instance: dg.DagsterInstance,
    repository: Callable[[], RemoteRepositoryOrigin],
    held: locks.Held,
    actor: Actor,
    *,
    object_ids: Sequence[int],
    count: int | None = None,
    random: bool = False,
    dry_run: bool = False,
    reason: str = "",
    backfill_id: str | None = None,
) -> Launched:
    """Choose eligible objects that have no run, and launch their backfill; `enqueue.choose` has the rules.

    Arguments:
        repository: where the job is.
        held: the workflow lock.
        actor: who enqueues, for the audit log.
        dry_run: only choose.
        reason: why, for the audit log.
        backfill_id: of the backfill; None makes one.
    """
    chosen = enqueue.choose(
        env,
        count=count,
        object_ids=object_ids,
        random=random,
        in_flight=in_flight(instance),
        registered=registered(instance),
    )
    if dry_run or not chosen.ids:
        return Launched(chosen, None)
    held.check()  # Dagster's database knows no lock of ours: whoever has it now may choose the same objects
    backfill_id = backfill_id or make_new_backfill_id()
    now, what = env.now(), f"{len(chosen.ids)} objects"
    # The two databases know no common transaction. The event comes first: nothing is launched that it does not tell of.
    with env.transaction() as session:
        details = f"{what}, backfill {backfill_id}"
        audit.record(session, actor, ENQUEUE, now=now, reason=reason.strip(), details=details, object_ids=chosen.ids)
    launched = backfill(instance, repository(), chosen.ids, title=f"enqueue {what}", backfill_id=backfill_id)
    return Launched(chosen, launched)


class WouldEnqueue(Protocol):
    """A use case that says what `enqueue.choose` would choose when the use case has done its own part."""

    def __call__(
        self, env: Environment, object_ids: Sequence[int], *, in_flight: Collection[int], registered: Collection[int]
    ) -> enqueue.Chosen:
        """Nothing is changed."""


def would_launch(
    env: Environment, instance: dg.DagsterInstance, would_enqueue: WouldEnqueue, object_ids: Sequence[int]
) -> Launched:
    """What `enqueue_eligible` would launch of the objects after an action of which this is the preview."""
    chosen = would_enqueue(env, object_ids, in_flight=in_flight(instance), registered=registered(instance))
    return Launched(chosen, None)


class ObjectRuns:
    """The runs of single objects, as `workflow.freeze` asks for them.

    Arguments:
        instance: Dagster's.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def _unfinished(self, object_id: int) -> Sequence[dg.DagsterRun]:
        tags = {PARTITION_TAG: str(object_id)}
        return self._instance.get_runs(dg.RunsFilter(job_name=JOB_NAME, statuses=UNFINISHED, tags=tags))

    def executing(self, object_id: int) -> str | None:
        """Id of the object's run that executes."""
        return next((run.run_id for run in self._unfinished(object_id) if run.status not in WAITING), None)

    def queued(self, object_id: int) -> list[str]:
        """Ids of its runs that wait, but for confirmations: what the DPS has said is recorded all the same."""
        return [
            run.run_id
            for run in self._unfinished(object_id)
            if run.status in WAITING and list(run.step_keys_to_execute or ()) != CONFIRMATION
        ]

    def cancel(self, run_id: str) -> None:
        """Cancel a run, as the UI does.

        Raises:
            TransientFailure: Redis is away.
        """
        try:
            self._instance.run_coordinator.cancel_run(run_id)
        except redis.RedisError as error:
            raise TransientFailure(f"run {run_id} is not cancelled, Redis is away: {error}") from error


@contextlib.contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The Dagster instance, for the command line.

    Raises:
        SettingsError: the environment does not say where it is.
    """
    missing = [name for name in ("DAGSTER_HOME", "DAGSTER_PG_URL", "REDIS_URL") if not os.environ.get(name)]
    if missing:
        raise SettingsError(
            f"{' and '.join(missing)} should be set; beside a system that runs on this machine, --data names its folder"
        )
    with dg.DagsterInstance.get() as instance:
        yield instance


def our_repository(workspace: Path) -> RemoteRepositoryOrigin:
    """Where our job is, for those who have no run or tick; of it, Dagster's daemon goes by the location's name.

    Arguments:
        workspace: `workspace.yaml`.
    """
    (location,) = location_origins_from_yaml_paths([str(workspace)])
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME)


def attempts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """Ids of the runs that were killed and in whose place Dagster has started this one; the latest first.

    A run that a person has re-executed is none of them: who does that wants it done once more.
    """
    killed = []
    while run.parent_run_id is not None:
        parent = instance.get_run_by_id(run.parent_run_id)
        if parent is None or parent.tags.get(AUTO_RETRY_RUN_ID_TAG) != run.run_id:
            break
        killed.append(parent.run_id)
        run = parent
    return killed


def start_again_passed_over(
    instance: dg.DagsterInstance, since: datetime, log: Callable[[str], None]
) -> list[dg.RunRequest]:
    """Have killed runs started again that Dagster's run retries have passed over.

    By Dagster, if it can be; but it always passes over runs of ended backfills. A backfill ends with its last run, and
    a killed run is its last one until the retries have seen it. Those of `preserve_object` are requested here, but for
    confirmations, which the sensor `processed_sips` has launched again.

    Arguments:
        since: runs that ended before are left alone.
        log: told of each that Dagster is asked to start.
    """
    forgotten = []
    for run in retries.passed_over(instance, since):
        backfill_id = run.tags.get(BACKFILL_ID_TAG)
        backfill = instance.get_backfill(backfill_id) if backfill_id else None
        if backfill_id is None or (backfill and backfill.status is BulkActionStatus.REQUESTED):
            log(f"run {run.run_id} was killed, and not started again: Dagster is told of it once more")
            retries.tell_again(instance, run)
        elif backfill and backfill.status in retries.CANCELLED:
            continue  # it was, just now
        elif run.job_name == JOB_NAME and list(run.step_keys_to_execute or ()) != CONFIRMATION:
            forgotten.append(run)
    register(instance, sorted(ids_of({run.tags[PARTITION_TAG] for run in forgotten})))
    return [
        dg.RunRequest(
            run_key=run.run_id,  # the same request again and again makes one run
            partition_key=run.tags[PARTITION_TAG],
            tags={
                PARTITION_SET_TAG: PARTITION_SET,
                PARENT_RUN_ID_TAG: run.run_id,
                ROOT_RUN_ID_TAG: run.root_run_id or run.run_id,
                RETRY_NUMBER_TAG: str(int(run.tags.get(RETRY_NUMBER_TAG, "0")) + 1),
            },
        )
        for run in forgotten
    ]


def repository_of_run(run: dg.DagsterRun) -> RemoteRepositoryOrigin:
    """Where the run's job, and so ours, is."""
    if run.remote_job_origin is None:
        raise dg.Failure("this job launches others: it has to run on a Dagster instance", allow_retries=False)
    return run.remote_job_origin.repository_origin


def repository_of_tick(context: dg.SensorEvaluationContext) -> RemoteRepositoryOrigin:
    """Where the sensor, and so our job, is."""
    if context.code_location_origin is None or context.repository_name is None:
        raise dg.DagsterInvariantViolationError("the sensor has to be evaluated by a code server")
    return RemoteRepositoryOrigin(context.code_location_origin, context.repository_name)


def backfill_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Id of the backfill that a run launches: the same for a run that is started again after it was killed."""
    return [run.run_id, *attempts(instance, run)][-1].partition("-")[0]


def register_candidates(env: Environment, instance: dg.DagsterInstance) -> int:
    """Register the next objects that a person may launch, to be picked in the backfill dialog.

    Returns:
        how many are candidates now.
    """
    workflow = env.settings.workflow
    with env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT):
        candidates = enqueue.candidates(env, limit=workflow.candidate_window, in_flight=in_flight(instance))
        fitting = enqueue.fit(candidates, registered=registered(instance), cap=workflow.partition_cap)
        register(instance, fitting)
    return len(fitting)
