"""How a run of `preserve_object` ended, in tags by which the Runs page is filtered. What it means, README tells.

A run that is killed from outside, or cancelled, has no outcome.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import dagster as dg

from passari_dagster.errors import UnforeseenContent
from passari_dagster.workflow.preserve import Outcome, StepResult

JOB_NAME = "preserve_object"
OUTCOME_TAG, REASON_TAG = "passari/outcome", "passari/reason"
CONTENT_FAILURE, SYSTEM_ERROR = "content-failure", "system-error"
"""Outcomes of failed runs; those of the others are the values of `Outcome`. People filter by them: they stay."""
UNFINISHED = "unfinished"
"""Of a run that was started again, in place of its parent's outcome, until it has its own."""
_TAG_BYTES = 2000
"""Most of a tag: Dagster has an index over the values, which takes 2700 bytes. No reason of ours is that long."""


def tags_of(result: StepResult) -> Mapping[str, str]:
    """The tags of a run that ends with this step."""
    tags = {OUTCOME_TAG: result.outcome.value}
    if result.outcome in (Outcome.FROZEN, Outcome.SKIPPED):
        reason = result.reason or result.message
        tags[REASON_TAG] = reason.encode()[:_TAG_BYTES].decode(errors="ignore")
    return tags


def metadata_of(result: StepResult) -> Mapping[str, dg.MetadataValue]:
    """Why an object is frozen, for an event of the run."""
    told = {"reason": result.reason, "detail": result.detail}
    return {name: dg.MetadataValue.text(text) for name, text in told.items() if text}


def of_failure(error: BaseException) -> str:
    """The outcome of a run that fails for this."""
    return CONTENT_FAILURE if isinstance(error, UnforeseenContent) else SYSTEM_ERROR


def tag_failure(instance: dg.DagsterInstance, run_id: str, outcome: str) -> None:
    """Tag a run that is about to fail."""
    with contextlib.suppress(Exception):  # what has failed is to be told, and not that the tag could not be written
        instance.add_run_tags(run_id, {OUTCOME_TAG: outcome})


def without_the_parents(tags: Mapping[str, str]) -> Mapping[str, str]:
    """What to write over the outcome that a run which was started again has from its parent.

    Arguments:
        tags: with which the run began.
    """
    ours = {OUTCOME_TAG: UNFINISHED, REASON_TAG: ""}
    return {tag: value for tag, value in ours.items() if tag in tags}
