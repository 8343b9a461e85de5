"""Failed objects are launched again: which are chosen, which are left as they are, and that it is done once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from pydantic import SecretStr

from passari_dagster.catalogue import freezing
from passari_dagster.catalogue.models import FreezeSource, Verdict
from passari_dagster.defs import launch, requeue
from passari_dagster.defs.requeue import Requeued, Wanted
from passari_dagster.defs.resources import PARTITION_TAG
from passari_dagster.errors import PermanentFailure, TransientFailure, UnforeseenContent
from passari_dagster.workflow import poll
from passari_dagster.workflow.audit import Actor, events
from passari_dagster.workflow.requeue import Kind, Selection, moment, plan
from passari_dagster.workflow.standing import Failure
from passari_dagster_tests.defs.test_jobs import OBJECT, Bench, ScriptedToolkit
from passari_dagster_tests.house import House, package_rows, synchronise_all
from passari_dagster_tests.run_queue.site import NOWHERE

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
    pytest.mark.filterwarnings("ignore:Coercing Subquery object"),  # Dagster asks for backfills so
]

ME = Actor("maija", run_id="run-1")
AWAY, BROKEN, EXPIRED = OBJECT, OBJECT + 1, OBJECT + 2


@pytest.fixture
def bench(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[Bench]:
    """Three objects that have failed: MuseumPlus was away, an unknown content problem, the DPS refused."""
    house = House(tmp_path, museum_database, redis_url, objects=20)
    with (
        contextlib.closing(house),
        house.environment(workflow={"step_retry_wait": 0, "step_retries": 0}) as env,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        synchronise_all(env)
        toolkit = ScriptedToolkit()
        object.__setattr__(env, "toolkit", toolkit)
        bench = Bench(env, toolkit, instance)
        toolkit.failures["download"] = [TransientFailure("MuseumPlus is away")]
        assert not bench.run(AWAY).success
        toolkit.failures["package"] = [UnforeseenContent("No colour space in kuva.tif")]
        assert not bench.run(BROKEN).success
        toolkit.failures["submit"] = [PermanentFailure("the DPS refuses our key")]
        assert not bench.run(EXPIRED).success
        yield bench


def run(bench: Bench, wanted: Wanted | None = None, **options: Any) -> Requeued:
    arguments = {"reason": "mended", "backfill_id": "abc", **options}
    return requeue.requeue_failures(
        bench.env, bench.instance, lambda: NOWHERE, ME, wanted or Wanted(Selection()), **arguments
    )


def told(done: Requeued) -> dict[int, tuple[str, str]]:
    return {entry.object_id: (entry.outcome, entry.detail) for entry in done.plan.tally.entries}


def test_the_preview_lists_what_is_launched_and_a_second_call_does_nothing(bench: Bench) -> None:
    preview = run(bench, dry_run=True)
    assert (list(bench.instance.get_backfills()), preview.backfills) == ([], ())
    done = run(bench)
    assert told(done) == told(preview)
    assert told(done) == {
        AWAY: ("requeued", "download_object: MuseumPlus is away"),
        BROKEN: ("requeued", "create_sip: No colour space in kuva.tif"),
        EXPIRED: ("requeued", "submit_sip: the DPS refuses our key"),
    }
    (backfill,) = bench.instance.get_backfills()
    assert (backfill.backfill_id, done.backfills) == ("abc", ("abc",))
    assert sorted(backfill.partition_names or ()) == [str(id_) for id_ in (AWAY, BROKEN, EXPIRED)]
    assert backfill.reexecution_steps == list(requeue.STEPS), "so that the new runs are children of those that failed"
    with bench.env.transaction() as session:
        (event,) = events(session, limit=10)
    assert (event.action, event.reason, event.object_ids) == ("requeue_failed", "mended", (AWAY, BROKEN, EXPIRED))

    # The daemon makes the runs; the storage of this instance does not tell of a backfill before it has.
    for object_id in done.plan.ids:
        tags = {PARTITION_TAG: str(object_id)}
        bench.instance.create_run_for_job(bench.job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    again = run(bench, backfill_id="def")
    assert (told(again), again.backfills) == ({}, ())
    assert len(list(bench.instance.get_backfills())) == 1


def test_a_backfill_that_has_made_no_run_yet_counts_too(bench: Bench) -> None:
    failures = [Failure(AWAY, "run-1", "", "killed", final=False), Failure(BROKEN, "run-2", "", "killed", final=False)]
    done = plan(bench.env, failures, Selection(), in_flight={AWAY}, registered={AWAY, BROKEN})
    assert done.ids == [BROKEN]
    assert [(entry.outcome, entry.detail) for entry in done.tally.entries] == [
        ("left as it is", "a run of it is queued or live; it had failed in the run itself: killed"),
        ("requeued", "the run itself: killed"),
    ]


def test_failures_are_selected_by_how_and_where_and_when_and_with_what_words(bench: Bench) -> None:
    def chosen(selection: Selection | None = None, **wanted: Any) -> set[int]:
        return set(run(bench, Wanted(selection or Selection(), **wanted), dry_run=True).plan.ids)

    assert chosen(Selection(kind=Kind.CONTENT_FAILURE)) == {BROKEN}
    assert chosen(Selection(kind=Kind.SYSTEM_ERROR)) == {AWAY, EXPIRED}
    assert chosen(Selection(error="MUSEUMplus IS")) == {AWAY}
    assert chosen(Selection(step="submit_sip")) == {EXPIRED}
    assert chosen(Selection(step="submit_sip", error="colour")) == set()
    assert chosen(object_ids=[AWAY, BROKEN, 77]) == {AWAY, BROKEN}
    now = datetime.now(timezone.utc)
    assert chosen(since=now - timedelta(hours=1), until=now + timedelta(hours=1)) == {AWAY, BROKEN, EXPIRED}
    assert chosen(since=now + timedelta(hours=1)) == chosen(until=now - timedelta(hours=1)) == set()


def test_what_was_mended_frozen_or_sent_since_is_left_as_it_is(bench: Bench) -> None:
    assert bench.run(AWAY).success, "somebody launched it again"
    with bench.env.transaction() as session:
        freezing.freeze(session, BROKEN, reason="Rights are not cleared", source=FreezeSource.USER)
        (row,) = package_rows(bench.env, EXPIRED)
        session.merge(row).uploaded = True
    done = run(bench)
    assert AWAY not in told(done)
    assert done.plan.ids == []
    assert all("Rights" in detail or "with the DPS" in detail for _, detail in told(done).values())
    assert list(bench.instance.get_backfills()) == []


def test_what_has_a_verdict_is_only_confirmed(bench: Bench) -> None:
    with bench.env.transaction() as session:
        row = session.merge(package_rows(bench.env, EXPIRED)[0])
        row.uploaded, row.submission_date = True, bench.env.now()
        row.verdict, row.verdict_date = Verdict.ACCEPTED, bench.env.now()
    done = run(bench, Wanted(Selection(), object_ids=[EXPIRED]))
    assert told(done)[EXPIRED][0] == "confirmation requeued"
    (backfill,) = bench.instance.get_backfills()
    assert (backfill.backfill_id, backfill.reexecution_steps) == ("abc-c", ["confirm_sip"])
    assert poll.due_confirmations(bench.env) == {}, "the sensor does not launch it at once, too"


def test_what_waits_for_a_retry_of_its_own_and_what_has_no_room_is_left(bench: Bench) -> None:
    (failed,) = bench.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": str(AWAY)}))
    bench.instance.add_run_tags(failed.run_id, {"dagster/will_retry": "true"})
    assert set(run(bench, dry_run=True).plan.ids) == {BROKEN, EXPIRED}
    for object_id in (AWAY, BROKEN, EXPIRED):
        bench.instance.delete_dynamic_partition(launch.PARTITIONS_NAME, str(object_id))
    workflow = bench.env.settings.workflow.model_copy(update={"partition_cap": 1})
    object.__setattr__(bench.env, "settings", bench.env.settings.model_copy(update={"workflow": workflow}))
    done = run(bench)
    assert len(done.plan.ids) == 1
    assert sum("cap on partition keys" in detail for _, detail in told(done).values()) == 1


def test_a_reason_is_needed_and_more_than_can_be_looked_at_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PermanentFailure, match="reason"):
        run(bench, reason=" ")
    assert not run(bench, dry_run=True).cut
    monkeypatch.setattr("passari_dagster.defs.failures.AT_ONCE", 1)
    monkeypatch.setattr(requeue, "MOST", 2)
    done = run(bench, dry_run=True)
    assert (done.cut, set(done.plan.ids)) == (True, {BROKEN, EXPIRED})


def test_dates_are_read_as_people_write_them() -> None:
    zone = ZoneInfo("Europe/Helsinki")
    assert moment(" ", zone) is None
    assert moment("2026-01-31", zone) == datetime(2026, 1, 31, tzinfo=zone)
    assert moment("2026-01-31", zone, end=True) == datetime(2026, 2, 1, tzinfo=zone)
    assert moment("2026-01-31T14:30", zone, end=True) == datetime(2026, 1, 31, 14, 30, tzinfo=zone)
    with pytest.raises(PermanentFailure, match="is no date"):
        moment("yesterday", zone)
