"""The jobs `freeze_objects`, `unfreeze_objects` and `reenqueue_objects`."""

import dagster as dg
from pydantic import Field

from passari_dagster import locks
from passari_dagster.defs import bulk, launch
from passari_dagster.defs.actors import actor_of
from passari_dagster.workflow import freeze, reenqueue, unfreeze
from passari_dagster.workflow.environment import Environment


class FreezeConfig(dg.Config):
    """Which objects to freeze, and why."""

    object_ids: list[int] = Field(min_length=1, description="ids of the objects")
    reason: str = Field(
        min_length=1, description="why: objects are shown, searched and unfrozen by this text, and it is audited"
    )
    replace_reason: bool = Field(
        default=False, description="objects that are frozen already get this reason; otherwise they keep theirs"
    )
    delete_workspaces: bool = Field(
        default=False, description="delete what was downloaded and packaged here; logs are archived in any case"
    )
    dry_run: bool = Field(default=False, description="only say what would be done to each object")


@dg.op(name="freeze", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def freeze_op(context: dg.OpExecutionContext, config: FreezeConfig) -> None:
    """Keep objects out of the workflow: cancel their queued runs and their packages that were not sent.

    Objects with a run that executes are left alone and named, and the run ends red; the others are frozen.
    """
    env: Environment = context.resources.environment
    with bulk.told_once():
        tally = freeze.freeze(
            env,
            actor_of(context),
            config.object_ids,
            reason=config.reason,
            runs=launch.ObjectRuns(context.instance),
            log=context.log.info,
            replace_reason=config.replace_reason,
            delete_workspaces=config.delete_workspaces,
            dry_run=config.dry_run,
        )
    bulk.tell(context, tally)


@dg.job
def freeze_objects() -> None:
    """Freeze objects, for a reason, until they are unfrozen. What the DPS has stays watched."""
    freeze_op()


class UnfreezeConfig(dg.Config):
    """Which objects to unfreeze: by reason, by ids, or those to which both apply."""

    with_reason: str | None = Field(
        default=None,
        description="objects that are frozen for exactly this reason, or for none: (none given), as the asset "
        "frozen_objects shows it; may be left out if ids are given",
    )
    with_object_ids: list[int] = Field(
        default_factory=list, description="ids of objects; may be left out if a reason is given"
    )
    reason: str = Field(min_length=1, description="why they are unfrozen; it is kept in the audit log")
    enqueue: bool = Field(default=False, description="also enqueue those that are eligible then")
    dry_run: bool = Field(
        default=False, description="only say what would be done, and with enqueue what would be enqueued then"
    )


@dg.op(name="unfreeze", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def unfreeze_op(context: dg.OpExecutionContext, config: UnfreezeConfig) -> None:
    """Let frozen objects in again. A latest package that was not preserved counts no more."""
    env: Environment = context.resources.environment
    keep = env.settings.workflow.partition_cap if config.enqueue else 0
    more = {}
    with bulk.told_once(), env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
        done = unfreeze.unfreeze(
            env,
            actor_of(context),
            unfreeze.Selection(config.with_reason, tuple(config.with_object_ids)),
            reason=config.reason,
            log=context.log.info,
            dry_run=config.dry_run,
            keep=keep,
            sample=bulk.sample(env, dry_run=config.dry_run),
        )
        if config.enqueue and not config.dry_run:
            # This run may be the repetition of one that was killed when it had unfrozen some.
            before = unfreeze.earlier(env, launch.attempts(context.instance, context.run), limit=keep)
            ids = list(dict.fromkeys([*before, *done.ids]))
            more = bulk.enqueue_again(context, held, ids, reason=config.reason)
        elif config.enqueue:
            more = bulk.preview_of_enqueue(context, unfreeze.would_enqueue, done.ids)
    bulk.tell(context, done.tally, more, each=config.dry_run)


@dg.job
def unfreeze_objects() -> None:
    """Unfreeze objects, by the exact reason for which they are frozen and/or by ids, and enqueue them if wanted."""
    unfreeze_op()


class ReenqueueConfig(dg.Config):
    """Which rejected objects to send once more."""

    object_ids: list[int] = Field(min_length=1, description="ids of objects whose latest package was rejected")
    reason: str = Field(min_length=1, description="why it is worth another try; it is kept in the audit log")
    dry_run: bool = Field(
        default=False, description="only say what would be done to each object, and which would be enqueued then"
    )


@dg.op(name="reenqueue", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def reenqueue_op(context: dg.OpExecutionContext, config: ReenqueueConfig) -> None:
    """Have rejected objects packaged and sent once more, unchanged. The old packages and their reports stay visible."""
    env: Environment = context.resources.environment
    more = {}
    with bulk.told_once(), env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
        before = reenqueue.earlier(
            env, launch.attempts(context.instance, context.run), limit=env.settings.workflow.partition_cap
        )
        done = reenqueue.reenqueue(
            env,
            actor_of(context),
            [object_id for object_id in config.object_ids if object_id not in set(before)],
            reason=config.reason,
            in_flight=launch.in_flight(context.instance, config.object_ids),
            log=context.log.info,
            dry_run=config.dry_run,
            sample=bulk.sample(env, dry_run=config.dry_run),
        )
        if config.dry_run:
            more = bulk.preview_of_enqueue(context, reenqueue.would_enqueue, done.ids)
        else:
            more = bulk.enqueue_again(context, held, [*before, *done.ids], reason=config.reason)
    bulk.tell(context, done.tally, more, each=config.dry_run)


@dg.job
def reenqueue_objects() -> None:
    """Re-enqueue objects whose latest package the DPS rejected, though they have not changed since."""
    reenqueue_op()
