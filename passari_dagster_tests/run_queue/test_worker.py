"""Workers execute what is queued, and tell the truth of how it ended."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from passari_dagster.run_queue import pools
from passari_dagster_tests.run_queue.site import Site, flush, kill
from passari_dagster_tests.run_queue.toy_runs import broken, gated, narrow, stubborn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_runs_are_executed_and_leave_nothing_in_redis(site: Site) -> None:
    site.gate.touch()
    runs = [site.submit(gated, str(number)) for number in range(3)]
    failing = site.submit(broken)
    with site.pool(2):
        for run_id in runs:
            site.wait_for(run_id, "SUCCESS")
        site.wait_for(failing, "FAILURE")
        assert "the roof leaks" in site.messages(failing)
        site.wait(lambda: not site.ledger.claims() and not list(site.ledger.leases()), "claims and leases to go")
    assert site.ledger.queued() == set()


def test_high_priority_goes_first_and_equals_in_their_order(site: Site) -> None:
    site.gate.touch()
    low, first, second = site.submit(gated, **{"dagster/priority": "-5"}), site.submit(gated), site.submit(gated)
    high = site.submit(gated, **{"dagster/priority": "5"})
    with site.pool():
        site.wait_for(low, "SUCCESS")
    begun = {run_id: site.instance.get_run_stats(run_id).start_time or 0 for run_id in (high, first, second, low)}
    assert sorted(begun, key=lambda run_id: begun[run_id]) == [high, first, second, low]


def test_a_cancelled_run_ends_cancelled_within_seconds(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        begun = time.monotonic()
        assert site.coordinator.cancel_run(run_id)
        site.wait_for(run_id, "CANCELED", seconds=8)
        assert time.monotonic() - begun < 8
        site.wait(lambda: not site.ledger.claims(), "the claim to go")


def test_a_cancelled_run_that_hears_nothing_is_killed_and_ends_cancelled(site: Site) -> None:
    run_id = site.submit(stubborn, "4711")
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        assert site.launcher.terminate(run_id)
        site.wait_for(run_id, "CANCELED", seconds=40)


def test_a_run_that_is_killed_is_failed_at_once_and_its_worker_goes_on(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        kill(site.process_of(run_id))
        site.wait_for(run_id, "FAILURE", seconds=10)
        site.wait(lambda: not site.ledger.claims(), "the claim to go")
        site.gate.touch()
        site.wait_for(site.submit(gated, "4711"), "SUCCESS")


def test_a_killed_worker_takes_its_run_along_and_is_replaced(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        process = site.process_of(run_id)
        worker = process.parent()
        assert worker is not None
        assert "passari run: gated 4711" in " ".join(process.cmdline())
        kill(worker)
        site.wait(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "the run to die", 5)
        # Dagster's run monitoring asks this; nobody renews the lease.
        site.wait(lambda: site.launcher.check_run_worker_health(site.run(run_id)).status.value == "FAILED", "FAILED")
        site.instance.report_run_failed(site.run(run_id))
        site.gate.touch()
        site.wait_for(site.submit(gated, "4711"), "SUCCESS")


def test_a_run_that_stood_still_until_it_was_given_up_is_killed(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        process = site.process_of(run_id)
        process.suspend()
        site.wait(lambda: site.launcher.check_run_worker_health(site.run(run_id)).status.value == "FAILED", "FAILED")
        site.instance.report_run_failed(site.run(run_id))
        site.wait(lambda: not psutil.pid_exists(process.pid), "the process to be killed")


def test_sigterm_ends_a_pool_when_its_runs_have_ended(site: Site) -> None:
    run_id, waiting = site.submit(gated), site.submit(gated)
    with site.pool() as pool:
        site.wait_until_at_the_gate(run_id)
        pool.terminate()
        time.sleep(2)
        assert site.status(run_id) == "STARTED"
        site.gate.touch()
        pool.wait(30)
    assert (site.status(run_id), site.status(waiting)) == ("SUCCESS", "QUEUED"), "no run is begun any more"


def test_after_the_grace_a_pool_ends_all_the_same(site: Site) -> None:
    run_id = site.submit(gated)
    with site.pool(PASSARI_WORKERS__GRACE="1") as pool:
        site.wait_until_at_the_gate(run_id)
        process = site.process_of(run_id)
        pool.terminate()
        pool.wait(30)
        site.wait(lambda: not psutil.pid_exists(process.pid), "the run to die")
    assert site.status(run_id) == "STARTED", "run monitoring gives it up, and run retries start it again"


def test_flushall_does_not_disturb_a_run(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        flush(site)
        site.wait(lambda: site.ledger.lease_of(run_id), "the lease to be renewed", 10)
        assert site.launcher.check_run_worker_health(site.run(run_id)).status.value == "RUNNING"
        site.gate.touch()
        site.wait_for(run_id, "SUCCESS")
        site.wait_for(site.submit(gated, "4711"), "SUCCESS")


def test_a_run_survives_a_redis_without_memory_and_its_worker_waits_for_more(site: Site) -> None:
    run_id, waiting = site.submit(gated, "4711"), site.submit(gated)
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        worker = site.process_of(run_id).parent()
        assert worker is not None
        site.ledger.connection.config_set("maxmemory", 1)
        site.ledger.connection.expire(f"passari:lease:{run_id}", 4)
        time.sleep(6)
        assert site.ledger.lease_of(run_id), "renewed all the same"
        site.gate.touch()
        site.wait_for(run_id, "SUCCESS")
        time.sleep(2)
        site.ledger.connection.config_set("maxmemory", 0)
        site.wait_for(waiting, "SUCCESS")
        assert worker.is_running()


def test_sigterm_to_every_process_of_a_host_is_no_cancellation(site: Site) -> None:
    run_id = site.submit(gated, "4711")
    with site.pool() as pool:
        site.wait_until_at_the_gate(run_id)
        for process in [pool, *pool.children(recursive=True)]:
            process.terminate()
        time.sleep(2)
        assert site.status(run_id) == "STARTED"
        site.gate.touch()
        pool.wait(30)
    assert site.status(run_id) == "SUCCESS"


def test_a_pool_of_dagster_limits_a_step_over_two_hosts(site: Site) -> None:
    with site.pool(2), site.pool(2):
        pools.apply(site.instance, {"narrow": 1})
        runs = [site.submit(narrow) for _ in range(4)]
        for run_id in runs:
            site.wait_for(run_id, "SUCCESS", seconds=90)
    spans = []
    for run_id in runs:
        (step,) = site.instance.get_run_step_stats(run_id)
        spans.append((step.start_time or 0, step.end_time or 0))
    spans.sort()
    overlaps = [end - begin for (_, end), (begin, _) in itertools.pairwise(spans)]
    assert max(overlaps) < 0.1, overlaps


def test_the_command_workers_shows_who_does_what(site: Site) -> None:
    run_id, _ = site.submit(gated, "4711"), site.submit(gated)
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        done = subprocess.run(
            [str(Path(sys.executable).parent / "passari-dagster"), "workers", "--data", str(site.directory)],
            capture_output=True,
            text=True,
            check=True,
            cwd=site.directory,
        )
    assert "gated 4711" in done.stdout
    assert run_id[:8] in done.stdout
    assert "1 runs wait (0 high, 1 normal, 0 low)" in done.stdout
