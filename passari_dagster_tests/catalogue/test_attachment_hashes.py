"""Hashes over attachments stay true beside scrapes, persons and runs that change rows at the same moment."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from passari_dagster.catalogue import attachment_hashes as hashes
from passari_dagster.catalogue import database
from passari_dagster.catalogue.attachment_hashes import Refreshed
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject, object_attachments
from passari_dagster_tests.catalogue.rows import add_object

WAITS_FOR_NOBODY = text("SET LOCAL lock_timeout = '2s'")


def _hash(*parts: str) -> str:
    """As passari-workflow makes it."""
    return hashlib.sha256("".join(sorted(parts)).encode()).hexdigest() if parts else ""


def _digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.fixture
def catalogue(engine: Engine) -> Engine:
    """Objects 1 to 20, each with two attachments of its own: 10 times its number, and one more; nothing is stale."""
    with database.transaction(engine) as session:
        for number in range(1, 21):
            add_object(session, number, attachment_metadata_hash=_hash(_digest(number * 10), _digest(number * 10 + 1)))
            for attachment in (number * 10, number * 10 + 1):
                session.add(MuseumAttachment(id=attachment, metadata_hash=_digest(attachment)))
                session.flush()
                session.execute(
                    insert(object_attachments).values(museum_object_id=number, museum_attachment_id=attachment)
                )
    return engine


def _refresh(session: Session, *, stale: bool) -> Refreshed | None:
    """All there is to do, in one batch; whoever waits for a lock fails."""
    session.execute(WAITS_FOR_NOBODY)
    batch = hashes.next_batch(session, after=0, limit=100, stale=stale)
    return None if batch is None else hashes.refresh(session, batch)


def _change(session: Session, attachment_id: int, value: str | None) -> None:
    session.execute(update(MuseumAttachment).where(MuseumAttachment.id == attachment_id).values(metadata_hash=value))
    hashes.mark_stale(session, [attachment_id // 10])


def _stored(engine: Engine, object_id: int) -> str | None:
    with database.transaction(engine) as session:
        return session.scalar(select(MuseumObject.attachment_metadata_hash).where(MuseumObject.id == object_id))


def test_only_what_is_stale_is_computed_and_is_stale_no_more(catalogue: Engine) -> None:
    with database.transaction(catalogue) as session:
        _change(session, 30, "f" * 64)
        _change(session, 41, None)
        session.execute(delete(object_attachments).where(object_attachments.c.museum_object_id == 5))
        hashes.mark_stale(session, [5, 5, 7])
        session.execute(update(MuseumObject).where(MuseumObject.id == 9).values(attachment_metadata_hash="wrong"))
    with database.transaction(catalogue) as session:
        assert hashes.count_stale(session) == 4
        assert _refresh(session, stale=True) == Refreshed(changed=3, passed=())
    assert _stored(catalogue, 3) == _hash("f" * 64, _digest(31))
    assert _stored(catalogue, 4) is None, "unknown while one of them is unknown"
    assert _stored(catalogue, 5) == ""
    assert _stored(catalogue, 9) == "wrong", "nobody said that it was stale"
    with database.transaction(catalogue) as session:
        assert _refresh(session, stale=True) is None
        assert _refresh(session, stale=False) == Refreshed(changed=1, passed=())
    assert _stored(catalogue, 9) == _hash(_digest(90), _digest(91))


@pytest.mark.parametrize("known_stale", [False, True], ids=["for the first time", "again"])
@pytest.mark.parametrize("all_", [False, True], ids=["stale ones", "all"])
def test_a_change_that_is_not_committed_yet_is_left_for_later(catalogue: Engine, known_stale: bool, all_: bool) -> None:
    with database.transaction(catalogue) as session:
        hashes.mark_stale(session, [3] if known_stale else [])
    with Session(catalogue) as scrape:
        _change(scrape, 30, "f" * 64)
        with database.transaction(catalogue) as session:
            _refresh(session, stale=not all_)
        scrape.commit()
    with database.transaction(catalogue) as session:
        assert _refresh(session, stale=True) == Refreshed(changed=1, passed=())
    assert _stored(catalogue, 3) == _hash("f" * 64, _digest(31))


@pytest.mark.parametrize("all_", [False, True], ids=["stale ones", "all"])
def test_a_change_that_comes_while_the_hash_is_computed_makes_it_stale_again(catalogue: Engine, all_: bool) -> None:
    with database.transaction(catalogue) as session:
        _change(session, 30, "e" * 64)

    def scrape() -> None:
        with database.transaction(catalogue) as session:
            _change(session, 30, "f" * 64)

    thread = threading.Thread(target=scrape)
    with Session(catalogue) as computing:
        assert _refresh(computing, stale=not all_) == Refreshed(changed=1, passed=())
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it waits until the hash is committed"
        computing.commit()
    thread.join(20)
    assert _stored(catalogue, 3) == _hash("e" * 64, _digest(31))
    with database.transaction(catalogue) as session:
        assert _refresh(session, stale=True) == Refreshed(changed=1, passed=())
    assert _stored(catalogue, 3) == _hash("f" * 64, _digest(31))


def test_an_object_that_somebody_has_locked_is_passed_over_and_stays_stale(catalogue: Engine) -> None:
    with database.transaction(catalogue) as session:
        for object_id in (2, 3, 4):
            _change(session, object_id * 10, "f" * 64)
    with Session(catalogue) as somebody:
        somebody.execute(update(MuseumObject).where(MuseumObject.id == 3).values(frozen=True))
        with database.transaction(catalogue) as session:
            assert _refresh(session, stale=True) == Refreshed(changed=2, passed=(3,))
        somebody.commit()
    with database.transaction(catalogue) as session:
        assert session.get_one(MuseumObject, 3).frozen
        assert _refresh(session, stale=True) == Refreshed(changed=1, passed=())


def test_hashes_are_true_at_the_end_and_nobody_was_in_a_deadlock(catalogue: Engine) -> None:
    """A scrape that takes its rows in any order, a person, and a run that computes, all at once."""
    over = time.monotonic() + 2.5
    failures: list[BaseException] = []

    def keep_on(work: Callable[[random.Random], Any], seed: int) -> threading.Thread:
        def run() -> None:
            chance = random.Random(seed)
            try:
                while time.monotonic() < over:
                    work(chance)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def scrape(chance: random.Random) -> None:
        with database.transaction(catalogue) as session:
            for _ in range(6):
                attachment = chance.randint(1, 20) * 10 + chance.randint(0, 1)
                if chance.random() < 0.5:
                    session.execute(
                        update(MuseumObject).where(MuseumObject.id == chance.randint(1, 20)).values(title="Kirves")
                    )
                _change(session, attachment, chance.choice([None, _digest(chance.randint(1, 9))]))

    def person(chance: random.Random) -> None:
        with database.transaction(catalogue) as session:
            session.execute(
                update(MuseumObject).where(MuseumObject.id == chance.randint(1, 20)).values(freeze_reason="x")
            )

    def compute(chance: random.Random) -> None:
        with database.transaction(catalogue) as session:
            done = _refresh(session, stale=chance.random() < 0.7)
        for object_id in done.passed if done else ():
            with database.transaction(catalogue) as session:
                hashes.mark_stale(session, [object_id])

    threads = [keep_on(work, seed) for seed, work in enumerate((scrape, person, compute))]
    for thread in threads:
        thread.join(30)
    assert failures == []
    with database.transaction(catalogue) as session:
        _refresh(session, stale=True)
        assert hashes.count_stale(session) == 0
        known = dict(session.execute(select(MuseumAttachment.id, MuseumAttachment.metadata_hash)).all())
        stored = dict(session.execute(select(MuseumObject.id, MuseumObject.attachment_metadata_hash)).all())
        assert session.scalar(select(func.count()).select_from(object_attachments)) == 40
    for object_id, value in stored.items():
        first, second = known[object_id * 10], known[object_id * 10 + 1]
        assert value == (None if first is None or second is None else _hash(first, second)), object_id
