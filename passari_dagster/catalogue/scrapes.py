"""How far scrapes of MuseumPlus have come, in the same transactions as the rows that they write.

What a scrape reads is written in `synchronisation`; how it reads is the workflow's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from passari_dagster.catalogue.attachment_hashes import mark_stale
from passari_dagster.catalogue.models import (
    MuseumAttachment,
    SyncRange,
    SyncStatus,
    UnseenItem,
    object_attachments,
)
from passari_dagster.catalogue.synchronisation import Item


@dataclass(frozen=True)
class Part:
    """A part of the id space that is not read to its end.

    Arguments:
        first_id: its name, in its scrape.
        last_id: the greatest id of the part; None: it has no end.
        read_id: all items up to this id were read.
        items: how many they were.
    """

    first_id: int
    last_id: int | None
    read_id: int
    items: int = 0


@dataclass(frozen=True)
class Scrape:
    """A scrape that is under way.

    Arguments:
        started: by MuseumPlus's clock.
        since: it asks for what changed since; None: for everything.
        total: items that MuseumPlus spoke of when it started.
        items: how many were read.
        parts: what is left to read.
        adopted: passari-workflow had begun it, so that it is no scan of everything.
    """

    started: datetime
    since: datetime | None
    total: int | None
    items: int
    parts: tuple[Part, ...]
    adopted: bool = False


def last_started(session: Session, name: str) -> datetime | None:
    """When the last finished scrape of that name started, by MuseumPlus's clock; None: none was ever finished."""
    status = session.get(SyncStatus, name)
    return status.prev_start_sync_date if status is not None else None


def under_way(session: Session, name: str) -> Scrape | None:
    """The scrape of that name that was begun and not finished."""
    status = session.get(SyncStatus, name)
    if status is None or status.start_sync_date is None:
        return None
    query = select(SyncRange).where(SyncRange.name == name).order_by(SyncRange.first_id)
    ranges = list(session.scalars(query))
    if not ranges:
        return None  # of passari-workflow: see `adopt`
    return Scrape(
        started=status.start_sync_date,
        since=status.since_date,
        total=status.total,
        items=sum(part.items for part in ranges) + (status.offset or 0),
        parts=tuple(Part(r.first_id, r.last_id, r.read_id, r.items) for r in ranges if not r.done),
        adopted=bool(status.offset),
    )


def begin(
    session: Session,
    name: str,
    *,
    started: datetime,
    since: datetime | None,
    total: int | None,
    parts: Sequence[Part],
) -> Scrape:
    """Note that a scrape begins; one of that name that was under way is forgotten."""
    status = _status(session, name)
    status.start_sync_date, status.since_date, status.total, status.offset = started, since, total, 0
    _forget(session, name)
    session.add_all(SyncRange(name=name, first_id=p.first_id, last_id=p.last_id, read_id=p.read_id) for p in parts)
    return Scrape(started, since, total, 0, tuple(parts))


def adopt(session: Session, name: str, item: Item, *, total: int | None) -> Scrape | None:
    """Go on with a scrape of everything in which passari-workflow was interrupted; None: there is none to go on with.

    It read by offset, in the order of the ids. Where items were deleted meanwhile, the database has more rows than
    MuseumPlus: so the row of that number is not beyond what was read, and nothing is skipped. A scrape of changes is
    not gone on with: its offset tells nothing about ids, and it is read again from the same date in no time.
    """
    status = session.get(SyncStatus, name)
    if status is None or status.start_sync_date is None or status.prev_start_sync_date is not None:
        return None
    if not status.offset or session.scalar(select(SyncRange.first_id).where(SyncRange.name == name).limit(1)):
        return None
    read = select(item.id).where(item.metadata_hash.is_not(None)).order_by(item.id).limit(1).offset(status.offset - 1)
    read_id = session.scalar(read)
    if read_id is None:
        return None
    status.since_date, status.total = None, total
    session.add(SyncRange(name=name, first_id=read_id + 1, last_id=None, read_id=read_id))
    return Scrape(status.start_sync_date, None, total, status.offset, (Part(read_id + 1, None, read_id),), adopted=True)


def advance(session: Session, name: str, first_id: int, *, read_id: int, items: int, done: bool) -> None:
    """Note that `items` more were read of a part, up to `read_id`, and whether it is read to its end."""
    session.execute(
        update(SyncRange)
        .where(SyncRange.name == name, SyncRange.first_id == first_id)
        .values(read_id=read_id, items=SyncRange.items + items, done=done)
    )


def items_read(session: Session, name: str) -> int:
    """How many items were read of the scrape that is under way."""
    read = session.scalar(select(func.sum(SyncRange.items)).where(SyncRange.name == name)) or 0
    before = session.scalar(select(SyncStatus.offset).where(SyncStatus.name == name)) or 0
    return int(read) + before


def finish(session: Session, name: str, *, started: datetime) -> None:
    """The scrape that began at `started` has read everything."""
    status = _status(session, name)
    status.prev_start_sync_date, status.start_sync_date, status.since_date = started, None, None
    status.offset, status.total = 0, None
    _forget(session, name)


def abandon(session: Session, name: str) -> None:
    """The scrape that is under way does not count; the next one begins anew."""
    status = _status(session, name)
    status.start_sync_date, status.since_date, status.offset, status.total = None, None, 0, None
    _forget(session, name)


def _status(session: Session, name: str) -> SyncStatus:
    status = session.get(SyncStatus, name, with_for_update=True)
    if status is None:
        status = SyncStatus(name=name)
        session.add(status)
    return status


def _forget(session: Session, name: str) -> None:
    session.execute(delete(SyncRange).where(SyncRange.name == name))
    session.execute(delete(UnseenItem).where(UnseenItem.name == name))


# What a scan of everything did not find


def note_unseen(
    session: Session, name: str, item: Item, *, after_id: int, upto_id: int | None, seen: Collection[int]
) -> None:
    """Note the items that the database has among these ids, and that are not among those seen there.

    Arguments:
        after_id, upto_id: ids greater than the one, and not greater than the other; None: without end.
    """
    session.execute(
        text(
            f"""
            INSERT INTO unseen_items (name, item_id)
            SELECT :name, id FROM {item.__tablename__}
            WHERE id > :after AND (CAST(:upto AS bigint) IS NULL OR id <= :upto) AND removed_date IS NULL
              AND id <> ALL(CAST(:seen AS bigint[]))
            ON CONFLICT DO NOTHING
            """  # noqa: S608 - a table's name
        ),
        {"name": name, "after": after_id, "upto": upto_id, "seen": list(seen)},
    )


def note_seen(session: Session, name: str, ids: Collection[int]) -> None:
    """Take back what was noted of items that were seen elsewhere meanwhile."""
    session.execute(
        text("DELETE FROM unseen_items WHERE name = :name AND item_id = ANY(CAST(:ids AS bigint[]))"),
        {"name": name, "ids": list(ids)},
    )


def unseen(session: Session, name: str, limit: int, *, after: int = 0) -> list[int]:
    """The next of the items that were noted, by id."""
    query = select(UnseenItem.item_id).where(UnseenItem.name == name, UnseenItem.item_id > after)
    return list(session.scalars(query.order_by(UnseenItem.item_id).limit(limit)))


def count_unseen(session: Session, name: str) -> int:
    """How many items were noted."""
    return session.scalar(select(func.count()).where(UnseenItem.name == name)) or 0


def some_seen(session: Session, name: str, item: Item, number: int) -> list[int]:
    """Items that the scan did see: MuseumPlus should have them still."""
    noted = select(UnseenItem.item_id).where(UnseenItem.name == name)
    query = select(item.id).where(item.removed_date.is_(None), item.metadata_hash.is_not(None), item.id.not_in(noted))
    return list(session.scalars(query.order_by(item.id.desc()).limit(number)))


def mark_removed(session: Session, item: Item, ids: Collection[int], *, now: datetime) -> int:
    """Mark items that MuseumPlus does not have any more; removed attachments leave the links of their objects.

    Returns:
        how many were not marked before.
    """
    locked = select(item.id).where(item.id.in_(ids), item.removed_date.is_(None)).order_by(item.id)
    marked = list(session.scalars(locked.with_for_update(key_share=True)))
    session.execute(update(item).where(item.id.in_(marked)).values(removed_date=now))
    if item is MuseumAttachment and marked:
        unlinked = session.scalars(
            delete(object_attachments)
            .where(object_attachments.c.museum_attachment_id.in_(marked))
            .returning(object_attachments.c.museum_object_id)
        )
        mark_stale(session, set(unlinked))
    return len(marked)


def removed_since(session: Session, item: Item, date: datetime, sample: int) -> tuple[int, list[int]]:
    """How many items were marked as removed since a date, and the first ids of them."""
    marked = select(item.id).where(item.removed_date >= date)
    number = session.scalar(select(func.count()).select_from(marked.subquery())) or 0
    return number, list(session.scalars(marked.order_by(item.id).limit(sample)))
