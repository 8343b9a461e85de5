"""poll_dps, requeue_failed and reset_workflow on a running system: as the UI launches them, and by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from passari_dagster.workflow.audit import events
from passari_dagster_tests import running as system
from passari_dagster_tests.house import package_rows
from passari_dagster_tests.running import Running, running_system

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.xdist_group("requeue"), pytest.mark.timeout(900)]

REASON = "the signing key was wrong"


@pytest.fixture(scope="module")
def quiet_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system whose sensor looks at the DPS once, at its start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(system.WORKFLOW, "poll_interval", 3600)
        with running_system(tmp_path_factory.mktemp("requeue"), objects=30) as running:
            yield running


def config(op_name: str, /, **values: Any) -> dict[str, Any]:
    return {"ops": {op_name: {"config": values}}}


def idle(running: Running) -> bool:
    return not running.webserver.runs("preserve_object", ("QUEUED", "STARTING", "STARTED"))


def ended(running: Running, run_id: str) -> str:
    return running.wait(lambda: running._ended(run_id), "the run to end")


def sent(running: Running, *object_ids: int) -> None:
    """Have objects whose packages the DPS has looked at."""
    for run_id in [running.preserve(object_id) for object_id in object_ids]:
        assert ended(running, run_id) == "SUCCESS"
    with running.environment() as env:
        for object_id in object_ids:
            running.house.dps.wait_for(package_rows(env, object_id)[-1].sip_filename or "")


def failing(running: Running, *object_ids: int, without: str = "sign.pem") -> None:
    """Have objects whose last run failed for want of a key: in create_sip, or where the DPS wants it."""
    key = running.house.directory / without
    kept = key.read_bytes()
    key.write_bytes(b"no key\n")
    for run_id in [running.preserve(object_id) for object_id in object_ids]:
        assert ended(running, run_id) == "FAILURE"
    key.write_bytes(kept)


def requeued(running: Running, object_id: int) -> str:
    """How the second run of an object ended, which is a child of the first."""
    running.wait(lambda: len(running.runs_of(object_id)) == 2, "the new run")
    failed, again = running.runs_of(object_id)
    status = ended(running, again["runId"])
    assert (failed["status"], again["parentRunId"]) == ("FAILURE", failed["runId"])
    return status


def cancelled(running: Running, object_id: int) -> list[bool]:
    with running.environment() as env:
        return [bool(row.cancelled) for row in package_rows(env, object_id)]


def told_by(running: Running, job: str, run_config: dict[str, Any]) -> dict[str, int]:
    return running.webserver.output_numbers(running.run(job, run_config)["runId"])


def test_verdicts_are_looked_for_on_demand(quiet_system: Running) -> None:
    running = quiet_system
    by_job, by_command = running.good_objects()[:2]
    sent(running, by_job)
    numbers = told_by(running, "poll_dps", config("poll", days=7))
    assert numbers == {"waiting": 1, "accepted": 1, "rejected": 0}
    running.wait_until("preserved", by_job)
    sent(running, by_command)
    told = json.loads(running.passari("poll-dps", "--days", "7", "--json"))
    assert [(one["object_id"], one["status"]) for one in told["verdicts"]] == [(by_command, "accepted")]
    assert told["confirmations"] == "1 confirmations launched"
    running.wait_until("preserved", by_command)
    assert "0 packages waited, 0 verdicts are news" in running.passari("poll-dps")


def test_failed_objects_are_requeued_once_each_run_a_child_of_the_failed_one(quiet_system: Running) -> None:
    running = quiet_system
    by_job, by_command = running.good_objects()[2:4]
    failing(running, by_job, by_command)
    wanted: dict[str, Any] = {
        "reason": REASON,
        "error": "PRIVATE key",
        "outcome": "SYSTEM_ERROR",
        "op": "create_sip",
    }
    numbers = told_by(running, "requeue_failed", config("requeue", dry_run=True, **wanted))
    assert numbers["requeued"] == 2
    assert told_by(running, "requeue_failed", config("requeue", object_ids=[by_job], **wanted))["requeued"] == 1
    said = running.passari("requeue-failed", "--reason", REASON, "--error", "private KEY", "--since", "2026-01-01")
    assert "1 requeued" in said
    for object_id in (by_job, by_command):
        assert requeued(running, object_id) == "SUCCESS"
    again = json.loads(running.passari("requeue-failed", "--reason", REASON, "--json"))
    assert (again["counts"], again["backfills"]) == ({}, [])
    assert "a reason is needed" in running.passari("requeue-failed", "--reason", " ", code=1)
    assert "is no date" in running.passari("requeue-failed", "--reason", "x", "--since", "monday", code=1)
    with running.environment() as env, env.transaction() as session:
        told = [(event.action, event.object_ids) for event in events(session, limit=4)]
    assert told[:2] == [("requeue_failed", (by_command,)), ("requeue_failed", (by_job,))]


def test_the_workflow_is_reset_only_when_nothing_is_in_it(quiet_system: Running) -> None:
    running = quiet_system
    by_job, by_command, live = running.good_objects()[4:7]
    failing(running, by_job)
    assert told_by(running, "reset_workflow", config("reset", reason="backup"))["cancelled"] == 1
    assert cancelled(running, by_job) == [False]
    assert told_by(running, "reset_workflow", config("reset", reason="backup", perform=True))["cancelled"] == 1
    assert cancelled(running, by_job) == [True]
    failing(running, by_command)
    assert "dry run, nothing is done: 1 cancelled" in running.passari("reset-workflow", "--reason", "backup")
    assert cancelled(running, by_command) == [False]

    hold = running.house.dps.hold("rename-before", str(live))
    run = running.preserve(live)
    running.wait(lambda: running.webserver.run_status(run) == "STARTED", "the run to execute")
    told = running.passari("reset-workflow", "--reason", "backup", "--perform-reset", code=1)
    assert "1 runs of preserve_object are queued or live" in told
    hold.release()
    running.wait(lambda: idle(running), "the run to end")
    done = json.loads(running.passari("reset-workflow", "--reason", "backup", "--perform-reset", "--json"))
    assert done["counts"]["cancelled"] == 1
    assert (cancelled(running, by_command), cancelled(running, live)) == ([True], [False])
    sent(running, by_command)
    assert cancelled(running, by_command) == [True, False]
