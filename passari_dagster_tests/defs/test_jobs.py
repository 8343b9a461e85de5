"""How the steps look in Dagster: which ops run, which are skipped, what is retried, and what the tags say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from passari_dagster.defs import build_defs, launch
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged
from passari_dagster_tests.house import House, object_row, synchronise_all

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


class ScriptedToolkit:
    """A toolkit whose steps return at once, or fail as the test wants. That another one fits is shown by this too."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, list[BaseException]] = {}

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    def download(self, package: object, root: Path, log: Log) -> Downloaded:
        self._step("download")
        (root / "sip" / "reports" / "Object.xml").write_text("<application/>")
        return Downloaded(None, ())

    def package(self, package: object, root: Path, log: Log) -> Packaged:
        self._step("package")
        (root / package.sip_filename).write_bytes(b"tar")  # type: ignore[attr-defined]
        return Packaged(3, "0" * 64)

    def submit(self, package: object, root: Path, intend: object, log: Log) -> None:
        intend()  # type: ignore[operator]
        self._step("submit")

    def confirm(self, package: object, root: Path, log: Log) -> None:
        self._step("confirm")


class Bench:
    """`preserve_object` on an instance of its own, over the scripted toolkit."""

    def __init__(self, env: Environment, toolkit: ScriptedToolkit, instance: dg.DagsterInstance) -> None:
        self.env, self.toolkit, self.instance = env, toolkit, instance
        defs = build_defs(env.settings, {"environment": env})
        self.job = defs.resolve_job_def("preserve_object")

    def run(self, object_id: int | str) -> dg.ExecuteInProcessResult:
        self.instance.add_dynamic_partitions(launch.PARTITIONS_NAME, [str(object_id)])
        return self.job.execute_in_process(partition_key=str(object_id), instance=self.instance, raise_on_error=False)

    def tags(self, result: dg.ExecuteInProcessResult) -> dict[str, str]:
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        return dict(run.tags)


@pytest.fixture
def bench(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[Bench]:
    house = House(tmp_path, museum_database, redis_url, objects=20)
    try:
        with (
            house.environment(workflow={"step_retry_wait": 0, "step_retries": 2}) as env,
            dg.DagsterInstance.ephemeral() as instance,
        ):
            synchronise_all(env)
            toolkit = ScriptedToolkit()
            object.__setattr__(env, "toolkit", toolkit)
            yield Bench(env, toolkit, instance)
    finally:
        house.close()


OBJECT = 1_000_000


def _steps(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    kinds = {"STEP_SUCCESS": "done", "STEP_SKIPPED": "skipped", "STEP_FAILURE": "failed"}
    return {str(e.step_key): kinds[e.event_type_value] for e in result.all_events if e.event_type_value in kinds}


def test_the_first_run_is_green_and_leaves_the_confirmation_to_a_later_one(bench: Bench) -> None:
    result = bench.run(OBJECT)
    assert result.success
    assert _steps(result) == {
        "download_object": "done",
        "create_sip": "done",
        "submit_sip": "done",
        "confirm_sip": "skipped",
    }
    assert bench.tags(result)[launch.PARTITION_SET_TAG] == launch.PARTITION_SET
    assert bench.toolkit.calls == ["download", "package", "submit"]
    again = bench.run(OBJECT)
    assert again.success
    assert bench.toolkit.calls == ["download", "package", "submit"], "launched again, it waits as before"


def test_a_content_problem_ends_green_and_freezes_the_object_with_its_reason(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [ContentProblem("Unsupported file format: psd", "kuva.psd")]
    result = bench.run(OBJECT)
    assert result.success
    assert _steps(result) == {
        "download_object": "done",
        "create_sip": "done",
        "submit_sip": "skipped",
        "confirm_sip": "skipped",
    }
    assert bench.tags(result)["passari/outcome"] == "frozen"
    assert "kuva.psd" in bench.tags(result)["passari/reason"]
    assert object_row(bench.env, OBJECT).freeze_reason == "Unsupported file format: psd"

    skipped = bench.run(OBJECT)
    assert skipped.success
    assert bench.tags(skipped)["passari/outcome"] == "skipped"
    assert "Unsupported file format: psd" in bench.tags(skipped)["passari/reason"]


def test_a_system_error_is_retried_and_red_when_retries_are_spent(bench: Bench) -> None:
    bench.toolkit.failures["download"] = [TransientFailure("MuseumPlus is away")] * 2
    assert bench.run(OBJECT).success
    assert bench.toolkit.calls.count("download") == 3

    bench.toolkit.failures["package"] = [OSError("the network storage is away")] * 3
    result = bench.run(OBJECT + 1)
    assert not result.success
    assert _steps(result)["create_sip"] == "failed"
    assert not object_row(bench.env, OBJECT + 1).frozen


def test_what_a_person_must_mend_is_not_retried(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [PermanentFailure("the signing certificate has expired")] * 9
    result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls.count("package") == 1
    failure = next(e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    assert "the signing certificate has expired" in str(failure.step_failure_data)


def test_a_step_that_a_person_cancels_does_not_begin_again(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [dg.DagsterExecutionInterruptedError()]
    result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls.count("package") == 1
    assert bench.run(OBJECT).success, "launched again, it goes on"


def test_an_object_is_not_worked_on_by_two_runs_at_once(bench: Bench) -> None:
    from passari_dagster import locks

    short = bench.env.settings.model_copy(
        update={"workflow": bench.env.settings.workflow.model_copy(update={"lock_expiry": 1})}
    )
    object.__setattr__(bench.env, "settings", short)
    with bench.env.lock(locks.object_lock(OBJECT), wait=1):
        result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls == []
    assert bench.run(OBJECT).success, "and the lock is free when it was left"


def test_a_partition_that_is_no_object_id_is_refused_by_name(bench: Bench) -> None:
    result = bench.run("kirves")
    assert not result.success
    assert any(
        "'kirves' is not the id of a museum object" in str(event.event_specific_data) for event in result.all_events
    )
