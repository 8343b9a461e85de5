"""How the steps look in Dagster: which ops run, which are skipped, what is retried, and what the tags say."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redis
from pydantic import SecretStr

from passari_dagster import locks
from passari_dagster.catalogue import packages
from passari_dagster.catalogue.models import MuseumObject, Verdict
from passari_dagster.defs import build_defs, jobs, keys, launch, outcomes
from passari_dagster.defs.resources import PARTITION_TAG
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure, UnforeseenContent
from passari_dagster.workflow import bulk, enqueue
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome, StepResult
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged
from passari_dagster_tests.catalogue.rows import add_package
from passari_dagster_tests.house import House, object_row, package_rows, synchronise_all

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

    def run(self, object_id: int | str, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        self.instance.add_dynamic_partitions(launch.PARTITIONS_NAME, [str(object_id)])
        return self.job.execute_in_process(
            partition_key=str(object_id), instance=self.instance, raise_on_error=False, tags=tags
        )

    def hear(self, object_id: int, verdict: Verdict) -> None:
        """The DPS has spoken of the object's only package."""
        (package,) = package_rows(self.env, object_id)
        now = self.env.now()
        with self.env.transaction() as session:
            packages.record_verdict(
                session, package.id, verdict=verdict, reported=now, day=now.date(), transfer_id="t-1"
            )

    def confirm(self, object_id: int) -> dg.ExecuteInProcessResult:
        """As the sensor has it done: in a run with this op alone."""
        return self.job.execute_in_process(
            partition_key=str(object_id), instance=self.instance, op_selection=["confirm_sip"]
        )

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


def _told(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    """The metadata of the step's outputs."""
    outputs = [event for event in result.all_events if event.is_successful_output and event.step_key == step]
    return {key: value.value for event in outputs for key, value in event.step_output_data.metadata.items()}


def test_the_first_run_is_green_and_leaves_the_confirmation_to_a_later_one(bench: Bench) -> None:
    result = bench.run(OBJECT)
    assert result.success
    assert _steps(result) == {
        "download_object": "done",
        "create_sip": "done",
        "submit_sip": "done",
        "confirm_sip": "skipped",
    }
    assert bench.tags(result)["dagster/partition_set"] == launch.PARTITION_SET
    assert bench.tags(result)["passari/outcome"] == "waiting"
    assert bench.toolkit.calls == ["download", "package", "submit"]
    again = bench.run(OBJECT)
    assert again.success
    assert bench.toolkit.calls == ["download", "package", "submit"], "launched again, it waits as before"


def test_a_content_problem_ends_green_and_freezes_the_object_with_its_reason(bench: Bench) -> None:
    reason = "Unsupported file format: psd"
    detail = "\n".join(f"'kuva{number}.psd' is a drawing of Photoshop" for number in range(90))
    bench.toolkit.failures["package"] = [ContentProblem(reason, detail)]
    result = bench.run(OBJECT)
    assert result.success
    assert _steps(result) == {
        "download_object": "done",
        "create_sip": "done",
        "submit_sip": "skipped",
        "confirm_sip": "skipped",
    }
    assert bench.tags(result)["passari/outcome"] == "frozen"
    assert bench.tags(result)["passari/reason"] == object_row(bench.env, OBJECT).freeze_reason == reason
    assert _told(result, "create_sip") == {"reason": reason, "detail": detail}, "whole, on the run's page"

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
    assert bench.tags(result)["passari/outcome"] == "system-error"


def test_an_attempt_that_is_tried_again_is_no_outcome_yet(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.toolkit.failures["download"] = [TransientFailure("MuseumPlus is away")] * 2
    seen: list[str | None] = []
    download = bench.toolkit.download

    def watched(*arguments: Any) -> Downloaded:
        (run,) = bench.instance.get_runs()
        seen.append(run.tags.get("passari/outcome"))
        return download(*arguments)

    monkeypatch.setattr(bench.toolkit, "download", watched)
    assert bench.tags(bench.run(OBJECT))["passari/outcome"] == "waiting"
    assert seen == [None, None, None]


def test_what_no_detector_knows_of_the_content_is_red_at_once_and_found_by_its_tag(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [UnforeseenContent("'kuva.tif' cannot be read")] * 9
    result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls.count("package") == 1
    assert bench.tags(result)["passari/outcome"] == "content-failure"
    assert not object_row(bench.env, OBJECT).frozen


@pytest.mark.parametrize(("verdict", "outcome"), [(Verdict.ACCEPTED, "preserved"), (Verdict.REJECTED, "rejected")])
def test_a_rejected_object_does_not_look_like_a_preserved_one(bench: Bench, verdict: Verdict, outcome: str) -> None:
    bench.run(OBJECT)
    bench.hear(OBJECT, verdict)
    result = bench.confirm(OBJECT)
    assert result.success
    warnings = [
        entry.user_message for entry in bench.instance.all_logs(result.run_id) if entry.level == logging.WARNING
    ]
    assert [f".tar is {outcome}" in warning for warning in warnings] == [True] * (verdict is Verdict.REJECTED)
    assert bench.tags(result)["passari/outcome"] == outcome
    by_tag = bench.instance.get_runs(dg.RunsFilter(tags={"passari/outcome": outcome}))
    assert [run.run_id for run in by_tag] == [result.run_id]
    assert bench.tags(bench.confirm(OBJECT))["passari/outcome"] == "skipped", "there is nothing left to confirm"


def test_a_run_that_is_started_again_does_not_keep_its_parents_outcome(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [ContentProblem("Unsupported file format: psd", "kuva.psd")]
    frozen = bench.run(OBJECT)
    with bench.env.transaction() as session:
        session.get_one(MuseumObject, OBJECT).frozen = False
    # As the UI's Re-execute does it: with the parent's tags.
    again = bench.run(OBJECT, tags={**bench.tags(frozen), "dagster/parent_run_id": frozen.run_id})
    assert again.success
    assert (bench.tags(again)["passari/outcome"], bench.tags(again)["passari/reason"]) == ("waiting", "")
    bench.toolkit.failures["package"] = [dg.DagsterExecutionInterruptedError()]
    cancelled = bench.run(OBJECT + 1, tags={**bench.tags(frozen), "dagster/parent_run_id": frozen.run_id})
    assert bench.tags(cancelled)["passari/outcome"] == "unfinished"


def test_the_longest_reason_fits_a_tag() -> None:
    """Dagster's index over the values of tags takes no longer ones."""
    result = StepResult(Outcome.FROZEN, "frozen", reason="ä" * 5000)
    assert outcomes.tags_of(result)["passari/reason"] == "ä" * 1000


def test_what_a_person_must_mend_is_not_retried(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [PermanentFailure("the signing certificate has expired")] * 9
    result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls.count("package") == 1
    failure = next(e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    assert "the signing certificate has expired" in str(failure.step_failure_data)
    assert bench.tags(result)["passari/outcome"] == "system-error"


def test_a_step_that_a_person_cancels_does_not_begin_again(bench: Bench) -> None:
    bench.toolkit.failures["package"] = [dg.DagsterExecutionInterruptedError()]
    result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls.count("package") == 1
    assert "passari/outcome" not in bench.tags(result)
    assert bench.run(OBJECT).success, "launched again, it goes on"


def test_an_object_is_not_worked_on_by_two_runs_at_once(bench: Bench) -> None:
    short = bench.env.settings.model_copy(
        update={"workflow": bench.env.settings.workflow.model_copy(update={"lock_expiry": 1})}
    )
    object.__setattr__(bench.env, "settings", short)
    with bench.env.lock(locks.object_lock(OBJECT), wait=1):
        result = bench.run(OBJECT)
    assert not result.success
    assert bench.toolkit.calls == []
    assert bench.tags(result)["passari/outcome"] == "system-error", "though no op had begun"
    assert bench.run(OBJECT).success, "and the lock is free when it was left"


def _lose(redis_url: SecretStr, name: str) -> None:
    """Redis lets a lock go that is held."""
    with contextlib.closing(redis.Redis.from_url(redis_url.get_secret_value())) as client:
        assert client.delete(f"lock:passari:{name}") == 1


class LosingToolkit(ScriptedToolkit):
    """A toolkit in whose process all stands still while the SIP is made; Redis lets the lock go meanwhile."""

    def __init__(self, redis_url: SecretStr) -> None:
        super().__init__()
        self._redis_url, self.loses = redis_url, True

    def package(self, package: object, root: Path, log: Log) -> Packaged:
        if self.loses:
            _lose(self._redis_url, locks.object_lock(OBJECT))
        return super().package(package, root, log)


RUN_RETRIES = {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False}
"""As dagster.yaml has them."""


def test_a_run_that_lost_its_lock_is_not_retried_in_itself_but_started_again(
    bench: Bench, redis_url: SecretStr
) -> None:
    """The lock cannot be had back within the run; in a new one it is taken anew."""
    toolkit = LosingToolkit(redis_url)
    object.__setattr__(bench.env, "toolkit", toolkit)
    with dg.DagsterInstance.ephemeral(settings={"run_retries": RUN_RETRIES}) as instance:
        bench = Bench(bench.env, toolkit, instance)
        lost = bench.run(OBJECT)
        assert not lost.success
        assert _steps(lost)["create_sip"] == "failed"
        assert toolkit.calls == ["download", "package"], "not in this run"
        assert bench.tags(lost)[jobs.RETRY_RUN_TAG] == "true"
        assert bench.tags(lost)["passari/outcome"] == "system-error"
        assert bench.tags(lost)["dagster/will_retry"] == "true", "but in the next one, says Dagster"
        failure = next(e for e in lost.all_events if e.event_type_value == "STEP_FAILURE")
        assert "the lock 'object-1000000' is lost" in str(failure.step_failure_data)
        (package,) = package_rows(bench.env, OBJECT)
        assert package.downloaded
        assert not package.packaged, "nothing was recorded without the lock"

        # As Dagster starts a run again: with its parent's tags, and names of the family.
        family = {"dagster/parent_run_id": lost.run_id, "dagster/root_run_id": lost.run_id}
        toolkit.loses = False
        toolkit.failures["package"] = [TransientFailure("the network storage is away")] * 3
        child = bench.run(OBJECT, tags={**family, jobs.RETRY_RUN_TAG: "true"})
        assert not child.success
        assert bench.tags(child)["dagster/will_retry"] == "false", "an op's error is its retry policy's affair, as ever"

        assert bench.run(OBJECT).success, "launched again, it goes on"
        assert toolkit.calls[-1] == "submit"


@pytest.mark.filterwarnings("ignore:Coercing Subquery object")  # Dagster asks for backfills so
def test_an_enqueue_that_lost_its_lock_launches_nothing(
    bench: Bench, redis_url: SecretStr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may be choosing the same objects."""
    choose = enqueue.choose

    def slow(*args: Any, **kwargs: Any) -> enqueue.Chosen:
        chosen = choose(*args, **kwargs)
        assert chosen.ids
        _lose(redis_url, locks.WORKFLOW)
        return chosen

    monkeypatch.setattr(enqueue, "choose", slow)
    job = build_defs(bench.env.settings, {"environment": bench.env}).resolve_job_def("enqueue_objects")
    config = {"ops": {"enqueue": {"config": {"object_count": 3}}}}
    with pytest.raises(locks.LockLostError):
        job.execute_in_process(run_config=config, instance=bench.instance)
    assert not bench.instance.get_backfills()
    assert not launch.registered(bench.instance)


def test_a_partition_that_is_no_object_id_is_refused_by_name(bench: Bench) -> None:
    result = bench.run("kirves")
    assert not result.success
    assert any(
        "'kirves' is not the id of a museum object" in str(event.event_specific_data) for event in result.all_events
    )


def test_a_confirmation_executes_in_a_run_of_its_own_where_the_objects_run_was_deleted(bench: Bench) -> None:
    first = bench.run(OBJECT)
    bench.hear(OBJECT, Verdict.ACCEPTED)
    bench.instance.delete_run(first.run_id)
    result = bench.confirm(OBJECT)
    assert _steps(result) == {"confirm_sip": "done"}
    assert object_row(bench.env, OBJECT).preserved


@pytest.mark.filterwarnings("ignore:Coercing Subquery object")  # Dagster asks for backfills so
def test_a_dry_run_of_an_enqueue_tells_what_it_would_do_and_does_nothing(bench: Bench) -> None:
    job = build_defs(bench.env.settings, {"environment": bench.env}).resolve_job_def("enqueue_objects")
    config = {"ops": {"enqueue": {"config": {"object_count": 3, "dry_run": True}}}}
    result = job.execute_in_process(config, instance=bench.instance)
    told = _numbers(result)
    assert (told["chosen"], told["enqueued"], told["backfill"]) == (3, 0, "none")
    assert launch.registered(bench.instance) == set()
    assert bench.instance.get_backfills() == []
    assert [run.run_id for run in bench.instance.get_runs()] == [result.run_id]
    assert package_rows(bench.env, OBJECT) == []


def _numbers(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (output,) = result.filter_events(lambda event: event.event_type_value == "STEP_OUTPUT")
    return {key: value.value for key, value in output.step_output_data.metadata.items()}


def _preview(bench: Bench, job: str, **config: Any) -> tuple[list[str], dict[str, Any]]:
    """What the dry run of a job logs, and its numbers."""
    ops = {"ops": {job.partition("_")[0]: {"config": {**config, "dry_run": True}}}}
    definition = build_defs(bench.env.settings, {"environment": bench.env}).resolve_job_def(job)
    result = definition.execute_in_process(ops, instance=bench.instance)
    logged = [entry.user_message for entry in bench.instance.all_logs(result.run_id) if not entry.is_dagster_event]
    return logged, _numbers(result)


@pytest.mark.filterwarnings("ignore:Coercing Subquery object")  # Dagster asks for backfills so
def test_a_dry_run_logs_every_object(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LINE", 15)
    monkeypatch.setattr(bulk, "SAMPLE", 5)
    ids = list(range(OBJECT, OBJECT + 18))
    words = [", ".join(map(str, part)) for part in (ids[:15], ids[15:])]
    logged, _ = _preview(bench, "enqueue_objects", object_ids=[*ids, 7, 5])
    assert logged[:3] == [
        *(f"would be enqueued: {each}" for each in words),
        "not enqueued, not in the database (run sync_objects): 5, 7",
    ]

    logged, numbers = _preview(bench, "reenqueue_objects", object_ids=ids, reason="why")
    assert logged[:2] == [f"would be: refused, its latest package was not rejected: it has none: {x}" for x in words]
    assert "and 13 more, in the log of this run" in numbers["objects"]
    assert numbers["would_be_enqueued"] == 0

    with bench.env.transaction() as session:
        for object_id in ids:
            row = session.get_one(MuseumObject, object_id)
            row.frozen, row.freeze_reason = True, "psd"
        session.get_one(MuseumObject, ids[0]).metadata_hash = None
    logged, numbers = _preview(bench, "unfreeze_objects", with_reason="psd", reason="why", enqueue=True)
    assert [line for line in logged if line.startswith("would be: unfrozen")] == [
        f"would be: unfrozen: {each}" for each in words
    ]
    assert f"not enqueued, metadata hash not known yet (run sync_objects): {ids[0]}" in logged
    assert (numbers["unfrozen"], numbers["would_be_enqueued"], numbers["not_eligible"]) == (18, 17, 1)
    assert numbers["enqueued"] == 0
    assert "would_be_enqueued" not in _preview(bench, "unfreeze_objects", with_reason="psd", reason="why")[1]
    assert launch.registered(bench.instance) == set()
    assert all(object_row(bench.env, object_id).frozen for object_id in ids)


@pytest.mark.filterwarnings("ignore:Coercing Subquery object")  # Dagster asks for backfills so
def test_a_dry_run_of_a_requeue_logs_every_object(bench: Bench) -> None:
    bench.toolkit.failures["download"] = [PermanentFailure("the disk is full")] * 2
    for object_id in (OBJECT, OBJECT + 1):
        assert not bench.run(object_id).success
    logged, _ = _preview(bench, "requeue_failed", reason="mended")
    told = [line.removeprefix("would be: requeued: ") for line in logged if line.startswith("would be: requeued")]
    assert [sorted(line.split(", ")) for line in told] == [[str(OBJECT), str(OBJECT + 1)]]


@pytest.mark.filterwarnings("ignore:Coercing Subquery object")  # Dagster asks for backfills so
def test_keys_of_objects_that_wait_for_nothing_are_removed_unless_they_have_a_run(bench: Bench) -> None:
    eligible, in_workflow, preserved, rejected, cancelled, with_a_run = ids = range(OBJECT, OBJECT + 6)
    with bench.env.transaction() as session:
        rows = {id_: session.get_one(MuseumObject, id_) for id_ in ids}
        add_package(session, rows[in_workflow], preserved=False)
        add_package(session, rows[preserved])
        add_package(session, rows[rejected], preserved=False, rejected=True)
        add_package(session, rows[cancelled], preserved=False, cancelled=True)
        rows[cancelled].frozen = True
        add_package(session, rows[with_a_run])
    launch.register(bench.instance, ids)
    run = bench.instance.create_run_for_job(
        bench.job, tags={PARTITION_TAG: str(with_a_run)}, status=dg.DagsterRunStatus.STARTED
    )
    assert keys.prune(bench.env, bench.instance) == 3
    assert launch.registered(bench.instance) == {eligible, in_workflow, with_a_run}
    bench.instance.report_run_canceled(run)
    assert keys.prune(bench.env, bench.instance) == 1
    assert launch.registered(bench.instance) == {eligible, in_workflow}
