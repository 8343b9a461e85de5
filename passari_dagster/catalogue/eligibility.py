"""Which objects may be enqueued now, why others may not, and from when on: one rule, as SQL.

The rule is passari-workflow's, with two additions: an object whose latest package is still in the workflow is never
eligible, whatever changed meanwhile (the original relied on its queues to know that); nor is one that is no longer in
MuseumPlus.

`settled` objects are passed over without a look at their package: see `settle`, which knows the rule, too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    all_,
    and_,
    any_,
    case,
    cast,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import QueryableAttribute, Session, aliased
from sqlalchemy.types import BigInteger, Text

from passari_dagster.catalogue.models import MuseumObject, MuseumPackage

UNKNOWN = "not in the database (run sync_objects)"
ELIGIBLE = "eligible"
"""Key of those that no reason keeps, beside the keys of `REASONS`."""


@dataclass(frozen=True)
class Delays:
    """How old a version must be.

    Arguments:
        preservation: age of a new object before it is preserved the first time.
        update: age of the last packaged version before a changed object is preserved again.
    """

    preservation: timedelta
    update: timedelta


@dataclass(frozen=True)
class Reason:
    """Why an object is not eligible.

    Arguments:
        key: short, for plots and programs.
        text: for people.
        remedy: what has to happen; empty: nothing but that time passes.
    """

    key: str
    text: str
    remedy: str = ""


REMOVED = Reason("removed", "no longer in MuseumPlus", "it is found in MuseumPlus again")
FROZEN = Reason("frozen", "frozen", "it is unfrozen")
IN_WORKFLOW = Reason("in_the_workflow", "in the workflow", "its package is preserved, rejected or cancelled")
NO_HASH = Reason("no_metadata_hash", "metadata hash not known yet (run sync_objects)", "sync_objects reads it")
NO_ATTACHMENT_HASH = Reason(
    "no_attachment_hash",
    "attachment hashes not known yet (run sync_attachments, then sync_hashes)",
    "sync_attachments reads all of its attachments, and sync_hashes is run",
)
TOO_NEW = Reason("created_too_recently", "created too recently (preservation_delay)")
UNCHANGED = Reason(
    "not_changed", "not changed since the last package", "it is changed in MuseumPlus, and the syncs read that"
)
TOO_SOON = Reason("packaged_too_recently", "packaged too recently (update_delay)")
REASONS = (REMOVED, FROZEN, IN_WORKFLOW, NO_HASH, NO_ATTACHMENT_HASH, TOO_NEW, UNCHANGED, TOO_SOON)
"""In the order in which they are told; an object is counted under its first one."""


@dataclass(frozen=True)
class Told:
    """A reason that holds for an object.

    Arguments:
        reason: which.
        detail: more words on it, such as why the object is frozen.
        until: when it ceases by itself; None: `reason.remedy` has to happen.
    """

    reason: Reason
    detail: str = ""
    until: datetime | None = None

    def __str__(self) -> str:
        return f"{self.reason.text}: {self.detail}" if self.detail else self.reason.text


@dataclass(frozen=True)
class Explanation:
    """Why an object is or is not eligible.

    Arguments:
        object_id: which object.
        known: whether the database has it.
        title: of the object; empty: not known.
        reasons: all that hold; none: it is eligible.
    """

    object_id: int
    known: bool
    title: str
    reasons: tuple[Told, ...]

    @property
    def eligible(self) -> bool:
        """Whether it may be enqueued now."""
        return self.known and not self.reasons

    @property
    def eligible_from(self) -> datetime | None:
        """The first moment at which it is eligible, as things are now; None: it is already, or something has to happen
        first (`remedies`).
        """
        if not self.reasons or self.remedies:
            return None
        return max(told.until for told in self.reasons if told.until is not None)

    @property
    def remedies(self) -> tuple[str, ...]:
        """All that has to happen before it is a matter of time only."""
        if not self.known:
            return ("sync_objects reads it, if MuseumPlus has it",)
        return tuple(told.reason.remedy for told in self.reasons if told.until is None)


Package = type[MuseumPackage]


def _latest() -> Package:
    return aliased(MuseumPackage, name="latest")


def is_open(package: Package) -> ColumnElement[bool]:
    """SQL for `MuseumPackage.is_open`."""
    return and_(package.preserved.is_not(True), package.rejected.is_not(True), package.cancelled.is_not(True))


def _unchanged(latest: Package) -> ColumnElement[bool]:
    """Of an object with a package: that one is of what the object is now. Of a cancelled one this is not asked."""
    return and_(
        latest.cancelled.is_not(True),
        or_(
            latest.object_modified_date.is_not_distinct_from(MuseumObject.modified_date),
            and_(
                latest.metadata_hash.is_not_distinct_from(MuseumObject.metadata_hash),
                latest.attachment_metadata_hash.is_not_distinct_from(MuseumObject.attachment_metadata_hash),
            ),
        ),
    )


def _newer(date: QueryableAttribute[datetime | None], moment: datetime) -> ColumnElement[bool]:
    return func.coalesce(date > moment, False)


def _conditions(now: datetime, delays: Delays, latest: Package) -> dict[Reason, ColumnElement[bool]]:
    """The rule: when each of the reasons holds. None of the conditions is ever NULL.

    An object is old enough in the very moment in which its delay is over.
    """
    packaged = MuseumObject.latest_package_id.is_not(None)
    return {
        REMOVED: MuseumObject.removed_date.is_not(None),
        FROZEN: MuseumObject.frozen.is_(True),
        IN_WORKFLOW: and_(packaged, is_open(latest)),
        NO_HASH: MuseumObject.metadata_hash.is_(None),
        NO_ATTACHMENT_HASH: MuseumObject.attachment_metadata_hash.is_(None),
        TOO_NEW: and_(not_(packaged), _newer(MuseumObject.created_date, now - delays.preservation)),
        UNCHANGED: and_(packaged, _unchanged(latest)),
        TOO_SOON: and_(
            packaged,
            latest.cancelled.is_not(True),
            _newer(latest.object_modified_date, now - delays.update),
        ),
    }


def _worth_a_look() -> ColumnElement[bool]:
    """What the index `ix_museum_objects_worth_a_look` has: the others are not eligible, whatever their package."""
    return and_(
        MuseumObject.removed_date.is_(None),
        MuseumObject.frozen.is_not(True),
        MuseumObject.metadata_hash.is_not(None),
        MuseumObject.attachment_metadata_hash.is_not(None),
        MuseumObject.settled.is_not(True),
    )


def _eligible_ids(now: datetime, delays: Delays) -> Select[int]:
    latest = _latest()
    return (
        select(MuseumObject.id)
        .outerjoin(latest, latest.id == MuseumObject.latest_package_id)
        .where(_worth_a_look(), not_(or_(*_conditions(now, delays, latest).values())))
    )


def _array(ids: Collection[int]) -> Any:
    """One text for the database to read, instead of as many values as there are ids."""
    return cast(literal("{" + ",".join(map(str, ids)) + "}", Text), ARRAY(BigInteger))


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
        query = query.where(MuseumObject.id == any_(_array(among)))
    if excluding:
        query = query.where(MuseumObject.id != all_(_array(excluding)))
    query = query.order_by(func.random() if random else MuseumObject.id)
    return list(session.scalars(query.limit(limit) if limit is not None else query))


def count_eligible(session: Session, *, now: datetime, delays: Delays) -> int:
    """How many objects may be enqueued now."""
    return session.scalar(select(func.count()).select_from(_eligible_ids(now, delays).subquery())) or 0


def explain(session: Session, ids: Collection[int], *, now: datetime, delays: Delays) -> list[Explanation]:
    """All reasons why each of the objects is not eligible, in the order of `ids`."""
    latest = _latest()
    conditions = _conditions(now, delays, latest)
    rows = session.execute(
        select(MuseumObject, latest.object_modified_date, *conditions.values())
        .outerjoin(latest, latest.id == MuseumObject.latest_package_id)
        .where(MuseumObject.id == any_(_array(ids)))
    )
    explained = {}
    for row, packaged_version, *holds in rows:
        until = {
            TOO_NEW: row.created_date and row.created_date + delays.preservation,
            TOO_SOON: packaged_version and packaged_version + delays.update,
        }
        details = {FROZEN: row.freeze_reason or ""}
        told = tuple(
            Told(reason, details.get(reason, ""), until.get(reason))
            for reason, it_holds in zip(conditions, holds, strict=True)
            if it_holds
        )
        explained[row.id] = Explanation(row.id, known=True, title=row.title or "", reasons=told)
    unknown = Reason("unknown", UNKNOWN)
    return [
        explained.get(id_) or Explanation(id_, known=False, title="", reasons=(Told(unknown),))
        for id_ in dict.fromkeys(ids)
    ]


def reasons(session: Session, ids: Collection[int], *, now: datetime, delays: Delays) -> dict[int, str]:
    """The first reason why each of the objects is not eligible; eligible ones are left out."""
    explanations = explain(session, ids, now=now, delays=delays)
    return {each.object_id: str(each.reasons[0]) for each in explanations if each.reasons}


def why_not(session: Session, object_id: int, *, now: datetime, delays: Delays) -> str | None:
    """The first reason why the object is not eligible, or None where it is."""
    return reasons(session, [object_id], now=now, delays=delays).get(object_id)


def count_by_reason(session: Session, *, now: datetime, delays: Delays) -> dict[str, int]:
    """How many objects are eligible, and how many are not for each reason, by the keys of both. Each object counts
    once: under the first of its reasons.
    """
    latest = _latest()
    conditions = _conditions(now, delays, latest)
    first = case(*((condition, reason.key) for reason, condition in conditions.items()), else_=ELIGIBLE)
    rows = session.execute(
        select(first, func.count())
        .select_from(MuseumObject)
        .outerjoin(latest, latest.id == MuseumObject.latest_package_id)
        .group_by(first)
    )
    return dict.fromkeys((ELIGIBLE, *(reason.key for reason in REASONS)), 0) | {row[0]: row[1] for row in rows}


def settle(session: Session, *, after: int, limit: int) -> list[int]:
    """Note of some more objects that they are unchanged since their latest package, which left the workflow. From then
    on nobody looks at their packages, until the database forgets the note because something of them changes.

    Objects that somebody else has locked, or whose package is, are left for another time: nothing is waited for.

    Arguments:
        after: only objects with a greater id.
        limit: most objects.

    Returns:
        the ids of those that were noted; none: there are no more.
    """
    latest = _latest()
    resting = (
        select(MuseumObject.id)
        .join(latest, latest.id == MuseumObject.latest_package_id)
        .where(MuseumObject.id > after, _worth_a_look(), not_(is_open(latest)), _unchanged(latest))
        .order_by(MuseumObject.id)
        .limit(limit)
        # The package's row, too: a change of it that is not committed yet would not be seen, and not see the note.
        .with_for_update(of=[MuseumObject, latest], key_share=True, skip_locked=True)
        .cte("resting")
        .prefix_with("MATERIALIZED")
    )
    noted = session.scalars(
        update(MuseumObject)
        .where(MuseumObject.id == resting.c.id)
        .values(settled=True)
        .returning(MuseumObject.id)
        .execution_options(synchronize_session=False)
    )
    return sorted(noted)


def prunable_ids(session: Session, ids: Collection[int], *, now: datetime, delays: Delays) -> list[int]:
    """Those of the ids that wait for nothing: neither eligible nor with a package in the workflow."""
    latest = _latest()
    kept = set(eligible_ids(session, now=now, delays=delays, among=ids)) | set(
        session.scalars(
            select(MuseumObject.id)
            .where(MuseumObject.id == any_(_array(ids)))
            .where(exists(select(literal(1)).where(latest.id == MuseumObject.latest_package_id, is_open(latest))))
        )
    )
    return sorted(set(ids) - kept)
