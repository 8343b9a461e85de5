"""Keeping objects out of the workflow, and letting them in again."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import FreezeSource, MuseumObject, MuseumPackage
from passari_dagster.catalogue.packages import object_row

WITHOUT = ""
"""Of objects that are frozen without a reason, as passari-workflow may have left them."""
NONE_GIVEN = "(none given)"
"""How people are told that, and say it."""


def freeze(session: Session, object_id: int, *, reason: str, source: FreezeSource) -> None:
    """Freeze the object and cancel its open package, unless that was sent: what the DPS has stays watched.

    Whoever freezes removes what a send that was cut short left at the DPS before: of that nothing is known here.

    Arguments:
        reason: stable text; objects are unfrozen by it.
    """
    row = object_row(session, object_id, lock=True)
    row.frozen, row.freeze_reason, row.freeze_source = True, reason, source
    package = row.latest_package
    if package is not None and package.is_open and not package.uploaded and package.submission_date is None:
        package.cancelled = True


def frozen_objects(
    session: Session, *, reason: str | None, among: Collection[int] | None, after: int, limit: int
) -> list[tuple[MuseumObject, MuseumPackage | None]]:
    """Some frozen objects by id, each with its latest package; their rows are locked until the transaction's end.

    Arguments:
        reason: only those that are frozen for exactly this; `WITHOUT`: for none; None: for whatever.
        among: consider these only; None: all.
        after: only objects with a greater id.
        limit: most objects.
    """
    query = (
        select(MuseumObject, MuseumPackage)
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(MuseumObject.frozen.is_(True), MuseumObject.id > after)
        .order_by(MuseumObject.id)
        .limit(limit)
        .with_for_update(of=MuseumObject)
        .execution_options(populate_existing=True)
    )
    if reason is not None:
        query = query.where(func.coalesce(MuseumObject.freeze_reason, WITHOUT) == reason)
    if among is not None:
        query = query.where(MuseumObject.id.in_(among))
    return [(row, package) for row, package in session.execute(query)]


def unfreeze(session: Session, object_ids: Collection[int]) -> None:
    """Let the objects in again, as far as freezing is concerned."""
    session.execute(
        update(MuseumObject)
        .where(MuseumObject.id.in_(object_ids))
        .values(frozen=False, freeze_reason=None, freeze_source=None)
        .execution_options(synchronize_session=False)
    )


def drop_latest_packages(session: Session, object_ids: Collection[int]) -> None:
    """The latest packages of these objects, which left the workflow, count no more: as far as packages go, the objects
    are eligible. The packages' rows stay, and belong to the objects as before.
    """
    session.execute(
        update(MuseumObject)
        .where(MuseumObject.id.in_(object_ids))
        .values(latest_package_id=None)
        .execution_options(synchronize_session=False)
    )
