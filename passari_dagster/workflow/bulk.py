"""What becomes of each object of an action on many: counted exactly, and told by id for the first ones.

A preview and the action itself answer in the same words. What the actions do is in the modules of their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from passari_dagster.workflow.shown import in_markdown

SAMPLE = 20
"""Objects of each outcome that are told by id, if nothing else is said."""
LINE = 200
"""Ids of one line of a log."""
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

    def lines(self) -> Iterator[str]:
        """All objects that are kept, many in a line, by outcome; those that are refused by their causes, too."""
        ids: dict[str, list[int]] = {}
        for entry in self.entries:
            told = f"{entry.outcome}, {entry.detail}" if entry.outcome == REFUSED else entry.outcome
            ids.setdefault(told, []).append(entry.object_id)
        for told, those in ids.items():
            yield from lines_of_ids(f"would be: {told}" if self.dry_run else told, those)
        more = sum(self.counts.values()) - len(self.entries)
        if more:
            yield f"… and {more} more: the command that does the same lists all with --dry-run and --json"

    def markdown(self) -> str:
        """A table for the UI, of the first objects of each outcome."""
        shown: Counter[str] = Counter()
        first = []
        for entry in self.entries:
            shown[entry.outcome] += 1
            if shown[entry.outcome] <= SAMPLE:
                first.append(entry)
        lines = [in_markdown(self.summary), "", "| object | outcome | |", "|---|---|---|"]
        lines += [
            f"| {entry.object_id} | {in_markdown(entry.outcome)} | {in_markdown(entry.detail)} |" for entry in first
        ]
        more, where = sum(self.counts.values()) - len(first), ", in the log of this run" if self.dry_run else ""
        return "\n".join([*lines, *([f"\n… and {more} more{where}"] if more else [])])


def lines_of_ids(told: str, ids: Sequence[int]) -> Iterator[str]:
    """What is told of all these objects, in as many lines as a log can show well."""
    for start in range(0, len(ids), LINE):
        yield f"{told}: {', '.join(map(str, ids[start : start + LINE]))}"
