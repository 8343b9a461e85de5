"""The dossier of an object: all that is known of it here, on one page.

Facts only, from the database and the files beside it; nothing is asked of MuseumPlus or the DPS, nothing is changed.
How it looks is known by `dossier_markdown` and `dossier_html`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from passari_dagster import safe_xml
from passari_dagster.catalogue import audit, history
from passari_dagster.catalogue.eligibility import Explanation
from passari_dagster.catalogue.history import ObjectHistory, PackageHistory
from passari_dagster.errors import PermanentFailure
from passari_dagster.safe_xml import UnsafeXmlError
from passari_dagster.sip.workspace import Workspace, archive_path
from passari_dagster.workflow import explain, step_times
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.shown import plain
from passari_dagster.workflow.step_times import StepLog

MOST_PACKAGES, MOST_EVENTS, MOST_FILES, MOST_OUTCOMES = 25, 50, 50, 20
MAX_REPORT = 2 * 1024 * 1024
"""Bytes of an ingest report that are read; of a larger one only the path is told."""
MAX_REPORTS = 16 * 1024 * 1024
"""Bytes of all reports in a dossier; those of the newest packages come first."""
RUNS = "/runs?view=runs&q%5B0%5D=tag%3Adagster%2Fpartition%3D"
"""The page of a partition's runs, below the address of Dagster's UI. Without `view` it hides those of backfills."""


@dataclass(frozen=True)
class LogFile:
    """A file among a package's logs that is neither a step's log nor an ingest report."""

    path: Path
    size: int
    tail: tuple[str, ...]


@dataclass(frozen=True)
class ReportedEvent:
    """An event of an ingest report: what was done, with which outcome, and what the DPS notes on it."""

    kind: str
    outcome: str
    note: str


@dataclass(frozen=True)
class IngestReport:
    """What the DPS said of a package.

    Arguments:
        path: of the file.
        events: the first events of the XML report; none of the HTML one.
        html: the page, if this is one; it comes from outside.
        fault: why it could not be read.
    """

    path: Path
    size: int
    events: tuple[ReportedEvent, ...] = ()
    html: str | None = None
    fault: str = ""


@dataclass(frozen=True)
class PackageDossier:
    """One package.

    Arguments:
        facts: what the database says.
        steps: what the logs of its steps tell.
        downloaded_size: bytes of its attachments' files as they came; None: not known.
        changed_files: attachments whose files have other bytes than in the package before; None: not known.
        logs: other logs.
        fault: why logs or reports could not be read.
    """

    facts: PackageHistory
    steps: tuple[StepLog, ...]
    downloaded_size: int | None
    changed_files: tuple[int, ...] | None
    logs: tuple[LogFile, ...]
    reports: tuple[IngestReport, ...]
    fault: str = ""


@dataclass(frozen=True)
class Dossier:
    """All that is known of an object.

    Arguments:
        made: when this was found out.
        time_zone: in which people read times.
        explanation: whether it may be enqueued, and why not.
        packages: from the oldest to the newest.
        events: from the audit log, the newest first.
    """

    made: datetime
    time_zone: str
    history: ObjectHistory
    explanation: Explanation
    outlook: str
    packages: tuple[PackageDossier, ...]
    events: tuple[audit.Event, ...]

    @property
    def runs_page(self) -> str:
        """The page of its runs, below the address of Dagster's UI."""
        return f"{RUNS}{self.history.object_id}"


def dossier(env: Environment, object_id: int) -> Dossier:
    """All that is known of an object.

    Raises:
        PermanentFailure: the database has no such object.
    """
    with env.transaction() as session:
        told = history.object_history(session, object_id, most_packages=MOST_PACKAGES)
        events = audit.events(session, limit=MOST_EVENTS, object_id=object_id)
    (explanation,) = explain.explain(env, [object_id])
    return Dossier(
        made=env.now(),
        time_zone=env.settings.time_zone,
        history=told,
        explanation=explanation,
        outlook=explain.outlook(explanation, env.settings.time_zone),
        packages=tuple(_packages(env, told))[::-1],
        events=tuple(events),
    )


def as_json(made: Dossier) -> dict[str, Any]:
    """For programs."""
    told = dataclasses.asdict(made)
    told["explanation"] = explain.as_json(made.explanation)
    told["runs_page"] = made.runs_page
    for package in told["packages"]:
        for step in package["steps"]:
            for attempt in step["last_attempts"]:
                attempt["took"] = attempt["took"].total_seconds()
    return told


def _packages(env: Environment, told: ObjectHistory) -> Iterator[PackageDossier]:
    """The newest first: its reports have room for certain."""
    room = MAX_REPORTS
    found = [_with_logs(env, told, facts) for facts in told.packages]
    for number in range(len(found) - 1, -1, -1):
        package, paths = found[number]
        reports = []
        for path in paths:
            report = _report(path, room)
            room -= report.size if report.html is not None else 0
            reports.append(report)
        before = next((each for each, _ in found[:number][::-1] if each.facts.attachments), None)
        yield dataclasses.replace(
            package, reports=tuple(reports), changed_files=_changed_files(package, before) if before else None
        )


def _with_logs(env: Environment, told: ObjectHistory, facts: PackageHistory) -> tuple[PackageDossier, list[Path]]:
    empty = PackageDossier(facts, (), None, None, (), ())
    try:
        directories = _directories(env, told, facts)
        steps = step_times.step_logs(directories, facts.sip_id)
        others = _other_files(directories)
        reports = [path for path in others if "-ingest-report." in path.name]
        logs = [
            LogFile(path, path.stat().st_size, step_times.last_lines(path)) for path in others if path not in reports
        ]
    except (OSError, EOFError, ValueError) as error:
        return dataclasses.replace(empty, fault=f"logs cannot be read: {error}"), []
    sizes = [size for size, _ in steps[0].files.values()] if steps and steps[0].step == step_times.STEPS[0] else []
    known = bool(sizes) and len(sizes) == facts.attachments
    return (
        dataclasses.replace(empty, steps=tuple(steps), logs=tuple(logs), downloaded_size=sum(sizes) if known else None),
        reports,
    )


def _directories(env: Environment, told: ObjectHistory, facts: PackageHistory) -> list[Path]:
    """Where the package's logs may be. What lies in the object's own directory is of its latest package."""
    found = []
    if facts is told.packages[-1]:
        found.append(Workspace(env.settings.package_dir, told.object_id).logs)
    if facts.sip_filename:
        found.append(archive_path(env.settings.archive_dir, told.object_id, facts.sip_filename) / "logs")
    return [directory for directory in found if directory.is_dir()]


def _other_files(directories: list[Path]) -> list[Path]:
    """Files beside the steps' logs, each name once."""
    found: dict[str, Path] = {}
    for directory in directories:
        for path in sorted(directory.iterdir()):
            name = path.name.removesuffix(".gz")
            if path.is_file() and not path.is_symlink() and name.removesuffix(".log") not in step_times.STEPS:
                found.setdefault(name, path)
    return [found[name] for name in sorted(found)[:MOST_FILES]]


def log_named(made: Dossier, name: str) -> Path:
    """A log or a report, of the newest package that has one of this name.

    Arguments:
        name: such as `create-sip`, or the whole name of a file.

    Raises:
        PermanentFailure: there is none.
    """
    known: dict[str, Path] = {}
    for package in reversed(made.packages):
        logs = [*(step.path for step in package.steps), *(log.path for log in package.logs)]
        for path in [*logs, *(report.path for report in package.reports)]:
            known.setdefault(path.name.removesuffix(".gz").removesuffix(".log"), path)
    found = known.get(name.removesuffix(".gz").removesuffix(".log"))
    if found is None:
        has = f"it has {', '.join(map(plain, known))}" if known else "it has none"
        raise PermanentFailure(f"object {made.history.object_id} has no log {plain(name)!r}: {has}")
    return found


def _report(path: Path, room: int) -> IngestReport:
    limit = min(MAX_REPORT, room)
    try:
        data = step_times.read_bounded(path, limit + 1)
    except (OSError, EOFError) as error:
        return IngestReport(path, 0, fault=f"it cannot be read: {error}")
    if len(data) > limit:
        return IngestReport(path, len(data), fault="it is too large to be shown here")
    if ".html" in path.suffixes[-2:]:
        return IngestReport(path, len(data), html=data.decode("utf-8", "replace"))
    try:
        events = tuple(_events(data, path))
    except UnsafeXmlError as error:
        return IngestReport(path, len(data), fault=str(error))
    return IngestReport(path, len(data), events=events)


def _events(data: bytes, path: Path) -> Iterator[ReportedEvent]:
    """PREMIS events, of whatever version. They are told; the verdict is the DPS's folder or status."""
    found = 0
    for event in safe_xml.parse(data, source=str(path)).iter("{*}event"):
        if (found := found + 1) > MOST_OUTCOMES:
            return
        notes = (event.findtext(f".//{{*}}{name}") or "" for name in ("eventOutcomeDetailNote", "eventDetail"))
        yield ReportedEvent(
            kind=event.findtext("{*}eventType") or "",
            outcome=event.findtext(".//{*}eventOutcome") or "",
            note=next(filter(None, notes), ""),
        )


def _changed_files(package: PackageDossier, before: PackageDossier) -> tuple[int, ...] | None:
    digests, previous = _digests(package), _digests(before)
    if digests is None or previous is None:
        return None
    return tuple(sorted(id_ for id_, digest in digests.items() if previous.get(id_, digest) != digest))


def _digests(package: PackageDossier) -> dict[int, str] | None:
    """Of each attachment's file; None: not all are known."""
    if package.downloaded_size is None:
        return None
    return {id_: digest for step in package.steps for id_, (_, digest) in step.files.items()}
