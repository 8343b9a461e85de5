"""What is late goes red: checks and freshness policies of the syncs and of the looks at the DPS."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from passari_dagster.defs import build_defs, lateness
from passari_dagster.settings import load
from passari_dagster_tests.conftest import PROJECT

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def test_a_trace_is_left_each_five_minutes_and_counts_the_verdicts_between() -> None:
    (first,), cursor = lateness.traced(None, 2, NOW)
    assert first.metadata["verdicts"].value == 2
    traces, cursor = lateness.traced(cursor, 3, NOW + timedelta(minutes=2))
    assert not traces
    traces, cursor = lateness.traced(cursor, 4, NOW + timedelta(minutes=4))
    assert not traces
    (second,), cursor = lateness.traced(cursor, 0, NOW + timedelta(minutes=6))
    assert second.metadata["verdicts"].value == 7


def test_what_was_never_done_or_too_long_ago_fails() -> None:
    allowed = lateness.Allowed(timedelta(0), timedelta(seconds=60), "look")
    late = lateness.Allowed(timedelta(0), timedelta(microseconds=1), "look")
    with dg.DagsterInstance.ephemeral() as instance:

        def evaluate(limit: lateness.Allowed) -> dg.AssetCheckEvaluation:
            (check,) = [lateness._check("it", limit)]
            result = dg.materialize([check], instance=instance, selection=dg.AssetSelection.all_asset_checks())
            (evaluation,) = result.get_asset_check_evaluations()
            return evaluation

        never = evaluate(allowed)
        assert (never.passed, never.description) == (False, "it was never done")
        instance.report_runless_asset_event(dg.AssetMaterialization("it"))
        assert evaluate(allowed).passed
        too_late = evaluate(late)
        assert not too_late.passed
        assert too_late.severity is dg.AssetCheckSeverity.ERROR
        assert too_late.metadata["what_to_do"].value == "look"


def test_policies_allow_what_the_schedules_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    settings = load(workflow={"poll_interval": 3600})
    graph = build_defs(settings).resolve_asset_graph()
    policies = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.get_all_asset_keys()}
    names = {name for name, policy in policies.items() if policy is not None}
    assert names == {"museum_objects", "museum_attachments", "metadata_hashes", "dps_poll"}
    assert lateness.poll_allowed(settings).warn > timedelta(hours=5), "the poll is as rare as the settings want it"
    night = timedelta(hours=8)
    assert lateness.OBJECTS.warn > timedelta(days=2) + night
    assert lateness.ATTACHMENTS.warn > timedelta(days=3) + night
