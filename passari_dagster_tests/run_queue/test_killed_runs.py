"""Killed runs of objects that Dagster's run retries have passed over: sensor `killed_runs` has them started again."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from passari_dagster.defs import launch
from passari_dagster.run_queue.dagster_internals import BulkActionStatus
from passari_dagster_tests.run_queue.site import NOWHERE, Site

log = logging.getLogger(__name__)
READ = "EVENT_LOG_CONSUMER_CURSOR-PIPELINE_FAILURE"


@dg.op
def download_object() -> None:
    """Nothing."""


@dg.job
def preserve_object() -> None:
    """The object's run."""
    download_object()


@dg.job
def freeze_objects() -> None:
    """Another one."""
    download_object()


@pytest.fixture
def instance(site: Site) -> dg.DagsterInstance:
    return site.instance


def killed(instance: dg.DagsterInstance, tags: dict[str, str], job: dg.JobDefinition = preserve_object) -> str:
    run = instance.create_run_for_job(job, tags=tags)
    instance.report_run_failed(run, "its process died")
    # The run retries have read of it, and could not start it.
    instance.add_run_tags(run.run_id, {"dagster/will_retry": "false"})
    instance.daemon_cursor_storage.set_cursor_values({READ: "1000000"})
    return run.run_id


def backfill(instance: dg.DagsterInstance, object_id: int, status: BulkActionStatus) -> dict[str, str]:
    backfill_id = launch.backfill(instance, NOWHERE, [object_id], title="told by a test")
    made = instance.get_backfill(backfill_id)
    assert made is not None
    instance.update_backfill(made.with_status(status))  # type: ignore[no-untyped-call]
    return {"dagster/partition": str(object_id), "dagster/backfill": backfill_id}


def start_again(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    return launch.start_again_passed_over(instance, datetime.now(timezone.utc) - timedelta(days=1), log.info)


def will_retry(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.tags["dagster/will_retry"] == "true"


def test_dagster_is_told_again_of_what_it_can_start(instance: dg.DagsterInstance) -> None:
    of_a_job, of_a_person = killed(instance, {}, freeze_objects), killed(instance, {"dagster/partition": "1"})
    of_a_backfill = killed(instance, backfill(instance, 2, BulkActionStatus.REQUESTED))
    assert start_again(instance) == []
    assert all(will_retry(instance, run_id) for run_id in (of_a_job, of_a_person, of_a_backfill))


def test_an_object_whose_backfill_has_ended_is_requested_anew(instance: dg.DagsterInstance) -> None:
    run_id = killed(instance, backfill(instance, 3, BulkActionStatus.COMPLETED_FAILED))
    (request,) = start_again(instance)
    assert (request.run_key, request.partition_key) == (run_id, "3")
    assert "dagster/backfill" not in request.tags, "it would be passed over again"
    assert launch.registered(instance) == {3}, "its partition key may have gone with the backfill"
    instance.create_run_for_job(preserve_object, tags={**request.tags, "dagster/partition": "3"})
    assert start_again(instance) == [], "it was started again"


@pytest.mark.parametrize("status", [BulkActionStatus.CANCELING, BulkActionStatus.CANCELED, BulkActionStatus.FAILING])
def test_what_is_cancelled_with_its_backfill_stays(instance: dg.DagsterInstance, status: BulkActionStatus) -> None:
    run_id = killed(instance, backfill(instance, 4, status))
    assert start_again(instance) == []
    assert not will_retry(instance, run_id)
