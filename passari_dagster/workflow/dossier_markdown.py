"""The dossier for Dagster's pages: Markdown in which whatever comes from outside is text and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from passari_dagster.workflow import dossier_words as words
from passari_dagster.workflow.dossier import Dossier, LogFile, PackageDossier
from passari_dagster.workflow.shown import in_markdown, plain
from passari_dagster.workflow.step_times import StepLog

MAX_CHARACTERS = 200_000
"""Of the page, which Dagster keeps in its database: what does not fit is left out, the oldest packages first."""
_LOGGED_PACKAGES = 3
"""The newest ones, of whose logs the last lines are told."""


def markdown(made: Dossier, base: str = "") -> str:
    """The page.

    Arguments:
        base: address of Dagster's UI, without a slash at its end; empty: the page is shown in it.
    """
    told, zone = made.history, made.time_zone
    head = [
        f"## Object {told.object_id} {in_markdown(told.title)}".rstrip(),
        f"Made {words.when(made.made, zone)}. [Runs of this object]({base}{made.runs_page})",
        _table(("", ""), words.facts(made)),
        "### Who did what",
        _events(made) if made.events else "The audit log tells nothing of this object.",
        "### Packages, the newest first" if made.packages else "It was never packaged.",
    ]
    room = MAX_CHARACTERS - sum(map(len, head))
    parts, left = [], told.older_packages
    for number, package in enumerate(made.packages[::-1]):
        text = _package(package, zone, with_logs=number < _LOGGED_PACKAGES)
        if len(text) > room:
            left += len(made.packages) - number
            break
        room -= len(text)
        parts.append(text)
    if left:
        parts.append(f"{left} older packages are not shown here.")
    return "\n\n".join([*head, *parts]) + "\n"


def _package(package: PackageDossier, zone: str, *, with_logs: bool) -> str:
    return "\n\n".join(_parts(package, zone, with_logs=with_logs))


def _parts(package: PackageDossier, zone: str, *, with_logs: bool) -> Iterator[str]:
    yield f"#### {in_markdown(package.facts.sip_filename or f'package {package.facts.package_id}')}"
    yield _table(("", ""), words.package_facts(package, zone))
    if package.facts.changes is not None:
        yield "Compared with the package before:"
        yield _table(("", ""), words.changes(package))
    if package.steps:
        rows = (
            (step.step, step.attempt, step.began, step.took, step.size, step.ended)
            for step in words.steps(package, zone)
        )
        yield _table(("step", "attempt", "began", "took", "size", "ended"), rows)
    else:
        yield "Its steps left no logs, or they are not here."
    if package.fault:
        yield in_markdown(package.fault)
    for report in package.reports:
        yield f"Ingest report: {_path(report.path)}" + (f" ({in_markdown(report.fault)})" if report.fault else "")
        if report.events:
            yield _table(("event", "outcome", "note"), ((each.kind, each.outcome, each.note) for each in report.events))
    logs: tuple[StepLog | LogFile, ...] = (*package.steps, *package.logs)
    for log in logs:
        yield f"Log: {_path(log.path)}, {words.size(log.size)}"
        if with_logs and log.tail:
            yield _lines(log.tail)


def _events(made: Dossier) -> str:
    rows = (
        (words.when(each.date, made.time_zone), each.who, each.action, each.reason, each.details)
        for each in made.events
    )
    return _table(("when", "who", "what", "why", "details"), rows)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns)]
    lines += [tuple(in_markdown(cell) for cell in row) for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _path(path: Path) -> str:
    return in_markdown(str(path))


def _lines(lines: Iterable[str]) -> str:
    """A block of text, whose fence is longer than any in it."""
    text = "\n".join(plain(line) for line in lines)
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
