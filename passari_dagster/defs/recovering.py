"""The job `recover`."""

import dagster as dg
from pydantic import Field

from passari_dagster.defs import bulk
from passari_dagster.defs.actors import actor_of
from passari_dagster.workflow import recover as use_case
from passari_dagster.workflow.environment import Environment


class RecoverConfig(dg.Config):
    """Why, and whether it is only a preview."""

    reason: str = Field(
        default="", description="such as which backup was restored; kept in the audit log, and may be left out"
    )
    dry_run: bool = Field(default=False, description="only say what would be put back")


@dg.op(name="recover_objects", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def recover_op(context: dg.OpExecutionContext, config: RecoverConfig) -> None:
    """Go through the archive, and put back what the database does not know of packages that were sent.

    Objects whose record is damaged, or whose run executes, are named, and the run ends red; the others are done.
    """
    env: Environment = context.resources.environment
    with bulk.told_once():
        done = use_case.recover(
            env, actor_of(context), log=context.log.info, reason=config.reason, dry_run=config.dry_run
        )
    bulk.tell(context, done.tally, {"objects_in_the_archive": done.archived})


@dg.job
def recover() -> None:
    """After an older backup of the museum database was restored: put back what was sent since, from the archive."""
    recover_op()
