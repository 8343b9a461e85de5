"""Writing what MuseumPlus said into the database, in sets: objects, attachments, their links.

Rows come in as plain dictionaries, so that this module need not know who read them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, TextClause, func, select, text, update
from sqlalchemy.orm import Session

from passari_dagster.catalogue.attachment_hashes import mark_stale
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject, object_attachments

Row = Mapping[str, Any]
Item = type[MuseumObject] | type[MuseumAttachment]


def upsert_objects(session: Session, rows: Sequence[Row], attachment_ids: Mapping[int, Sequence[int]]) -> int:
    """Insert or update a page of objects; the modification date only goes forward. Whoever comes back is not removed.

    Arguments:
        rows: `id`, `title`, `created_date`, `modified_date`, `metadata_hash` of each object.
        attachment_ids: for each object of the page, the attachments that it names; its links become these.

    Returns:
        how many of the objects are new.
    """
    written = session.execute(_UPSERT_OBJECTS, _columns(rows, _OBJECT)).all()
    relinked = _relink(session, "museum_object_id", "museum_attachment_id", attachment_ids, MuseumAttachment)
    new = {row.id for row in written if row.is_new}
    mark_stale(session, new | relinked)
    return len(new)


def upsert_attachments(session: Session, rows: Sequence[Row], object_ids: Mapping[int, Sequence[int]]) -> int:
    """Insert or update a page of attachments, and carry newer modification dates over to their objects.

    Arguments:
        rows: `id`, `filename`, `created_date`, `modified_date`, `metadata_hash` of each attachment.
        object_ids: for each attachment of the page, the objects that it names; its links become these.

    Returns:
        how many of the attachments are new.
    """
    written = session.execute(_UPSERT_ATTACHMENTS, _columns(rows, _ATTACHMENT)).all()
    relinked = _relink(session, "museum_attachment_id", "museum_object_id", object_ids, MuseumObject)
    session.execute(_CARRY_DATES, {"ids": [row["id"] for row in rows]})
    changed = session.scalars(_OBJECTS_OF, {"ids": [row.id for row in written]})
    mark_stale(session, relinked.union(changed))
    return sum(row.is_new for row in written)


_OBJECT = {
    "id": "bigint",
    "title": "text",
    "created_date": "timestamptz",
    "modified_date": "timestamptz",
    "metadata_hash": "text",
}
_ATTACHMENT = {"id": "bigint", "filename": "text"} | {name: _OBJECT[name] for name in list(_OBJECT)[2:]}


def _upsert(table: str, columns: Mapping[str, str], **kept: str) -> TextClause:
    """A page in one statement: an array for each column, which costs a tenth of a list of rows.

    Rows that would become what they are already are not written; `xmax` of a row that was inserted is 0.
    One order of ids for every writer: no deadlocks.

    Arguments:
        kept: for columns that do not simply become what the page says: what they become.
    """
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    new = {name: kept.get(name, f"excluded.{name}") for name in columns if name != "id"} | {"removed_date": "NULL"}
    return text(
        f"""
        INSERT INTO {table} AS old ({", ".join(columns)})
        SELECT * FROM unnest({arrays}) AS page ({", ".join(columns)}) ORDER BY id
        ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = {value}" for name, value in new.items())}
        WHERE ({", ".join(f"old.{name}" for name in new)}) IS DISTINCT FROM ({", ".join(new.values())})
        RETURNING id, xmax = 0 AS is_new
        """  # noqa: S608 - names of ours
    )


_UPSERT_OBJECTS = _upsert(
    "museum_objects",
    _OBJECT,
    created_date="coalesce(old.created_date, excluded.created_date)",
    modified_date="greatest(old.modified_date, excluded.modified_date)",
)
_UPSERT_ATTACHMENTS = _upsert("museum_attachments", _ATTACHMENT)
_OBJECTS_OF = text(
    "SELECT DISTINCT museum_object_id FROM object_attachment_association "
    "WHERE museum_attachment_id = ANY(CAST(:ids AS bigint[]))"
)
_CARRY_DATES = text(
    """
    WITH newest AS (
        SELECT link.museum_object_id AS id, max(attachment.modified_date) AS date
        FROM object_attachment_association AS link
        JOIN museum_attachments AS attachment ON attachment.id = link.museum_attachment_id
        WHERE attachment.id = ANY(CAST(:ids AS bigint[]))
        GROUP BY link.museum_object_id
    ), older AS (
        SELECT object.id, newest.date FROM museum_objects AS object JOIN newest USING (id)
        WHERE coalesce(object.modified_date < newest.date, newest.date IS NOT NULL)
        ORDER BY object.id FOR NO KEY UPDATE OF object
    )
    UPDATE museum_objects SET modified_date = older.date FROM older WHERE museum_objects.id = older.id
    """
)


def _columns(rows: Sequence[Row], columns: Iterable[str]) -> dict[str, list[Any]]:
    return {column: [row[column] for row in rows] for column in columns}


def forget_hashes(session: Session, item: Item, ids: Sequence[int]) -> int:
    """Note items that could not be read: their hash is not known (any more). Those that have no row get one with an
    id only, like references whose item was not read yet.

    Returns:
        how many of the items are new.
    """
    # In the order of their ids, as all who write rows.
    session.execute(select(item.id).where(item.id.in_(ids)).order_by(item.id).with_for_update(key_share=True))
    new = _insert_new_ids(session, item, ids)
    # Whatever could not be read is there.
    session.execute(update(item).where(item.id.in_(ids)).values(metadata_hash=None, removed_date=None))
    if item is MuseumObject:
        mark_stale(session, ids)  # one that is new has no hash over its attachments yet
    return new


def ids_without_hash(session: Session, item: Item, limit: int) -> list[int]:
    """Some of the items whose hash is not known, picked by chance: whoever takes a few each time comes to all."""
    return _by_chance(session, item, limit, item.metadata_hash.is_(None))


def ids_with_hash(session: Session, item: Item, limit: int, *, without: Collection[int]) -> list[int]:
    """Some of the items whose hash is known, picked by chance."""
    return _by_chance(session, item, limit, item.metadata_hash.is_not(None), item.id.not_in(without))


def _by_chance(session: Session, item: Item, limit: int, *conditions: ColumnElement[bool]) -> list[int]:
    query = select(item.id).where(item.removed_date.is_(None), *conditions).order_by(func.random()).limit(limit)
    return sorted(session.scalars(query))


def _insert_new_ids(session: Session, item: Item, ids: Collection[int]) -> int:
    """Rows with nothing but an id, for ids that have none yet; answers how many there were."""
    statement = text(
        f"INSERT INTO {item.__tablename__} (id) SELECT DISTINCT unnest(CAST(:ids AS bigint[])) ORDER BY 1 "
        "ON CONFLICT DO NOTHING"
    )
    return session.connection().execute(statement, {"ids": list(ids)}).rowcount if ids else 0


def _relink(
    session: Session, from_column: str, to_column: str, links: Mapping[int, Sequence[int]], target: Item
) -> set[int]:
    """Make the links of each key of `links` exactly those named; targets not read yet get a row with an id only.

    A target that was removed is not linked, though it may be named still: its own page links it when it comes back.

    Returns:
        the objects of which links came or went.
    """
    pairs = [(from_id, to_id) for from_id, to_ids in links.items() for to_id in to_ids]
    _insert_new_ids(session, target, {to_id for _, to_id in pairs})
    page = {"ids": list(links), "from_ids": [pair[0] for pair in pairs], "to_ids": [pair[1] for pair in pairs]}
    named = (
        "SELECT from_id, to_id FROM unnest(CAST(:from_ids AS bigint[]), CAST(:to_ids AS bigint[])) "  # noqa: S608
        f"AS named (from_id, to_id) JOIN {target.__tablename__} AS target ON target.id = to_id "
        "WHERE target.removed_date IS NULL"
    )
    table = object_attachments.name
    came = text(
        f"INSERT INTO {table} ({from_column}, {to_column}) {named} ORDER BY 1, 2 "
        "ON CONFLICT DO NOTHING RETURNING museum_object_id"
    )
    went = text(
        f"DELETE FROM {table} WHERE {from_column} = ANY(CAST(:ids AS bigint[])) "  # noqa: S608
        f"AND ({from_column}, {to_column}) NOT IN ({named}) RETURNING museum_object_id"
    )
    return {*session.scalars(came, page), *session.scalars(went, page)}


def count(session: Session, item: Item) -> int:
    """How many items the database knows, without those that were removed."""
    return session.scalar(select(func.count()).select_from(item).where(item.removed_date.is_(None))) or 0
