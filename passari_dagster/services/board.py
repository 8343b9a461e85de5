"""Where the demo's objects are: the count from the database, and how it is shown.

What is done with the objects is in `demo.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from passari_dagster.catalogue import database, statistics

MEANING = {
    "queued": "a run waits for its turn",
    "downloading": "being downloaded from MuseumPlus",
    "downloaded": "being packaged",
    "packaged": "being sent to the DPS",
    "submitted": "with the DPS",
    "confirming": "the DPS has spoken; logs are archived, MuseumPlus is told",
    "preserved": "accepted by the DPS",
    "rejected": "refused by the DPS; an administrator decides",
    "frozen": "a content problem; kept out until unfrozen",
}
AT_REST = frozenset({"preserved", "rejected", "frozen"})
UNDER_WAY = MEANING.keys() - AT_REST - {"queued"}


@dataclass(frozen=True)
class Counts:
    """How many objects are where.

    Arguments:
        known: objects read from MuseumPlus.
        stages: number of objects in each stage of MEANING.
    """

    known: int
    stages: dict[str, int]

    @property
    def at_rest(self) -> int:
        """Objects for which nothing more is to be done."""
        return sum(self.stages[stage] for stage in AT_REST)


def count(engine: Engine, enqueued: int) -> Counts:
    """Count the objects by stage.

    Arguments:
        engine: the museum database.
        enqueued: how many were enqueued in all; those that no run has taken up are "queued".
    """
    with database.transaction(engine) as session:
        found = statistics.objects_by_stage(session)
    known, taken_up = sum(found.values()), sum(number for stage, number in found.items() if stage in MEANING)
    found["queued"] = max(0, enqueued - taken_up)
    return Counts(known=known, stages={stage: found[stage] for stage in MEANING})


def objects_not_at_rest(engine: Engine) -> list[str]:
    """A line for each object that is on its way."""
    with database.transaction(engine) as session:
        return [f"object {id_} is {stage}" for id_, stage in statistics.objects_in_stages(session, UNDER_WAY)]


@dataclass
class Board:
    """What is shown while the demo runs: a table on a terminal, a line for each change elsewhere.

    Arguments:
        console: where to.
        lines: said above the table: what is being done, addresses, folders.
    """

    console: Console
    lines: Sequence[str] = ()
    _said: str = ""

    def table(self, counts: Counts) -> RenderableType:
        """The table of this moment."""
        table = Table(title=f"{counts.known} objects in the catalogue")
        table.add_column("stage")
        table.add_column("objects", justify="right")
        table.add_column("meaning", style="dim")
        for stage in MEANING:
            style = {"preserved": "green", "rejected": "red", "frozen": "cyan"}.get(stage, "")
            table.add_row(Text(stage, style), str(counts.stages[stage] or ""), MEANING[stage])
        return Group(*(Text(line) for line in self.lines), table)

    def say(self, counts: Counts) -> None:
        """A line, if anything has changed since the last one."""
        words = [f"{number} {stage}" for stage, number in counts.stages.items() if number]
        line = ", ".join(words)
        if line and line != self._said:
            self.console.print(line, highlight=False)
            self._said = line
