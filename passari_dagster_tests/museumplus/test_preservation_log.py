"""Each verdict is told to MuseumPlus once, and what others wrote is never lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus.client import MuseumPlus, NotInMuseumPlus
from passari_dagster.museumplus.preservation_log import LogEntry
from passari_dagster.simulation.museumplus import LOG_FIELD, SimulatedMuseum
from passari_dagster_tests.museumplus.conftest import Connect

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
ENTRY = LogEntry("20261123_Object_1000000.tar", "rejected", NOON, NOON)
OBJECT = 1_000_000


def test_a_verdict_is_appended(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    before = museum.object(OBJECT)
    assert client.read_log(OBJECT) == []
    assert client.add_log_entry(OBJECT, ENTRY)
    later = LogEntry("a & <b>\u0007.tar", "accepted", None, NOON)
    assert client.add_log_entry(OBJECT, later)
    assert (
        museum.log_field(OBJECT)
        == client.read_log(OBJECT)
        == [
            {
                "filename": "20261123_Object_1000000.tar",
                "status": "rejected",
                "object_modify_date": "2026-11-23T12:00:00+00:00",
                "date": "2026-11-23T12:00:00+00:00",
            },
            {
                "filename": "a & <b>\u0007.tar",
                "status": "accepted",
                "object_modify_date": None,
                "date": "2026-11-23T12:00:00+00:00",
            },
        ]
    )
    assert museum.object(OBJECT).modified != before.modified


def test_telling_it_again_writes_nothing(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    client.add_log_entry(OBJECT, ENTRY)
    assert not client.add_log_entry(OBJECT, replace(ENTRY, date=datetime.now(timezone.utc)))
    assert museum.count(f"/{OBJECT}/{LOG_FIELD}", "PUT") == 1
    assert client.add_log_entry(OBJECT, replace(ENTRY, status="accepted"))


def test_a_write_whose_answer_was_lost_is_not_written_twice(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.faults.fail_next(method="PUT", fault="drop")
    museum.faults.fail_next(method="PUT", fault="error", status=502)
    client.add_log_entry(OBJECT, ENTRY)
    assert len(museum.log_field(OBJECT)) == 1


@pytest.mark.parametrize("text", ["tähän ei saa kirjoittaa", '{"a": 1}', "[1, 2]", "[" * 100_000, "null"])
def test_what_is_no_log_is_never_overwritten(museum: SimulatedMuseum, client: MuseumPlus, text: str) -> None:
    museum.edit_object(OBJECT, fields={LOG_FIELD: text})
    with pytest.raises(PermanentFailure, match=f"Object {OBJECT}: field {LOG_FIELD}"):
        client.add_log_entry(OBJECT, ENTRY)
    assert museum.field(OBJECT, LOG_FIELD) == text
    assert museum.count("", "PUT") == 0


def test_a_blank_field_is_an_empty_log(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.edit_object(OBJECT, fields={LOG_FIELD: " \n"})
    assert client.add_log_entry(OBJECT, ENTRY)
    assert len(museum.log_field(OBJECT)) == 1


def test_without_a_field_name_nothing_is_written(museum: SimulatedMuseum, connect: Connect) -> None:
    client = connect(object_preservation_field_name="")
    assert not client.add_log_entry(OBJECT, ENTRY)
    assert client.read_log(OBJECT) == []
    assert museum.requests == []


def test_an_object_that_is_gone_is_told_by_name(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.delete_object(OBJECT)
    with pytest.raises(NotInMuseumPlus):
        client.add_log_entry(OBJECT, ENTRY)
