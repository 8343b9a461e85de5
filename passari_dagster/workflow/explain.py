"""Why objects are or are not eligible: of single ones, with the date from which they will be; and of all, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from passari_dagster import stopping
from passari_dagster.catalogue import eligibility
from passari_dagster.catalogue.eligibility import ELIGIBLE, REASONS, Explanation
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.shown import in_markdown, plain

BATCH = 10_000
"""Objects noted as settled in one transaction, which lasts a third of a second at most."""


def explain(env: Environment, object_ids: Sequence[int]) -> list[Explanation]:
    """Of each object, all reasons why it is not eligible now, in the order asked for. Nothing is changed."""
    with env.transaction() as session:
        return eligibility.explain(session, object_ids, now=env.now(), delays=env.delays)


def count(env: Environment, log: Log) -> dict[str, int]:
    """Find out which objects rest, so that candidates are found fast, and count all.

    Returns:
        how many objects are eligible, and how many are not for each reason (the first one that holds), by key.
    """
    settled = sum(len(ids) for ids in _settle(env))
    log(f"{settled} more objects are unchanged since their last package")
    with env.transaction() as session:
        return eligibility.count_by_reason(session, now=env.now(), delays=env.delays)


def _settle(env: Environment) -> Iterator[list[int]]:
    after = 0
    while not stopping.is_asked():
        with env.transaction() as session:
            ids = eligibility.settle(session, after=after, limit=BATCH)
        if not ids:
            return
        after = ids[-1]
        yield ids


def sentence(explanation: Explanation, time_zone: str) -> str:
    """One line for people, with dates in their time zone."""
    name = plain(f"object {explanation.object_id} {explanation.title}".strip())
    if explanation.eligible:
        return f"{name}: eligible"
    told = "; ".join(plain(str(reason)) for reason in explanation.reasons)
    return f"{name}: not eligible: {told}. {outlook(explanation, time_zone)}"


def outlook(explanation: Explanation, time_zone: str) -> str:
    """What has to happen, or pass, until the object is eligible; a sentence."""
    if explanation.eligible:
        return "It may be enqueued now."
    if explanation.eligible_from is not None:
        return f"It will be eligible from {_local(explanation.eligible_from, time_zone)} on."
    return f"It can be eligible after {', and '.join(explanation.remedies)}."


def _local(moment: datetime, time_zone: str) -> str:
    """To the microsecond where there is one: a moment before that it is not eligible."""
    return moment.astimezone(ZoneInfo(time_zone)).isoformat(sep=" ")


def as_json(explanation: Explanation) -> dict[str, Any]:
    """For programs."""
    return {
        "object_id": explanation.object_id,
        "title": explanation.title,
        "known": explanation.known,
        "eligible": explanation.eligible,
        "eligible_from": explanation.eligible_from and explanation.eligible_from.isoformat(),
        "has_to_happen": list(explanation.remedies),
        "reasons": [
            {
                "key": told.reason.key,
                "text": str(told),
                "until": told.until and told.until.isoformat(),
            }
            for told in explanation.reasons
        ],
    }


def markdown(explanations: Sequence[Explanation], time_zone: str) -> str:
    """The explanations as a table for Dagster's pages."""
    lines = ["| object | eligible | why not | then |", "|---|---|---|---|"]
    for each in explanations:
        cells = (
            in_markdown(f"{each.object_id} {each.title}".strip()),
            "yes" if each.eligible else "no",
            "<br>".join(in_markdown(str(reason)) for reason in each.reasons),
            in_markdown(outlook(each, time_zone)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown_counts(counts: Mapping[str, int]) -> str:
    """What was counted, as a table for Dagster's pages."""
    lines = ["| objects | are | until |", "|---|---|---|", f"| {counts[ELIGIBLE]} | eligible | |"]
    for reason in REASONS:
        until = reason.remedy or "the delay is over"
        lines.append(f"| {counts[reason.key]} | {in_markdown(reason.text)} | {in_markdown(until)} |")
    return "\n".join(lines)
