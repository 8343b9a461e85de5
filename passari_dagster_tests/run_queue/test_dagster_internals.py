"""What the run queue relies on of Dagster's inside: should a release change it, one of these says what."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.execution import job_backfill

from passari_dagster.run_queue import dagster_internals as internals
from passari_dagster_tests.run_queue.site import Site
from passari_dagster_tests.run_queue.toy_runs import broken, gated, talkative


def test_a_run_goes_by_events_from_not_started_over_queued_and_starting_to_its_end(site: Site) -> None:
    site.gate.touch()
    run = site.create(gated)
    assert run.status is dg.DagsterRunStatus.NOT_STARTED
    internals.report_queued(site.instance, run)
    assert site.status(run.run_id) == "QUEUED"
    internals.report_starting(site.instance, run)
    assert site.status(run.run_id) == "STARTING"
    internals.execute(site.instance, run.run_id)
    assert site.status(run.run_id) == "SUCCESS"


def test_an_execution_that_fails_raises_nothing_and_is_told_by_events(site: Site) -> None:
    run = site.create(broken)
    internals.report_queued(site.instance, run)
    internals.report_starting(site.instance, run)
    internals.execute(site.instance, run.run_id)
    assert site.status(run.run_id) == "FAILURE"


def test_a_run_that_is_reported_failed_without_a_step_is_started_again_by_the_run_retries(site: Site) -> None:
    run = site.create(gated)
    internals.report_queued(site.instance, run)
    site.instance.report_run_failed(site.run(run.run_id), "its process died")
    tags = site.run(run.run_id).tags
    assert tags["dagster/will_retry"] == "true"


def test_the_unfinished_are_all_that_have_not_ended() -> None:
    ended = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    # MANAGED is of another kind: Dagster does not execute such runs itself.
    assert {*dg.DagsterRunStatus} - set(internals.UNFINISHED) == {*ended, dg.DagsterRunStatus.MANAGED}


def test_a_coordinator_and_a_launcher_have_no_more_to_offer_than_ours() -> None:
    assert internals.RunCoordinator.__abstractmethods__ == {"submit_run", "cancel_run"}
    assert internals.RunLauncher.__abstractmethods__ == {"launch_run", "terminate"}


@pytest.mark.slow
def test_output_of_a_run_is_in_files_that_the_ui_reads_and_no_process_helps(site: Site) -> None:
    run_id = site.submit(talkative)
    with site.pool():
        site.wait_until_at_the_gate(run_id)
        assert site.process_of(run_id).children() == []
        site.gate.touch()
        site.wait_for(run_id, "SUCCESS")
    (captured,) = [
        entry.dagster_event.event_specific_data
        for entry in site.instance.all_logs(run_id)
        if entry.dagster_event and entry.dagster_event.event_type is dg.DagsterEventType.LOGS_CAPTURED
    ]
    key = [run_id, "compute_logs", getattr(captured, "file_key")]  # noqa: B009 - its type is a union of many
    manager = site.instance.compute_log_manager
    assert manager.is_capture_complete(key)
    assert manager.get_log_data(key).stdout == b"from below\nfrom Python\n"
    assert b"trouble" in (manager.get_log_data(key).stderr or b"")


def test_the_daemon_submits_as_many_runs_at_once_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_backfill, "CHECKPOINT_COUNT", 25)
    internals.submit_at_once(200)
    assert job_backfill.CHECKPOINT_COUNT == 200
    # Looked up when it is used, not copied when the module is imported.
    assert "CHECKPOINT_COUNT" in job_backfill.execute_job_backfill_iteration.__code__.co_names
