"""Which objects an administrator may enqueue now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from passari_dagster.catalogue import database
from passari_dagster.catalogue.eligibility import eligible_ids, why_not
from passari_dagster_tests.catalogue.rows import DELAYS, LONG_AGO, NOW, add_object, add_package

RECENT = NOW - timedelta(days=3)
CHANGED = {"modified_date": NOW - timedelta(days=1), "metadata_hash": "b" * 64}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, None),
        ({"created_date": None}, None),
        ({"frozen": None}, None),
        ({"frozen": True, "freeze_reason": "Unsupported file format: psd"}, "frozen: Unsupported file format: psd"),
        ({"metadata_hash": None}, "metadata hash not known"),
        ({"attachment_metadata_hash": None}, "attachment hashes not known"),
        ({"created_date": RECENT}, "created too recently"),
    ],
)
def test_a_new_object_is_eligible_when_it_is_known_old_enough_and_not_frozen(
    engine: Engine, values: dict[str, Any], reason: str | None
) -> None:
    with database.transaction(engine) as session:
        add_object(session, **values)
        told = why_not(session, 1, now=NOW, delays=DELAYS)
        assert (told is None) == (reason is None)
        assert reason is None or reason in (told or "")
        assert eligible_ids(session, now=NOW, delays=DELAYS) == ([] if reason else [1])


@pytest.mark.parametrize(
    ("now_values", "package", "reason"),
    [
        ({}, {}, "not changed"),
        (CHANGED, {}, None),
        ({"modified_date": NOW}, {}, "not changed"),  # MuseumPlus's date moved, its content did not: our own log entry
        ({"metadata_hash": "b" * 64}, {}, "not changed"),
        ({"modified_date": NOW, "attachment_metadata_hash": "c" * 64}, {}, None),
        (CHANGED, {"object_modified_date": None}, None),
        (CHANGED, {"object_modified_date": RECENT}, "packaged too recently"),
        (CHANGED, {"preserved": False, "rejected": True}, None),
        ({}, {"preserved": False, "rejected": True}, "not changed"),
        (CHANGED, {"preserved": False, "uploaded": False}, "in the workflow"),
        (CHANGED, {"preserved": False}, "in the workflow"),
        ({}, {"preserved": False, "cancelled": True}, None),
        ({"frozen": True}, {"preserved": False, "cancelled": True}, "frozen"),
    ],
)
def test_a_packaged_object_is_eligible_again_when_it_changed_or_its_package_was_cancelled(
    engine: Engine, now_values: dict[str, Any], package: dict[str, Any], reason: str | None
) -> None:
    with database.transaction(engine) as session:
        row = add_object(session)
        add_package(session, row, **package)
        for name, value in now_values.items():
            setattr(row, name, value)
        session.flush()
        told = why_not(session, 1, now=NOW, delays=DELAYS)
        assert (told is None) == (reason is None), told
        assert reason is None or reason in (told or "")
        assert eligible_ids(session, now=NOW, delays=DELAYS) == ([] if reason else [1])


def test_objects_come_in_the_order_of_their_ids_and_only_those_asked_for(engine: Engine) -> None:
    with database.transaction(engine) as session:
        for object_id in (5, 3, 9, 7):
            add_object(session, object_id)
        add_object(session, 4, frozen=True)
        assert eligible_ids(session, now=NOW, delays=DELAYS) == [3, 5, 7, 9]
        assert eligible_ids(session, now=NOW, delays=DELAYS, limit=2, excluding={3}) == [5, 7]
        assert eligible_ids(session, now=NOW, delays=DELAYS, among=[9, 4, 100]) == [9]
        assert set(eligible_ids(session, now=NOW, delays=DELAYS, random=True)) == {3, 5, 7, 9}
        assert why_not(session, 100, now=NOW, delays=DELAYS) == "not in the database (run sync_objects)"


def test_an_object_modified_at_an_unknown_time_is_compared_too(engine: Engine) -> None:
    with database.transaction(engine) as session:
        row = add_object(session, modified_date=None)
        add_package(session, row, object_modified_date=None)
        assert why_not(session, 1, now=NOW, delays=DELAYS) == "not changed since the last package"
        row.modified_date, row.metadata_hash = LONG_AGO, "b" * 64
        session.flush()
        assert why_not(session, 1, now=NOW, delays=DELAYS) is None
