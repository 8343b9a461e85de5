"""All of a process shares few connections to Dagster's database, and a fork keeps its hands off its parent's."""

import contextlib
import functools
import gc
import inspect
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import yaml
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.concurrency import ConcurrencySlotStatus
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import QueuePool

from passari_dagster import connections
from passari_dagster.errors import SettingsError
from passari_dagster.run_queue import storage
from passari_dagster.run_queue.storage import PooledPostgresStorage
from passari_dagster.services.embedded import EmbeddedPostgres
from passari_dagster_tests.conftest import run_sql

# Python 3.12 warns of forks beside threads; that they go well is what is shown here.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

PER_PROCESS = storage.POOL_SIZE + storage.MAX_OVERFLOW
WEBSERVER = storage.WEBSERVER_POOL_SIZE + storage.WEBSERVER_MAX_OVERFLOW


@pytest.fixture(scope="module")
def template(postgres: EmbeddedPostgres) -> str:
    """Name of a database with Dagster's tables, to copy from."""
    run_sql(postgres.url("postgres"), "CREATE DATABASE dagster_template")
    PooledPostgresStorage(postgres.url("dagster_template")).dispose()
    return "dagster_template"


@pytest.fixture
def url(postgres: EmbeddedPostgres, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a Dagster database of its own; the environment names it."""
    name = f"d_{uuid.uuid4().hex}"
    run_sql(postgres.url("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
    monkeypatch.setenv("DAGSTER_PG_URL", postgres.url(name))
    yield postgres.url(name)
    run_sql(postgres.url("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def instance_ref(home: Path, **config: int) -> InstanceRef:
    """What a dagster.yaml that names our storage makes of an instance."""
    ours = {
        "module": "passari_dagster.run_queue.storage",
        "class": "PooledPostgresStorage",
        "config": {"postgres_url": {"env": "DAGSTER_PG_URL"}, **config},
    }
    settings = {"storage": {"custom": ours}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return InstanceRef.from_dir(str(home))


@pytest.fixture
def instance(url: str, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Of a dagster.yaml that names our storage."""
    with dg.DagsterInstance.from_ref(instance_ref(tmp_path)) as instance:
        yield instance


@dg.op
def weigh() -> int:
    return 7


@dg.op
def note(context: dg.OpExecutionContext, weight: int) -> None:
    context.log_event(dg.AssetMaterialization("scales", metadata={"weight": weight}))


@dg.job
def weighing() -> None:
    note(weigh())


@dg.op(pool="scales")
def weigh_in_turn() -> None:
    """Nothing: it is the waiting that matters."""


@dg.job(executor_def=dg.in_process_executor)
def weighing_in_turn() -> None:
    weigh_in_turn()


def engine_of(instance: dg.DagsterInstance) -> Engine:
    engine = instance.run_storage._engine  # type: ignore[attr-defined]
    assert isinstance(engine, Engine)
    return engine


def ask(instance: dg.DagsterInstance, question: str) -> Any:
    """Have PostgreSQL answer through Dagster's storage."""
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        return connection.scalar(text(question))


def backend(instance: dg.DagsterInstance) -> int:
    """Number of the server's process at the other end."""
    return int(ask(instance, "SELECT pg_backend_pid()"))


class Onlooker:
    """Who looks at the server from outside."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url.replace("+psycopg2", ""))
        self._connection.autocommit = True

    def backends(self) -> set[int]:
        """The server's processes that serve Dagster in this database."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
                [storage.APPLICATION],
            )
            return {pid for (pid,) in cursor.fetchall()}

    def wait_for(self, count: int, seconds: float = 10) -> bool:
        """Whether that many are left soon: PostgreSQL takes a moment to see that somebody is gone."""
        deadline = time.monotonic() + seconds
        while len(self.backends()) != count and time.monotonic() < deadline:
            time.sleep(0.05)
        return len(self.backends()) == count

    def terminate(self, backends: set[int]) -> None:
        """As an administrator does, or a restart."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [list(backends)])

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def onlooker(url: str) -> Iterator[Onlooker]:
    """Who looks at the server from outside."""
    with contextlib.closing(Onlooker(url)) as onlooker:
        yield onlooker


class Forked:
    """A fork of this process that does something, and ends with its answer.

    Arguments:
        story: what it does; the answer goes through JSON.
    """

    def __init__(self, story: Callable[[], Any]) -> None:
        self._answer, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._answer)
                try:
                    said = json.dumps({"answer": story()})
                except BaseException:
                    said = json.dumps({"error": traceback.format_exc()})
                os.write(told, said.encode())
            finally:
                os._exit(0)
        os.close(told)

    def answer(self) -> Any:
        """Wait for it."""
        with os.fdopen(self._answer, "rb") as pipe:
            said = json.loads(pipe.read() or b'{"error": "killed"}')
        os.waitpid(self.pid, 0)
        assert "error" not in said, said["error"]
        return said["answer"]


def all_at_once(*stories: Callable[[], Any]) -> None:
    """One thread for each; an error in any is an error."""
    errors: list[BaseException] = []

    def tell(story: Callable[[], Any]) -> None:
        try:
            story()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=tell, args=[story]) for story in stories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


# One process


def test_a_whole_run_goes_over_one_connection(
    instance: dg.DagsterInstance, onlooker: Onlooker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's own storage opens one for each of some eighty statements."""
    opened = 0
    connect = psycopg2.connect

    def count(*args: Any, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        return connect(*args, **options)

    monkeypatch.setattr(psycopg2, "connect", count)
    before = onlooker.backends()
    assert len(before) == 1

    result = weighing.execute_in_process(instance=instance)

    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS
    materialization = instance.get_latest_materialization_event(dg.AssetKey("scales"))
    assert materialization is not None
    assert materialization.run_id == run.run_id
    assert instance.all_instigator_state() == []
    assert onlooker.backends() == before
    # The first materialization of a process asks for a second one while it holds the first.
    assert opened == 1


def test_the_three_storages_and_all_instances_of_a_process_share_one_engine(
    instance: dg.DagsterInstance, onlooker: Onlooker
) -> None:
    """The code server makes an instance for each tick, and sends its references to other processes as text."""
    reference = deserialize_value(serialize_value(instance.get_ref()), InstanceRef)
    with dg.DagsterInstance.from_ref(reference) as other:
        for one in (instance, other):
            parts = (one.run_storage, one.event_log_storage, one.schedule_storage)
            assert all(part._engine is engine_of(instance) for part in parts)  # type: ignore[union-attr]
        run = instance.create_run_for_job(weighing)
        other.report_engine_event("kirves", run)
        assert "kirves" in instance.all_logs(run.run_id)[0].message
        assert other.get_ref() == instance.get_ref()
        assert backend(instance) == backend(other)
    assert len(onlooker.backends()) == 1, "the other one is done, this one is not"


def test_the_references_that_older_dagsters_read_lead_to_the_same_storage(instance: dg.DagsterInstance) -> None:
    reference = instance.get_ref()
    run = instance.create_run_for_job(weighing)
    instance.report_engine_event("kirves", run)
    runs, events = reference.run_storage, reference.event_storage
    assert runs is not None
    assert events is not None
    assert runs.has_run(run.run_id)
    assert len(events.get_logs_for_run(run.run_id)) == 1


def test_who_is_done_closes_its_connections_and_may_come_back(instance: dg.DagsterInstance, onlooker: Onlooker) -> None:
    assert len(onlooker.backends()) == 1
    instance.dispose()
    assert onlooker.wait_for(0)
    assert instance.get_runs() == []
    instance.dispose()
    assert onlooker.wait_for(0)


def test_an_instance_that_was_forgotten_leaves_no_connection(url: str, tmp_path: Path, onlooker: Onlooker) -> None:
    instance = dg.DagsterInstance.from_ref(instance_ref(tmp_path))
    assert instance.get_runs() == []
    assert len(onlooker.backends()) == 1
    del instance
    gc.collect()
    assert onlooker.wait_for(0)


def test_a_connection_that_the_server_has_cut_is_replaced(instance: dg.DagsterInstance, onlooker: Onlooker) -> None:
    before = backend(instance)
    onlooker.terminate({before})
    assert onlooker.wait_for(0)
    time.sleep(connections.PING_AFTER)  # a server does not come back sooner
    assert instance.get_runs() == []
    assert backend(instance) != before


def test_a_run_that_waits_for_a_place_in_a_pool_sleeps(instance: dg.DagsterInstance) -> None:
    """Dagster asks for the place again and again, without a pause (1.13.27): our storage makes it."""
    storage = instance.event_log_storage
    storage.set_concurrency_slots("scales", 1)
    storage.claim_concurrency_slot("scales", "another run", "another step")
    free = threading.Timer(3, storage.free_concurrency_slots_for_run, args=["another run"])
    free.start()
    used, begun = time.process_time(), time.monotonic()
    assert weighing_in_turn.execute_in_process(instance=instance).success
    assert time.monotonic() - begun > 3
    assert time.process_time() - used < 2
    free.join()


def test_threads_wait_for_each_other(instance: dg.DagsterInstance, onlooker: Onlooker) -> None:
    peak = 0

    def look() -> None:
        nonlocal peak
        for _ in range(20):
            peak = max(peak, len(onlooker.backends()))
            time.sleep(0.02)

    all_at_once(look, *[lambda: ask(instance, "SELECT 1 FROM pg_sleep(0.1)")] * 10)
    assert peak == PER_PROCESS


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_who_holds_a_connection_gets_another_at_once(
    url: str, tmp_path: Path, onlooker: Onlooker, threads: int
) -> None:
    """`add_backfill` asks for a second one: with as many threads as connections, all would wait for ever."""
    with dg.DagsterInstance.from_ref(instance_ref(tmp_path, pool_size=1, max_overflow=0)) as instance:
        together = threading.Barrier(threads)

        def ask_twice() -> None:
            together.wait()
            with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
                connection.execute(text("SELECT 1 FROM pg_sleep(0.05)"))
                assert backend(instance) != connection.scalar(text("SELECT pg_backend_pid()"))

        begun = time.monotonic()
        all_at_once(*[ask_twice] * threads)
        assert time.monotonic() - begun < 20
        assert onlooker.wait_for(1), "what came on top is closed"


def test_watching_a_run_holds_no_connection(instance: dg.DagsterInstance, onlooker: Onlooker) -> None:
    """As the UI does with the page of a run; Dagster's thread asks at intervals."""
    run = instance.create_run_for_job(weighing)
    seen: list[str] = []
    arrived = threading.Event()

    def see(entry: EventLogEntry, _cursor: str) -> None:
        seen.append(entry.message)
        arrived.set()

    instance.watch_event_logs(run.run_id, None, see)
    instance.report_engine_event("kirves", run)
    assert arrived.wait(20)
    assert len(seen) == 1
    pool = engine_of(instance).pool
    assert isinstance(pool, QueuePool)
    deadline = time.monotonic() + 10
    while pool.checkedout() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.checkedout() == 0
    assert len(onlooker.backends()) <= PER_PROCESS
    instance.dispose()
    assert onlooker.wait_for(0), "the watching has ended"


def test_the_webserver_has_a_pool_of_its_own_that_is_bounded_and_cuts_long_statements(
    instance: dg.DagsterInstance, onlooker: Onlooker
) -> None:
    """As `dagster-webserver` does at its start; by default it wants 20 connections for each storage."""
    first = backend(instance)
    instance.optimize_for_webserver(statement_timeout=2_000, pool_recycle=3600, max_overflow=20)
    assert onlooker.wait_for(0), "the former pool is closed"
    assert instance.run_storage._engine is instance.event_log_storage._engine  # type: ignore[attr-defined]
    assert backend(instance) == backend(instance) != first
    peak = 0

    def look() -> None:
        nonlocal peak
        for _ in range(30):
            peak = max(peak, len(onlooker.backends()))
            time.sleep(0.02)

    all_at_once(look, *[lambda: ask(instance, "SELECT 1 FROM pg_sleep(0.1)")] * 24)
    assert peak == WEBSERVER
    assert onlooker.wait_for(storage.WEBSERVER_POOL_SIZE)
    with pytest.raises(OperationalError, match="statement timeout"):
        ask(instance, "SELECT pg_sleep(30)")


def test_dagster_brings_its_tables_up_to_date_through_the_pool(
    instance: dg.DagsterInstance, onlooker: Onlooker, url: str
) -> None:
    """`dagster instance migrate`."""
    newest = ask(instance, "SELECT version_num FROM alembic_version")
    run_sql(
        url,
        "UPDATE alembic_version SET version_num = '16e3115a602a'",
        "ALTER TABLE concurrency_limits DROP COLUMN using_default_limit",
    )
    instance.upgrade()
    assert ask(instance, "SELECT version_num FROM alembic_version") == newest
    assert ask(instance, "SELECT count(using_default_limit) FROM concurrency_limits") == 0
    assert len(onlooker.backends()) <= PER_PROCESS


@pytest.mark.parametrize("config", [{"pool_size": 0}, {"max_overflow": -1}])
def test_a_pool_without_bounds_is_refused(url: str, tmp_path: Path, config: dict[str, int]) -> None:
    """SQLAlchemy takes both for "no limit"."""
    with pytest.raises(SettingsError, match=r"dagster.yaml, storage: pool_size is 1 or more, max_overflow 0 or more"):
        dg.DagsterInstance.from_ref(instance_ref(tmp_path, **config))


def test_the_url_may_be_written_without_the_driver(url: str) -> None:
    """SQLAlchemy 2.1 would look for another one."""
    ours = PooledPostgresStorage(url.replace("+psycopg2", ""))
    assert ours.run_storage.get_runs() == []
    ours.dispose()


def test_times_are_the_same_whatever_the_servers_time_zone(url: str, instance: dg.DagsterInstance) -> None:
    """Dagster reads as UTC what stands in its columns: a Finnish server wrote two hours more."""
    run_sql(url, f"ALTER DATABASE {url.partition('?')[0].rpartition('/')[2]} SET timezone = 'Europe/Helsinki'")
    instance.dispose()
    begun = datetime.now(timezone.utc)
    assert weighing.execute_in_process(instance=instance).success
    (record,) = instance.get_run_records()
    now = datetime.now(timezone.utc)
    assert begun <= record.create_timestamp <= now
    assert begun <= record.update_timestamp <= now
    assert instance.get_runs(dg.RunsFilter(updated_before=now))
    assert not instance.get_runs(dg.RunsFilter(updated_before=begun))


def test_the_administrators_parameters_go_before_ours(url: str) -> None:
    ours = PooledPostgresStorage(f"{url}&application_name=kirves&connect_timeout=3")
    with ours.run_storage.connect() as connection:  # type: ignore[attr-defined]
        assert connection.scalar(text("SHOW application_name")) == "kirves"
    ours.dispose()


def test_a_failure_is_told_to_the_run_retries_when_the_run_has_that_status(instance: dg.DagsterInstance) -> None:
    """Between the two they would find no failed run, and go on: the run was never started again."""
    run = instance.create_run_for_job(weighing, status=dg.DagsterRunStatus.STARTED)
    other = instance.create_run_for_job(weighing, status=dg.DagsterRunStatus.STARTED)
    failure = dg.DagsterEvent(dg.DagsterEventType.RUN_FAILURE.value, job_name=weighing.name, message="killed")

    def store_event(run_id: str, ago: float = 0) -> None:
        entry = EventLogEntry(None, 40, "killed", run_id, time.time() - ago, None, weighing.name, failure)  # type: ignore[no-untyped-call]
        instance.event_log_storage.store_event(entry)

    def told() -> list[str]:
        log = instance.event_log_storage
        events = log.get_logs_for_all_runs_by_log_id(0, dg.DagsterEventType.RUN_FAILURE, limit=500)
        assert events == log.get_logs_for_all_runs_by_log_id(0, {dg.DagsterEventType.RUN_FAILURE}, limit=500)
        return [entry.run_id for entry in events.values()]

    store_event(run.run_id)
    assert told() == []
    instance.report_run_failed(other)
    assert told() == [], "none is told before an earlier one, or that one would be passed over"
    instance.run_storage.handle_run_event(run.run_id, failure, datetime.now(timezone.utc))
    assert told() == [run.run_id, other.run_id]

    third = instance.create_run_for_job(weighing, status=dg.DagsterRunStatus.STARTED)
    store_event(third.run_id, ago=storage.FAILURE_WAIT + 1)
    assert told() == [run.run_id, other.run_id, third.run_id], "nobody waits for ever for a run that went on"
    everything = instance.event_log_storage.get_logs_for_all_runs_by_log_id(0)
    assert set(told()) <= {entry.run_id for entry in everything.values()}


# Forks


def test_forks_and_their_parent_use_their_own_connections(instance: dg.DagsterInstance) -> None:
    """Both write and read at the same time, many times, while another thread of the parent uses its connection."""
    rounds, forks = 12, 4
    mine, theirs, others = instance.create_run_for_job(weighing), [], set()
    written = 0
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            ask(instance, "SELECT 1 FROM pg_sleep(0.002)")

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(rounds):
            children = []
            for _ in range(forks):
                run = instance.create_run_for_job(weighing)
                theirs.append(run)
                children.append(Forked(functools.partial(_work_in_a_fork, instance, run)))
            for _ in range(5):
                instance.report_engine_event("parent", mine)
                written += 1
                assert len(instance.all_logs(mine.run_id)) == written
                others.add(backend(instance))
            for child in children:
                others.add(child.answer())
    finally:
        over.set()
        busy.join()
    # Each fork its own, and the parent the same ones all the time.
    assert rounds * forks < len(others) <= rounds * forks + PER_PROCESS
    for run in theirs:
        assert [entry.message.split()[-1] for entry in instance.all_logs(run.run_id)] == ["child"] * 5


def _work_in_a_fork(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    used = set()
    for count in range(1, 6):
        instance.report_engine_event("child", run)
        assert len(instance.all_logs(run.run_id)) == count
        used.add(backend(instance))
    assert len(used) == 1
    instance.dispose()
    return used.pop()


def test_a_fork_of_a_fork_is_a_fork(instance: dg.DagsterInstance) -> None:
    """As it is with the pool of workers, a worker, and the process of a run."""

    def work() -> list[int]:
        first = backend(instance)
        below: list[int] = Forked(lambda: [backend(instance)]).answer()
        assert backend(instance) == first
        return [first, *below]

    mine = backend(instance)
    family = [mine, *Forked(work).answer(), *Forked(work).answer()]
    assert len(set(family)) == 5
    assert backend(instance) == mine


def test_a_fork_does_not_wait_for_what_its_parents_threads_hold(instance: dg.DagsterInstance) -> None:
    """Those threads are not in the fork, and never give anything back there."""
    over, held = threading.Event(), threading.Barrier(PER_PROCESS + 1)

    def hold() -> None:
        with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
            held.wait()
            over.wait()
            assert connection.scalar(text("SELECT 7")) == 7

    def fork() -> None:
        held.wait()
        try:
            begun = time.monotonic()
            assert Forked(lambda: [backend(instance) for _ in range(3)]).answer()
            assert time.monotonic() - begun < 20
        finally:
            over.set()

    all_at_once(fork, *[hold] * PER_PROCESS)


def test_a_fork_amid_a_transaction_cannot_end_it(instance: dg.DagsterInstance) -> None:
    """A fork that gives the connection back, as it does when it leaves the block, would roll back and say goodbye."""
    run = instance.create_run_for_job(weighing)
    instance.report_engine_event("kirves", run)

    with instance.event_log_storage.index_transaction() as connection:  # type: ignore[attr-defined]
        connection.execute(text("DELETE FROM event_logs"))
        child = Forked(lambda: _leave_and_read(instance, connection, run))
        assert child.answer() == 1, "not committed yet"
        assert connection.scalar(text("SELECT count(*) FROM event_logs")) == 0
    assert instance.all_logs(run.run_id) == []


def _leave_and_read(instance: dg.DagsterInstance, connection: Any, run: dg.DagsterRun) -> int:
    with pytest.raises(DatabaseError, match="non-socket"):
        connection.close()
    gc.collect()
    return len(instance.all_logs(run.run_id))


def test_a_killed_parents_transaction_ends_though_its_fork_lives(
    instance: dg.DagsterInstance, onlooker: Onlooker
) -> None:
    """Else its rows would stay locked for as long as the fork has work to do."""
    run = instance.create_run_for_job(weighing)
    instance.report_engine_event("kirves", run)
    instance.dispose()
    ready, told = os.pipe()

    def child() -> None:
        os.write(told, str(os.getpid()).encode())
        time.sleep(60)

    def parent() -> None:
        with instance.event_log_storage.index_transaction() as connection:  # type: ignore[attr-defined]
            connection.execute(text("DELETE FROM event_logs"))
            Forked(child)
            time.sleep(60)

    killed = Forked(parent)
    fork = int(os.read(ready, 100))
    try:
        assert len(onlooker.backends()) == 1
        os.kill(killed.pid, signal.SIGKILL)
        os.waitpid(killed.pid, 0)
        assert onlooker.wait_for(0)
        os.kill(fork, 0)  # it lives
    finally:
        os.kill(fork, signal.SIGKILL)
        os.close(ready)
        os.close(told)
    assert len(instance.all_logs(run.run_id)) == 1


# The house


def test_twenty_workers_a_daemon_and_a_webserver_stay_under_sixty_connections(
    instance: dg.DagsterInstance, onlooker: Onlooker
) -> None:
    """A worker is two processes while it has a run; all of them are forks of the pool of workers, which is this one."""
    run = instance.create_run_for_job(weighing)
    reference = instance.get_ref()
    go, started = os.pipe()
    workers = 20

    def work(instance: dg.DagsterInstance, threads: int = 1) -> Callable[[], int]:
        def use() -> None:
            over = time.monotonic() + 3
            while time.monotonic() < over:
                assert instance.get_run_by_id(run.run_id) is not None
                instance.report_engine_event("kirves", run)
                time.sleep(0.05)

        def story() -> int:
            os.close(started)
            os.read(go, 1)  # all begin when the pipe is closed
            all_at_once(*[use] * threads)
            return 0

        return story

    def webserver() -> int:
        with dg.DagsterInstance.from_ref(reference) as own:
            own.optimize_for_webserver(statement_timeout=15_000, pool_recycle=3600, max_overflow=20)
            return work(own, threads=16)()

    def served(threads: int) -> Callable[[], int]:
        def story() -> int:
            with dg.DagsterInstance.from_ref(reference) as own:
                return work(own, threads)()

        return story

    processes = [Forked(work(instance)) for _ in range(2 * workers)]
    processes += [Forked(served(threads=8)), Forked(served(threads=4)), Forked(webserver)]  # daemon, code server
    time.sleep(0.5)
    os.close(started)
    peak = 0
    for _ in range(30):
        peak = max(peak, len(onlooker.backends()))
        time.sleep(0.1)
    for process in processes:
        assert process.answer() == 0
    os.close(go)
    assert 2 * workers < peak <= 2 * workers + 1 + 2 * PER_PROCESS + WEBSERVER < 60
    assert onlooker.wait_for(1), "all but this process have ended"


def test_runs_that_begin_together_do_not_pass_the_limit_of_a_pool(instance: dg.DagsterInstance) -> None:
    places, rounds, hands = 2, 15, 6
    instance.event_log_storage.set_concurrency_slots("scales", places)
    together = multiprocessing.get_context("fork").Barrier(hands, timeout=60)

    def hand(number: int) -> Callable[[], list[bool]]:
        def story() -> list[bool]:
            got = []
            for each in range(rounds):
                together.wait()
                slot = instance.event_log_storage._claim_concurrency_slot("scales", f"{each} {number}", "weigh")  # type: ignore[attr-defined]
                got.append(slot is ConcurrencySlotStatus.CLAIMED)
                together.wait()  # nobody gives a place back before all have asked
                with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
                    connection.execute(
                        text("UPDATE concurrency_slots SET run_id = NULL, step_key = NULL WHERE run_id = :run"),
                        {"run": f"{each} {number}"},
                    )
            return got

        return story

    processes = [Forked(hand(number)) for number in range(hands)]
    taken = [process.answer() for process in processes]
    assert {sum(hand[each] for hand in taken) for each in range(rounds)} == {places}


# Dagster's inside


@pytest.mark.parametrize("stock", [PostgresRunStorage, PostgresEventLogStorage, PostgresScheduleStorage])
def test_dagsters_classes_reach_the_database_through_their_engine_alone(stock: type) -> None:
    """That is what we put another engine in by. They make one in the constructor, and for the webserver."""
    makers = {
        name
        for name, member in inspect.getmembers(stock, inspect.isfunction)
        if member.__module__ == stock.__module__ and "create_engine(" in inspect.getsource(member).replace("_pg_", "_")
    }
    assert makers == {"__init__", "optimize_for_webserver", "create_clean_storage"}
    assert list(inspect.signature(stock.optimize_for_webserver).parameters)[1:] == [  # type: ignore[attr-defined]
        "statement_timeout",
        "pool_recycle",
        "max_overflow",
    ]
    connect = "_connect" if stock is PostgresEventLogStorage else "connect"
    assert "return create_pg_connection(self._engine)" in inspect.getsource(getattr(stock, connect))


def test_an_instance_disposes_of_its_event_log_last() -> None:
    """With it we close the pool: schedules are not disposed of at all."""
    source = inspect.getsource(dg.DagsterInstance.dispose)
    assert "StorageMethods.dispose(self)" in source
    mixin = next(base for base in dg.DagsterInstance.__mro__ if base.__name__ == "StorageMethods")
    lines = inspect.getsource(mixin.dispose).split()  # type: ignore[attr-defined]
    assert lines[-1] == "self._event_storage.dispose()"


PAGE = {"dagster/partition_set": "weighing_partition_set", ".dagster/repository": "here"}
"""What the page of a job's partitions asks for."""


def partition_run(instance: dg.DagsterInstance, key: str, status: dg.DagsterRunStatus, **tags: str) -> str:
    run = instance.create_run_for_job(weighing, tags={"dagster/partition": key, **PAGE, **tags}, status=status)
    return run.run_id


@pytest.mark.parametrize("repositories", [1, 2])
def test_the_latest_run_of_each_partition_is_what_dagster_itself_answers(
    instance: dg.DagsterInstance, repositories: int
) -> None:
    status = dg.DagsterRunStatus
    for key, each in [("1", status.FAILURE), ("2", status.SUCCESS), ("1", status.SUCCESS), ("3", status.CANCELED)]:
        partition_run(instance, key, each)
    partition_run(instance, "2", status.CANCELED)
    instance.create_run_for_job(weighing, status=status.SUCCESS)
    if repositories == 2:
        partition_run(instance, "4", status.SUCCESS, **{".dagster/repository": "elsewhere"})
        partition_run(instance, "1", status.FAILURE, **{".dagster/repository": "elsewhere"})
    shown = [each for each in status if each is not status.CANCELED]
    for filters in (
        dg.RunsFilter(statuses=shown, tags=PAGE),
        dg.RunsFilter(statuses=shown, tags={**PAGE, "dagster/partition": "2"}),
        dg.RunsFilter(tags=PAGE),
        dg.RunsFilter(tags=PAGE, job_name="weighing"),
        dg.RunsFilter(statuses=[status.SUCCESS], tags=PAGE),
    ):
        ours = instance.run_storage.get_run_partition_data(filters)
        theirs = PostgresRunStorage.get_run_partition_data(instance.run_storage, filters)  # type: ignore[arg-type]
        assert sorted(ours, key=lambda data: data.partition) == sorted(theirs, key=lambda data: data.partition)
    page = instance.run_storage.get_run_partition_data(dg.RunsFilter(statuses=shown, tags=PAGE))
    assert {data.partition: data.status for data in page} == {"1": status.SUCCESS, "2": status.SUCCESS}
