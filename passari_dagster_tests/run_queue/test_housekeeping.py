"""Old records go from a real instance, and whatever is still needed stays, also when the housekeeping is killed."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.execution.api import ReexecutionOptions
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from sqlalchemy import text

from passari_dagster import stopping
from passari_dagster.errors import PermanentFailure
from passari_dagster.run_queue import housekeeping
from passari_dagster.run_queue.dagster_internals import (
    BulkActionStatus,
    PartitionBackfill,
    RemotePartitionSetOrigin,
)
from passari_dagster.run_queue.housekeeping import Limits, Pace, Swept
from passari_dagster_tests.run_queue.site import NOWHERE, Site

NOW = datetime.now(timezone.utc)
LIMITS = Limits(runs=timedelta(days=30), assets=timedelta(days=365), ticks=timedelta(days=30))
PATIENT = 300.0


@dg.op
def fetch() -> None:
    """Nothing."""


@dg.op(ins={"start": dg.In(dg.Nothing)})
def confirm(context: dg.OpExecutionContext) -> None:
    """Say something."""
    print("confirmed", context.run_id)  # noqa: T201


@dg.job(executor_def=dg.in_process_executor)
def preserving() -> None:
    confirm(fetch())


@dg.op
def weigh() -> Iterator[Any]:
    yield dg.AssetMaterialization("scales", metadata={"weight": 7}, tags={"dagster/data_version": "7"})
    yield AssetCheckEvaluation(asset_key=dg.AssetKey("scales"), check_name="level", passed=True, metadata={})
    yield dg.Output(None)


@dg.job(executor_def=dg.in_process_executor)
def weighing() -> None:
    weigh()


def execute(site: Site, job: dg.JobDefinition, *, days: float, partition: str = "", **tags: str) -> str:
    """A run that ended some days ago."""
    if partition:
        tags["dagster/partition"] = partition
    run_id = job.execute_in_process(instance=site.instance, tags=tags).run_id
    age(site, run_id, days)
    return run_id


def execute_again(site: Site, parent: str, *, days: float) -> str:
    """A re-execution of the second step, as a confirmation is one."""
    options = ReexecutionOptions(parent_run_id=parent, step_selection=["confirm"])
    before = site.run(parent)
    # As the UI, a backfill and the run retries tell the family; `execute_job` alone does not.
    tags = {
        "dagster/partition": before.tags.get("dagster/partition", ""),
        "dagster/parent_run_id": parent,
        "dagster/root_run_id": before.root_run_id or parent,
    }
    with dg.execute_job(
        dg.reconstructable(preserving), instance=site.instance, reexecution_options=options, tags=tags
    ) as result:
        assert result.success
    age(site, result.run_id, days)
    return result.run_id


def age(site: Site, run_id: str, days: float) -> None:
    """Have a run be older than it is."""
    change(
        site,
        "UPDATE runs SET start_time = start_time - :seconds, end_time = end_time - :seconds WHERE run_id = :run_id",
        run_id=run_id,
        seconds=days * 86400,
    )


def change(site: Site, statement: str, **values: Any) -> None:
    with site.instance.run_storage.transaction() as connection:  # type: ignore[attr-defined]
        connection.execute(text(statement), values)


def ask(site: Site, question: str, **values: Any) -> Any:
    with site.instance.run_storage.transaction() as connection:  # type: ignore[attr-defined]
        return connection.scalar(text(question), values)


def sweep(site: Site, needed: Collection[str] = (), seconds: float = PATIENT) -> Swept:
    return housekeeping.sweep(site.instance, LIMITS, {*needed}.intersection, Pace(seconds), NOW)


def runs(site: Site) -> set[str]:
    return {run.run_id for run in site.instance.get_runs()}


def assert_consistent(site: Site) -> None:
    """Nothing is there of a run that is not, and no re-execution is without those that it goes on from."""
    for table in ("event_logs", "run_tags", "asset_check_executions"):
        lost = f"SELECT count(*) FROM {table} WHERE run_id <> '' AND run_id NOT IN (SELECT run_id FROM runs)"
        assert ask(site, lost) == 0, table
    for run in site.instance.get_runs():
        assert run.root_run_id is None or site.instance.has_run(run.root_run_id)
        assert run.execution_plan_snapshot_id is not None
        assert site.instance.run_storage.has_execution_plan_snapshot(run.execution_plan_snapshot_id)


def test_old_runs_go_with_all_that_is_theirs_and_young_ones_stay(site: Site) -> None:
    old, young = execute(site, preserving, days=31, partition="1"), execute(site, preserving, days=29)
    outputs = Path(os.environ["PASSARI_COMPUTE_LOG_DIR"])
    for run_id in (old, young):
        (outputs / run_id / "compute_logs").mkdir(parents=True, exist_ok=True)
        (outputs / run_id / "compute_logs" / "abc.out").write_text("confirmed")
        backdate(outputs / run_id, days=40)
    events = ask(site, "SELECT count(*) FROM event_logs WHERE run_id = :run", run=old)

    swept = sweep(site)
    assert runs(site) == {young}
    assert (swept.counts["runs"], swept.counts["events"], swept.counts["log_folders"]) == (1, events, 1)
    assert not swept.left
    assert [folder.name for folder in outputs.iterdir()] == [young]
    assert_consistent(site)
    assert sweep(site).counts == dict.fromkeys(swept.counts, 0), "there is nothing left to do"


def test_a_run_and_its_re_executions_stay_or_go_together(site: Site) -> None:
    """The confirmation of a package is a re-execution; Dagster fails one whose ancestors are gone."""
    first = execute(site, preserving, days=50)
    confirmed_late = execute_again(site, first, days=3)
    done = execute(site, preserving, days=50)
    confirmed = execute_again(site, done, days=40)
    plans = "SELECT count(*) FROM snapshots WHERE snapshot_type = 'EXECUTION_PLAN'"
    assert ask(site, plans) == 3, "each confirmation has a plan of its own, the first runs share one"

    sweep(site)
    assert runs(site) == {first, confirmed_late}
    assert confirmed not in runs(site)
    assert ask(site, plans) == 2, "the plan of a confirmation goes with it"
    assert_consistent(site)
    assert execute_again(site, confirmed_late, days=0) in runs(site)


def test_runs_of_an_object_that_is_in_the_workflow_stay_whatever_their_age(site: Site) -> None:
    waiting = execute(site, preserving, days=400, partition="1234567")
    execute(site, preserving, days=400, partition="7654321")
    swept = sweep(site, needed=["1234567"])
    assert runs(site) == {waiting}
    assert swept.kept == 1


def test_runs_that_have_not_ended_and_those_of_an_open_backfill_stay(site: Site) -> None:
    standing = site.create(preserving).run_id
    in_backfill = execute(site, preserving, days=90, partition="1", **{"dagster/backfill": "open"})
    add_backfill(site, "open", BulkActionStatus.REQUESTED, days=91)
    add_backfill(site, "ended", BulkActionStatus.COMPLETED_SUCCESS, days=91)
    add_backfill(site, "young", BulkActionStatus.COMPLETED_SUCCESS, days=2)
    swept = sweep(site)
    assert runs(site) == {standing, in_backfill}
    assert {backfill.backfill_id for backfill in site.instance.get_backfills()} == {"open", "young"}
    assert swept.counts["backfills"] == 1

    change(site, "UPDATE bulk_actions SET status = 'COMPLETED_SUCCESS' WHERE key = 'open'")
    sweep(site)
    assert runs(site) == {standing}
    assert {backfill.backfill_id for backfill in site.instance.get_backfills()} == {"young"}
    assert ask(site, "SELECT count(*) FROM backfill_tags") == 1


def test_the_plots_of_an_asset_keep_a_year_and_always_the_latest_point(site: Site) -> None:
    ancient, last_year, lately = (execute(site, weighing, days=days) for days in (800, 400, 40))
    assert ask(site, "SELECT count(*) FROM asset_event_tags") == 3
    sweep(site)
    assert runs(site) == {lately}
    assert ask(site, "SELECT count(*) FROM asset_event_tags") == 1
    assert_consistent(site)

    age(site, lately, 1000)
    sweep(site)
    assert runs(site) == {lately}, "the last one stays for ever"
    event = site.instance.get_latest_materialization_event(dg.AssetKey("scales"))
    assert event is not None
    assert event.run_id == lately
    assert {ancient, last_year}.isdisjoint(runs(site))


def test_what_was_reported_by_hand_goes_too_and_the_latest_stays(site: Site) -> None:
    for weight in range(3):
        site.instance.report_runless_asset_event(dg.AssetMaterialization("attic", metadata={"weight": weight}))
    change(site, "UPDATE event_logs SET timestamp = timestamp - interval '2 years'")
    assert sweep(site).counts["events"] == 2
    event = site.instance.get_latest_materialization_event(dg.AssetKey("attic"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["weight"].value == 2


def test_old_ticks_go_and_the_last_one_of_each_stays(site: Site) -> None:
    for sensor in ("processed_sips", "run_queue"):
        for days in (60, 50, 40):
            site.instance.create_tick(
                TickData(
                    instigator_origin_id=sensor,
                    instigator_name=sensor,
                    instigator_type=InstigatorType.SENSOR,
                    status=TickStatus.SKIPPED,
                    timestamp=(NOW - timedelta(days=days)).timestamp(),
                    selector_id=sensor,
                )
            )
    outputs = Path(os.environ["PASSARI_COMPUTE_LOG_DIR"]) / "__repository__" / "processed_sips"
    outputs.mkdir(parents=True)
    for name, days in (("1.err", 60), ("2.err", 2), ("notes.txt", 60)):
        (outputs / name).write_text("said")
        backdate(outputs / name, days)
    swept = sweep(site)
    assert (swept.counts["ticks"], swept.counts["log_files"]) == (4, 1)
    assert {path.name for path in outputs.iterdir()} == {"2.err", "notes.txt"}
    for sensor in ("processed_sips", "run_queue"):
        (tick,) = site.instance.get_ticks(sensor, sensor)
        assert tick.timestamp == pytest.approx((NOW - timedelta(days=40)).timestamp())


def test_events_and_output_of_a_run_that_was_deleted_half_way_are_cleared_up(site: Site) -> None:
    """Dagster deletes a run first and its events then; somebody was killed between the two."""
    half, whole = execute(site, weighing, days=0), execute(site, weighing, days=0)
    site.instance.run_storage.delete_run(half)
    output = Path(os.environ["PASSARI_COMPUTE_LOG_DIR"]) / half
    output.mkdir(exist_ok=True)
    backdate(output, days=31)
    other = output.with_name(str(uuid.uuid4()))
    other.mkdir()
    assert sweep(site).counts["events"] > 0
    assert not output.exists()
    assert other.exists(), "a folder that somebody has just made is left alone"
    assert runs(site) == {whole}
    assert_consistent(site)


def test_it_stops_when_it_is_asked_and_when_the_time_is_up_and_goes_on_next_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(site, preserving, days=90)
    assert sweep(site, seconds=0).left
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "is_asked", lambda: True)
        assert sweep(site).left
    assert len(runs(site)) == 1
    swept = sweep(site)
    assert (swept.left, swept.counts["runs"]) == (False, 1)


SLOW_SWEEP = """
import sys, time
from datetime import timedelta
import dagster as dg
from passari_dagster.run_queue import housekeeping, records
records.RUNS_AT_ONCE = 4
limits = housekeeping.Limits(*(timedelta(days=days) for days in (30, 365, 30)))
with dg.DagsterInstance.get() as instance:
    print("begins", flush=True)
    housekeeping.sweep(instance, limits, lambda keys: (), housekeeping.Pace(60))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_a_whole_instance_and_the_next_one_goes_on(site: Site) -> None:
    for number in range(16):
        first = execute(site, preserving, days=60, partition=str(number))
        execute_again(site, first, days=50)
        execute(site, weighing, days=500)
    stays = execute(site, weighing, days=500)
    dice, left = random.Random(5), []
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", SLOW_SWEEP], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert_consistent(site)
        left.append(len(runs(site)))
    assert left == sorted(left, reverse=True)
    sweep(site)
    assert runs(site) == {stays}
    assert_consistent(site)


def test_an_instance_that_is_not_on_postgresql_is_told_so() -> None:
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(PermanentFailure, match=r"dagster\.yaml, storage"):
        housekeeping.sweep(instance, LIMITS, lambda keys: keys, Pace(PATIENT))


def add_backfill(site: Site, backfill_id: str, status: BulkActionStatus, days: float) -> None:
    site.instance.add_backfill(
        PartitionBackfill(
            backfill_id=backfill_id,
            partition_set_origin=RemotePartitionSetOrigin(
                repository_origin=NOWHERE, partition_set_name="preserving_partition_set"
            ),
            status=status,
            partition_names=["1"],
            from_failure=False,
            reexecution_steps=None,
            tags={"told": "by a test"},
            backfill_timestamp=(NOW - timedelta(days=days)).timestamp(),
        )
    )


def backdate(path: Path, days: float) -> None:
    when = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (when, when))
