"""How actions on many objects are told in a run: lines, numbers, a table; red when something was refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from passari_dagster import locks
from passari_dagster.defs import launch
from passari_dagster.defs.actors import actor_of
from passari_dagster.errors import PermanentFailure
from passari_dagster.workflow.bulk import SAMPLE, Tally, lines_of_ids
from passari_dagster.workflow.enqueue import Chosen
from passari_dagster.workflow.environment import Environment


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """What a person must mend fails the run, with a message and without a retry."""
    try:
        yield
    except PermanentFailure as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def sample(env: Environment, *, dry_run: bool) -> int:
    """How many objects of each outcome a job keeps: a preview tells all that it may, an action the first ones."""
    return max(SAMPLE, env.settings.workflow.partition_cap) if dry_run else SAMPLE


def tell(
    context: dg.OpExecutionContext, tally: Tally, more: Mapping[str, Any] | None = None, *, each: bool = False
) -> None:
    """Add the outcome to the op's output, and log it.

    Arguments:
        more: metadata of the action's own.
        each: log each object that is kept; the action itself has not.

    Raises:
        dg.Failure: something was refused; tells what, with the same metadata.
    """
    numbers = {outcome.replace(" ", "_").replace(",", ""): number for outcome, number in tally.counts.items()}
    metadata = {**numbers, "objects": dg.MetadataValue.md(tally.markdown()), **(more or {})}
    if tally.refused and not tally.dry_run:
        raise dg.Failure(f"{tally.summary}. {refusals(tally)}", metadata=metadata, allow_retries=False)
    for line in tally.lines() if each else ():
        context.log.info(line)
    context.log.info(tally.summary)
    context.add_output_metadata(metadata)


def refusals(tally: Tally) -> str:
    """The first objects to which nothing was done, and why."""
    return "; ".join(f"{entry.object_id}: {entry.detail}" for entry in tally.refusals)


def preview_of_enqueue(
    context: dg.OpExecutionContext, would_enqueue: launch.WouldEnqueue, object_ids: Sequence[int]
) -> dict[str, Any]:
    """Say which of the objects `enqueue_again` would launch; answers metadata that tells of it."""
    env: Environment = context.resources.environment
    chosen = launch.would_launch(env, context.instance, would_enqueue, object_ids).chosen
    log_chosen(context, chosen)
    return {
        "enqueued": 0,
        "would_be_enqueued": len(chosen.ids),
        "not_eligible": len(chosen.refused),
        "left": chosen.left,
    }


def log_chosen(context: dg.OpExecutionContext, chosen: Chosen) -> None:
    """Log every object that would be enqueued, and every one that would not, under its reason."""
    reasons: dict[str, list[int]] = {}
    for object_id, why in sorted(chosen.refused.items()):
        reasons.setdefault(f"not enqueued, {why}", []).append(object_id)
    for told, ids in [("would be enqueued", chosen.ids), *reasons.items()]:
        for line in lines_of_ids(told, ids):
            context.log.info(line)
    if chosen.left:
        context.log.warning(
            f"{chosen.left} objects would be left: the cap on partition keys (partition_cap) is reached"
        )


def enqueue_again(
    context: dg.OpExecutionContext, held: locks.Held, object_ids: Sequence[int], *, reason: str
) -> dict[str, Any]:
    """Launch those of the objects that are eligible now; answers metadata that tells of it.

    Arguments:
        held: the workflow lock.
    """
    env: Environment = context.resources.environment
    backfill_id = launch.backfill_of_run(context.instance, context.run)
    if not object_ids or context.instance.get_backfill(backfill_id) is not None:
        return {"enqueued": 0}
    launched = launch.enqueue_eligible(
        env,
        context.instance,
        lambda: launch.repository_of_run(context.run),
        held,
        actor_of(context),
        object_ids=object_ids,
        reason=reason,
        backfill_id=backfill_id,
    )
    for object_id, why in sorted(launched.chosen.refused.items())[:SAMPLE]:
        context.log.warning(f"object {object_id} is not enqueued: {why}")
    if launched.chosen.left:
        context.log.warning(f"{launched.chosen.left} objects are left: the cap on partition keys is reached")
    return {
        "enqueued": len(launched.chosen.ids) if launched.backfill_id else 0,
        "not_eligible": len(launched.chosen.refused),
        "backfill": launched.backfill_id or "none",
    }
