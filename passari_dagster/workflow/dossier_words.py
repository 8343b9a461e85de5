"""What the dossier's two looks say alike: times, sizes and durations for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from passari_dagster.catalogue.history import Attachments
from passari_dagster.workflow.dossier import Dossier, PackageDossier

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class StepRow:
    """One attempt of a step, in words."""

    step: str
    attempt: str
    began: str
    took: str
    size: str
    ended: str


def when(moment: datetime | None, time_zone: str, absent: str = NOT_KNOWN) -> str:
    """A moment to the second, in people's own time."""
    if moment is None:
        return absent
    return moment.astimezone(ZoneInfo(time_zone)).isoformat(sep=" ", timespec="seconds")


def duration(took: timedelta) -> str:
    """Such as `0.4 s`, `2 min 5 s` or `3 h 10 min`."""
    seconds = took.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(number: int | None) -> str:
    """Bytes, with thin groups of three digits."""
    return NOT_KNOWN if number is None else f"{number:,} bytes".replace(",", " ")


def yes_no(answer: bool | None) -> str:
    """An answer that may not be known."""
    return NOT_KNOWN if answer is None else "yes" if answer else "no"


def attachments(told: Attachments) -> str:
    """How many, and the first of them by id and name."""
    if not told.number:
        return "none"
    names = ", ".join(f"{id_} {name}".strip() for id_, name in told.first)
    more = told.number - len(told.first)
    return f"{told.number}: {names}" + (f", and {more} more" if more else "")


def facts(made: Dossier) -> Iterator[tuple[str, str]]:
    """What the object is, as rows of a table."""
    told, zone = made.history, made.time_zone
    yield "title", told.title or NOT_KNOWN
    yield "created in MuseumPlus", when(told.created, zone)
    yield "changed in MuseumPlus", when(told.modified, zone)
    if told.removed is not None:
        yield "no longer in MuseumPlus, as seen", when(told.removed, zone)
    yield "preserved", "yes, at least one package was accepted" if told.preserved else "no"
    if told.frozen:
        by = {"user": " (by a person)", "automatic": " (by the workflow)"}.get(told.freeze_source, "")
        yield "frozen", f"{told.freeze_reason or 'no reason given'}{by}"
    reasons = "; ".join(str(reason) for reason in made.explanation.reasons)
    yield "may be enqueued", "yes" if made.explanation.eligible else f"no: {reasons}. {made.outlook}"
    yield "metadata hash", told.metadata_hash or NOT_KNOWN
    yield (
        "attachments' hash",
        {None: NOT_KNOWN, "": "no attachments"}.get(told.attachment_metadata_hash, str(told.attachment_metadata_hash)),
    )
    yield "attachments now", attachments(told.attachments)


def package_facts(package: PackageDossier, zone: str) -> Iterator[tuple[str, str]]:
    """What a package is, as rows of a table."""
    told = package.facts
    yield "state", told.state
    yield "begun", when(told.begun, zone)
    yield "version of", when(told.object_modified, zone)
    yield "attachments", str(told.attachments)
    yield "size of the SIP", size(told.sip_size)
    yield "SHA-256 of the SIP", told.sip_sha256 or NOT_KNOWN
    yield "submitted", when(told.submitted, zone, "no")
    if told.verdict is not None:
        yield "verdict of the DPS", f"{told.verdict}, {when(told.verdict_date, zone)}"
    yield "transfer at the DPS", told.transfer_id or NOT_KNOWN
    yield "confirmed", when(told.confirmed, zone, "no")


def changes(package: PackageDossier) -> Iterator[tuple[str, str]]:
    """What is different from the package before, as rows of a table; none where there is nothing to compare with."""
    told = package.facts.changes
    if told is None:
        return
    yield "metadata of the object changed", yes_no(told.metadata)
    yield "metadata of attachments changed", yes_no(told.attachment_metadata)
    yield "attachments that came", attachments(told.came)
    yield "attachments that went", attachments(told.went)
    yield "attachments changed in MuseumPlus between the two", attachments(told.changed)
    files = package.changed_files
    if files is None:
        yield "files with other bytes", NOT_KNOWN
    else:
        first = Attachments(len(files), tuple((id_, "") for id_ in files[:20]))
        yield "files with other bytes", attachments(first)


def steps(package: PackageDossier, zone: str) -> Iterator[StepRow]:
    """The attempts of the package's steps."""
    sizes = {
        "download-object": package.downloaded_size,
        "create-sip": package.facts.sip_size,
        "submit-sip": package.facts.sip_size,
    }
    for log in package.steps:
        name = log.step.replace("-", "_")
        volume = size(sizes[log.step]) if log.step in sizes else ""
        if not log.attempts:
            yield StepRow(name, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, volume, NOT_KNOWN)
        for attempt in log.last_attempts:
            last = attempt.number == log.attempts
            ended = (
                f"failed: {attempt.failure}"
                if attempt.failure
                else f"{'' if last else 'cut off after: '}{attempt.last}"
            )
            number = f"{attempt.number} of {log.attempts}"
            began = when(attempt.began, zone)
            yield StepRow(name, number, began, duration(attempt.took), volume if last else "", ended)
