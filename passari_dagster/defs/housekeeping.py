"""Housekeeping in Dagster: an asset that tells what Dagster keeps, whose materialization removes what is old.

How it is removed is in `run_queue/housekeeping.py`. No `from __future__ import annotations` here: Dagster reads the
annotations of context and config.
"""

import contextlib
from collections.abc import Collection
from datetime import timedelta

import dagster as dg
from pydantic import Field

from passari_dagster import locks
from passari_dagster.defs import keys
from passari_dagster.defs.partitions import ids_of
from passari_dagster.run_queue import housekeeping, records
from passari_dagster.run_queue.dagster_internals import UnresolvedAssetJobDefinition
from passari_dagster.run_queue.housekeeping import Limits, Pace
from passari_dagster.settings import Settings
from passari_dagster.workflow import enqueue
from passari_dagster.workflow.environment import Environment

JOB_NAME = "housekeeping"
NAME = "dagster_records"
GRACE = timedelta(days=2)


class HousekeepingConfig(dg.Config):
    """How much to remove this time. Without any of it: as the settings say, section [housekeeping]."""

    run_days: int | None = Field(
        default=None, gt=0, description="Days that runs are kept after their end, with events and output."
    )
    asset_days: int | None = Field(
        default=None, gt=0, description="The same for runs that update assets or check them: so far back go the plots."
    )
    tick_days: int | None = Field(default=None, gt=0, description="Days that ticks of schedules and sensors are kept.")
    minutes: float | None = Field(default=None, gt=0, description="Longest time that it may take.")


def limits_of(settings: Settings, config: HousekeepingConfig | None = None) -> Limits:
    """What to keep: as the configuration of a run says, else as the settings do."""
    kept = settings.housekeeping
    config = config or HousekeepingConfig()
    return Limits(
        runs=timedelta(days=config.run_days or kept.run_days),
        assets=timedelta(days=config.asset_days or kept.asset_days),
        ticks=timedelta(days=config.tick_days or kept.tick_days),
    )


def needed_by(env: Environment, partition_keys: Collection[str]) -> set[str]:
    """Those of the partition keys whose objects are in the workflow.

    A confirmation is launched as a re-execution of its object's last run, and reads that run's events.
    """
    return {str(object_id) for object_id in enqueue.in_the_workflow(env, ids_of(partition_keys))}


@dg.asset(
    name=NAME,
    group_name=JOB_NAME,
    required_resource_keys={"environment"},
    kinds={"postgres"},
    # Such as when somebody else holds a table for longer than it waits: what was removed stays removed.
    retry_policy=dg.RetryPolicy(max_retries=3, delay=60),
)
def dagster_records(context: dg.AssetExecutionContext, config: HousekeepingConfig) -> dg.MaterializeResult[None]:
    """What Dagster itself keeps: partition keys, runs, events, backfills. To materialize it removes what is old.

    Kept whatever their age: runs of objects that are in the workflow, of open backfills, and the latest ones of each
    asset and check. It may be stopped or killed at any moment, and goes on the next time.
    """
    env: Environment = context.resources.environment
    pace = Pace(60 * (config.minutes or env.settings.housekeeping.minutes))
    limits = limits_of(env.settings, config)
    removed = _prune_keys(context, env, pace)
    swept = housekeeping.sweep(context.instance, limits, lambda found: needed_by(env, found), pace)
    if swept.left:
        context.log.warning("the time was not enough for everything: the next run goes on")
    return dg.MaterializeResult(
        metadata={
            "partition_keys": keys.count(env, context.instance).count,
            **records.counts(context.instance),
            "removed_partition_keys": removed,
            **{f"removed_{kind}": number for kind, number in swept.counts.items()},
            "old_runs_still_needed": swept.kept,
            "partial": int(swept.left),
        }
    )


def _prune_keys(context: dg.AssetExecutionContext, env: Environment, pace: Pace) -> int:
    """What the sensor partition_keys does a little of each minute."""
    removed, last = 0, keys.AT_ONCE
    with contextlib.suppress(housekeeping.TimeIsUpError):
        while last == keys.AT_ONCE:
            with pace.batch(), env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT):
                last = keys.prune(env, context.instance)
            removed += last
    return removed


def overdue(env: Environment, instance: dg.DagsterInstance) -> int:
    """Runs that the settings would have removed two days ago."""
    limits = limits_of(env.settings)
    late = Limits(limits.runs + GRACE, limits.assets + GRACE, limits.ticks + GRACE)
    return housekeeping.count_old_runs(instance, late, lambda found: needed_by(env, found))


def build_housekeeping_job() -> UnresolvedAssetJobDefinition:
    """The job: each night, and by hand."""
    return dg.define_asset_job(
        JOB_NAME,
        [dagster_records],
        description="Removes old records of Dagster: partition keys that nobody waits for, old runs with their events "
        "and output, backfills, ticks. How old is said in [housekeeping]. The museum database is not touched.",
    )
