"""What becomes of each object of an action on many: counted exactly, and told by id for the first ones.

A preview and the action itself answer in the same words. What the actions do is in the modules of their names.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from passari_dagster.workflow.shown import in_markdown

SAMPLE = 20
"""Objects of each outcome that are told by id, if nothing else is said."""
REFUSED = "refused"
"""Outcome of those to which nothing is done though it was asked for: a person has to look at them."""


@dataclass(frozen=True)
class Entry:
    """An object, and what becomes of it.

    Arguments:
        outcome: in a word or two, the same for many objects.
        detail: more about this one; may be empty.
    """

    object_id: int
    outcome: str
    detail: str = ""


@dataclass
class Tally:
    """What becomes of all objects.

    Arguments:
        dry_run: whether it is a preview.
        sample: how many objects of each outcome are kept; None: all.
    """

    dry_run: bool = False
    sample: int | None = SAMPLE
    counts: Counter[str] = field(default_factory=Counter)
    entries: list[Entry] = field(default_factory=list)

    def add(self, object_id: int, outcome: str, detail: str = "") -> None:
        """One more object."""
        self.counts[outcome] += 1
        if self.sample is None or self.counts[outcome] <= self.sample:
            self.entries.append(Entry(object_id, outcome, detail))

    @property
    def refused(self) -> int:
        """To how many nothing is done though it was asked for."""
        return self.counts[REFUSED]

    @property
    def refusals(self) -> list[Entry]:
        """The first of them."""
        return [entry for entry in self.entries if entry.outcome == REFUSED]

    @property
    def summary(self) -> str:
        """One line, such as "3 frozen, 1 refused"."""
        told = ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items() if number) or "no objects"
        return f"dry run, nothing is done: {told}" if self.dry_run else told

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "dry_run": self.dry_run,
            "counts": dict(self.counts),
            "objects": [asdict(entry) for entry in self.entries],
        }

    def markdown(self) -> str:
        """A table for the UI."""
        lines = [in_markdown(self.summary), "", "| object | outcome | |", "|---|---|---|"]
        lines += [
            f"| {entry.object_id} | {in_markdown(entry.outcome)} | {in_markdown(entry.detail)} |"
            for entry in self.entries
        ]
        more = sum(self.counts.values()) - len(self.entries)
        return "\n".join([*lines, *([f"\n… and {more} more"] if more else [])])
