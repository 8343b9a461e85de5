"""Asset checks: what should not be, counted exactly, with a sample and what to do."""

import dagster as dg

from passari_dagster.defs import assets, launch
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
