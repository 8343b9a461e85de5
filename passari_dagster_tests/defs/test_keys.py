"""There are never more partition keys than the cap allows: who may have one, who gives way, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from passari_dagster.catalogue.models import Verdict
from passari_dagster.defs import build_defs, keys, launch, sensors
from passari_dagster.defs.resources import PARTITION_TAG
from passari_dagster.settings import WorkflowSettings
from passari_dagster.workflow import enqueue
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import LONG_AGO, add_object, add_package
from passari_dagster_tests.house import House
from passari_dagster_tests.run_queue.site import NOWHERE

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
    pytest.mark.filterwarnings("ignore:Coercing Subquery object"),  # Dagster asks for backfills so
]

CAP = 8
ELIGIBLE, BEGUN, AT_THE_DPS, DUE, PRESERVED = range(1, 6), range(11, 13), range(21, 24), range(31, 34), range(41, 43)


@pytest.fixture
def env(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[Environment]:
    """Objects at every place in the workflow, and a cap of eight keys."""
    house = House(tmp_path, museum_database, redis_url, objects=1)
    try:
        with house.environment(workflow={"partition_cap": CAP}) as env:
            with env.transaction() as session:
                for object_id in ELIGIBLE:
                    add_object(session, object_id)
                for object_id in BEGUN:
                    begun = add_object(session, object_id)
                    add_package(session, begun, preserved=False, uploaded=False, submission_date=None)
                for object_id in AT_THE_DPS:
                    add_package(session, add_object(session, object_id), preserved=False)
                for object_id in DUE:
                    row = add_object(session, object_id)
                    add_package(session, row, preserved=False, verdict=Verdict.ACCEPTED, verdict_date=LONG_AGO)
                for object_id in PRESERVED:
                    add_package(session, add_object(session, object_id), confirmed_date=LONG_AGO)
            yield env
    finally:
        house.close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run_of(env: Environment, instance: dg.DagsterInstance, object_id: int) -> dg.DagsterRun:
    """A run that executes."""
    job = build_defs(env.settings, {"environment": env}).resolve_job_def("preserve_object")
    tags = {PARTITION_TAG: str(object_id)}
    return instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)


def test_the_default_cap_is_twenty_thousand() -> None:
    assert WorkflowSettings().partition_cap == 20_000


def test_objects_give_way_in_an_order_and_those_that_somebody_waits_for_never(
    env: Environment, instance: dg.DagsterInstance
) -> None:
    everybody = [*DUE, *AT_THE_DPS, *BEGUN, *ELIGIBLE, *PRESERVED]
    assert enqueue.dispensable(env, everybody) == [*PRESERVED, *ELIGIBLE, *AT_THE_DPS]


def test_confirmations_find_room_and_the_cap_holds(env: Environment, instance: dg.DagsterInstance) -> None:
    launch.register(instance, [*ELIGIBLE, *AT_THE_DPS])
    assert keys.count(env, instance) == keys.Keys(8, CAP)
    busy = run_of(env, instance, 1)
    assert keys.make_room(env, instance, DUE) == [*DUE]
    launch.register(instance, DUE)
    assert launch.registered(instance) == {1, 5, *AT_THE_DPS, *DUE}, "those that may be picked by hand gave way"
    instance.report_run_canceled(busy)


def test_those_that_find_no_room_wait(env: Environment, instance: dg.DagsterInstance) -> None:
    launch.register(instance, [*ELIGIBLE, *AT_THE_DPS])
    runs = [run_of(env, instance, object_id) for object_id in [*ELIGIBLE, *AT_THE_DPS][:-1]]
    assert keys.make_room(env, instance, DUE) == [31]
    assert launch.registered(instance) == {*ELIGIBLE, *AT_THE_DPS} - {23}
    for run in runs:
        instance.report_run_canceled(run)
    assert keys.make_room(env, instance, DUE) == [*DUE]


def test_keys_that_were_added_by_hand_past_the_cap_are_told_and_removed(
    env: Environment, instance: dg.DagsterInstance
) -> None:
    """The UI's dialog "Add a partition" asks nobody."""
    launch.register(instance, [*BEGUN, *AT_THE_DPS, *DUE])
    instance.add_dynamic_partitions(launch.PARTITIONS_NAME, ["kirves", "007", "99999", *map(str, ELIGIBLE)])
    assert str(keys.count(env, instance)) == "16 partition keys of at most 8: 8 too many"
    assert keys.prune(env, instance) == 8
    assert launch.registered(instance) == {*BEGUN, *AT_THE_DPS, *DUE}
    assert keys.prune(env, instance) == 0


def test_a_little_is_removed_at_a_time(
    env: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "AT_ONCE", 3)
    strange = ["a", "b", "c", "d"]
    instance.add_dynamic_partitions(launch.PARTITIONS_NAME, [*strange, *map(str, [*PRESERVED, *DUE, *ELIGIBLE])])
    removed = [keys.prune(env, instance) for _ in range(4)]
    assert removed == [3, 3, 0, 0]
    assert keys.count(env, instance).count == CAP


def test_the_check_counts_exactly_and_says_what_to_do(env: Environment, instance: dg.DagsterInstance) -> None:
    defs = build_defs(env.settings, {"environment": env})
    launch.register(instance, [*BEGUN, *DUE, *AT_THE_DPS])
    instance.add_dynamic_partitions(launch.PARTITIONS_NAME, ["kirves"])
    (result,) = evaluate(defs, instance, "partition_count_within_budget")
    assert not result.passed
    assert {name: value.value for name, value in result.metadata.items()} == {
        "partition_keys": 9,
        "cap": CAP,
        "over": 1,
        "what_to_do": keys.WHAT_TO_DO,
    }
    keys.prune(env, instance)
    (result,) = evaluate(defs, instance, "partition_count_within_budget")
    assert result.passed


def evaluate(defs: dg.Definitions, instance: dg.DagsterInstance, name: str) -> list[dg.AssetCheckEvaluation]:
    check = dg.AssetCheckKey(dg.AssetKey("dagster_records"), name)
    job = dg.define_asset_job("one_check", selection=dg.AssetSelection.checks(check))
    merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    return list(merged.resolve_job_def("one_check").execute_in_process(instance=instance).get_asset_check_evaluations())


def test_the_sensor_confirms_what_finds_room_and_says_that_the_rest_waits(
    env: Environment, instance: dg.DagsterInstance
) -> None:
    launch.register(instance, [*ELIGIBLE, *AT_THE_DPS])
    runs = [run_of(env, instance, object_id) for object_id in [*ELIGIBLE, *AT_THE_DPS][:-1]]

    def tick() -> str:
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=None,
            repository_name="__repository__",
            instance=instance,
            sensor_name="processed_sips",
            code_location_origin=NOWHERE.code_location_origin,
        )
        return sensors._confirm(context, env)

    assert tick() == "1 confirmations launched, 2 wait for room under the cap on partition keys"
    assert keys.count(env, instance).count == CAP
    (backfill,) = instance.get_backfills()
    assert backfill.partition_names == ["31"]
    for run in runs:
        instance.report_run_canceled(run)
    assert tick() == "2 confirmations launched"
    assert keys.count(env, instance).count <= CAP


def test_nothing_that_registers_goes_past_the_cap(env: Environment, instance: dg.DagsterInstance) -> None:
    launch.register(instance, [*DUE, *AT_THE_DPS])
    assert launch.register_candidates(env, instance) == 2
    assert keys.count(env, instance).count == CAP
    job = build_defs(env.settings, {"environment": env}).resolve_job_def("enqueue_objects")
    config = {"ops": {"enqueue": {"config": {"object_count": 3, "dry_run": True}}}}
    result = job.execute_in_process(config, instance=instance)
    (output,) = result.filter_events(lambda event: event.event_type_value == "STEP_OUTPUT")
    told = {key: value.value for key, value in output.step_output_data.metadata.items()}
    assert (told["chosen"], told["left"]) == (0, 3)
