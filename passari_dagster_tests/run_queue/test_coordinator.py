"""Runs at the door of the queue: admitted, refused, cancelled; nothing executes them here."""

from __future__ import annotations

import time

import dagster as dg
import pytest

from passari_dagster.run_queue.dagster_internals import LaunchRunContext, report_starting
from passari_dagster.run_queue.ledger import QUEUES, Lease
from passari_dagster_tests.run_queue.site import Site
from passari_dagster_tests.run_queue.toy_runs import gated


def test_a_launched_run_is_queued_in_the_database_and_in_redis(site: Site) -> None:
    run_id = site.submit(gated)
    assert site.status(run_id) == "QUEUED"
    assert site.ledger.queued() == {run_id}
    assert site.ledger.claims() == {}, "a run without a partition claims nothing"


@pytest.mark.parametrize(
    ("priority", "queue"), [("7", QUEUES[0]), ("0", QUEUES[1]), ("-1", QUEUES[2]), ("soon, please", QUEUES[1])]
)
def test_its_priority_chooses_the_queue(site: Site, priority: str, queue: str) -> None:
    site.submit(gated, **{"dagster/priority": priority})
    assert {name for name, depth in site.ledger.depth().items() if depth} == {queue}


def test_a_second_run_of_an_object_is_cancelled_and_names_the_first(site: Site) -> None:
    first = site.submit(gated, "4711")
    second = site.submit(gated, "4711")
    other = site.submit(gated, "4712")
    assert [site.status(run_id) for run_id in (first, second, other)] == ["QUEUED", "CANCELED", "QUEUED"]
    assert first in site.messages(second)
    assert site.ledger.queued() == {first, other}


def test_a_queued_run_is_cancelled_and_its_object_is_free(site: Site) -> None:
    first = site.submit(gated, "4711")
    assert site.coordinator.cancel_run(first)
    assert site.status(first) == "CANCELED"
    assert site.ledger.queued() == set()
    assert site.ledger.claims() == {}
    assert not site.coordinator.cancel_run(first), "it has ended"
    assert site.status(site.submit(gated, "4711")) == "QUEUED"


def test_a_run_that_executes_is_not_over_because_an_old_redis_has_it_in_the_queue(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    report_starting(site.instance, site.run(run_id))
    assert site.ledger.take_lease(Lease(run_id, "host", "worker", 1, time.time(), "gated 4711"))
    assert site.coordinator.cancel_run(run_id)
    assert site.status(run_id) == "CANCELING"
    assert site.ledger.is_to_be_cancelled(run_id)
    assert site.ledger.queued() == set()
    assert site.ledger.claims() == {"gated:4711": run_id}


def test_a_launch_that_passes_the_coordinator_by_is_refused(site: Site) -> None:
    run = site.create(gated, "4711")
    with pytest.raises(dg.DagsterInvariantViolationError, match="RedisRunCoordinator"):
        site.launcher.launch_run(LaunchRunContext(run, None))
    assert site.ledger.queued() == set()


def test_the_claim_of_a_run_that_ended_without_freeing_it_is_taken_over(site: Site) -> None:
    first = site.submit(gated, "4711")
    site.instance.report_run_failed(site.run(first), "its host burned down")
    second = site.submit(gated, "4711")
    assert site.status(second) == "QUEUED"
    assert site.ledger.claims() == {"gated:4711": second}


def test_a_run_that_is_submitted_twice_is_queued_once(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    site.coordinator._enqueue(site.run(run_id))
    assert sum(site.ledger.depth().values()) == 1


def test_without_redis_a_run_is_queued_all_the_same(site: Site) -> None:
    site.stop_redis()
    run_id = site.submit(gated, "4711")
    assert site.status(run_id) == "QUEUED"


def test_what_dagster_yaml_may_say_is_described(site: Site) -> None:
    for part in (site.coordinator, site.launcher):
        assert all(field.description for field in part.config_type().values())
        assert part.inst_data is not None
