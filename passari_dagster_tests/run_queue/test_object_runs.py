"""The runs of single objects, as those who freeze them ask for them."""

from __future__ import annotations

import pytest

from passari_dagster.defs import launch
from passari_dagster_tests.run_queue.site import Site
from passari_dagster_tests.run_queue.toy_runs import gated


@pytest.mark.slow
def test_what_executes_and_what_waits_is_told_apart_and_what_waits_is_cancelled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "JOB_NAME", gated.name)
    runs = launch.ObjectRuns(site.instance)
    queued = site.submit(gated, "1")
    other = site.submit(gated, "2")
    assert (runs.executing(1), runs.queued(1), runs.queued(2), runs.queued(3)) == (None, [queued], [other], [])
    runs.cancel(queued)
    assert site.status(queued) == "CANCELED"
    assert runs.queued(1) == []
    with site.pool():
        site.wait_until_at_the_gate(other)
        assert (runs.executing(2), runs.queued(2)) == (other, [])
        site.gate.touch()
        site.wait_for(other, "SUCCESS")
    assert runs.executing(2) is None
