"""The job `cancel_objects`."""

import dagster as dg
from pydantic import Field

from passari_dagster.defs import bulk, launch
from passari_dagster.defs.actors import actor_of
from passari_dagster.workflow import cancel
from passari_dagster.workflow.environment import Environment


class CancelConfig(dg.Config):
    """Whose packages to take out of the workflow, and why."""

    object_ids: list[int] = Field(min_length=1, description="ids of the objects")
    reason: str = Field(
        default="", description="why; it is kept in the audit log. May be left out, but not with resend"
    )
    resend: bool = Field(
        default=False,
        description="also give up packages that were, or may have been, sent and that the DPS does not show. Ask the "
        "DPS first: if it has one all the same, it gets the object twice",
    )
    dry_run: bool = Field(default=False, description="only say what would be done to each object; the DPS is asked")


@dg.op(name="cancel", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def cancel_op(context: dg.OpExecutionContext, config: CancelConfig) -> None:
    """Take objects' packages out of the workflow. What the DPS has, and objects whose run executes, are left alone.

    Those are named, and the run ends red; the packages of the others are cancelled.
    """
    env: Environment = context.resources.environment
    with bulk.told_once():
        # This run may be the repetition of one that was killed when it had cancelled some.
        before = cancel.earlier(env, launch.attempts(context.instance, context.run), limit=len(config.object_ids))
        tally = cancel.cancel(
            env,
            actor_of(context),
            config.object_ids,
            reason=config.reason,
            log=context.log.info,
            resend=config.resend,
            dry_run=config.dry_run,
            before=before,
        )
    bulk.tell(context, tally)


@dg.job
def cancel_objects() -> None:
    """Cancel objects' open packages, unless the DPS has them; the objects may be enqueued again."""
    cancel_op()
