"""Redis is lost, or an old one is restored: the database says what is to be done."""

from __future__ import annotations

import logging
import time

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType
from dagster._daemon.monitoring.run_monitoring import monitor_starting_run

from passari_dagster.run_queue import reconcile as module
from passari_dagster.run_queue.dagster_internals import report_starting
from passari_dagster.run_queue.ledger import Lease
from passari_dagster.run_queue.reconcile import Reconciled, reconcile, reconcile_if_changed
from passari_dagster_tests.run_queue.site import Site, flush
from passari_dagster_tests.run_queue.toy_runs import gated


def test_nothing_is_to_be_done_when_all_is_well(site: Site) -> None:
    site.submit(gated, "1")
    site.submit(gated)
    done = reconcile(site.instance, site.ledger)
    assert (done.enqueued, done.claimed, done.freed, done.failed, done.dropped) == (0, 0, 0, 0, 0)


def test_after_flushall_queued_runs_are_enqueued_and_claimed_again_in_their_order(site: Site) -> None:
    runs = [site.submit(gated, str(number)) for number in range(5)]
    flush(site)
    done = reconcile(site.instance, site.ledger)
    assert done.enqueued == 5
    assert site.ledger._queues["passari-normal"].job_ids == runs
    assert sorted(site.ledger.claims().values()) == sorted(runs)


def test_the_oldest_come_first_where_one_call_does_not_enqueue_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    runs = [site.submit(gated, str(number)) for number in range(8)]
    flush(site)
    for _ in range(3):
        reconcile(site.instance, site.ledger)
    assert site.ledger._queues["passari-normal"].job_ids == runs


def test_a_run_that_was_never_submitted_keeps_no_other_from_its_object(site: Site) -> None:
    """Its launcher was killed between the two."""
    site.create(gated, "4711")
    assert reconcile(site.instance, site.ledger).claimed == 0
    assert site.status(site.submit(gated, "4711")) == "QUEUED"


def test_a_run_that_was_queued_while_redis_was_away_gets_there(site: Site) -> None:
    site.stop_redis()
    run_id = site.submit(gated, "4711")
    site.start_redis()
    assert reconcile(site.instance, site.ledger).enqueued == 1
    assert site.ledger.queued() == {run_id}


def test_two_runs_of_an_object_queued_while_redis_was_away_become_one(site: Site) -> None:
    site.stop_redis()
    first, second = site.submit(gated, "4711"), site.submit(gated, "4711")
    site.start_redis()
    reconcile(site.instance, site.ledger)
    assert (site.status(first), site.status(second)) == ("QUEUED", "CANCELED")


def test_a_restored_redis_that_remembers_the_past_is_corrected(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    site.instance.report_run_canceled(site.run(run_id))
    done = reconcile(site.instance, site.ledger)
    assert (done.freed, done.dropped) == (1, 1)
    assert site.ledger.claims() == {}
    assert site.ledger.queued() == set()


def test_a_message_that_died_with_its_worker_is_sent_again(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    site.ledger.connection.lpop("rq:queue:passari-normal")
    assert reconcile(site.instance, site.ledger).enqueued == 1
    assert site.ledger.queued() == {run_id}


def test_a_run_that_a_worker_just_begins_is_left_alone(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    site.ledger.connection.lpop("rq:queue:passari-normal")
    assert site.ledger.take_lease(Lease(run_id, "host", "worker", 1, time.time(), "gated 4711"))
    assert reconcile(site.instance, site.ledger).enqueued == 0


def test_a_run_whose_worker_died_before_it_began_is_failed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = site.submit(gated, "4711")
    site.ledger.connection.lpop("rq:queue:passari-normal")
    report_starting(site.instance, site.run(run_id))
    monkeypatch.setattr(module, "LEASE_GRACE", 0.0)
    assert reconcile(site.instance, site.ledger).failed == 1
    assert site.status(run_id) == "FAILURE"
    assert site.ledger.claims() == {}


def test_a_run_that_begins_while_redis_forgets_its_lease_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = site.submit(gated, "4711")
    report_starting(site.instance, site.run(run_id))
    lease = Lease(run_id, "host", "worker", 1, time.time(), "gated 4711")
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: site.ledger.renew_lease(lease))
        assert reconcile(site.instance, site.ledger).failed == 0
    assert site.status(run_id) == "STARTING"


@pytest.mark.parametrize("off", [-300, 300])
def test_a_run_that_begins_on_a_host_whose_clock_is_off_is_left_alone(site: Site, off: int) -> None:
    run_id = site.submit(gated, "4711")
    starting = dg.DagsterEvent(event_type_value=DagsterEventType.PIPELINE_STARTING.value, job_name="gated")
    assert site.ledger.take_lease(Lease(run_id, "host", "worker", 1, time.time() + off, "gated 4711"))
    site.instance.report_dagster_event(starting, run_id, timestamp=time.time() + off)
    (record,) = site.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
    monitor_starting_run(site.instance, record, logging.getLogger(__name__))
    assert reconcile(site.instance, site.ledger).failed == 0
    assert site.status(run_id) == "STARTING"


def test_while_no_number_changes_the_ids_are_not_compared_again(site: Site) -> None:
    site.submit(gated, "1")
    done, seen = reconcile_if_changed(site.instance, site.ledger, None)
    assert done is not None
    assert seen is not None
    assert reconcile_if_changed(site.instance, site.ledger, seen) == (None, seen)


def test_what_changes_a_number_is_seen_at_the_next_look(site: Site) -> None:
    first, second = site.submit(gated, "1"), site.submit(gated, "2")
    seen = reconcile_if_changed(site.instance, site.ledger, None)[1]
    site.ledger.connection.lrem("rq:queue:passari-normal", 0, first)
    done, unsure = reconcile_if_changed(site.instance, site.ledger, seen)
    assert (done, unsure) == (Reconciled(enqueued=1, claimed=0, freed=0, failed=0, dropped=0), None)
    seen = reconcile_if_changed(site.instance, site.ledger, unsure)[1]
    site.instance.report_run_canceled(site.run(second))
    done, _ = reconcile_if_changed(site.instance, site.ledger, seen)
    assert done == Reconciled(enqueued=0, claimed=0, freed=1, failed=0, dropped=1)


def test_a_redis_that_was_started_anew_is_compared(site: Site) -> None:
    run_id = site.submit(gated, "1")
    seen = reconcile_if_changed(site.instance, site.ledger, None)[1]
    site.stop_redis()
    site.start_redis()
    # The same numbers as before, of other runs.
    flush(site)
    site.ledger.enqueue("somebody-else", "passari-normal", "what")
    site.ledger.claim("4711", "somebody-else")
    done, _ = reconcile_if_changed(site.instance, site.ledger, seen)
    assert done is not None
    assert (done.enqueued, done.dropped, done.freed) == (1, 1, 1)
    assert site.ledger.queued() == {run_id}


def test_once_in_a_while_all_is_compared_whatever_the_numbers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.submit(gated, "1")
    seen = reconcile_if_changed(site.instance, site.ledger, None)[1]
    monkeypatch.setattr(module, "COMPARE_EVERY", 0.0)
    assert reconcile_if_changed(site.instance, site.ledger, seen)[0] is not None
