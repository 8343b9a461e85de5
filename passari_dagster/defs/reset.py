"""The job `reset_workflow`, and what it shares with the command of this name."""

import dagster as dg
from pydantic import Field

from passari_dagster import locks
from passari_dagster.defs import bulk, launch
from passari_dagster.defs.actors import actor_of
from passari_dagster.run_queue.dagster_internals import UNFINISHED
from passari_dagster.workflow import reset
from passari_dagster.workflow.audit import Actor
from passari_dagster.workflow.bulk import Tally
from passari_dagster.workflow.environment import Environment, Log


def reset_when_idle(
    env: Environment,
    instance: dg.DagsterInstance,
    actor: Actor,
    *,
    reason: str,
    log: Log,
    perform: bool,
    sample: int | None = 20,
) -> Tally:
    """`reset.reset`, if no run of preserve_object is queued or live; meanwhile nobody enqueues.

    Raises:
        PermanentFailure: one is, or as `reset.reset` says.
    """
    with env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT):
        unfinished = dg.RunsFilter(job_name=launch.JOB_NAME, statuses=UNFINISHED)
        waiting = launch.in_flight(instance)  # before the runs: see there
        first = [run.run_id for run in instance.get_runs(unfinished, limit=reset.NAMED)]
        reset.refuse_while_busy(instance.get_runs_count(unfinished), first, len(waiting))
        return reset.reset(env, actor, reason=reason, log=log, perform=perform, sample=sample)


class ResetConfig(dg.Config):
    """Why, and whether to do it."""

    reason: str = Field(min_length=1, description="why, such as which backup was restored; it is kept in the audit log")
    perform: bool = Field(default=False, description="do it; without it, it is only said what would be done")


@dg.op(name="reset", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def reset_op(context: dg.OpExecutionContext, config: ResetConfig) -> None:
    """Put back what the archive knows to have been sent, ask the DPS, and give up what was begun and not sent."""
    env: Environment = context.resources.environment
    with bulk.told_once():
        tally = reset_when_idle(
            env,
            context.instance,
            actor_of(context),
            reason=config.reason,
            log=context.log.info,
            perform=config.perform,
        )
    bulk.tell(context, tally)


@dg.job
def reset_workflow() -> None:
    """Empty the workflow after an older backup of the museum database was restored. Nothing is sent twice.

    Packages that were begun and not sent are cancelled, their files deleted, and their objects are eligible again; what
    the DPS has stays, and is watched. Refused while runs of preserve_object are queued or live.
    """
    reset_op()
