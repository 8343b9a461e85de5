"""Kill -9 between the two databases: what an administrator launched is done once, and the audit log tells of it.

Our database and Dagster's know no common transaction. The run is held where the one has spoken and the other has not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
import psycopg2
import pytest

from passari_dagster_tests.running import Running
from passari_dagster_tests.test_faults import process_of
from passari_dagster_tests.test_workbench import audited, config

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("workbench")]

SEEN = 60
"""Seconds until the killed run is started again."""
GATE = 4711
"""Number of an advisory lock."""
HELD_COMMITS = f"""
    CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT ON audit_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold_commit();
"""


@contextlib.contextmanager
def connection(running: Running, variable: str) -> Iterator[Any]:
    """A connection whose transaction is rolled back at the end."""
    url = running.system.environment[variable].replace("postgresql+psycopg2:", "postgresql:")
    with contextlib.closing(psycopg2.connect(url)) as connected:
        yield connected


def ask(running: Running, variable: str, statement: str) -> Any:
    with connection(running, variable) as connected, connected.cursor() as cursor:
        cursor.execute(statement)
        answer = cursor.fetchone() if cursor.description else None
        connected.commit()
        return answer and answer[0]


def kill_where_it_waits(running: Running, run_id: str, variable: str, locktype: str) -> None:
    """Kill a run that waits for this kind of lock in a database."""
    waits = f"locktype = '{locktype}' AND NOT granted"
    running.wait(lambda: ask(running, variable, f"SELECT count(*) FROM pg_locks WHERE {waits}"), "the run to wait")
    process = running.wait(lambda: process_of(running, run_id), "the run's process")
    process.kill()
    psutil.wait_procs([process], timeout=10)
    # The server does not know yet that nobody is there any more, and would go on.
    ask(running, variable, f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {waits}")


def started_again(running: Running, job: str, run_id: str) -> str:
    """Id of the run that Dagster started in the place of the killed one, when it has ended well."""

    def again() -> str | None:
        runs = [run["runId"] for run in running.webserver.runs(job) if run["runId"] != run_id]
        return next((other for other in runs if running.details(other)["parentRunId"] == run_id), None)

    other: str = running.wait(again, "the run to be started again", SEEN)
    running.wait(lambda: running.webserver.run_status(other) == "SUCCESS", "its success")
    return other


def assert_preserved_by_one_backfill(running: Running, object_id: int) -> None:
    running.wait_until("preserved", object_id)
    first, *confirmations = running.runs_of(object_id)
    assert first["stepKeysToExecute"] != ["confirm_sip"]
    assert all(run["stepKeysToExecute"] == ["confirm_sip"] for run in confirmations)
    assert len(running.received(object_id)) == 1


def test_an_unfreeze_that_is_killed_before_its_backfill_enqueues_what_it_had_unfrozen(running: Running) -> None:
    object_id = running.good_objects()[0]
    running.run("freeze_objects", config("freeze", object_ids=[object_id], reason="rights"))
    with connection(running, "DAGSTER_PG_URL") as connected:
        # Backfills can be read, but not made.
        connected.cursor().execute("LOCK TABLE bulk_actions IN EXCLUSIVE MODE")
        unfreeze = config("unfreeze", with_object_ids=[object_id], reason="cleared", enqueue=True)
        run_id = running.launch("unfreeze_objects", unfreeze, headers={"X-Forwarded-User": "maija"})
        running.wait(lambda: running.stages(object_id) == ["new"], "the object to be unfrozen")
        kill_where_it_waits(running, run_id, "DAGSTER_PG_URL", "relation")
    again = started_again(running, "unfreeze_objects", run_id)
    assert running.webserver.output_numbers(again)["enqueued"] == 1
    assert_preserved_by_one_backfill(running, object_id)
    told = [(event.action, event.run_id, event.who) for event in audited(running, object_id)[:3]]
    # The killed run had told of its backfill already; the one in its place has made it.
    assert told == [
        ("enqueue_objects", again, "maija"),
        ("enqueue_objects", run_id, "maija"),
        ("unfreeze_objects", run_id, "maija"),
    ]


def test_an_enqueue_that_is_killed_before_the_audit_log_has_it_has_launched_nothing(running: Running) -> None:
    object_id = running.good_objects()[1]
    ask(running, "PASSARI_DB_URL", HELD_COMMITS)
    with connection(running, "PASSARI_DB_URL") as connected:
        connected.cursor().execute(f"SELECT pg_advisory_lock({GATE})")
        connected.commit()
        run_id = running.webserver.launch("enqueue_objects", config("enqueue", object_ids=[object_id], reason="now"))
        kill_where_it_waits(running, run_id, "PASSARI_DB_URL", "advisory")
        assert running.webserver.output_numbers(run_id) == {}
    ask(running, "PASSARI_DB_URL", "DROP TRIGGER hold_commit ON audit_events")
    assert audited(running, object_id) == []
    assert running.runs_of(object_id) == []
    again = started_again(running, "enqueue_objects", run_id)
    assert_preserved_by_one_backfill(running, object_id)
    (event,) = audited(running, object_id)
    assert (event.action, event.run_id, event.reason, event.objects) == ("enqueue_objects", again, "now", 1)
