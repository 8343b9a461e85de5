"""What is told of frozen objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from passari_dagster.catalogue import database
from passari_dagster.catalogue.models import FreezeSource
from passari_dagster.catalogue.statistics import (
    FrozenObject,
    FrozenReason,
    count_frozen,
    frozen_by_reason,
    frozen_objects,
)
from passari_dagster_tests.catalogue.rows import add_object, add_package


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with database.transaction(engine) as session:
        by_us = {"frozen": True, "freeze_source": FreezeSource.AUTOMATIC}
        add_object(session, 1, title="Kirves", freeze_reason="MPO JPEG files not supported", **by_us)
        row = add_object(session, 2, title="Puukko 100%", freeze_reason="MPO JPEG files not supported", **by_us)
        add_package(session, row, preserved=False, cancelled=True, sip_filename="20190101_Object_2-x.tar")
        add_object(session, 3, title="Vene", freeze_reason="lent out", frozen=True, freeze_source=FreezeSource.USER)
        add_object(session, 4, title="Kirves, not frozen any more", freeze_reason="lent out", frozen=False)
        add_object(session, 12, title=None, frozen=True)
        yield session


def test_reasons_are_counted(session: Session) -> None:
    assert frozen_by_reason(session) == [
        FrozenReason("MPO JPEG files not supported", 2, 0),
        FrozenReason("", 1, 0),
        FrozenReason("lent out", 1, 1),
    ]


def test_objects_come_a_page_at_a_time(session: Session) -> None:
    pages = [[each.object_id for each in frozen_objects(session, limit=3, after=after)] for after in (0, 3, 12)]
    assert pages == [[1, 2, 3], [12], []]
    assert frozen_objects(session, limit=9, reason="MPO JPEG files not supported")[1] == FrozenObject(
        2, "Puukko 100%", "MPO JPEG files not supported", "automatic", "20190101_Object_2-x.tar"
    )


@pytest.mark.parametrize(
    ("search", "reason", "ids"),
    [
        ("kirves", None, [1]),
        ("0%", None, [2]),
        ("_", None, []),
        ("LENT", None, [3]),
        ("12", None, [12]),
        ("99999999999999999999", None, []),
        ("", "lent", []),
        ("", "", [12]),
        ("puukko", "MPO JPEG files not supported", [2]),
    ],
)
def test_objects_are_found_by_reason_and_search(
    session: Session, search: str, reason: str | None, ids: list[int]
) -> None:
    found = frozen_objects(session, reason=reason, search=search, limit=10)
    assert [each.object_id for each in found] == ids
    assert count_frozen(session, reason=reason, search=search) == len(ids)
