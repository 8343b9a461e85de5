"""Which objects are launched next, and what those that are not are told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from passari_dagster.settings import WorkflowSettings
from passari_dagster.workflow import enqueue
from passari_dagster.workflow.enqueue import Chosen
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import add_object, add_package
from passari_dagster_tests.house import House


@pytest.fixture
def stocked(house: House, env: Environment) -> Environment:
    """Objects 1 to 9: 4 is frozen, 7 waits for the DPS, 9 is preserved."""
    with env.transaction() as session:
        for object_id in (5, 2, 8, 1, 3, 6):
            add_object(session, object_id)
        add_object(session, 4, frozen=True, freeze_reason="In restoration")
        add_package(session, add_object(session, 7), preserved=False)
        add_package(session, add_object(session, 9))
    return env


def choose(env: Environment, **values: Any) -> Chosen:
    defaults: dict[str, Any] = {
        "count": None,
        "object_ids": [],
        "random": False,
        "in_flight": set(),
        "registered": set(),
    }
    return enqueue.choose(env, **{**defaults, **values})


def test_the_oldest_ids_come_first_and_none_that_is_in_the_workflow(stocked: Environment) -> None:
    assert choose(stocked, count=3) == Chosen(ids=(1, 2, 3), left=0, refused={})
    assert choose(stocked, count=3, in_flight={1, 3}).ids == (2, 5, 6)
    assert choose(stocked, count=100).ids == (1, 2, 3, 5, 6, 8)
    assert choose(stocked, count=0).ids == ()


def test_random_ones_are_eligible_too(stocked: Environment) -> None:
    drawn = [choose(stocked, count=3, random=True).ids for _ in range(20)]
    assert len(set(drawn)) > 1
    assert all(set(ids) <= {1, 2, 3, 5, 6, 8} and len(set(ids)) == 3 for ids in drawn)


def test_each_object_that_was_asked_for_is_launched_or_told_why_not(stocked: Environment) -> None:
    chosen = choose(stocked, object_ids=[8, 4, 8, 7, 9, 100, 2, 3], in_flight={3})
    assert chosen.ids == (2, 8)
    assert chosen.refused == {
        3: "a run of it is queued or live",
        4: "frozen: In restoration",
        7: "in the workflow",
        9: "not changed since the last package",
        100: "not in the database (run sync_objects)",
    }
    assert choose(stocked, object_ids=[8, 2, 3], count=2).refused == {8: "more objects than object_count"}


def test_an_enqueue_past_the_cap_takes_what_fits_and_says_how_many_are_left(house: House, stocked: Environment) -> None:
    capped = dataclasses.replace(
        stocked, settings=house.settings(workflow=WorkflowSettings(partition_cap=4).model_dump())
    )
    chosen = choose(capped, count=5, registered={2, 6})
    assert chosen == Chosen(ids=(1, 2, 3, 6), left=1, refused={}), "those that have a key need no room"
    assert choose(capped, count=5, registered={11, 12, 13, 14, 15}).ids == ()
    assert choose(capped, count=2, registered={11, 12, 13, 14, 15}).left == 2


def test_candidates_and_finished_objects(stocked: Environment) -> None:
    assert enqueue.candidates(stocked, limit=4, in_flight={2}) == [1, 3, 5, 6]
    assert enqueue.candidates(stocked, limit=0, in_flight=()) == []
    assert enqueue.finished(stocked, [1, 4, 7, 9, 100]) == [4, 9, 100]
    assert enqueue.finished(stocked, []) == []
