"""Packages are found by words and states, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from passari_dagster.catalogue import database, search
from passari_dagster.catalogue.models import MuseumAttachment, package_attachments
from passari_dagster.catalogue.search import State, find_packages
from passari_dagster.errors import PermanentFailure
from passari_dagster_tests.catalogue.rows import NOW, add_object, add_package

OPEN: dict[str, Any] = {"preserved": False, "submission_date": None, "uploaded": False}


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with database.transaction(engine) as session:
        kirves = add_object(session, 1, title="Kirves")
        for id_, values in ((1, {}), (2, {"preserved": False, "rejected": True}), (3, OPEN)):
            add_package(session, kirves, id=id_, **values)
        vene = add_object(session, 17, title="Vene 50%", frozen=True)
        package = add_package(session, vene, id=4, sip_filename="20260101_Object_17-a.tar", cancelled=True, **OPEN)
        session.add(MuseumAttachment(id=9, filename="Saimaa_1.JPG"))
        session.flush()
        session.execute(insert(package_attachments).values(museum_package_id=package.id, museum_attachment_id=9))
        yield session


def ids(session: Session, **asked: Any) -> list[int]:
    return [each.package_id for each in find_packages(session, **{"limit": 10, **asked})]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", [4, 3, 2, 1]),
        ("kirves", [3, 2, 1]),
        ("50%", [4]),
        ("5_%", []),
        ("saimaa_1.jpg", [4]),
        ("20260101_object_17", [4]),
        ("17", [4]),
        ("1", [3, 2, 1]),
        ("2026", [4]),
        ("9" * 30, []),
        ("\\", []),
        ("nothing", []),
    ],
)
def test_words_are_found_in_ids_titles_and_names(session: Session, words: str, found: list[int]) -> None:
    assert ids(session, search=words) == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"states": [State.PRESERVED]}, [1]),
        ({"states": [State.REJECTED]}, [2]),
        ({"states": [State.PROCESSING]}, [3]),
        ({"states": [State.CANCELLED]}, [4]),
        ({"states": [State.CANCELLED, State.REJECTED]}, [4, 2]),
        ({"latest": True}, [4, 3]),
        ({"latest": True, "states": [State.REJECTED]}, []),
        ({"states": [State.REJECTED], "search": "vene"}, []),
        ({"limit": 2}, [4, 3]),
        ({"limit": 2, "before": 3}, [2, 1]),
    ],
)
def test_states_and_pages_can_be_asked_for(session: Session, asked: dict[str, Any], found: list[int]) -> None:
    assert ids(session, **asked) == found


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"downloaded": False, "packaged": False}, "downloading"),
        ({"packaged": False}, "downloaded"),
        ({}, "packaged"),
        ({"submission_date": NOW}, "perhaps submitted"),
        ({"submission_date": NOW, "uploaded": True}, "submitted"),
        ({"submission_date": NOW, "uploaded": True, "verdict": "ACCEPTED"}, "confirming"),
        ({"preserved": True}, "preserved"),
        ({"rejected": True}, "rejected"),
    ],
)
def test_a_word_says_where_a_package_is(session: Session, values: dict[str, Any], state: str) -> None:
    add_package(session, add_object(session, 50), id=50, **{**OPEN, **values})
    assert find_packages(session, limit=1)[0].state == state


def test_a_search_that_takes_too_long_is_given_up(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SEARCH_SECONDS", 0.1)
    monkeypatch.setattr(search, "contains", lambda _column, _words: text("pg_sleep(5) IS NOT NULL"))
    with pytest.raises(PermanentFailure, match="longer words"):
        ids(session, search="kirves")
