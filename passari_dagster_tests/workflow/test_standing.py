"""What waits for a person: what was rejected, what waits too long, and what failed runs have in common."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from passari_dagster.catalogue.models import Verdict
from passari_dagster.workflow import audit, overview, standing
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.standing import Failure
from passari_dagster_tests.catalogue.rows import LONG_AGO, add_object, add_package
from passari_dagster_tests.house import House


@pytest.fixture
def env(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[Environment]:
    house = House(tmp_path, museum_database, redis_url, objects=1)
    try:
        with house.environment(workflow={"overdue_days": 3}) as env:
            yield env
    finally:
        house.close()


def test_rejections_are_counted_exactly_and_the_latest_are_told_first(env: Environment) -> None:
    refused = {"preserved": False, "rejected": True, "verdict": Verdict.REJECTED}
    with env.transaction() as session:
        for object_id in range(1, 31):
            add_package(
                session, add_object(session, object_id), verdict_date=LONG_AGO + timedelta(days=object_id), **refused
            )
        add_package(session, add_object(session, 40, frozen=True), **refused)
        add_package(session, add_object(session, 41))
        sent_again = add_object(session, 42)
        add_package(session, sent_again, **refused)
        add_package(session, sent_again, preserved=False)
    found = standing.rejections(env)
    assert (found.number, found.first_ids) == (30, tuple(range(30, 10, -1)))


def test_what_waits_too_long_for_its_verdict_is_told_the_longest_wait_first(env: Environment) -> None:
    now = env.now()
    with env.transaction() as session:
        for object_id, days in ((1, 2), (2, 4), (3, 9)):
            sent = now - timedelta(days=days)
            add_package(session, add_object(session, object_id), preserved=False, submission_date=sent)
        add_package(session, add_object(session, 4), preserved=False, verdict=Verdict.ACCEPTED)
        add_package(session, add_object(session, 5), preserved=False, cancelled=True)
        add_package(session, add_object(session, 6), preserved=False, submission_date=None, uploaded=False)
        # What the DPS does not answer is missed for nobody's sake.
        sent = now - timedelta(days=5)
        add_package(session, add_object(session, 7, frozen=True), preserved=False, submission_date=sent)
        begun_again = add_object(session, 8)
        add_package(session, begun_again, preserved=False, submission_date=sent - timedelta(hours=1))
        add_package(session, begun_again, preserved=False, submission_date=None, uploaded=False)
    found = standing.overdue(env)
    assert (found.number, found.first_ids) == (4, (3, 8, 7, 2))


def test_objects_that_are_done_with_need_nobody(env: Environment) -> None:
    with env.transaction() as session:
        add_object(session, 1)
        add_package(session, add_object(session, 2), preserved=False, uploaded=False, submission_date=None)
        add_package(session, add_object(session, 3), confirmed_date=LONG_AGO)
        add_object(session, 4, frozen=True)
        # With the DPS: its verdict is waited for, or is there and was not confirmed.
        add_package(session, add_object(session, 5), preserved=False)
        add_package(session, add_object(session, 6), preserved=False, verdict=Verdict.ACCEPTED)
    assert standing.unfinished(env, dict.fromkeys([1, 2, 3, 4, 5, 6, 99], env.now())) == {1, 2, 6}
    assert standing.unfinished(env, {}) == set()


def test_an_object_whose_package_was_cancelled_since_it_failed_needs_nobody(env: Environment) -> None:
    now = env.now()
    with env.transaction() as session:
        for object_id in (1, 2, 3):
            add_package(session, add_object(session, object_id), preserved=False, cancelled=True)
        audit.record(session, audit.Actor("maija"), "cancel", now=now, object_ids=[1, 2])
    before, after = now - timedelta(minutes=1), now + timedelta(minutes=1)
    assert standing.unfinished(env, {1: before, 2: after, 3: before}) == {2, 3}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("object 17: 'kuva 1.tif' has 2 pages", "object 18999: 'toinen kuva.tif' has 31 pages"),
        ("reports/Object_1/a.tif: offset 12,345 is odd", "Object_2/b.jpeg: offset 7 is odd"),
        ("asked https://a/b?id=1 at 12:30:11", "asked https://museum.example/x at 2026-01-01T09:00:00.5"),
        ("no 0a1b2c3d4e5f6071 there", "no ffeeddccbbaa00998877 there"),
        ("run 6e6a0bb8-0ee1-4b0a-9a50-2f3f8a4a7a11 ended", "run 0f1d2c3b-aaaa-bbbb-cccc-0123456789ab ended"),
        ("two\n lines", "two lines"),
    ],
)
def test_messages_of_one_kind_are_the_same_but_for_names_and_numbers(one: str, other: str) -> None:
    assert standing.normalised(one) == standing.normalised(other)


def test_messages_of_different_kinds_stay_different() -> None:
    kinds = ["the profile of 'a.tif' is unknown", "the profile of 'a.tif' is broken", "the DPS did not answer"]
    assert len({standing.normalised(kind) for kind in kinds}) == 3
    assert standing.normalised("x" * 10_000) == "x" * 300


def test_failures_are_gathered_and_candidates_for_a_detector_picked() -> None:
    failures = [
        Failure(id_, f"run{id_}", "create_sip", f"file 'x{id_}|y' is odd", final=True, error="UnforeseenContent")
        for id_ in range(5)
    ]
    failures += [
        Failure(9, "run9", "submit_sip", "the DPS did not answer", final=False, error="TransientFailure"),
        Failure(10, "run10", "create_sip", "disk full", final=False, error="TransientFailure"),
        Failure(11, "run11", "create_sip", "the key is expired", final=True, error="PermanentFailure"),
        Failure(12, "run12", "", "killed", final=False, error=""),
    ]
    many, *others = standing.clustered(failures)
    assert (len(many.failures), many.message, many.candidate) == (5, "file <name> is odd", True)
    assert {other.message: other.candidate for other in others} == {
        "the DPS did not answer": False,
        "disk full": False,
        "the key is expired": False,
        "killed": False,
    }
    table = standing.markdown_clusters([many, *others])
    assert "| 5 | create\\_sip | no | file \\<name\\> is odd | file 'x0\\|y' is odd | [0](/runs/run0), [1]" in table
    assert standing.markdown_clusters([]) == "none"


def test_the_overview_counts_every_place_and_draws_them(env: Environment) -> None:
    begun = {"preserved": False, "submission_date": None, "uploaded": False, "packaged": False}
    with env.transaction() as session:
        add_object(session, 1)
        add_package(session, add_object(session, 2), **begun)
        add_package(session, add_object(session, 3), **{**begun, "downloaded": False})
        add_package(session, add_object(session, 4), preserved=False)
        add_package(session, add_object(session, 5))
        add_object(session, 6, frozen=True)
    counts = overview.count(env)
    assert set(counts) == set(overview.KEYS) - {"failed"}
    expected = dict.fromkeys(("eligible", "downloading", "downloaded", "submitted", "preserved", "frozen"), 1)
    assert {key: number for key, number in counts.items() if number} == expected
    counts = {**counts, "failed": 868_000}
    with Image.open(io.BytesIO(overview.draw(counts))) as picture:
        assert picture.format == "PNG"
        assert picture.width < 800
    text = overview.markdown(counts)
    assert text.startswith("![how many objects are where](data:image/png;base64,")
    assert "| 868,000 | their last run failed" in text
    assert len(text) < 10_000, "it is kept for each hour of a year"
