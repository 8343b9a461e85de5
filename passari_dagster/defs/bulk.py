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
from passari_dagster.workflow.bulk import SAMPLE, Tally
from passari_dagster.workflow.environment import Environment


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """What a person must mend fails the run, with a message and without a retry."""
    try:
        yield
    except PermanentFailure as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def tell(context: dg.OpExecutionContext, tally: Tally, more: Mapping[str, Any] | None = None) -> None:
    """Add the outcome to the op's output, and log it.

    Arguments:
        more: metadata of the action's own.

    Raises:
        dg.Failure: something was refused; tells what, with the same metadata.
    """
    numbers = {outcome.replace(" ", "_").replace(",", ""): number for outcome, number in tally.counts.items()}
    metadata = {**numbers, "objects": dg.MetadataValue.md(tally.markdown()), **(more or {})}
    if tally.refused and not tally.dry_run:
        raise dg.Failure(f"{tally.summary}. {refusals(tally)}", metadata=metadata, allow_retries=False)
    context.log.info(tally.summary)
    context.add_output_metadata(metadata)


def refusals(tally: Tally) -> str:
    """The first objects to which nothing was done, and why."""
    return "; ".join(f"{entry.object_id}: {entry.detail}" for entry in tally.refusals)


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
