"""The rule and its explanation agree, whatever the rows look like, and whoever changed them."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from passari_dagster.catalogue import database
from passari_dagster.catalogue.eligibility import (
    ELIGIBLE,
    Explanation,
    count_by_reason,
    eligible_ids,
    explain,
    settle,
)
from passari_dagster.catalogue.models import MuseumObject, MuseumPackage
from passari_dagster_tests.catalogue.rows import DELAYS, LONG_AGO, NOW, add_object, add_package

MOMENT = timedelta(microseconds=1)
YEARS = timedelta(days=3650)
BOUNDARY = NOW - DELAYS.preservation

dates = st.sampled_from([None, LONG_AGO, BOUNDARY - MOMENT, BOUNDARY, BOUNDARY + MOMENT, NOW - timedelta(days=3), NOW])
hashes = st.sampled_from([None, "a" * 64, "b" * 64])
flags = st.sampled_from([None, False, True])
objects = st.fixed_dictionaries(
    {
        "created_date": dates,
        "modified_date": dates,
        "metadata_hash": hashes,
        "attachment_metadata_hash": st.one_of(hashes, st.just("")),
        "removed_date": st.sampled_from([None, None, None, NOW]),
        "frozen": st.sampled_from([None, False, False, True]),
    }
)
packages = st.fixed_dictionaries(
    {
        "object_modified_date": dates,
        "metadata_hash": hashes,
        "attachment_metadata_hash": st.one_of(hashes, st.just("")),
        "preserved": flags,
        "rejected": flags,
        "cancelled": flags,
    }
)
catalogues = st.lists(st.tuples(objects, st.none() | packages), min_size=1, max_size=8)


def is_eligible(row: MuseumObject, now: datetime) -> bool:
    """The rule in plain words, as whoever reads README would write it; not that of the database."""
    if row.removed_date or row.frozen or row.metadata_hash is None or row.attachment_metadata_hash is None:
        return False
    package = row.latest_package
    if package is None:
        return row.created_date is None or row.created_date <= now - DELAYS.preservation
    if package.cancelled:
        return True
    if not (package.preserved or package.rejected):
        return False
    changed = row.modified_date != package.object_modified_date and (
        row.metadata_hash != package.metadata_hash or row.attachment_metadata_hash != package.attachment_metadata_hash
    )
    old_enough = package.object_modified_date is None or package.object_modified_date <= now - DELAYS.update
    return changed and old_enough


def _eligible(session: Session, now: datetime) -> set[int]:
    return set(eligible_ids(session, now=now, delays=DELAYS))


def _explain(session: Session, ids: list[int], now: datetime = NOW) -> list[Explanation]:
    return explain(session, ids, now=now, delays=DELAYS)


def _agree(session: Session, ids: list[int]) -> None:
    session.expire_all()
    found = _eligible(session, NOW)
    assert found == {id_ for id_ in ids if is_eligible(session.get_one(MuseumObject, id_), NOW)}
    explanations = _explain(session, ids)
    assert [each.object_id for each in explanations] == ids
    assert found == {each.object_id for each in explanations if each.eligible}
    firsts = Counter(each.reasons[0].reason.key if each.reasons else ELIGIBLE for each in explanations)
    assert +Counter(count_by_reason(session, now=NOW, delays=DELAYS)) == firsts
    for each in explanations:
        assert each.eligible or each.remedies or each.eligible_from, "something has to happen, or time has to pass"
        if each.eligible_from is not None:
            assert each.eligible_from > NOW
            assert each.object_id not in _eligible(session, each.eligible_from - MOMENT)
            assert each.object_id in _eligible(session, each.eligible_from)
    hopeless = {each.object_id for each in explanations if each.remedies}
    assert not hopeless & _eligible(session, NOW + YEARS), "time alone does not help them"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(catalogue=catalogues, changes=st.lists(st.tuples(st.integers(1, 8), objects, st.none() | packages), max_size=4))
def test_rule_and_explanation_agree_and_the_date_told_is_right(
    engine: Engine,
    catalogue: list[tuple[dict[str, Any], dict[str, Any] | None]],
    changes: list[tuple[int, dict[str, Any], dict[str, Any] | None]],
) -> None:
    with Session(engine) as session:  # never committed: the next catalogue begins with empty tables
        for number, (values, package) in enumerate(catalogue, 1):
            row = add_object(session, number, **values)
            if package is not None:
                add_package(session, row, **package)
        ids = list(range(1, len(catalogue) + 1))
        _agree(session, ids)
        settle(session, after=0, limit=100)
        _agree(session, ids)
        # Whoever changes rows, and with whatever statement: what was noted of them does not hide them.
        for number, values, package in changes:
            session.execute(update(MuseumObject).where(MuseumObject.id == number).values(values))
            if package is not None:
                of_object = MuseumPackage.museum_object_id == number
                session.execute(update(MuseumPackage).where(of_object).values(package))
            _agree(session, ids)


def test_an_object_of_which_nobody_knows_anything_is_explained_too(engine: Engine) -> None:
    with database.transaction(engine) as session:
        (told,) = _explain(session, [77, 77])
        assert (told.known, told.eligible, told.eligible_from) == (False, False, None)
        assert [str(reason) for reason in told.reasons] == ["not in the database (run sync_objects)"]
        assert told.remedies == ("sync_objects reads it, if MuseumPlus has it",)


def test_all_reasons_are_told_and_a_date_only_where_waiting_is_enough(engine: Engine) -> None:
    with database.transaction(engine) as session:
        add_object(session, 1, created_date=NOW, frozen=True, freeze_reason="In restoration", removed_date=NOW)
        add_object(session, 2, created_date=NOW)
        row = add_object(session, 3, modified_date=NOW, metadata_hash="b" * 64)
        add_package(session, row, object_modified_date=NOW - timedelta(days=1), metadata_hash="a" * 64)
        first, second, third = _explain(session, [1, 2, 3])
    assert [str(reason) for reason in first.reasons] == [
        "no longer in MuseumPlus",
        "frozen: In restoration",
        "created too recently (preservation_delay)",
    ]
    assert (first.eligible_from, len(first.remedies)) == (None, 2)
    assert (second.eligible_from, second.remedies) == (NOW + DELAYS.preservation, ())
    assert (third.eligible_from, third.remedies) == (NOW + DELAYS.update - timedelta(days=1), ())


def test_what_somebody_is_just_changing_is_not_noted_as_unchanged(engine: Engine) -> None:
    with database.transaction(engine) as session:
        for number in (1, 2, 3):
            add_package(session, add_object(session, number))
    with Session(engine) as somebody, database.transaction(engine) as session:
        somebody.execute(update(MuseumObject).where(MuseumObject.id == 1).values(metadata_hash="b" * 64))
        somebody.execute(
            update(MuseumPackage).where(MuseumPackage.museum_object_id == 2).values(cancelled=True, preserved=False)
        )
        assert settle(session, after=0, limit=10) == [3], "and nobody was waited for"
        somebody.execute(update(MuseumObject).where(MuseumObject.id == 1).values(modified_date=NOW))
        somebody.commit()
    with database.transaction(engine) as session:
        assert _eligible(session, NOW) == {1, 2}
        assert settle(session, after=0, limit=10) == []
        assert _explain(session, [3])[0].reasons


def test_a_change_that_comes_while_objects_are_noted_is_not_lost(engine: Engine) -> None:
    with database.transaction(engine) as session:
        for number in (1, 2):
            add_package(session, add_object(session, number))

    def change() -> None:
        with database.transaction(engine) as somebody:
            somebody.execute(
                update(MuseumPackage).where(MuseumPackage.museum_object_id == 1).values(cancelled=True, preserved=False)
            )
            somebody.execute(
                update(MuseumObject).where(MuseumObject.id == 2).values(metadata_hash="b" * 64, modified_date=NOW)
            )

    thread = threading.Thread(target=change)
    with Session(engine) as noting:
        assert settle(noting, after=0, limit=10) == [1, 2]
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "it waits for what is being noted"
        noting.commit()
    thread.join(20)
    with database.transaction(engine) as session:
        assert _eligible(session, NOW) == {1, 2}
