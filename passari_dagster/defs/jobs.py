"""The jobs: `preserve_object`, one run for each object; `enqueue_objects`; `explain`; one job for each sync."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import dagster as dg
from pydantic import Field, model_validator

from passari_dagster import locks
from passari_dagster.defs import assets, bulk, launch, outcomes
from passari_dagster.defs.actors import actor_of
from passari_dagster.defs.partitions import museum_objects, object_id_of
from passari_dagster.errors import PermanentFailure
from passari_dagster.run_queue.dagster_internals import (
    PARENT_RUN_ID_TAG,
    PARTITION_SET_TAG,
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
    UnresolvedAssetJobDefinition,
)
from passari_dagster.settings import Settings
from passari_dagster.workflow import explain as use_case
from passari_dagster.workflow import preserve
from passari_dagster.workflow.enqueue import Chosen
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.preserve import Outcome, StepResult

FROZEN_OUTPUT = "frozen"
"""Output of an op that may freeze its object: no op waits for it, it shows reason and detail on the run's page."""
RETRY_RUN_TAG = RETRY_ON_ASSET_OR_OP_FAILURE_TAG
"""With "true", a run that failed in an op is started again by Dagster, as killed ones are; see dagster.yaml."""
REFUSALS_LOGGED = 20
TOLD_AS_WARNINGS = (Outcome.FROZEN, Outcome.SKIPPED, Outcome.REJECTED)

Step = Callable[[Environment, int, Log], StepResult]


def _perform(context: dg.OpExecutionContext, step: Step, max_retries: int) -> Iterator[dg.Output[None]]:
    """Run a step of the workflow; the op's output, and with it the next op, is there only if that may go on."""
    env: Environment = context.resources.environment
    try:
        result = step(env, object_id_of(context.partition_key), context.log.info)
    except PermanentFailure as error:
        outcomes.tag_failure(context.instance, context.run_id, outcomes.of_failure(error))
        raise dg.Failure(str(error), allow_retries=False) from error
    except locks.LockLostError as error:
        # This run will not have its lock back: the op is not tried again, but the run, in which the lock is taken anew.
        context.instance.add_run_tags(context.run_id, {RETRY_RUN_TAG: "true"})
        outcomes.tag_failure(context.instance, context.run_id, outcomes.SYSTEM_ERROR)
        raise dg.Failure(str(error), allow_retries=False) from error
    except dg.DagsterExecutionInterruptedError as error:
        # Somebody cancels the run: Dagster's retry policy would have the op begin again all the same.
        raise dg.Failure("cancelled", allow_retries=False) from error
    except Exception:
        if context.retry_number >= max_retries:
            outcomes.tag_failure(context.instance, context.run_id, outcomes.SYSTEM_ERROR)
        raise
    say = context.log.warning if result.outcome in TOLD_AS_WARNINGS else context.log.info
    say(result.message)
    if result.proceeds:
        yield dg.Output(None)
        return
    context.instance.add_run_tags(context.run_id, outcomes.tags_of(result))
    if result.outcome is Outcome.FROZEN:
        yield dg.Output(None, FROZEN_OUTPUT, metadata=outcomes.metadata_of(result))


def _forget_the_parents_end(context: dg.OpExecutionContext) -> None:
    """A run that was started again has its parent's tags, but is itself to be started again for its own lock only, and
    has an outcome of its own.
    """
    tags = context.run.tags
    if PARENT_RUN_ID_TAG not in tags:
        return
    forgotten = dict(outcomes.without_the_parents(tags))
    if tags.get(RETRY_RUN_TAG) == "true":
        forgotten[RETRY_RUN_TAG] = "false"
    if forgotten:
        context.instance.add_run_tags(context.run_id, forgotten)


def _outputs(*, freezes: bool) -> Mapping[str, dg.Out]:
    outputs = {"result": dg.Out(dg.Nothing, is_required=False)}
    if freezes:
        outputs[FROZEN_OUTPUT] = dg.Out(dg.Nothing, is_required=False, description="the reason, and what was found")
    return outputs


def _op(
    name: str, step: Step, retry_policy: dg.RetryPolicy, *, first: bool = False, freezes: bool = False
) -> dg.OpDefinition:
    @dg.op(
        name=name,
        description=step.__doc__,
        ins={} if first else {"start": dg.In(dg.Nothing)},
        out=_outputs(freezes=freezes),
        required_resource_keys={"environment", "object_lock"},
        retry_policy=retry_policy,
        pool=name,
    )
    def perform(context: dg.OpExecutionContext) -> Iterator[dg.Output[None]]:
        if first and PARTITION_SET_TAG not in context.run.tags:
            # A run launched by hand: with this tag it is found as the parent of its object's confirmation.
            context.instance.add_run_tags(context.run_id, {PARTITION_SET_TAG: launch.PARTITION_SET})
        _forget_the_parents_end(context)
        yield from _perform(context, step, retry_policy.max_retries)

    return perform


def build_preserve_object(settings: Settings) -> dg.JobDefinition:
    """The job of one object, with the retries that the settings want."""
    workflow = settings.workflow
    policy = dg.RetryPolicy(
        max_retries=workflow.step_retries,
        delay=workflow.step_retry_wait,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )
    download_object = _op("download_object", preserve.download_object, policy, first=True, freezes=True)
    create_sip = _op("create_sip", preserve.create_sip, policy, freezes=True)
    submit_sip = _op("submit_sip", preserve.submit_sip, policy)
    confirm_sip = _op("confirm_sip", preserve.confirm_sip, policy)

    @dg.job(
        name=launch.JOB_NAME,
        partitions_def=museum_objects,
        description=(
            "Preserves one object. The first run ends when its SIP is with the DPS; the sensor processed_sips has "
            "confirm_sip run when the DPS has spoken. Launched again, a run goes on from what the database says."
        ),
    )
    def preserve_object() -> None:
        confirm_sip(submit_sip(create_sip(download_object().result).result))

    return preserve_object


class EnqueueConfig(dg.Config):
    """What to enqueue."""

    object_count: int | None = Field(
        default=None, gt=0, description="how many objects; may be left out if object_ids are given"
    )
    random: bool = Field(
        default=False,
        description="pick at random instead of by ascending id; a preview shows one draw, others are enqueued later",
    )
    object_ids: list[int] = Field(default_factory=list, description="pick among these only")
    reason: str = Field(default="", description="why; it is kept in the audit log, and may be left out")
    dry_run: bool = Field(default=False, description="say what would be enqueued, and do nothing")

    @model_validator(mode="after")
    def _says_how_many(self) -> "EnqueueConfig":
        if self.object_count is None and not self.object_ids:
            raise ValueError("give object_count, object_ids, or both")
        return self


def _log_what_is_left(context: dg.OpExecutionContext, chosen: Chosen) -> None:
    for object_id, reason in sorted(chosen.refused.items())[:REFUSALS_LOGGED]:
        context.log.warning(f"object {object_id} is not enqueued: {reason}")
    for reason, number in Counter(chosen.refused.values()).items():
        context.log.warning(f"{number} of the objects asked for: {reason}")
    if chosen.left:
        context.log.warning(f"{chosen.left} objects are left: the cap on partition keys (partition_cap) is reached")


@dg.op(name="enqueue", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def enqueue_op(context: dg.OpExecutionContext, config: EnqueueConfig) -> None:
    """Pick eligible objects that are not in the workflow, and launch a backfill of preserve_object for them."""
    env: Environment = context.resources.environment
    backfill_id = launch.backfill_of_run(context.instance, context.run)
    with env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
        if context.instance.get_backfill(backfill_id) is not None:
            context.log.info(f"this run was killed after it had launched backfill {backfill_id}: nothing is left to do")
            return
        done = launch.enqueue_eligible(
            env,
            context.instance,
            lambda: launch.repository_of_run(context.run),
            held,
            actor_of(context),
            count=config.object_count,
            object_ids=config.object_ids,
            random=config.random,
            dry_run=config.dry_run,
            reason=config.reason,
            backfill_id=backfill_id,
        )
    chosen, launched = done.chosen, done.backfill_id is not None
    if config.dry_run:
        bulk.log_chosen(context, chosen)
    else:
        _log_what_is_left(context, chosen)
    verb = "would be enqueued" if config.dry_run else "enqueued"
    context.log.info(f"{len(chosen.ids)} objects {verb}" + (f", backfill {backfill_id}" if launched else ""))
    context.add_output_metadata(
        {
            "enqueued": 0 if config.dry_run else len(chosen.ids),
            "chosen": len(chosen.ids),
            "left": chosen.left,
            "refused": len(chosen.refused),
            "backfill": backfill_id if launched else "none",
            "first_ids": ", ".join(map(str, chosen.ids[:20])),
        }
    )


@dg.job
def enqueue_objects() -> None:
    """Enqueue N objects: pick them, give them partition keys, and launch their backfill."""
    enqueue_op()


class ExplainConfig(dg.Config):
    """Which objects to explain."""

    object_ids: list[int] = Field(min_length=1, description="ids of the objects")


@dg.op(name="explain_objects", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def explain_op(context: dg.OpExecutionContext, config: ExplainConfig) -> None:
    """Say of each object why it may or may not be enqueued now, and from which date it may. Nothing is changed."""
    env: Environment = context.resources.environment
    explanations = use_case.explain(env, config.object_ids)
    for explanation in explanations:
        context.log.info(use_case.sentence(explanation, env.settings.time_zone))
    context.add_output_metadata(
        {
            "eligible": sum(explanation.eligible for explanation in explanations),
            "not_eligible": sum(not explanation.eligible for explanation in explanations),
            "explained": dg.MetadataValue.md(use_case.markdown(explanations, env.settings.time_zone)),
        }
    )


@dg.job
def explain() -> None:
    """Explain why objects are or are not eligible, and from which date on they will be."""
    explain_op()


def build_sync_jobs() -> Mapping[str, UnresolvedAssetJobDefinition]:
    """The sync jobs by name."""

    def job(name: str, description: str, *selection: dg.AssetsDefinition) -> UnresolvedAssetJobDefinition:
        return dg.define_asset_job(name, selection, description=description)

    jobs = (
        job("sync_objects", "Brings the database up to date with MuseumPlus's objects.", assets.museum_objects),
        job(
            "sync_attachments",
            "Brings the database up to date with MuseumPlus's attachments.",
            assets.museum_attachments,
        ),
        job(
            "sync_hashes",
            "Computes the hashes over attachments that have changed, and counts which objects are eligible.",
            assets.metadata_hashes,
            assets.eligible_objects,
        ),
    )
    return {job.name: job for job in jobs}
