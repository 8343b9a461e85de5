"""How the findings of a preflight are told: counted, with a sample; as a table of a terminal, in Markdown, as CSV.

Names, titles and details come from outside. Wherever they are shown, they are text and nothing else: no commands of
a terminal, no markup, no formula of a spreadsheet.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from passari_dagster import durable
from passari_dagster.workflow.preflight import Examined, Found
from passari_dagster.workflow.shown import in_markdown, plain

COLUMNS = tuple(column.name for column in fields(Found))
SAMPLE = 20
WIDTH = 100
"""Columns of the terminal's table, at most."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass
class Summary:
    """What a preflight found, counted exactly; problems and failures themselves up to a number only.

    Arguments:
        kept: how many problems, and how many failures, are kept.
    """

    kept: int = SAMPLE
    objects: int = 0
    """Examined, or tried to be."""
    good: int = 0
    """Examined to the end, without a problem."""
    with_problems: int = 0
    failed: int = 0
    """Not examined to the end: a system error."""
    left: int = 0
    """Not begun with."""
    problems: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    """How many problems there are of each reason."""
    objects_by_reason: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    failures: list[Examined] = field(default_factory=list)

    def add(self, examined: Examined) -> None:
        """Count an object."""
        self.objects += 1
        self.good += not examined.problems and examined.failure is None
        self.with_problems += bool(examined.problems)
        self.problems += len(examined.problems)
        self.by_reason.update(problem.reason for problem in examined.problems)
        self.objects_by_reason.update({problem.reason for problem in examined.problems})
        self.found += examined.problems[: max(0, self.kept - len(self.found))]
        if examined.failure is not None:
            self.failed += 1
            if len(self.failures) < self.kept:
                self.failures.append(examined)

    @property
    def complete(self) -> bool:
        """Whether every object was examined to its end."""
        return not self.failed and not self.left

    def __str__(self) -> str:
        parts = [f"{self.objects} objects", f"{self.good} without a problem", f"{self.with_problems} with problems"]
        parts += [f"{self.failed} could not be examined"] * bool(self.failed)
        parts += [f"{self.left} were left"] * bool(self.left)
        return f"{', '.join(parts)}; {self.problems} problems in all"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            **{name: getattr(self, name) for name in ("objects", "good", "with_problems", "failed", "left")},
            "problems": self.problems,
            "by_reason": dict(self.by_reason.most_common()),
            "found": [asdict(problem) for problem in self.found],
            "failures": [{"object_id": each.object_id, "error": each.failure} for each in self.failures],
        }


@contextlib.contextmanager
def csv_file(path: Path) -> Iterator[Callable[[Examined], None]]:
    """A table that appears under its name at the end, whole; where there is no place for it, this is told at once.

    Arguments:
        path: the final name, in a directory that exists.

    Yields:
        what takes the objects; each problem is a row of `COLUMNS`. If the block is broken off, the table has the
        objects that were taken until then; if there were none, what was under the name before stays.

    Raises:
        OSError: the directory cannot be written to.
    """
    taken = False

    def take(examined: Examined) -> None:
        nonlocal taken
        writer.writerows(map(_row, examined.problems))
        taken = True

    # Without a name until it is whole, so that nothing is left of it when this process is killed.
    with tempfile.TemporaryFile(dir=path.parent) as rows:
        text = io.TextIOWrapper(rows, encoding="utf-8", errors="backslashreplace", newline="")
        writer = csv.writer(text)
        try:
            writer.writerow(COLUMNS)
            yield take
            taken = True
        finally:
            text.detach()
            if taken:
                rows.seek(0)
                with durable.open_for_replacement(path, suffix=f".{os.getpid()}.part") as stream:
                    shutil.copyfileobj(rows, stream)


def _row(problem: Found) -> list[str]:
    return [_no_formula(str(cell)) for cell in astuple(problem)]


def _no_formula(cell: str) -> str:
    """The cell, which a spreadsheet would otherwise take for something to compute (CWE-1236).

    An apostrophe before it has it shown as text. White space does not hide a formula from every program.
    """
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell


def markdown(summary: Summary) -> str:
    """The problems that are kept, as a table for Dagster's pages."""
    lines = ["| object | file | problem | what to do |", "|---|---|---|---|"]
    for problem in summary.found:
        cells = (_object(problem), _file(problem), _problem(problem), problem.advice)
        lines.append(f"| {' | '.join(map(in_markdown, cells))} |")
    if summary.problems > len(summary.found):
        lines.append(f"| … | and {summary.problems - len(summary.found)} more | | |")
    return "\n".join(lines) if summary.found else "No problem was found."


def markdown_counts(summary: Summary) -> str:
    """Problems and objects by reason, as a table for Dagster's pages."""
    lines = ["| reason | problems | objects |", "|---|---|---|"]
    for reason, number in summary.by_reason.most_common():
        lines.append(f"| {in_markdown(reason)} | {number} | {summary.objects_by_reason[reason]} |")
    return "\n".join(lines) if summary.by_reason else "No problem was found."


def show(summary: Summary, console: Console) -> None:
    """The problems that are kept, the counts by reason, and what could not be examined."""
    width = min(console.width, WIDTH)
    if summary.found:
        table = Table("Object", "File and problem", "What to do", show_lines=True, width=width)
        for column, ratio in zip(table.columns, (2, 5, 3), strict=True):
            column.ratio, column.overflow = ratio, "fold"
        for problem in summary.found:
            what = f"{plain(_file(problem))}\n{plain(_problem(problem))}"
            table.add_row(Text(plain(_object(problem))), Text(what), Text(plain(problem.advice)))
        console.print(table)
        if summary.problems > len(summary.found):
            console.print(f"… and {summary.problems - len(summary.found)} more problems: --csv has them all")
        counts = Table("Reason", "Problems", "Objects", width=width)
        counts.columns[0].ratio, counts.columns[0].overflow = 1, "fold"
        for reason, number in summary.by_reason.most_common():
            counts.add_row(Text(plain(reason)), str(number), str(summary.objects_by_reason[reason]))
        console.print(counts)
    for failure in summary.failures:
        console.print(Text(plain(str(failure))), soft_wrap=False, width=width)
    if summary.failed > len(summary.failures):
        console.print(f"… and {summary.failed - len(summary.failures)} more that could not be examined")
    console.print(str(summary), highlight=False, width=width)


def sample_of_failures(summary: Summary) -> Mapping[str, str]:
    """Why objects could not be examined, by their ids, as far as failures are kept."""
    return {str(each.object_id): each.failure or "" for each in summary.failures}


def _object(problem: Found) -> str:
    return f"{problem.object_id} {problem.title}".strip()


def _file(problem: Found) -> str:
    return problem.file or "(the object)"


def _problem(problem: Found) -> str:
    return f"{problem.reason}: {problem.detail}" if problem.detail else problem.reason
