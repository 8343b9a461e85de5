"""What the DPS says about a package: where it is, whether it was accepted, and which report tells so.

The words and the rules that hold for SFTP and REST alike belong here, and the reading of verdicts from the date
folders. How a connection is made is known by `sftp` and `rest`.
"""

from __future__ import annotations

import enum
import logging
import math
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal

from passari_dagster.errors import PassariError

if TYPE_CHECKING:
    from passari_dagster.dps.sftp import Sftp

log = logging.getLogger(__name__)

Status = Literal["accepted", "rejected"]
STATUSES: tuple[Status, ...] = ("accepted", "rejected")

Kind = Literal["xml", "html"]
KINDS: tuple[Kind, ...] = ("xml", "html")

CLOCK_TOLERANCE = timedelta(minutes=5)
"""A report counts only if it is newer than our send, by the DPS's clock: so much may the two clocks differ."""

MAX_FAULTS = 3
"""Packages in a row that may fail before the service is taken to be out of order."""

RECENT_FOLDERS, OLDER_FOLDERS = 7, 30
"""Date folders listed in one look: so many of the newest, and so many of the others."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_REPORT = re.compile(r"(?P<transfer_id>.+)-ingest-report\.(?P<kind>xml|html)")


class Place(enum.Enum):
    """Where a package is in the DPS."""

    INCOMPLETE = "incomplete"  # transfer/<name>.incomplete: the upload, or its rename, was cut short
    TRANSFER = "transfer"  # with the DPS and no verdict yet: in transfer/, or in progress as REST tells
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOWHERE = "nowhere"  # never arrived, or taken from transfer/ and not yet judged: SFTP cannot tell


@dataclass(frozen=True)
class Finding:
    """An answer to "where is the package".

    Arguments:
        place: where it is.
        size: bytes on the server, where the place is INCOMPLETE or TRANSFER and the size is known.
        date: day (UTC) of the verdict, where there is one.
    """

    place: Place
    size: int | None = None
    date: date | None = None


@dataclass(frozen=True)
class Waiting:
    """A package that was sent and waits for its verdict.

    Arguments:
        name: file name of the package, `<something>.tar`.
        objid: OBJID of its METS.
        since: when it was sent; with a time zone.
    """

    name: str
    objid: str
    since: datetime


@dataclass(frozen=True)
class Verdict:
    """What the DPS decided about one package.

    Arguments:
        name: file name of the package, `<something>.tar`.
        objid: OBJID of its METS.
        status: accepted or rejected.
        date: day (UTC): the date folder's on SFTP, the report's in REST.
        reported: when the ingest report was made, with time zone UTC.
        transfer_id: the DPS's id of the transfer; names the reports.
    """

    name: str
    objid: str
    status: Status
    date: date
    reported: datetime
    transfer_id: str


def is_safe_name(name: str) -> bool:
    """Whether a name can be used in a path as it is: plain ASCII, no separators, no leading dot."""
    return _NAME.fullmatch(name) is not None


def report_name(transfer_id: str, kind: Kind) -> str:
    """File name of an ingest report, on the DPS's SFTP server and in our archive."""
    return f"{transfer_id}-ingest-report.{kind}"


def parse_report_name(name: str) -> tuple[str, Kind] | None:
    """Transfer id and kind of an ingest report; None if the file is something else or its name is unsafe."""
    match = _REPORT.fullmatch(name)
    if match is None or not is_safe_name(name):
        return None
    return match["transfer_id"], "xml" if match["kind"] == "xml" else "html"


def is_of(transfer_id: str, name: str) -> bool:
    """Whether the transfer is of the package of this name: `<name>` or `<name>-<something>`."""
    return is_safe_name(transfer_id) and (transfer_id == name or transfer_id.startswith(f"{name}-"))


def counts(reported: datetime, since: datetime) -> bool:
    """Whether a report is about the package that was sent at `since`, not about an earlier one of its name.

    A time of exactly midnight is read as a date without a time: REST API 2.0's examples look so.
    """
    earliest = (since - CLOCK_TOLERANCE).astimezone(timezone.utc)
    reported = reported.astimezone(timezone.utc)
    if reported.hour == reported.minute == reported.second == reported.microsecond == 0:
        return reported.date() >= earliest.date()
    return reported >= earliest


def newest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that holds when several are given for one name."""
    return max(verdicts, key=lambda verdict: verdict.reported, default=None)


def first_day(since: datetime) -> date:
    """The first date folder that can hold the verdict: the day before the send, in UTC."""
    return since.astimezone(timezone.utc).date() - timedelta(days=1)


def drawn(waiting: Iterable[Waiting], limit: int) -> list[Waiting]:
    """At most `limit` packages to look into, one for each name.

    Drawn anew for each look and in random order: neither names that never get a verdict nor a few that fail can
    stand before the others for ever.
    """
    packages = list({package.name: package for package in waiting}.values())
    return random.sample(packages, min(limit, len(packages)))


def places_on_sftp(sftp: Sftp, packages: Sequence[Waiting]) -> dict[str, Place]:
    """Where packages are, in the order in which they move: the place furthest on holds.

    All date folders since the oldest send are listed, once each. Those that are nowhere are left out.
    """
    since = {package.name: first_day(package.since) for package in packages}
    places = sftp.in_transfer(since)
    judged: dict[str, tuple[date, Place]] = {}
    for status in STATUSES:
        for day in sftp.days(status, min(since.values())):
            for name in sftp.packages(status, day, since):
                if day >= since[name]:
                    judged[name] = max(judged.get(name, (date.min, Place.NOWHERE)), (day, Place(status)), key=_day)
    return places | {name: place for name, (_, place) in judged.items()}


def _day(item: tuple[date, Place]) -> date:
    return item[0]


def from_sftp(
    sftp: Sftp, waiting: Sequence[Waiting], limit: int, until: float = math.inf, older: int = OLDER_FOLDERS
) -> Iterator[Verdict]:
    """The verdicts that the date folders hold on the waiting packages, each as soon as it is known.

    Only date folders since the oldest send are listed, for half of the time that there is until the moment `until`,
    and only directories of waiting names are looked into, of at most `limit` names. A directory without an ingest
    report is no verdict yet, since the report's name gives the transfer id. One package whose directory cannot be
    read, or not in time, is logged and left for the next look.

    Raises:
        PassariError: a date folder could not be listed (no answer is never taken for an empty one), MAX_FAULTS
            packages in a row could not be read, or a lost connection could not be had again.
    """
    by_name = {package.name: package for package in waiting}
    if not by_name:
        return
    now = time.monotonic()
    places = _places(sftp, by_name, now + (until - now) / 2, older)
    faults = 0
    for package in drawn((by_name[name] for name in places), limit):
        if time.monotonic() > until:
            return
        try:
            # All of its directories or none: one that cannot be read may hold the newer verdict.
            verdict = newest(v for status, day in places[package.name] for v in _directory(sftp, status, day, package))
        except PassariError as error:
            faults += 1
            if faults == MAX_FAULTS:
                raise
            log.warning("%s is left for the next look: %s", package.name, error)
            sftp.connect()
            continue
        faults = 0
        if verdict is not None:
            yield verdict


def _places(
    sftp: Sftp, by_name: Mapping[str, Waiting], until: float, at_most: int
) -> dict[str, list[tuple[Status, date]]]:
    """Directories of the waiting names.

    The newest date folders come first: what was sent lately is found in each look. Of the others some are drawn
    anew for each look, so that a package that was never answered for years is looked for in the course of time,
    and not in all the years each minute. As a name is used for one package, it is no matter which.
    """
    oldest = min(first_day(package.since) for package in by_name.values())
    days = {status: sftp.days(status, oldest) for status in STATUSES}
    newest_first = sorted({day for listed in days.values() for day in listed}, reverse=True)
    recent, older = newest_first[:RECENT_FOLDERS], newest_first[RECENT_FOLDERS:]
    places: dict[str, list[tuple[Status, date]]] = {}
    for day in recent + random.sample(older, min(at_most, len(older))):
        for status in STATUSES:
            if day in days[status]:
                for name in sftp.packages(status, day, by_name):
                    if day >= first_day(by_name[name].since):
                        places.setdefault(name, []).append((status, day))
        if time.monotonic() > until:
            break
    return places


def _directory(sftp: Sftp, status: Status, day: date, package: Waiting) -> list[Verdict]:
    verdicts = [
        Verdict(package.name, package.objid, status, day, reported, transfer_id)
        for transfer_id, reported in sftp.reports(status, day, package.name)
        if counts(reported, package.since)
    ]
    if not verdicts:
        log.info("%s/%s/%s has no ingest report newer than the send yet", status, day, package.name)
    return verdicts
