"""Hashes, eligible objects and explanations in Dagster: what their runs say, and what is plotted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr, ValidationError

from passari_dagster.catalogue.attachment_hashes import mark_stale
from passari_dagster.catalogue.eligibility import REASONS
from passari_dagster.defs import build_defs, jobs
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import add_object, add_package
from passari_dagster_tests.house import House

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


@pytest.fixture
def env(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[Environment]:
    """Objects 1 to 7: 3 is frozen, 4 is new, 5 is preserved, 6 is no longer in the museum, 7 is in the workflow."""
    house = House(tmp_path, museum_database, redis_url, objects=1)
    with house.environment() as env:
        with env.transaction() as session:
            add_object(session, 1, attachment_metadata_hash=None)
            add_object(session, 2)
            add_object(session, 3, frozen=True, freeze_reason="Unsupported | format: psd")
            add_object(session, 4, created_date=env.now() - timedelta(days=1))
            add_package(session, add_object(session, 5))
            add_object(session, 6, removed_date=env.now())
            add_package(session, add_object(session, 7), preserved=False)
        yield env
    house.close()


def run(env: Environment, job: str, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        definition = build_defs(env.settings, {"environment": env}).resolve_job_def(job)
        return definition.execute_in_process(instance=instance, run_config={"ops": config or {}})


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


@pytest.mark.filterwarnings("ignore:Coercing Subquery object")  # Dagster asks for backfills so
def test_a_run_of_the_hashes_says_what_kind_it_was_and_counts_the_eligible_objects(env: Environment) -> None:
    first = run(env, "sync_hashes")
    told = metadata(first, "metadata_hashes")
    assert (told["kind"], told["full"], told["items"], told["changed_hashes"]) == ("all hashes", 1, 7, 1)
    counts = metadata(first, "eligible_objects")
    assert {reason.key for reason in REASONS} < set(counts), "each is plotted, also while it is zero"
    table = counts.pop("by_reason")
    assert {name: number for name, number in counts.items() if number} == {
        "objects": 7,
        "eligible": 2,
        "removed": 1,
        "frozen": 1,
        "in_the_workflow": 1,
        "created_too_recently": 1,
        "not_changed": 1,
    }
    assert "| 2 | eligible | |" in table
    assert "| 1 | no longer in MuseumPlus | it is found in MuseumPlus again |" in table

    with env.transaction() as session:
        mark_stale(session, [1, 2])
    told = metadata(run(env, "sync_hashes"), "metadata_hashes")
    assert (told["kind"], told["full"], told["items"]) == ("stale hashes only", 0, 2)
    told = metadata(run(env, "sync_hashes", {"metadata_hashes": {"config": {"full": True}}}), "metadata_hashes")
    assert (told["kind"], told["items"], told["stale"]) == ("all hashes", 7, 0)


def test_the_job_explains_each_object_in_its_log_and_in_a_table(
    env: Environment, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run(env, "explain", {"explain_objects": {"config": {"object_ids": [2, 3, 4, 99]}}})
    log = capfd.readouterr().err
    for line in (
        "object 2 Kirves: eligible",
        "object 3 Kirves: not eligible: frozen: Unsupported | format: psd. It can be eligible after it is unfrozen.",
        "object 4 Kirves: not eligible: created too recently (preservation_delay). It will be eligible from ",
        "object 99: not eligible: not in the database (run sync_objects).",
    ):
        assert line in log
    (output,) = [event for event in result.all_node_events if event.event_type_value == "STEP_OUTPUT"]
    told = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert (told["eligible"], told["not_eligible"]) == (1, 3)
    table = str(told["explained"])
    assert "Unsupported \\| format\\: psd" in table, "what a person has written is no markup"
    assert all(row.count(" | ") == 3 for row in table.splitlines()[2:])


def test_nothing_to_explain_is_refused() -> None:
    with pytest.raises(ValidationError, match="object_ids"):
        jobs.ExplainConfig(object_ids=[])
