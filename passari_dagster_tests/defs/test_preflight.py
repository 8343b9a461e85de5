"""The preflight in Dagster: what its run, its metadata and its check say."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from passari_dagster import stopping
from passari_dagster.defs import build_defs
from passari_dagster.defs.preflight import CHECK, NAME, PreflightConfig
from passari_dagster_tests.house import House
from passari_dagster_tests.workflow.stories import JPEG, PSD, old_object

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


@pytest.fixture
def house(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[House]:
    house = House(tmp_path, museum_database, redis_url, objects=2)
    yield house
    house.close()


class Preflight:
    """A run of the job on an instance of its own, and what it left there."""

    def __init__(self, house: House, **config: Any) -> None:
        with house.environment() as env, dg.DagsterInstance.ephemeral() as instance:
            job = build_defs(env.settings, {"environment": env}).resolve_job_def("preflight")
            result = job.execute_in_process(
                instance=instance, raise_on_error=False, run_config={"ops": {NAME: {"config": config}}}
            )
            self.success = result.success
            self.evaluations = result.get_asset_check_evaluations()
            materializations = result.asset_materializations_for_node(NAME) if result.success else []
            self.metadata = {name: value.value for each in materializations for name, value in each.metadata.items()}
            self.failures = [str(event.step_failure_data) for event in result.all_events if event.is_step_failure]

    @property
    def check(self) -> dg.AssetCheckEvaluation:
        (evaluation,) = self.evaluations
        assert evaluation.check_name == CHECK
        return evaluation


def test_problems_are_a_warning_with_exact_counts_a_sample_and_a_file(house: House) -> None:
    bad = [old_object(house, *[(f"{n}.psd", PSD) for n in range(9)]) for _ in range(3)]
    run = Preflight(house, object_ids=[*bad, *house.museum.object_ids])
    assert run.success
    assert (run.check.passed, run.check.severity) == (False, dg.AssetCheckSeverity.WARN)
    told: dict[str, Any] = {name: value.value for name, value in run.check.metadata.items()}
    counts = {
        "objects": 5,
        "good": 2,
        "with_problems": 3,
        "problems": 27,
        "could_not_be_examined": 0,
        "left": 0,
    }
    assert counts.items() <= told.items()
    assert counts.items() <= run.metadata.items()
    assert len(str(told["sample"]).splitlines()) == 2 + 20 + 1
    (reason,) = told["by_reason"]
    assert told["by_reason"] == {reason: 27}
    assert f"| {reason.replace(':', chr(92) + ':')} | 27 | 3 |" in str(run.metadata["by_reason"])
    assert "8.psd" in str(run.metadata["found"])
    table = Path(str(run.metadata["csv"]))
    assert table.parent == house.directory / "archive" / "preflight"
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 27
    assert {row["object_id"] for row in rows} == set(map(str, bad))
    assert {row["reason"] for row in rows} == {reason}


def test_without_problems_the_check_passes(house: House) -> None:
    run = Preflight(house, object_ids=list(house.museum.object_ids))
    assert run.success
    assert run.check.passed
    assert run.metadata["found"] == "No problem was found."


def test_what_could_not_be_examined_is_an_error_and_not_a_problem(house: House) -> None:
    object_id, other = house.museum.object_ids
    house.museum.faults.fail_next(3, path_contains=f"/Object/{object_id}")
    run = Preflight(house, object_ids=[object_id, other])
    assert run.success
    assert (run.check.passed, run.check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert run.check.metadata["problems"].value == 0
    assert "3 attempts" in str(run.check.metadata["failures"].value)


def test_if_none_could_be_examined_the_run_is_red(house: House) -> None:
    house.museum.faults.fail_next(60, path_contains="/")
    run = Preflight(house, object_ids=list(house.museum.object_ids))
    assert not run.success
    assert "none of the 2 objects could be examined" in run.failures[0]
    assert (run.check.passed, run.check.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_stopped_early_it_says_what_is_left_and_has_not_passed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "is_asked", lambda: True)
    run = Preflight(house, object_ids=list(house.museum.object_ids))
    assert run.success
    assert not run.check.passed
    assert run.metadata["left"] == 2


def test_before_anything_is_synchronised_there_is_nothing_to_pick(house: House) -> None:
    run = Preflight(house)
    assert run.success
    assert run.metadata["objects"] == 0
    assert house.museum.requests == []


def test_a_table_goes_where_the_settings_say(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSARI_PREFLIGHT_DIR", str(tmp_path / "tables"))
    bad = old_object(house, ("kuva.jpg", JPEG[:-200]))
    run = Preflight(house, object_ids=[bad])
    (table,) = (tmp_path / "tables").iterdir()
    assert str(table) == run.metadata["csv"]


def test_no_sync_starts_a_preflight(house: House) -> None:
    defs = build_defs(house.settings())
    for name in ("sync_objects", "sync_attachments", "sync_hashes"):
        assert NAME not in [node.name for node in defs.resolve_job_def(name).nodes]
    assert [node.name for node in defs.resolve_job_def("preflight").nodes] == [NAME]


def test_every_field_of_the_config_is_described() -> None:
    for name, field in PreflightConfig.model_fields.items():
        assert field.description, name
