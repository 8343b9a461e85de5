"""How many objects are where, and which are frozen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.orm import Session

from passari_dagster.catalogue.eligibility import is_open
from passari_dagster.catalogue.models import FreezeSource, MuseumObject, MuseumPackage
from passari_dagster.catalogue.search import as_id, contains

STAGES = (
    "downloading",
    "downloaded",
    "packaged",
    "submitted",
    "confirming",
    "preserved",
    "rejected",
    "frozen",
    "other",
)
"""Every object with a package, or frozen, is in exactly one; "confirming" has a verdict that is not confirmed yet."""


def _stage() -> ColumnElement[str]:
    open_ = is_open(MuseumPackage)
    return case(
        (MuseumObject.frozen.is_(True), "frozen"),
        (MuseumObject.latest_package_id.is_(None), "other"),
        (open_ & MuseumPackage.verdict.is_not(None), "confirming"),
        (open_ & MuseumPackage.uploaded.is_(True), "submitted"),
        (open_ & MuseumPackage.packaged.is_(True), "packaged"),
        (open_ & MuseumPackage.downloaded.is_(True), "downloaded"),
        (open_, "downloading"),
        (MuseumPackage.preserved.is_(True), "preserved"),
        (MuseumPackage.rejected.is_(True), "rejected"),
        else_="other",
    )


def objects_by_stage(session: Session) -> dict[str, int]:
    """Number of objects in each stage; those that never entered the workflow, or left it cancelled, are "other"."""
    stage = _stage()
    rows = session.execute(
        select(stage, func.count())
        .select_from(MuseumObject)
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .group_by(stage)
    )
    return dict.fromkeys(STAGES, 0) | {row[0]: row[1] for row in rows}


def objects_in_stages(session: Session, stages: Collection[str]) -> list[tuple[int, str]]:
    """The objects that are in one of the stages, by id, each with its stage."""
    stage = _stage()
    rows = session.execute(
        select(MuseumObject.id, stage)
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(stage.in_(stages))
        .order_by(MuseumObject.id)
    )
    return [(row[0], row[1]) for row in rows]


@dataclass(frozen=True)
class Listed:
    """Objects that somebody should look at.

    Arguments:
        number: how many there are.
        first_ids: the first of them; which are first is told by who lists them.
    """

    number: int
    first_ids: tuple[int, ...]


def _listed(session: Session, conditions: Collection[ColumnElement[bool]], order: Any, most: int) -> Listed:
    found = select(MuseumPackage.museum_object_id).where(*conditions).group_by(MuseumPackage.museum_object_id)
    number = session.scalar(select(func.count()).select_from(found.subquery())) or 0
    return Listed(number, tuple(session.scalars(found.order_by(order, MuseumPackage.museum_object_id).limit(most))))


def rejected(session: Session, *, most: int) -> Listed:
    """Objects whose latest package the DPS rejected, the latest verdict first; frozen ones are somebody's decision."""
    unfrozen = select(MuseumObject.id).where(
        MuseumObject.latest_package_id == MuseumPackage.id, MuseumObject.frozen.is_not(True)
    )
    refused = (MuseumPackage.rejected.is_(True), MuseumPackage.cancelled.is_not(True), unfrozen.exists())
    return _listed(session, refused, func.max(MuseumPackage.verdict_date).desc().nulls_last(), most)


def without_verdict(session: Session, *, before: datetime, most: int) -> Listed:
    """Objects with a package that was, or may have been, sent before a moment, and has no verdict; the longest wait
    first. Frozen objects, too: what the DPS does not answer is nobody's decision.

    Packages that passari-workflow found accepted or rejected and did not confirm have a verdict, too.
    """
    waits = (
        MuseumPackage.submission_date < before,
        MuseumPackage.confirmed_date.is_(None),
        MuseumPackage.verdict.is_(None),
        MuseumPackage.museum_object_id.is_not(None),
        is_open(MuseumPackage),
    )
    return _listed(session, waits, func.min(MuseumPackage.submission_date), most)


@dataclass(frozen=True)
class FrozenReason:
    """A reason for which objects are frozen, and how many are.

    Arguments:
        reason: exact text, by which they are unfrozen; empty: none was given.
        by_people: how many of them a person froze; the others were frozen by the workflow.
    """

    reason: str
    objects: int
    by_people: int


@dataclass(frozen=True)
class FrozenObject:
    """An object that is kept out of the workflow."""

    object_id: int
    title: str
    reason: str
    source: str
    """`user` or `automatic`; empty: not known."""
    sip_filename: str | None
    """Its latest package; None: it never had one."""


def _reason() -> ColumnElement[str]:
    return func.coalesce(MuseumObject.freeze_reason, "")


def frozen_by_reason(session: Session) -> list[FrozenReason]:
    """The reasons, those of most objects first."""
    number = func.count()
    by_people = number.filter(MuseumObject.freeze_source == FreezeSource.USER)
    rows = session.execute(
        select(_reason(), number, by_people)
        .where(MuseumObject.frozen.is_(True))
        .group_by(_reason())
        .order_by(number.desc(), _reason())
    )
    return [FrozenReason(*row) for row in rows]


def frozen_objects(
    session: Session, *, reason: str | None = None, search: str = "", limit: int, after: int = 0
) -> list[FrozenObject]:
    """Frozen objects by ascending id, a page at a time.

    Arguments:
        reason: those of exactly this reason only; None: of any.
        search: those only whose id this is, or in whose title or reason it stands, in letters of either case.
        limit: most of them.
        after: only those with a greater id: the last one of the page before.
    """
    query = (
        select(MuseumObject, MuseumPackage.sip_filename)
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(*_frozen(reason, search), MuseumObject.id > after)
        .order_by(MuseumObject.id)
        .limit(limit)
    )
    return [
        FrozenObject(
            object_id=row.id,
            title=row.title or "",
            reason=row.freeze_reason or "",
            source=row.freeze_source.value if row.freeze_source is not None else "",
            sip_filename=sip_filename,
        )
        for row, sip_filename in session.execute(query)
    ]


def count_frozen(session: Session, *, reason: str | None = None, search: str = "") -> int:
    """How many frozen objects there are of a reason, or found by a search; see `frozen_objects`."""
    query = select(func.count()).select_from(MuseumObject).where(*_frozen(reason, search))
    return session.scalar(query) or 0


def _frozen(reason: str | None, search: str) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [MuseumObject.frozen.is_(True)]
    if reason is not None:
        conditions.append(_reason() == reason)
    if search:
        found = [contains(MuseumObject.title, search), contains(MuseumObject.freeze_reason, search)]
        number = as_id(search)
        if number is not None:
            found.append(MuseumObject.id == number)
        conditions.append(or_(*found))
    return conditions
