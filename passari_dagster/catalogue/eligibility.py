"""Which objects may be enqueued now: one rule, as SQL.

The rule is passari-workflow's, with one addition: an object whose latest package is still in the workflow is
never eligible, whatever changed meanwhile; the original relied on its queues to know that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, case, exists, false, func, literal, not_, or_, select
from sqlalchemy.orm import QueryableAttribute, Session, aliased

from passari_dagster.catalogue.models import MuseumObject, MuseumPackage


@dataclass(frozen=True)
class Delays:
    """How old a version must be.

    Arguments:
        preservation: age of a new object before it is preserved the first time.
        update: age of the last packaged version before a changed object is preserved again.
    """

    preservation: timedelta
    update: timedelta


def _true(column: QueryableAttribute[bool | None]) -> ColumnElement[bool]:
    return func.coalesce(column, false())


def _latest() -> type[MuseumPackage]:
    return aliased(MuseumPackage, name="latest")


def is_open(package: type[MuseumPackage]) -> ColumnElement[bool]:
    """SQL for `MuseumPackage.is_open`."""
    return not_(
        or_(
            _true(package.preserved),
            _true(package.rejected),
            _true(package.cancelled),
        )
    )


def _reasons(now: datetime, delays: Delays, latest: type[MuseumPackage]) -> list[tuple[ColumnElement[bool], str]]:
    """Why an object is not eligible: conditions in the order in which they are told."""
    no_package = MuseumObject.latest_package_id.is_(None)
    return [
        (_true(MuseumObject.frozen), "frozen"),
        (and_(not_(no_package), is_open(latest)), "in the workflow"),
        (MuseumObject.metadata_hash.is_(None), "metadata hash not known yet (run sync_objects)"),
        (
            MuseumObject.attachment_metadata_hash.is_(None),
            "attachment hashes not known yet (run sync_attachments, then sync_hashes)",
        ),
        (
            and_(no_package, MuseumObject.created_date >= now - delays.preservation),
            "created too recently (preservation_delay)",
        ),
        (
            and_(
                not_(no_package),
                not_(_true(latest.cancelled)),
                or_(
                    latest.object_modified_date.is_not_distinct_from(MuseumObject.modified_date),
                    and_(
                        latest.metadata_hash.is_not_distinct_from(MuseumObject.metadata_hash),
                        latest.attachment_metadata_hash.is_not_distinct_from(MuseumObject.attachment_metadata_hash),
                    ),
                ),
            ),
            "not changed since the last package",
        ),
        (
            and_(
                not_(no_package),
                not_(_true(latest.cancelled)),
                latest.object_modified_date >= now - delays.update,
            ),
            "packaged too recently (update_delay)",
        ),
    ]


def _eligible_ids(now: datetime, delays: Delays) -> Select[int]:
    latest = _latest()
    ineligible = or_(*(func.coalesce(condition, false()) for condition, _ in _reasons(now, delays, latest)))
    return (
        select(MuseumObject.id).outerjoin(latest, latest.id == MuseumObject.latest_package_id).where(not_(ineligible))
    )


def eligible_ids(
    session: Session,
    *,
    now: datetime,
    delays: Delays,
    limit: int | None = None,
    random: bool = False,
    among: Collection[int] | None = None,
    excluding: Collection[int] = (),
) -> list[int]:
    """Ids of eligible objects, oldest id first, or in random order.

    Arguments:
        now: the moment that the delays are counted from.
        limit: most ids to answer.
        among: consider these only.
        excluding: ids to leave out.
    """
    query = _eligible_ids(now, delays)
    if among is not None:
        query = query.where(MuseumObject.id.in_(among))
    if excluding:
        query = query.where(MuseumObject.id.not_in(excluding))
    query = query.order_by(func.random() if random else MuseumObject.id)
    return list(session.scalars(query.limit(limit) if limit is not None else query))


def reasons(session: Session, ids: Collection[int], *, now: datetime, delays: Delays) -> dict[int, str]:
    """The first reason why each of the objects is not eligible; eligible ones are left out."""
    latest = _latest()
    conditions = _reasons(now, delays, latest)
    first = case(*((func.coalesce(condition, false()), literal(reason)) for condition, reason in conditions))
    rows = session.execute(
        select(MuseumObject.id, first, MuseumObject.freeze_reason)
        .outerjoin(latest, latest.id == MuseumObject.latest_package_id)
        .where(MuseumObject.id.in_(ids))
    )
    told = dict.fromkeys(ids, "not in the database (run sync_objects)")
    for object_id, reason, freeze_reason in rows:
        if reason is None:
            del told[object_id]
        else:
            told[object_id] = f"{reason}: {freeze_reason}" if reason == "frozen" and freeze_reason else reason
    return told


def why_not(session: Session, object_id: int, *, now: datetime, delays: Delays) -> str | None:
    """The first reason why the object is not eligible, or None where it is."""
    return reasons(session, [object_id], now=now, delays=delays).get(object_id)


def prunable_ids(session: Session, ids: Collection[int], *, now: datetime, delays: Delays) -> list[int]:
    """Those of the ids that wait for nothing: neither eligible nor with a package in the workflow."""
    latest = _latest()
    kept = set(eligible_ids(session, now=now, delays=delays, among=ids)) | set(
        session.scalars(
            select(MuseumObject.id)
            .where(MuseumObject.id.in_(ids))
            .where(exists(select(literal(1)).where(latest.id == MuseumObject.latest_package_id, is_open(latest))))
        )
    )
    return sorted(set(ids) - kept)
