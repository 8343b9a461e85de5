"""Choosing objects among a million, and making them runs, on a running system with the real daemon; workers stopped.

    python benchmarks/enqueue.py [--quick] [--json]

The first half of the objects was preserved and has not changed; every fifth of the others is frozen, and every fifth
was made just now. So whoever looks for candidates has half a million objects to pass over. The plans are printed, too.

| figure | is |
|---|---|
| settle_s | the first look that finds out which half rests; done once, by the asset eligible_objects |
| candidates_ms | the next 1,000 candidates, with 10,000 objects in flight that are not; median of nine |
| candidates_before_settle_ms | the same before that first look |
| candidates_first_half_*_ms | the same where that half is frozen, or made just now, instead |
| count_all_s | all objects by reason |
| explain_ms | all reasons of 100 objects, with dates |
| enqueue_10k_of_1m_s | 10,000 are chosen and registered, and their backfill is in Dagster's database |
| submit_runs_per_s | runs that the daemon makes and queues of that backfill |
| submit_postgres_cpu_s_per_run | CPU of PostgreSQL for each of these runs, with all else that it does meanwhile |
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from pydantic import SecretStr
from sqlalchemy import event, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import big_catalogue, machine
from benchmarks.bench import Bench, cpu_seconds, running_system
from benchmarks.instant_toolkit import InstantToolkit
from passari_dagster import locks
from passari_dagster.catalogue import database
from passari_dagster.defs import launch
from passari_dagster.run_queue.dagster_internals import RemoteRepositoryOrigin
from passari_dagster.settings import load
from passari_dagster.workflow import enqueue, explain
from passari_dagster.workflow.environment import Environment

CANDIDATES = 1_000
WIDTH = 150
"""Of a line of a plan."""
_PRESERVED = """
    INSERT INTO museum_packages (id, museum_object_id, sip_filename, object_modified_date, created_date, metadata_hash,
        attachment_metadata_hash, downloaded, packaged, uploaded, preserved, submission_date, confirmed_date)
    SELECT id, id, '20200101_Object_' || id || '-x.tar', modified_date, '2020-02-01', metadata_hash,
        attachment_metadata_hash, true, true, true, true, '2020-02-01', '2020-02-01'
    FROM museum_objects WHERE id <= :half
"""


def execute(env: Environment, *statements: str, **values: Any) -> None:
    """Change rows, and let the server do what it does by itself sooner or later."""
    with env.transaction() as session:
        for statement in statements:
            session.execute(text(statement), values if ":" in statement else {})
    big_catalogue.settle(env.engine)


def fill(env: Environment, objects: int) -> None:
    """The catalogue that the module tells of."""
    big_catalogue.fill(env.engine, objects)
    execute(
        env,
        "UPDATE museum_objects SET attachment_metadata_hash = metadata_hash, frozen = id % 5 = 0 AND id > :half, "
        "created_date = CASE WHEN id % 5 = 1 AND id > :half THEN now() ELSE created_date END",
        _PRESERVED,
        "UPDATE museum_objects SET latest_package_id = id, preserved = true WHERE id <= :half",
        half=objects // 2,
    )


def median_ms(work: Callable[[], object]) -> float:
    """Milliseconds of wall time, the median of nine."""
    times = []
    for _ in range(9):
        begun = time.monotonic()
        work()
        times.append(time.monotonic() - begun)
    return round(statistics.median(times) * 1000, 1)


def show_plans(env: Environment, title: str, work: Callable[[], object]) -> None:
    """How the database goes about what is asked of it: the very statements, explained."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(env.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(env.engine, "before_cursor_execute", note)
    connection = env.engine.raw_connection()
    try:
        cursor = connection.cursor()
        for number, (statement, parameters) in enumerate(asked, 1):
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
            print(f"\n{title}, statement {number} of {len(asked)}")
            for (line,) in cursor.fetchall():
                print("   ", line if len(line) < WIDTH else f"{line[:WIDTH]} …")
    finally:
        connection.close()


def choose(env: Environment, objects: int, figures: dict[str, Any]) -> None:
    """What is asked of the museum database."""
    half = objects // 2
    in_flight = set(range(half + 1, half + 1 + objects // 100))

    def candidates() -> None:
        found = enqueue.candidates(env, limit=CANDIDATES, in_flight=in_flight)
        assert len(found) == CANDIDATES
        assert found[0] > half + objects // 100

    figures["candidates_before_settle_ms"] = median_ms(candidates)
    begun = time.monotonic()
    counts = explain.count(env, lambda _: None)
    figures["settle_s"] = round(time.monotonic() - begun, 2)
    assert counts["not_changed"] == half
    assert counts["eligible"] == half * 3 // 5
    big_catalogue.settle(env.engine)
    figures["candidates_ms"] = median_ms(candidates)
    figures["count_all_s"] = round(median_ms(lambda: explain.count(env, lambda _: None)) / 1000, 2)
    show_plans(env, "The next candidates", lambda: enqueue.candidates(env, limit=CANDIDATES, in_flight=()))
    show_plans(env, "All by reason", lambda: explain.count(env, lambda _: None))
    ids = list(range(1, objects, objects // 100))
    figures["explain_ms"] = median_ms(lambda: explain.explain(env, ids))
    for name, column, value in (("frozen", "frozen", "true"), ("made_now", "created_date", "now()")):
        kept = "latest_package_id, settled, created_date, frozen"
        execute(
            env,
            f"CREATE TABLE kept AS SELECT id, {kept} FROM museum_objects WHERE id <= :half",
            f"UPDATE museum_objects SET latest_package_id = NULL, settled = false, {column} = {value} "
            "WHERE id <= :half",
            half=half,
        )
        figures[f"candidates_first_half_{name}_ms"] = median_ms(candidates)
        execute(
            env,
            f"UPDATE museum_objects SET ({kept}) = "
            "(kept.latest_package_id, kept.settled, kept.created_date, kept.frozen) "
            "FROM kept WHERE kept.id = museum_objects.id",
            "DROP TABLE kept",
        )


def launch_backfill(env: Environment, instance: dg.DagsterInstance, count: int) -> float:
    """As the job `enqueue_objects` does it; seconds that it took."""
    server = GrpcServerCodeLocationOrigin(
        host=os.environ["PASSARI_CODE_SERVER_HOST"],
        port=int(os.environ["PASSARI_CODE_SERVER_PORT"]),
        location_name="passari_dagster",
    )
    begun = time.monotonic()
    with env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT):
        chosen = enqueue.choose(
            env,
            count=count,
            object_ids=(),
            random=False,
            in_flight=launch.in_flight(instance),
            registered=launch.registered(instance),
        )
        assert len(chosen.ids) == count
        launch.backfill(instance, RemoteRepositoryOrigin(server, "__repository__"), chosen.ids, title="benchmark")
    return time.monotonic() - begun


def submit(bench: Bench, count: int, figures: dict[str, Any]) -> None:
    """Runs are made of the backfill. From its first ones on: the daemon looks for new backfills each half minute."""
    bench.wait(lambda: bench.count("QUEUED") > 0)
    postgres = bench.child("postgres")
    first, cpu = bench.count("QUEUED"), cpu_seconds(postgres)
    took = bench.wait(lambda: bench.count("QUEUED") >= first + count)
    made = bench.count("QUEUED") - first
    figures["submit_runs_per_s"] = round(made / took, 1)
    figures["submit_postgres_cpu_s_per_run"] = round((cpu_seconds(postgres) - cpu) / made, 4)


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    objects, count, submitted = (20_000, 200, 100) if quick else (1_000_000, 10_000, 2_000)
    figures: dict[str, Any] = {}
    with running_system() as system:
        os.environ.update(system.environment)
        settings = load()
        env = Environment(
            settings=settings,
            engine=database.connect(SecretStr(system.museum_database_url)),
            toolkit=InstantToolkit(),
        )
        fill(env, objects)
        choose(env, objects, figures)
        with dg.DagsterInstance.get() as instance:
            figures["enqueue_10k_of_1m_s"] = round(launch_backfill(env, instance, count), 2)
        submit(Bench(system), submitted, figures)
        env.engine.dispose()
    return figures


if __name__ == "__main__":
    sys.exit(machine.run(__doc__, "20,000 objects, 200 enqueued", measure))
