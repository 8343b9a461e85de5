"""The administrator's actions on objects, on a running system: as the UI launches them, and by the command line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from passari_dagster import locks
from passari_dagster.catalogue.models import MuseumObject
from passari_dagster.workflow import preserve
from passari_dagster.workflow.audit import Event, events
from passari_dagster_tests.house import package_rows, send
from passari_dagster_tests.running import Running
from passari_dagster_tests.workflow.stories import Killed, killed_at, quiet

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.xdist_group("workbench"), pytest.mark.timeout(600)]

FIRST = 20
"""Of the good objects: those before are other tests'."""


def config(op: str, **values: Any) -> dict[str, Any]:
    return {"ops": {op: {"config": values}}}


def failed(running: Running, job: str, run_config: dict[str, Any]) -> str:
    """Launch a job that ends red; what it says."""
    run_id = running.webserver.launch(job, run_config)
    assert running.wait(lambda: running._ended(run_id), f"{job} to end") == "FAILURE"
    return "\n".join(running.webserver.run_errors(run_id))


def other_objects(running: Running) -> list[int]:
    """Objects with a file that freezes them."""
    good = set(running.good_objects())
    return [object_id for object_id in running.house.museum.object_ids if object_id not in good]


def audited(running: Running, object_id: int) -> list[Event]:
    with running.environment() as env, env.transaction() as session:
        return events(session, limit=50, object_id=object_id)


def reason_of(running: Running, object_id: int) -> str | None:
    with running.environment() as env, env.transaction() as session:
        return session.get_one(MuseumObject, object_id).freeze_reason


def rejected(running: Running, *object_ids: int) -> None:
    """Have objects that the DPS has rejected."""
    running.house.dps.damage_next(len(object_ids))
    for object_id in object_ids:
        running.preserve(object_id)
    running.wait_until("rejected", *object_ids)
    running.wait(
        lambda: not running.webserver.runs("preserve_object", ("QUEUED", "STARTING", "STARTED")), "runs to end"
    )


def test_objects_are_frozen_and_unfrozen_as_the_ui_does(running: Running) -> None:
    frozen, executing = running.good_objects()[FIRST : FIRST + 2]
    hold = running.house.dps.hold("rename-before", str(executing))
    run = running.preserve(executing)
    running.wait(lambda: running.webserver.run_status(run) == "STARTED", "the run to execute")
    running.run("freeze_objects", config("freeze", object_ids=[frozen, executing], reason="later", dry_run=True))
    assert running.stages(frozen, executing) == ["new", "open"]

    told = failed(running, "freeze_objects", config("freeze", object_ids=[frozen, executing, 5], reason="no rights"))
    assert f"{executing}: run {run} of it executes" in told
    assert "object 5 is not in the database" in told
    assert running.stages(frozen, executing) == ["frozen", "open"]
    hold.release()
    running.wait_until("preserved", executing)
    (event,) = audited(running, frozen)
    assert (event.action, event.reason, event.who) == ("freeze_objects", "no rights", "unknown (ui)")

    told = failed(running, "unfreeze_objects", config("unfreeze", reason="cleared"))
    assert "say which objects" in told
    job = running.run("unfreeze_objects", config("unfreeze", with_reason="no rights", reason="cleared", enqueue=True))
    assert running.webserver.output_numbers(job["runId"]) == {"unfrozen": 1, "enqueued": 1, "not_eligible": 0}
    running.wait_until("preserved", frozen)
    assert {event.action for event in audited(running, frozen)} == {
        "freeze_objects",
        "unfreeze_objects",
        "enqueue_objects",
    }


@contextlib.contextmanager
def workers_away(running: Running) -> Iterator[None]:
    """Nothing is executed for a while; afterwards one run at a time, the most urgent first."""
    supervisor = running.system.supervisor
    usual = next(child for child in supervisor.children if child.name == "workers")
    supervisor.children.remove(usual)
    usual.stop()
    yield
    alone = supervisor.start(replace(usual.service, argv=[*usual.service.argv, "-n", "1"]))
    running.wait(lambda: not running.webserver.runs(statuses=("QUEUED", "STARTING", "STARTED")), "all runs to end")
    supervisor.children.remove(alone)
    alone.stop()
    supervisor.start(usual.service)


@pytest.mark.xdist_group("workbench-2")
def test_the_queued_run_of_an_object_that_is_frozen_is_cancelled(running: Running) -> None:
    frozen = other_objects(running)[2]
    with workers_away(running):
        run = running.preserve(frozen)
        freeze = config("freeze", object_ids=[frozen], reason="no rights")
        urgent = {"dagster/priority": "9"}
        job = running.launch("freeze_objects", freeze, headers={"X-Forwarded-User": "maija"}, tags=urgent)
        assert [running.webserver.run_status(run_id) for run_id in (run, job)] == ["QUEUED", "QUEUED"]
    assert running.webserver.run_status(job) == "SUCCESS"
    assert running.webserver.run_status(run) == "CANCELED"
    assert running.stages(frozen) == ["frozen"]
    with running.environment() as env:
        assert package_rows(env, frozen) == []
    assert audited(running, frozen)[0].who == "maija"


def test_objects_are_enqueued_frozen_and_unfrozen_by_the_command_line(running: Running) -> None:
    first, second, preserved = running.good_objects()[FIRST + 2 : FIRST + 5]
    preview = json.loads(running.passari("enqueue", "--object-ids", f"{preserved},77", "--dry-run", "--json"))
    assert (preview["chosen"], list(preview["not_enqueued"])) == ([preserved], ["77"])
    assert running.stages(preserved) == ["new"]
    said = running.passari("enqueue", "--object-ids", str(preserved))
    assert "1 objects enqueued, backfill" in said
    running.wait_until("preserved", preserved)

    said = running.passari("freeze", str(first), str(second), "--reason", "no rights here", "--dry-run")
    assert "dry run, nothing is done: 2 frozen" in said
    assert running.stages(first, second) == ["new", "new"]
    running.passari("freeze", str(first), "6", "--reason", "no rights here", code=1)
    running.passari("freeze-objects", str(first), str(second), "--reason", "other")
    assert [reason_of(running, id_) for id_ in (first, second)] == ["no rights here", "other"]
    running.passari("freeze", str(first), code=2)
    running.passari("freeze", str(first), "--reason", " ", code=1)
    running.passari("unfreeze", "--reason", "why not", code=1)

    preview = json.loads(
        running.passari("unfreeze", "--with-reason", "other", "--reason", "cleared", "--enqueue", "--dry-run", "--json")
    )
    assert (preview["counts"], preview["chosen"], preview["backfill"]) == ({"unfrozen": 1}, [second], None)
    assert running.stages(second) == ["frozen"]
    done = json.loads(
        running.passari(
            *("unfreeze", "--with-object-ids", f"{first},{second}", "--with-reason", "other", "--reason", "cleared"),
            *("--enqueue", "--json"),
        )
    )
    assert done["counts"] == {"unfrozen": 1, "not frozen so": 1}
    assert done["chosen"] == [second]
    running.wait_until("preserved", second)
    assert running.stages(first) == ["frozen"]
    assert audited(running, second)[0].who.endswith("(command line)")
    assert audited(running, second)[0].run_id is None


@pytest.mark.xdist_group("workbench-2")
def test_rejected_objects_are_sent_again_by_the_job_and_by_the_command(running: Running) -> None:
    by_job, by_command, good = running.good_objects()[FIRST + 5 : FIRST + 8]
    rejected(running, by_job, by_command)
    preview = running.passari("reenqueue", str(by_command), "--reason", "DPS at fault", "--dry-run")
    assert "dry run, nothing is done: 1 objects would be enqueued" in preview
    told = failed(running, "reenqueue_objects", config("reenqueue", object_ids=[by_job, good], reason="DPS at fault"))
    assert f"{good}: its latest package was not rejected" in told
    said = running.passari("reenqueue", str(by_command), "--reason", "DPS at fault")
    assert "1 re-enqueued" in said
    running.wait_until("preserved", by_job, by_command)
    with running.environment() as env:
        for object_id in (by_job, by_command):
            old, new = package_rows(env, object_id)
            assert (old.rejected, new.preserved) == (True, True)
    running.passari("reenqueue", str(by_command), "--reason", "once more", code=1)


def may_have_been_sent(running: Running, object_id: int) -> None:
    """Have an object whose intent to send is recorded, and whose package the DPS shows nowhere."""
    with running.environment() as env:
        with pytest.raises(Killed):
            send(killed_at(env, "after the intent"), object_id)
        name = package_rows(env, object_id)[-1].sip_filename
    (running.house.dps.home / "transfer" / f"{name}.incomplete").unlink()


@pytest.mark.xdist_group("workbench-2")
def test_packages_are_cancelled_by_the_job_and_by_the_command(running: Running) -> None:
    good = running.good_objects()
    by_job, by_command, doubtful = objects = good[7], good[FIRST - 1], good[FIRST + 9]
    may_have_been_sent(running, doubtful)
    ids = [77, by_job, doubtful, by_command]
    with running.environment() as env:
        for object_id in (by_job, by_command):
            preserve.download_object(env, object_id, quiet)
        with env.lock(locks.object_lock(by_command), wait=1):  # as by a run that executes
            running.run("cancel_objects", config("cancel", object_ids=ids, reason="a wrong file", dry_run=True))
            assert running.stages(*objects) == ["open"] * 3
            assert audited(running, by_job) == []
            told = failed(running, "cancel_objects", config("cancel", object_ids=ids, reason="a wrong file"))
    assert "3 refused, 1 cancelled" in told
    assert "object 77 is not in the database" in told
    assert f"{by_command}: its lock is held" in told
    assert "If the DPS says that it has it not" in told
    (event,) = audited(running, by_job)
    assert (event.action, event.reason, event.who) == ("cancel", "a wrong file", "unknown (ui)")
    assert event.run_id
    without = config("cancel", object_ids=[doubtful], resend=True)
    assert "a reason is needed" in failed(running, "cancel_objects", without)

    arguments = ("cancel", "77", str(doubtful), str(by_command))
    preview = json.loads(running.passari(*arguments, "--dry-run", "--json"))
    assert "dry run, nothing is done: 2 refused, 1 cancelled" in running.passari(*arguments, "--dry-run")
    assert preview["counts"] == {"refused": 2, "cancelled": 1}
    assert json.loads(running.passari(*arguments, "--json", code=1)) == {**preview, "dry_run": False}
    assert audited(running, by_command)[0].who.endswith("(command line)")
    assert "a reason is needed" in running.passari("cancel", "--resend", str(doubtful), code=1)
    said = running.passari("cancel", "--resend", "--reason", "the DPS has it not", str(doubtful))
    assert "1 cancelled" in said
    assert audited(running, doubtful)[0].details == "with --resend"

    running.enqueue(*objects)
    running.wait_until("preserved", *objects)
    assert [len(running.received(object_id)) for object_id in objects] == [1, 1, 1]
    assert json.loads(running.passari("recover", "--dry-run", "--json"))["counts"] == {}
    assert "the database knows all packages" in running.passari("recover")
    assert running.webserver.output_numbers(running.run("recover")["runId"])["objects_in_the_archive"] >= 3


def frozen_with(running: Running, object_id: int, headers: dict[str, str], tags: dict[str, str]) -> Event:
    """Freeze an object by such a request; what was audited."""
    reason = f"asked for {headers} {tags}"
    freeze = config("freeze", object_ids=[object_id], reason=reason, replace_reason=True)
    run_id = running.launch("freeze_objects", freeze, headers=headers, tags=tags)
    assert running.wait(lambda: running._ended(run_id), "the freeze to end") == "SUCCESS"
    event = audited(running, object_id)[0]
    assert event.run_id == run_id
    return event


def test_who_did_it_is_told_by_the_proxys_header_and_never_by_a_tag(running: Running) -> None:
    object_id = running.good_objects()[FIRST + 8]
    forged = {"passari/user": "somebody else"}
    assert frozen_with(running, object_id, {"X-Forwarded-User": "maija"}, {}).who == "maija"
    assert frozen_with(running, object_id, {}, forged).who == "unknown (ui)"
    assert frozen_with(running, object_id, {"X-Forwarded-User": "maija"}, forged).who == "maija"
    assert frozen_with(running, object_id, {}, {}).who == "unknown (ui)"


@pytest.mark.xdist_group("workbench-2")
def test_a_job_that_a_person_re_executes_is_done_once_more(running: Running) -> None:
    ids = other_objects(running)[:2]
    first = running.run("enqueue_objects", config("enqueue", object_ids=ids, object_count=1))
    data = running.webserver.ask(
        "mutation($p: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $p) { __typename"
        " ...on LaunchRunSuccess { run { runId } } } }",
        p={"parentRunId": first["runId"], "strategy": "ALL_STEPS"},
    )
    again = data["launchRunReexecution"]["run"]["runId"]
    assert running.wait(lambda: running._ended(again), "the run to end") == "SUCCESS"
    assert [running.webserver.output_numbers(run_id)["enqueued"] for run_id in (first["runId"], again)] == [1, 1]
    assert [audited(running, id_)[0].run_id for id_ in ids] == [first["runId"], again]
