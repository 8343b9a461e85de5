"""Packages as a person looks for them: by words and states, a page at a time.

Words are looked for where the database is fast: a trigram index of titles and names of packages is used where the
database has one. Without, the tables are read once. Neither takes longer than `SEARCH_SECONDS`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select, text, union
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session

from passari_dagster.catalogue.eligibility import is_open
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject, MuseumPackage, package_attachments
from passari_dagster.errors import PermanentFailure

SEARCH_SECONDS = 30
_LAST_ID = 2**63 - 1
_QUERY_CANCELED = "57014"
"""https://www.postgresql.org/docs/current/errcodes-appendix.html"""


class State(enum.Enum):
    """Where a package is, as it is asked for."""

    PRESERVED = "preserved"
    REJECTED = "rejected"
    PROCESSING = "processing"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class FoundPackage:
    """A package that was found.

    Arguments:
        state: see `state_of`.
        begun: when it was begun; None: not known.
        sip_size: bytes of the SIP; None: not made yet, or not known.
        latest: whether its object has no later one.
        frozen: whether its object is kept out of the workflow.
    """

    package_id: int
    object_id: int | None
    title: str
    sip_filename: str
    state: str
    begun: datetime | None
    submitted: datetime | None
    sip_size: int | None
    latest: bool
    frozen: bool


def state_of(package: MuseumPackage) -> str:
    """One word for where a package is: how it left the workflow, or how far it has come in it."""
    if package.rest is not None:
        return package.rest
    if package.verdict is not None:
        return "confirming"
    if package.uploaded:
        return "submitted"
    if package.submission_date is not None:
        return "perhaps submitted"
    if package.packaged:
        return "packaged"
    return "downloaded" if package.downloaded else "downloading"


def find_packages(
    session: Session,
    *,
    search: str = "",
    states: Collection[State] = (),
    latest: bool = False,
    limit: int,
    before: int | None = None,
) -> list[FoundPackage]:
    """Packages, the newest first.

    Arguments:
        search: those only whose object has this id; where there are none, in whose object's title, own file name, or
            name of an attachment's file it stands, in letters of either case.
        states: those only that are in one of them; none: in any.
        latest: the latest one of each object only.
        limit: most of them.
        before: only those with a lesser id: the last one of the page before.

    Raises:
        PermanentFailure: the search took too long.
    """
    query = (
        select(MuseumPackage, MuseumObject)
        .outerjoin(MuseumObject, MuseumObject.id == MuseumPackage.museum_object_id)
        .where(MuseumPackage.id < (_LAST_ID if before is None else before))
        .order_by(MuseumPackage.id.desc())
        .limit(limit)
    )
    if states:
        query = query.where(or_(*(_is(state) for state in states)))
    if latest:
        query = query.where(MuseumObject.latest_package_id == MuseumPackage.id)
    if search:
        of_object = _of_object(session, search)
        query = query.where(MuseumPackage.id.in_(_found(search)) if of_object is None else of_object)
    session.execute(text(f"SET LOCAL statement_timeout = '{1000 * SEARCH_SECONDS:.0f}ms'"))
    try:
        rows = session.execute(query).all()
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != _QUERY_CANCELED:
            raise
        raise PermanentFailure(
            f"the search took longer than {SEARCH_SECONDS} seconds: look for an id, or for longer words"
        ) from None
    session.execute(text("SET LOCAL statement_timeout = DEFAULT"))
    return [_told(package, row) for package, row in rows]


def as_id(search: str) -> int | None:
    """The id that a person looks for; None: it is none."""
    if not (search.isascii() and search.isdecimal()):
        return None
    number = int(search[:20])
    return number if number <= _LAST_ID else None


def contains(column: InstrumentedAttribute[Any], words: str) -> ColumnElement[bool]:
    """The words stand in the column, in letters of either case; said so that a trigram index can be used."""
    return column.ilike("%" + re.sub(r"([\\%_])", r"\\\1", words) + "%")


def _is(state: State) -> ColumnElement[bool]:
    return {
        State.PRESERVED: MuseumPackage.preserved.is_(True),
        State.REJECTED: MuseumPackage.rejected.is_(True),
        State.CANCELLED: MuseumPackage.cancelled.is_(True),
        State.PROCESSING: is_open(MuseumPackage),
    }[state]


def _found(search: str) -> Any:
    """Ids of packages: one query for each place, so that each can use an index of its own."""
    places = [
        select(MuseumPackage.id).where(contains(MuseumPackage.sip_filename, search)),
        select(MuseumPackage.id)
        .join(MuseumObject, MuseumObject.id == MuseumPackage.museum_object_id)
        .where(contains(MuseumObject.title, search)),
        select(package_attachments.c.museum_package_id)
        .join(MuseumAttachment, MuseumAttachment.id == package_attachments.c.museum_attachment_id)
        .where(contains(MuseumAttachment.filename, search)),
    ]
    return union(*places)


def _of_object(session: Session, search: str) -> ColumnElement[bool] | None:
    """Whose packages are looked for, if the search is the id of an object that has some: nobody waits for the rest."""
    number = as_id(search)
    if number is None:
        return None
    condition = MuseumPackage.museum_object_id == number
    return condition if session.scalar(select(exists().where(condition))) else None


def _told(package: MuseumPackage, row: MuseumObject | None) -> FoundPackage:
    return FoundPackage(
        package_id=package.id,
        object_id=package.museum_object_id,
        title=(row.title if row is not None else None) or "",
        sip_filename=package.sip_filename or "",
        state=state_of(package),
        begun=package.created_date,
        submitted=package.submission_date,
        sip_size=package.sip_size,
        latest=row is not None and row.latest_package_id == package.id,
        frozen=row is not None and bool(row.frozen),
    )
