"""The job `requeue_failed`, and the launch that it shares with the command of this name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field

from passari_dagster import locks
from passari_dagster.defs import bulk, failures, launch
from passari_dagster.defs.actors import actor_of
from passari_dagster.run_queue.dagster_internals import RemoteRepositoryOrigin
from passari_dagster.workflow import audit, requeue
from passari_dagster.workflow.audit import Actor
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.requeue import MOST, Kind, Plan, Selection

STEPS = ("download_object", "create_sip", "submit_sip", *launch.CONFIRMATION)
"""All of them, by name: so the runs are children of those that failed."""


@dataclass(frozen=True)
class Wanted:
    """Which failed objects: those to which all of it applies.

    Arguments:
        object_ids: these only; empty: all.
        since: their runs failed from that moment on.
        until: their runs failed before that moment.
    """

    selection: Selection
    object_ids: Collection[int] = ()
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Requeued:
    """What was, or would be, launched.

    Arguments:
        cut: whether there are more than `MOST` failed runs, of which the older ones were not looked at.
        backfills: ids of what was launched.
    """

    plan: Plan
    cut: bool
    backfills: tuple[str, ...]


def requeue_failures(
    env: Environment,
    instance: dg.DagsterInstance,
    repository: Callable[[], RemoteRepositoryOrigin],
    actor: Actor,
    wanted: Wanted,
    *,
    reason: str,
    backfill_id: str,
    dry_run: bool = False,
    sample: int | None = 20,
) -> Requeued:
    """Launch failed objects again, each run as a child of the one that failed. A second call finds nothing to do.

    Arguments:
        repository: where the job is.
        actor: who does it, for the audit log.
        reason: why, for the audit log.
        backfill_id: of the backfill; the same for whoever repeats this call after it was killed.
        dry_run: only find out what would be launched.
        sample: how many objects of each outcome are told by id; None: all.

    Raises:
        PermanentFailure: there is no reason.
    """
    reason = audit.require_reason(reason)
    left, cut = failures.search(
        env, instance, among=wanted.object_ids, since=wanted.since, until=wanted.until, most=MOST
    )
    read = [failures.read_one(instance, one) for one in left]  # before others have to wait for the lock
    with env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
        plan = requeue.plan(
            env,
            failures.still_last(instance, read),
            wanted.selection,
            in_flight=launch.in_flight(instance),
            registered=launch.registered(instance),
            dry_run=dry_run,
            sample=sample,
        )
        names = (backfill_id, f"{backfill_id}-c")
        # What this run had launched before it was killed, and started again.
        launched = [name for name in names if instance.get_backfill(name) is not None]
        parts = [
            (name, ids, steps)
            for name, ids, steps in zip(
                names, (plan.whole, plan.confirmations), (STEPS, launch.CONFIRMATION), strict=True
            )
            if ids and name not in launched
        ]
        if dry_run or not parts:
            return Requeued(plan, cut, tuple(launched))
        held.check()
        # The event comes first: nothing is launched that it does not tell of. Nor does it tell of objects that failed
        # after this call had launched the others, and was killed.
        if names[0] in launched:
            plan.whole.clear()
        if names[1] in launched:
            plan.confirmations.clear()
        with env.transaction() as session:
            requeue.record(env, session, actor, plan, wanted.selection, reason=reason)
        for name, ids, steps in parts:
            title = f"requeue {len(ids)} failed objects"
            launch.backfill(instance, repository(), [*ids], title=title, steps=[*steps], backfill_id=name)
            launched.append(name)
    return Requeued(plan, cut, tuple(launched))


class RequeueConfig(dg.Config):
    """Which failed objects to launch again: those to which all of it applies; nothing given: all."""

    reason: str = Field(min_length=1, description="why it is worth another try; it is kept in the audit log")
    outcome: Kind | None = Field(
        default=None,
        description="SYSTEM_ERROR: retries were spent or could not help; CONTENT_FAILURE: a file failed what reads "
        "it, and no detector knows why; left out: both",
    )
    error: str = Field(default="", description="part of the error's message, in large or small letters")
    op: str = Field(default="", description="the op that failed, such as submit_sip")
    since: str = Field(default="", description="failed on or after this date or time, such as 2026-01-31T14:30")
    until: str = Field(default="", description="failed before this time; of a date alone, the whole day counts")
    object_ids: list[int] = Field(default_factory=list, description="among these objects only")
    dry_run: bool = Field(
        default=False, description="only list what would be launched; the table has the errors of the first"
    )


@dg.op(name="requeue", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def requeue_op(context: dg.OpExecutionContext, config: RequeueConfig) -> None:
    """Launch objects again whose last run failed and that nothing has mended since."""
    env: Environment = context.resources.environment
    zone = ZoneInfo(env.settings.time_zone)
    with bulk.told_once():
        done = requeue_failures(
            env,
            context.instance,
            lambda: launch.repository_of_run(context.run),
            actor_of(context),
            Wanted(
                Selection(config.outcome, config.error, config.op),
                config.object_ids,
                requeue.moment(config.since, zone),
                requeue.moment(config.until, zone, end=True),
            ),
            reason=config.reason,
            backfill_id=launch.backfill_of_run(context.instance, context.run),
            dry_run=config.dry_run,
            sample=bulk.sample(env, dry_run=config.dry_run),
        )
    if done.cut:
        context.log.warning(CUT)
    more = {"backfills": ", ".join(done.backfills) or "none", "cut": done.cut}
    bulk.tell(context, done.plan.tally, more, each=config.dry_run)


CUT = f"there are more than {MOST} failed runs, of which the older ones were not looked at: say until which date"


@dg.job
def requeue_failed() -> None:
    """Launch failed objects again, selected by how, where, when and with what message they failed."""
    requeue_op()
