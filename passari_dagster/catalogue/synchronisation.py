"""Writing what MuseumPlus said into the database, in sets: objects, attachments, their links, progress.

Rows come in as plain dictionaries, so that this module need not know who read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject, SyncStatus, object_attachments

Row = Mapping[str, Any]
Item = type[MuseumObject] | type[MuseumAttachment]


def upsert_objects(session: Session, rows: Sequence[Row], attachment_ids: Mapping[int, Sequence[int]]) -> int:
    """Insert or update a page of objects; the modification date only goes forward.

    Arguments:
        rows: `id`, `title`, `created_date`, `modified_date`, `metadata_hash` of each object.
        attachment_ids: for each object of the page, the attachments that it names; its links become these.

    Returns:
        how many of the objects are new.
    """
    if not rows:
        return 0
    rows = sorted(rows, key=lambda row: int(row["id"]))  # one order for every writer: no deadlocks
    new = _insert_new_ids(session, MuseumObject.__table__, [row["id"] for row in rows])
    statement = insert(MuseumObject).values(rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={
                "title": statement.excluded.title,
                "metadata_hash": statement.excluded.metadata_hash,
                "created_date": func.coalesce(MuseumObject.created_date, statement.excluded.created_date),
                "modified_date": func.greatest(MuseumObject.modified_date, statement.excluded.modified_date),
            },
        )
    )
    _relink(session, "museum_object_id", "museum_attachment_id", attachment_ids, MuseumAttachment.__table__)
    return new


def upsert_attachments(session: Session, rows: Sequence[Row], object_ids: Mapping[int, Sequence[int]]) -> int:
    """Insert or update a page of attachments, and carry newer modification dates over to their objects.

    Arguments:
        rows: `id`, `filename`, `created_date`, `modified_date`, `metadata_hash` of each attachment.
        object_ids: for each attachment of the page, the objects that it names; its links become these.

    Returns:
        how many of the attachments are new.
    """
    if not rows:
        return 0
    rows = sorted(rows, key=lambda row: int(row["id"]))
    new = _insert_new_ids(session, MuseumAttachment.__table__, [row["id"] for row in rows])
    statement = insert(MuseumAttachment).values(rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_={name: statement.excluded[name] for name in rows[0] if name != "id"},
        )
    )
    _relink(session, "museum_attachment_id", "museum_object_id", object_ids, MuseumObject.__table__)
    newest = (
        select(
            object_attachments.c.museum_object_id.label("id"),
            func.max(MuseumAttachment.modified_date).label("date"),
        )
        .join(MuseumAttachment, MuseumAttachment.id == object_attachments.c.museum_attachment_id)
        .where(MuseumAttachment.id.in_([row["id"] for row in rows]))
        .group_by(object_attachments.c.museum_object_id)
        .subquery()
    )
    table = MuseumObject.__table__
    session.execute(
        table.update()  # type: ignore[attr-defined]
        .where(
            table.c.id == newest.c.id,
            func.coalesce(table.c.modified_date < newest.c.date, newest.c.date.is_not(None)),
        )
        .values(modified_date=newest.c.date)
    )
    return new


def forget_hashes(session: Session, item: Item, ids: Sequence[int]) -> int:
    """Note items that could not be read: their hash is not known (any more). Those that have no row get one with an
    id only, like references whose item was not read yet.

    Returns:
        how many of the items are new.
    """
    new = _insert_new_ids(session, item.__table__, ids)
    session.execute(update(item).where(item.id.in_(ids)).values(metadata_hash=None))
    return new


def ids_without_hash(session: Session, item: Item, limit: int) -> list[int]:
    """Some of the items whose hash is not known, picked by chance: whoever takes a few each time comes to all."""
    query = select(item.id).where(item.metadata_hash.is_(None)).order_by(func.random()).limit(limit)
    return sorted(session.scalars(query))


def _insert_new_ids(session: Session, table: Any, ids: Sequence[int]) -> int:
    """Rows with nothing but an id, for ids that have none yet; answers how many there were."""
    if not ids:
        return 0
    statement = insert(table).values([{"id": id_} for id_ in sorted(ids)]).on_conflict_do_nothing()
    return len(session.execute(statement.returning(table.c.id)).all())


def _relink(
    session: Session, from_column: str, to_column: str, links: Mapping[int, Sequence[int]], target: Any
) -> None:
    """Make the links of each key of `links` exactly those named; targets not read yet get a row with an id only."""
    pairs = sorted({(from_id, to_id) for from_id, to_ids in links.items() for to_id in to_ids})
    _insert_new_ids(session, target, sorted({to_id for _, to_id in pairs}))
    table: Table = object_attachments
    if pairs:
        rows = [{from_column: from_id, to_column: to_id} for from_id, to_id in pairs]
        session.execute(insert(table).values(rows).on_conflict_do_nothing())
    existing = session.execute(
        select(table.c[from_column], table.c[to_column]).where(table.c[from_column].in_(list(links)))
    )
    gone = set(map(tuple, existing)) - set(pairs)
    if gone:
        session.connection().execute(
            delete(table).where(table.c[from_column] == bindparam("from_id"), table.c[to_column] == bindparam("to_id")),
            [{"from_id": from_id, "to_id": to_id} for from_id, to_id in sorted(gone)],
        )


def begin_scrape(session: Session, name: str) -> datetime | None:
    """The moment since which changes are to be read; None: everything is."""
    status = session.get(SyncStatus, name)
    return status.prev_start_sync_date if status is not None else None


def finish_scrape(session: Session, name: str, *, started: datetime) -> None:
    """The scrape that began at `started` (MuseumPlus's clock) has read everything."""
    status = session.get(SyncStatus, name, with_for_update=True)
    if status is None:
        status = SyncStatus(name=name)
        session.add(status)
    status.prev_start_sync_date, status.start_sync_date, status.offset = started, None, 0
