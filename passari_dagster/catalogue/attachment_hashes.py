"""The hash over an object's attachments: which are stale, and computing them anew, in sets.

How hashes of single objects and attachments are made is known where MuseumPlus's documents are read.

Who computes never waits for a lock while it holds one, and so cannot be in a deadlock, whatever order others take their
rows in: what somebody else has locked is passed over, and stays stale, or is marked so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import MuseumObject, StaleAttachmentHash, SyncRange, SyncStatus

RECOUNT = "sync_hashes"
"""Name of the count of all hashes in `sync_statuses`, and in `sync_ranges` while one is under way."""
_FIRST_ID = 1

# DO UPDATE, not DO NOTHING: the row stays locked until the change that made it stale is committed, so that nobody
# computes the hash from what was there before and calls it fresh.
_MARK = text(
    """
    INSERT INTO stale_attachment_hashes (museum_object_id) SELECT DISTINCT unnest(CAST(:ids AS bigint[])) ORDER BY 1
    ON CONFLICT (museum_object_id) DO UPDATE SET museum_object_id = excluded.museum_object_id
    """
)
_LOCK_STALE = text(
    """
    SELECT museum_object_id FROM stale_attachment_hashes
    WHERE museum_object_id > :after AND museum_object_id <= :upto
    ORDER BY museum_object_id FOR UPDATE SKIP LOCKED
    """
)
# LATERAL, so that each object's few attachments are looked up by index: no guess of the planner can make it read all.
# Rows are locked by id, and only those that are to be written.
_COMPUTE = """
    WITH computed AS MATERIALIZED (
        SELECT museum_objects.id, attached.hash
        FROM museum_objects
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN count(*) = 0 THEN ''
                WHEN count(attachment.metadata_hash) < count(*) THEN NULL
                ELSE encode(sha256(convert_to(
                    string_agg(attachment.metadata_hash, '' ORDER BY attachment.metadata_hash COLLATE "C"), 'UTF8'
                )), 'hex')
            END AS hash
            FROM object_attachment_association AS link
            LEFT JOIN museum_attachments AS attachment ON attachment.id = link.museum_attachment_id
            WHERE link.museum_object_id = museum_objects.id
        ) AS attached
        WHERE {batch} AND museum_objects.attachment_metadata_hash IS DISTINCT FROM attached.hash
    ), locked AS MATERIALIZED (
        SELECT id FROM museum_objects WHERE id IN (SELECT id FROM computed)
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ), changed AS (
        UPDATE museum_objects SET attachment_metadata_hash = computed.hash
        FROM computed JOIN locked USING (id)
        WHERE museum_objects.id = computed.id
        RETURNING museum_objects.id
    )
    SELECT (SELECT count(*) FROM changed), ARRAY(SELECT id FROM computed EXCEPT SELECT id FROM changed ORDER BY id)
"""
_COMPUTE_ALL = text(_COMPUTE.format(batch="museum_objects.id > :after AND museum_objects.id <= :upto"))
_COMPUTE_STALE = text(
    _COMPUTE.format(
        batch="museum_objects.id = ANY(ARRAY(SELECT museum_object_id FROM stale_attachment_hashes "
        "WHERE museum_object_id > :after AND museum_object_id <= :upto))"
    )
)


@dataclass(frozen=True)
class Batch:
    """The next objects by id.

    Arguments:
        after: they have greater ids than this.
        upto: the last one's id.
        objects: how many they are.
        stale: whether those are meant only whose hash is stale.
    """

    after: int
    upto: int
    objects: int
    stale: bool


@dataclass(frozen=True)
class Refreshed:
    """What became of a batch.

    Arguments:
        changed: how many objects had another hash before.
        passed: objects that ought to have another hash, and that somebody else had locked.
    """

    changed: int
    passed: tuple[int, ...]


def mark_stale(session: Session, object_ids: Collection[int]) -> None:
    """Note that links of the objects, or hashes of their attachments, have changed in this transaction."""
    if object_ids:
        session.execute(_MARK, {"ids": list(object_ids)})


def next_batch(session: Session, *, after: int, limit: int, stale: bool) -> Batch | None:
    """The next objects; None: there is none.

    Arguments:
        after: greatest id of the batch before.
        limit: most objects.
        stale: those only whose hash is stale.
    """
    column = StaleAttachmentHash.museum_object_id if stale else MuseumObject.id
    ids = select(column.label("id")).where(column > after).order_by(column).limit(limit).subquery()
    upto, objects = session.execute(select(func.max(ids.c.id), func.count()).select_from(ids)).one()
    return None if upto is None else Batch(after=after, upto=upto, objects=objects, stale=stale)


def refresh(session: Session, batch: Batch) -> Refreshed:
    """Compute the objects' attachment hashes anew, as the original does: the SHA-256 of the attachments' hashes, sorted
    and joined; empty without attachments; unknown while one of them is unknown. They are no longer stale then.

    In a transaction of its own: it holds the rows that it changes until it ends.
    """
    bounds = {"after": batch.after, "upto": batch.upto}
    # Before the hashes are computed, and in a statement before theirs, which sees what is committed by then. A change
    # that comes later waits here, or is seen to have locked its row already: either way it leaves its object stale.
    stale = session.scalars(_LOCK_STALE, bounds).all()
    changed, passed = session.execute(_COMPUTE_STALE if batch.stale else _COMPUTE_ALL, bounds).one()
    fresh = set(stale).difference(passed)
    if fresh:
        column = StaleAttachmentHash.museum_object_id
        session.execute(delete(StaleAttachmentHash).where(column == func.any(sorted(fresh))))
    return Refreshed(changed=changed, passed=tuple(passed))


def count_stale(session: Session) -> int:
    """How many objects have a stale hash."""
    return session.scalar(select(func.count()).select_from(StaleAttachmentHash)) or 0


def count_objects(session: Session, *, after: int) -> int:
    """How many objects have a greater id."""
    return session.scalar(select(func.count()).select_from(MuseumObject).where(MuseumObject.id > after)) or 0


def last_recount(session: Session) -> datetime | None:
    """When the last count of all hashes that came to its end was begun; None: there was none yet."""
    status = session.get(SyncStatus, RECOUNT)
    return None if status is None else status.prev_start_sync_date


def recount_under_way(session: Session) -> int | None:
    """Up to which id all hashes were counted by the count that is under way; None: none is."""
    return session.scalar(select(SyncRange.read_id).where(SyncRange.name == RECOUNT))


def begin_recount(session: Session, *, now: datetime) -> int:
    """A count of all hashes begins; answers up to which id it has come, as `recount_under_way`."""
    status = session.get(SyncStatus, RECOUNT) or SyncStatus(name=RECOUNT)
    status.start_sync_date = now
    session.add_all([status, SyncRange(name=RECOUNT, first_id=_FIRST_ID, read_id=_FIRST_ID - 1)])
    session.flush()
    return _FIRST_ID - 1


def save_recount(session: Session, *, read_id: int, items: int) -> None:
    """The count of all hashes has come so far.

    Arguments:
        read_id: all objects up to this id were counted, or are stale.
        items: so many more were.
    """
    row = session.get_one(SyncRange, (RECOUNT, _FIRST_ID))
    row.read_id, row.items = read_id, row.items + items


def finish_recount(session: Session) -> None:
    """The count of all hashes came to its end."""
    status = session.get_one(SyncStatus, RECOUNT)
    status.prev_start_sync_date, status.start_sync_date = status.start_sync_date, None
    session.execute(delete(SyncRange).where(SyncRange.name == RECOUNT))
