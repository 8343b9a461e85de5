"""Asset checks: what should not be, counted exactly, with a sample and what to do."""

from typing import Any

import dagster as dg

from passari_dagster.defs import assets, housekeeping, keys, launch
from passari_dagster.workflow import enqueue, synchronise
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.synchronise import Source

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


def _removals(asset: dg.AssetsDefinition, source: Source[Any]) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name="no_removals_since_last_scan", required_resource_keys={"environment"})
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        """The last reading of everything found all items that the database knows; those it did not find are listed."""
        number, first_ids = synchronise.removed_by_last_scan(context.resources.environment, source, SAMPLE)
        return dg.AssetCheckResult(
            passed=number == 0,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "removed": number,
                "first_ids": ", ".join(map(str, first_ids)),
                "what_to_do": "ask in the museum whether they were deleted in MuseumPlus; they are kept here, and what "
                "was preserved stays preserved. Where they should be there still, give MuseumPlus's user its "
                "permission back: the mark goes with the next reading of everything (sync with full: true)",
            },
        )

    return check


no_objects_removed = _removals(assets.museum_objects, synchronise.OBJECTS)
no_attachments_removed = _removals(assets.museum_attachments, synchronise.ATTACHMENTS)


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
