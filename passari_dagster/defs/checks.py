"""Asset checks: what should not be, counted exactly, with a sample and what to do."""

import dagster as dg

from passari_dagster.defs import assets, housekeeping, keys, launch
from passari_dagster.workflow import enqueue
from passari_dagster.workflow.environment import Environment

SAMPLE = 20


@dg.asset_check(asset=assets.metadata_hashes, required_resource_keys={"environment"})
def no_package_without_a_run(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Every package that was begun and not sent has a run; the others wait for somebody to launch them again."""
    env: Environment = context.resources.environment
    stranded = enqueue.stranded(env, in_flight=launch.in_flight(context.instance))
    return dg.AssetCheckResult(
        passed=not stranded,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "objects": len(stranded),
            "first_ids": ", ".join(map(str, stranded[:SAMPLE])),
            "what_to_do": "look at their last runs; launch them again (job enqueue_objects with object_ids), or take "
            "them out with passari-dagster cancel",
        },
    )


@dg.asset_check(asset=housekeeping.dagster_records, required_resource_keys={"environment"})
def partition_count_within_budget(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """There are no more partition keys of preserve_object than the cap allows (partition_cap of [workflow])."""
    env: Environment = context.resources.environment
    found = keys.count(env, context.instance)
    return dg.AssetCheckResult(
        passed=not found.over,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(found),
        metadata={"partition_keys": found.count, "cap": found.cap, "over": found.over, "what_to_do": keys.WHAT_TO_DO},
    )


@dg.asset_check(asset=housekeeping.dagster_records, required_resource_keys={"environment"})
def no_record_older_than_settings(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Housekeeping keeps up: no run that nothing needs is older than [housekeeping] says by more than two days."""
    env: Environment = context.resources.environment
    old = housekeeping.overdue(env, context.instance)
    return dg.AssetCheckResult(
        passed=not old,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "runs": old,
            "what_to_do": "look at the last runs of the job housekeeping; launch it by hand with more minutes, or set "
            "minutes of [housekeeping] higher",
        },
    )
