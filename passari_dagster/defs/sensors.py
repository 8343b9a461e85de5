"""The sensors: verdicts of the DPS, killed runs that nobody starts again, keys that nobody waits for, the run queue."""

from datetime import datetime, timedelta, timezone

import dagster as dg

from passari_dagster import locks
from passari_dagster.defs import keys, lateness, launch, polling
from passari_dagster.run_queue.coordinator import RedisRunCoordinator
from passari_dagster.run_queue.reconcile import reconcile_if_changed
from passari_dagster.settings import Settings
from passari_dagster.workflow import poll
from passari_dagster.workflow.environment import Environment

PRUNE_INTERVAL = 60
KILLED_INTERVAL = 30
RECONCILE_INTERVAL = 30
KILLED_LATELY = timedelta(days=1)
"""How long ago a run may have been killed that is started again: as long as the system may stand still at most."""


def build_sensors(settings: Settings, preserve_object: dg.JobDefinition) -> list[dg.SensorDefinition]:
    """The sensors, running."""

    @dg.sensor(
        name="processed_sips",
        job=preserve_object,
        minimum_interval_seconds=settings.workflow.poll_interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"environment"},
        description="Records the DPS's verdicts and has each confirmed; a confirmation that failed comes back.",
    )
    def processed_sips(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        env: Environment = context.resources.environment
        try:
            with env.lock(locks.POLL, wait=0):
                return _poll(context, env)
        except locks.LockBusyError:
            return dg.SkipReason("an earlier look at the DPS is not over yet")

    @dg.sensor(
        name="killed_runs",
        job=preserve_object,
        minimum_interval_seconds=KILLED_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has killed runs started again that Dagster's own run retries have passed over.",
    )
    def killed_runs(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
        since = datetime.now(timezone.utc) - KILLED_LATELY
        return launch.start_again_passed_over(context.instance, since, context.log.info)

    @dg.sensor(
        name="partition_keys",
        minimum_interval_seconds=PRUNE_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"environment"},
        description="Removes the partition keys of objects that are neither eligible nor in the workflow, and keeps "
        "their number under the cap.",
    )
    def partition_keys(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        env: Environment = context.resources.environment
        try:
            with env.lock(locks.WORKFLOW, wait=0):
                pruned = keys.prune(env, context.instance)
                left = keys.count(env, context.instance)
        except locks.LockBusyError:
            return dg.SkipReason("objects are being enqueued; next time")
        if left.over:
            context.log.warning(f"{left}: {keys.WHAT_TO_DO}")
        return dg.SkipReason(f"{pruned} keys removed; {left}")

    @dg.sensor(
        name="run_queue",
        minimum_interval_seconds=RECONCILE_INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Brings the run queue in Redis into line with the runs that Dagster's database calls queued.",
    )
    def run_queue(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        coordinator = context.instance.run_coordinator
        if not isinstance(coordinator, RedisRunCoordinator):
            return dg.SkipReason("this instance has no run queue in Redis")
        done, seen = reconcile_if_changed(context.instance, coordinator.ledger, context.cursor)
        context.update_cursor(seen or "")
        return dg.SkipReason(str(done or "nothing has changed since all was well"))

    return [processed_sips, killed_runs, partition_keys, run_queue]


def _poll(context: dg.SensorEvaluationContext, env: Environment) -> dg.SensorResult:
    try:
        recorded = poll.record_verdicts(env, context.log.info)
    finally:
        # What is known already is confirmed even if the DPS cannot be asked now.
        launched = _confirm(context, env)
    traces, cursor = lateness.traced(context.cursor, recorded, env.now())
    told = f"{recorded} verdicts recorded, {launched}"
    return dg.SensorResult(skip_reason=told, asset_events=traces, cursor=cursor)


def _confirm(context: dg.SensorEvaluationContext, env: Environment) -> str:
    """Launch the confirmations that are due; tells how many."""
    return polling.launch_confirmations(
        env,
        context.instance,
        lambda: launch.repository_of_tick(context),
        context.log.warning,
        launched_by="processed_sips",
    )
