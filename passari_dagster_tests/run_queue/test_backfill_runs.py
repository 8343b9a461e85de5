"""The daemon asks for all runs of a backfill again and again, and is answered without unpacking each anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import pytest
from dagster_postgres.run_storage import PostgresRunStorage

from passari_dagster.run_queue import backfill_runs
from passari_dagster.run_queue.dagster_internals import BACKFILL_ID_TAG, report_queued
from passari_dagster.run_queue.storage import PooledRunStorage
from passari_dagster_tests.run_queue.site import Site
from passari_dagster_tests.run_queue.toy_runs import gated

BACKFILL = "kirveet"


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs that were unpacked; to be cleared by who looks."""
    ids: list[str] = []
    unpack = PooledRunStorage._row_to_run

    def observe(self: PooledRunStorage, row: Any) -> dg.DagsterRun:
        run = unpack(self, row)
        ids.append(run.run_id)
        return run

    monkeypatch.setattr(PooledRunStorage, "_row_to_run", observe)
    return ids


def runs(site: Site, backfill_id: str = BACKFILL) -> list[dg.DagsterRun]:
    """All of a backfill, as Dagster's daemon asks for them; they are what its own storage answers."""
    wanted = dg.RunsFilter(tags=dg.DagsterRun.tags_for_backfill_id(backfill_id))
    ours = list(site.instance.get_runs(wanted))
    assert ours == stock(site, wanted)
    return ours


def stock(site: Site, wanted: dg.RunsFilter) -> Sequence[dg.DagsterRun]:
    """What dagster-postgres answers."""
    assert isinstance(site.instance.run_storage, PooledRunStorage)
    return PostgresRunStorage.get_runs(site.instance.run_storage, wanted)


def asked(site: Site, unpacked: list[str]) -> list[str]:
    """Which runs are unpacked when the daemon asks once more."""
    unpacked.clear()
    site.instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: BACKFILL}))
    return sorted(unpacked)


def test_only_runs_that_are_new_or_changed_are_unpacked(site: Site, unpacked: list[str]) -> None:
    first, second = (site.create(gated, key, **{BACKFILL_ID_TAG: BACKFILL}) for key in "12")
    other = site.create(gated, "3", **{BACKFILL_ID_TAG: "kellot"})
    assert asked(site, unpacked) == sorted([first.run_id, second.run_id])
    assert asked(site, unpacked) == []

    report_queued(site.instance, first)
    assert asked(site, unpacked) == [first.run_id]
    site.instance.add_run_tags(second.run_id, {"passari/outcome": "frozen"})
    assert asked(site, unpacked) == [second.run_id]
    third = site.create(gated, "4", **{BACKFILL_ID_TAG: BACKFILL})
    assert asked(site, unpacked) == [third.run_id]

    assert {run.run_id for run in runs(site)} == {first.run_id, second.run_id, third.run_id}
    assert {run.tags.get("passari/outcome") for run in runs(site)} == {None, "frozen"}
    assert [run.run_id for run in runs(site, "kellot")] == [other.run_id]


def test_a_host_whose_clock_is_behind_is_noticed_all_the_same(site: Site, unpacked: list[str]) -> None:
    run = site.create(gated, "1", **{BACKFILL_ID_TAG: BACKFILL})
    report_queued(site.instance, run)
    assert asked(site, unpacked) == [run.run_id]
    site.instance.run_storage.handle_run_event(
        run.run_id,
        dg.DagsterEvent(event_type_value=dg.DagsterEventType.PIPELINE_CANCELED.value, job_name=run.job_name),
        update_timestamp=datetime(2020, 1, 1),  # noqa: DTZ001 - as it stands in the table
    )
    assert asked(site, unpacked) == [run.run_id]
    assert [run.status for run in runs(site)] == [dg.DagsterRunStatus.CANCELED]


def test_a_deleted_run_is_gone(site: Site) -> None:
    run = site.create(gated, "1", **{BACKFILL_ID_TAG: BACKFILL})
    assert len(runs(site)) == 1
    site.instance.delete_run(run.run_id)
    assert runs(site) == []


def test_backfills_that_nobody_asks_for_any_more_are_forgotten(
    site: Site, unpacked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = site.create(gated, "1", **{BACKFILL_ID_TAG: BACKFILL})
    asked(site, unpacked)
    monkeypatch.setattr(backfill_runs, "FORGET_AFTER", 0.0)
    assert asked(site, unpacked) == [run.run_id]


@pytest.mark.parametrize("options", [{"limit": 1}, {"ascending": True}])
def test_who_asks_otherwise_is_answered_by_dagster(site: Site, unpacked: list[str], options: dict[str, Any]) -> None:
    for key in "12":
        site.create(gated, key, **{BACKFILL_ID_TAG: BACKFILL})
    asked(site, unpacked)
    unpacked.clear()
    wanted = dg.RunsFilter(tags={BACKFILL_ID_TAG: BACKFILL})
    found = site.instance.get_runs(wanted, **options)
    assert len(unpacked) == len(found) == (1 if "limit" in options else 2)
