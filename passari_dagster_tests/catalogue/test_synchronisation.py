"""What MuseumPlus said, written into the tables."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select

from passari_dagster.catalogue import attachment_hashes, database
from passari_dagster.catalogue import synchronisation as tables
from passari_dagster.catalogue.attachment_hashes import Batch
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject, object_attachments
from passari_dagster_tests.catalogue.rows import LONG_AGO, NOW

DAY = timedelta(days=1)


def _object(object_id: int, modified: datetime | None = LONG_AGO, hash_: str = "a" * 64) -> dict[str, Any]:
    return {
        "id": object_id,
        "title": f"Esine {object_id}",
        "created_date": LONG_AGO,
        "modified_date": modified,
        "metadata_hash": hash_,
    }


def _attachment(attachment_id: int, modified: datetime | None = LONG_AGO, hash_: str | None = None) -> dict[str, Any]:
    return {
        "id": attachment_id,
        "filename": f"kuva_{attachment_id}.jpg",
        "created_date": LONG_AGO,
        "modified_date": modified,
        "metadata_hash": hash_ or f"{attachment_id:064x}",
    }


def _links(engine: Engine) -> set[tuple[int, int]]:
    with database.transaction(engine) as session:
        return {(row[0], row[1]) for row in session.execute(select(object_attachments))}


def _hash(engine: Engine, object_id: int) -> str | None:
    with database.transaction(engine) as session:
        attachment_hashes.refresh(session, Batch(after=object_id - 1, upto=object_id, objects=1, stale=False))
        return session.scalar(select(MuseumObject.attachment_metadata_hash).where(MuseumObject.id == object_id))


def test_reading_a_page_twice_changes_nothing(engine: Engine) -> None:
    page, links = [_object(2), _object(1)], {1: [10, 11], 2: []}
    for new in (2, 0):
        with database.transaction(engine) as session:
            assert tables.upsert_objects(session, page, links) == new
        assert _links(engine) == {(1, 10), (1, 11)}


def test_a_modification_date_never_goes_back_and_a_missing_one_is_no_error(engine: Engine) -> None:
    def modified(row: dict[str, Any]) -> datetime | None:
        with database.transaction(engine) as session:
            tables.upsert_objects(session, [row], {1: []})
            return session.scalar(select(MuseumObject.modified_date))

    assert modified(_object(1, None)) is None
    assert modified(_object(1, NOW)) == NOW
    assert modified(_object(1, LONG_AGO)) == NOW
    assert modified(_object(1, None)) == NOW


def test_a_newer_attachment_makes_its_object_newer(engine: Engine) -> None:
    with database.transaction(engine) as session:
        tables.upsert_objects(session, [_object(1), _object(2, None), _object(3, NOW)], {})
        page = [_attachment(10, LONG_AGO + DAY), _attachment(11, None), _attachment(12, LONG_AGO)]
        tables.upsert_attachments(session, page, {10: [1, 2, 3], 11: [1], 12: [1]})
        dates = {row[0]: row[1] for row in session.execute(select(MuseumObject.id, MuseumObject.modified_date))}
    assert dates == {1: LONG_AGO + DAY, 2: LONG_AGO + DAY, 3: NOW}


def test_links_follow_what_museumplus_says_last_from_either_side(engine: Engine) -> None:
    with database.transaction(engine) as session:
        tables.upsert_objects(session, [_object(1), _object(2)], {1: [10, 11], 2: [11]})
    with database.transaction(engine) as session:
        tables.upsert_objects(session, [_object(1)], {1: [10]})
    assert _links(engine) == {(1, 10), (2, 11)}
    with database.transaction(engine) as session:
        tables.upsert_attachments(session, [_attachment(11)], {11: [1, 3]})
    assert _links(engine) == {(1, 10), (1, 11), (3, 11)}


def test_attachments_are_unknown_until_each_was_read(engine: Engine) -> None:
    with database.transaction(engine) as session:
        tables.upsert_objects(session, [_object(1), _object(2)], {1: [10, 11], 2: []})
    assert _hash(engine, 2) == ""
    assert _hash(engine, 1) is None
    with database.transaction(engine) as session:
        tables.upsert_attachments(session, [_attachment(11, hash_="b" * 64)], {11: [1]})
    assert _hash(engine, 1) is None
    with database.transaction(engine) as session:
        tables.upsert_attachments(session, [_attachment(10, hash_="c" * 64)], {10: [1]})
    assert _hash(engine, 1) == hashlib.sha256(("b" * 64 + "c" * 64).encode()).hexdigest()
    with database.transaction(engine) as session:
        tables.upsert_objects(session, [_object(1)], {1: [10, 11, 12]})
    assert _hash(engine, 1) is None, "an attachment that is new to us is not known"


def test_what_cannot_be_read_has_a_row_and_no_hash_and_loses_nothing_else(engine: Engine) -> None:
    with database.transaction(engine) as session:
        tables.upsert_objects(session, [_object(1), _object(2)], {1: [10], 2: []})
        assert tables.forget_hashes(session, MuseumObject, [2, 3, 1]) == 1
        session.expire_all()
        assert session.get_one(MuseumObject, 1).title == "Esine 1"
        assert tables.ids_without_hash(session, MuseumObject, 9) == [1, 2, 3]
        assert len(tables.ids_without_hash(session, MuseumObject, 2)) == 2
        assert tables.ids_without_hash(session, MuseumAttachment, 9) == [10]
        tables.upsert_objects(session, [_object(3)], {3: []})
        assert tables.ids_without_hash(session, MuseumObject, 9) == [1, 2]
    assert _links(engine) == {(1, 10)}


def test_an_attachment_of_an_object_that_was_not_read_yet_waits_for_it(engine: Engine) -> None:
    with database.transaction(engine) as session:
        tables.upsert_attachments(session, [_attachment(10)], {10: [7]})
        assert session.get_one(MuseumObject, 7).metadata_hash is None
        assert session.get_one(MuseumAttachment, 10).filename == "kuva_10.jpg"
        tables.upsert_objects(session, [_object(7)], {7: [10]})
        session.expire_all()
        assert session.get_one(MuseumObject, 7).created_date == LONG_AGO
