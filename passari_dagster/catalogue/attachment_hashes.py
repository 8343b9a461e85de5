"""The hash over an object's attachments: which are stale, and computing them anew, in sets.

How hashes of single objects and attachments are made is known where MuseumPlus's documents are read.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

# DO UPDATE, not DO NOTHING: the row stays locked until the change that made it stale is committed, so that nobody
# computes the hash from what was there before and calls it fresh.
_MARK = text(
    """
    INSERT INTO stale_attachment_hashes (museum_object_id) SELECT DISTINCT unnest(CAST(:ids AS bigint[])) ORDER BY 1
    ON CONFLICT (museum_object_id) DO UPDATE SET museum_object_id = excluded.museum_object_id
    """
)


def mark_stale(session: Session, object_ids: Collection[int]) -> None:
    """Note that links of the objects, or hashes of their attachments, have changed in this transaction."""
    if object_ids:
        session.execute(_MARK, {"ids": list(object_ids)})
