"""Killed runs that Dagster's run retries have passed over: they are started again all the same, and once."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from passari_dagster.run_queue import retries
from passari_dagster.services import supervisor
from passari_dagster.services.supervisor import Service
from passari_dagster.services.system import HOST, free_port, is_open
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.run_queue import toy_runs
from passari_dagster_tests.run_queue.site import Site
from passari_dagster_tests.run_queue.toy_runs import gated

# Dagster's own: the first on Python 3.11 and later, the second where no code server is up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Error loading repository location toys:UserWarning"),
]


@pytest.fixture
def toys() -> GrpcServerTarget:
    """Where the code server listens, when it is up."""
    return GrpcServerTarget(host=HOST, port=free_port(), socket=None, location_name="toys")


@contextlib.contextmanager
def code_server(target: GrpcServerTarget, logs: Path) -> Iterator[None]:
    port = target.port
    assert port is not None
    argv = [sys.executable, "-m", "dagster", "api", "grpc", "-m", toy_runs.__name__, "--location-name", "toys"]
    child = supervisor.start(
        Service(
            name="code-server",
            argv=[*argv, "--host", HOST, "--port", str(port)],
            env=os.environ,
            cwd=PROJECT,
            ready=lambda: is_open(port),
        ),
        logs,
    )
    try:
        yield
    finally:
        child.stop()


def look(site: Site, target: GrpcServerTarget) -> None:
    """One look of Dagster's run retries."""
    with WorkspaceProcessContext(site.instance, target) as context:
        list(EventLogConsumerDaemon().run_iteration(context))


def kill(site: Site, **tags: str) -> str:
    run_id = site.submit(gated, **tags)
    assert site.ledger.remove(run_id)
    site.instance.report_run_failed(site.run(run_id), "its process died")
    return run_id


def passed_over(site: Site, ago: timedelta = timedelta(hours=1)) -> list[str]:
    return [run.run_id for run in retries.passed_over(site.instance, datetime.now(timezone.utc) - ago)]


@pytest.mark.slow
def test_runs_that_died_in_a_power_cut_are_started_again_though_the_code_server_came_up_late(
    site: Site, toys: GrpcServerTarget
) -> None:
    look(site, toys)
    run_id = kill(site)
    assert passed_over(site) == [], "the retries have not looked yet"
    look(site, toys)
    assert site.run(run_id).tags["dagster/will_retry"] == "false", "they tried, and will not try again"
    assert "Failed to retry run" in site.messages(run_id)

    assert passed_over(site) == [run_id]
    retries.tell_again(site.instance, site.run(run_id))
    assert passed_over(site) == [], "once is enough until they have looked"
    with code_server(toys, site.directory):
        look(site, toys)
        (child,) = [run for run in site.instance.get_runs() if run.parent_run_id == run_id]
        assert child.status is dg.DagsterRunStatus.QUEUED
        assert child.run_config == site.run(run_id).run_config
        assert site.run(run_id).tags["dagster/auto_retry_run_id"] == child.run_id
        look(site, toys)
    assert passed_over(site) == []
    assert site.instance.get_runs_count() == 2


def test_a_failure_that_was_committed_late_is_passed_over(site: Site, toys: GrpcServerTarget) -> None:
    look(site, toys)
    run_id = kill(site)
    (key,) = site.instance.daemon_cursor_storage.get_cursor_values({"EVENT_LOG_CONSUMER_CURSOR-PIPELINE_FAILURE"})
    site.instance.daemon_cursor_storage.set_cursor_values({key: "1000000"})
    assert passed_over(site, ago=timedelta(0)) == [], "only what ended lately"
    assert passed_over(site) == [run_id]


def test_a_run_that_lost_its_lock_is_an_affair_of_the_run_retries(site: Site, toys: GrpcServerTarget) -> None:
    look(site, toys)
    run_id = site.submit(gated)
    tags = {"dagster/failure_reason": "STEP_FAILURE", "dagster/retry_on_asset_or_op_failure": "true"}
    site.instance.add_run_tags(run_id, tags)
    site.instance.report_run_failed(site.run(run_id), "its op has lost its lock")
    look(site, toys)
    assert site.run(run_id).tags["dagster/will_retry"] == "false"
    assert passed_over(site) == [run_id]


def test_one_that_cannot_be_started_stays_red_in_the_end(site: Site, toys: GrpcServerTarget) -> None:
    """Dagster may have lost the job, or not find a step that is left."""
    look(site, toys)
    run_id = kill(site)
    for _ in range(retries.TOLD_AT_MOST - 1):
        look(site, toys)
        assert passed_over(site) == [run_id]
        retries.tell_again(site.instance, site.run(run_id))
    look(site, toys)
    assert passed_over(site) == []
    assert site.status(run_id) == "FAILURE"
    assert site.run(run_id).tags["dagster/will_retry"] == "false"


def test_a_failure_without_its_status_is_not_passed_over(site: Site, toys: GrpcServerTarget) -> None:
    look(site, toys)
    first, second = site.submit(gated), site.submit(gated)
    failure = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, job_name="gated", message="killed")
    entry = dg.EventLogEntry(None, 40, "killed", first, time.time(), None, "gated", failure)  # type: ignore[no-untyped-call]
    site.instance.event_log_storage.store_event(entry)
    site.instance.report_run_failed(site.run(second), "killed, too")
    look(site, toys)
    assert "Failed to retry run" not in site.messages(second), "it waits behind the first"
    site.instance.run_storage.handle_run_event(first, failure, datetime.now(timezone.utc))
    look(site, toys)
    assert all("Failed to retry run" in site.messages(run_id) for run_id in (first, second))


def test_what_was_started_again_or_may_not_be_is_left_alone(site: Site, toys: GrpcServerTarget) -> None:
    look(site, toys)
    site.coordinator.cancel_run(site.submit(gated))
    by_an_op = site.submit(gated)
    site.instance.add_run_tags(by_an_op, {"dagster/failure_reason": "STEP_FAILURE"})
    site.instance.report_run_failed(site.run(by_an_op), "its op failed")
    kill(site, **{"dagster/retry_number": "3"})
    never = kill(site, **{"dagster/max_retries": "0"})
    assert site.run(never).tags["dagster/will_retry"] == "false"
    by_a_person = kill(site)
    site.submit(gated, **{"dagster/parent_run_id": by_a_person, "dagster/root_run_id": by_a_person})
    page = {"dagster/partition": "4711", "dagster/partition_set": "gated_partition_set"}
    kill(site, **page)
    site.coordinator.cancel_run(site.submit(gated, **page))
    look(site, toys)
    assert passed_over(site) == [], "a person's last word was a cancel"


def test_a_run_that_was_refused_while_it_was_live_does_not_count(site: Site, toys: GrpcServerTarget) -> None:
    look(site, toys)
    page = {"dagster/partition": "4711", "dagster/partition_set": "gated_partition_set"}
    kill(site, **page)
    killed = site.submit(gated, **page)
    for family in ({}, {"dagster/parent_run_id": killed, "dagster/root_run_id": killed}):
        assert site.status(site.submit(gated, **page, **family)) == "CANCELED"
    site.instance.report_run_failed(site.run(killed), "its process died")
    look(site, toys)
    assert passed_over(site) == [killed], "the latest of its object"


def test_one_that_ended_well_after_all_is_left_alone(site: Site, toys: GrpcServerTarget) -> None:
    """A run that stood still is failed by mistake, goes on, and ends."""
    look(site, toys)
    kill(site)
    second = kill(site)
    look(site, toys)
    found = retries.passed_over(site.instance, datetime.now(timezone.utc) - timedelta(hours=1))
    next(found)
    success = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job_name="gated")
    site.instance.report_dagster_event(success, second)
    assert list(found) == []
