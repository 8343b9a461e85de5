"""What a run costs beside its work: four ops that do nothing, on a running system with the real daemon.

    python benchmarks/run_queue.py [--quick] [--json]

| figure | is |
|---|---|
| client_cpu_s_per_run, postgres_cpu_s_per_run | CPU of two workers with their runs, and of PostgreSQL, for each run |
| runs_per_s | executed by two workers |
| submit_runs_per_s | made and queued by the daemon from one backfill of 2,000; workers stopped |
| daemon_cpu_ratio | CPU of daemon and code server with 10,000 queued runs against 10; workers stopped |
| worker_pss_mb, ten_workers_pss_mb | memory of one idle worker of ten, what they share divided; and of all |
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from passari_dagster.run_queue.coordinator import RedisRunCoordinator
from passari_dagster.run_queue.dagster_internals import PARTITION_NAME_TAG, SubmitRunContext, copy_record
from passari_dagster.services.supervisor import Child
from passari_dagster.services.system import System

JOB = "four_ops"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "passari_dagster"}


class Bench:
    """A system without workers, and what is asked of it.

    Arguments:
        system: it runs.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self._next = 0

    def backfill(self, count: int) -> None:
        """Launch the job for the next partitions, as the UI does."""
        keys = [str(number) for number in range(self._next, self._next + count)]
        self._next += count
        selector = {"partitionSetName": f"{JOB}_partition_set", "repositorySelector": REPOSITORY}
        self.system.webserver.ask(
            "mutation($p:LaunchBackfillParams!){launchPartitionBackfill(backfillParams:$p){__typename"
            " ...on PythonError{message}}}",
            p={"selector": selector, "partitionNames": keys, "title": "benchmark"},
        )

    def fill(self, count: int) -> None:
        """Queue further runs like the newest one, faster than the daemon makes them."""
        os.environ.update(self.system.environment)
        with dg.DagsterInstance.get() as instance:
            coordinator = instance.run_coordinator
            assert isinstance(coordinator, RedisRunCoordinator)
            (pattern,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=1)
            for _ in range(count):
                tags = {**pattern.tags, PARTITION_NAME_TAG: str(self._next)}
                self._next += 1
                run = copy_record(pattern, run_id=str(uuid.uuid4()), tags=tags, status=dg.DagsterRunStatus.NOT_STARTED)
                instance.run_storage.add_run(run)
                coordinator.submit_run(SubmitRunContext(run, None))  # type: ignore[arg-type]  # it is not asked

    def count(self, *statuses: str) -> int:
        """How many runs have one of these statuses."""
        data = self.system.webserver.ask(
            "query($f:RunsFilter!){runsOrError(filter:$f){...on Runs{count}}}", f={"statuses": list(statuses)}
        )
        return int(data["runsOrError"]["count"])

    def wait(self, question: Callable[[], bool], seconds: float = 3600) -> float:
        """Wait; seconds that it took."""
        begun = time.monotonic()
        while not question():
            assert time.monotonic() - begun < seconds
            self.system.sleep(0.5)
        return time.monotonic() - begun

    def child(self, name: str) -> Child:
        """A process of the system."""
        return next(child for child in self.system.supervisor.children if child.name == name)

    def start_workers(self, count: int) -> Child:
        """A pool, ready to take runs."""
        child = self.system.supervisor.start(self.system.worker_service(count))
        pool = psutil.Process(child.process.pid)
        self.wait(lambda: len(pool.children()) == count)
        self.system.sleep(3)
        return child

    def stop(self, child: Child) -> None:
        """End a pool."""
        self.system.supervisor.children.remove(child)
        child.stop()


def cpu_seconds(child: Child) -> float:
    """CPU of a process and its descendants, the ended ones that were waited for included."""
    process = psutil.Process(child.process.pid)
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def pss_megabytes(process: psutil.Process) -> float:
    """Memory of one process, what it shares divided by those who share it."""
    return float(process.memory_full_info().pss) / 1e6


def daemon_cpu_per_minute(bench: Bench, seconds: float) -> float:
    """CPU of daemon and code server, which evaluates the sensors, in a quiet while."""
    children = [bench.child("daemon"), bench.child("code-server")]
    before = sum(map(cpu_seconds, children))
    bench.system.sleep(seconds)
    return (sum(map(cpu_seconds, children)) - before) * 60 / seconds


def execute(bench: Bench, runs: int) -> dict[str, float]:
    """Two workers, so many runs from the queue."""
    workers, postgres = bench.start_workers(2), bench.child("postgres")
    done = bench.count("SUCCESS")
    before, before_postgres, begun = cpu_seconds(workers), cpu_seconds(postgres), time.monotonic()
    bench.wait(lambda: bench.count("SUCCESS") - done >= runs)
    wall = time.monotonic() - begun
    executed = bench.count("SUCCESS") - done
    figures = {
        "client_cpu_s_per_run": round((cpu_seconds(workers) - before) / executed, 3),
        "postgres_cpu_s_per_run": round((cpu_seconds(postgres) - before_postgres) / executed, 3),
        "runs_per_s": round(executed / wall, 2),
    }
    bench.stop(workers)
    return figures


def memory(bench: Bench) -> dict[str, float]:
    """Ten idle workers."""
    pool = bench.start_workers(10)
    process = psutil.Process(pool.process.pid)
    workers = process.children()
    figures = {
        "worker_pss_mb": round(sum(map(pss_megabytes, workers)) / len(workers), 1),
        "ten_workers_pss_mb": round(sum(map(pss_megabytes, [process, *workers])), 1),
    }
    bench.stop(pool)
    return figures


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    few, many, submitted, executed, quiet = (10, 1_000, 200, 60, 45.0) if quick else (10, 10_000, 2_000, 500, 120.0)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    for name in ("PASSARI_CONFIG", "DAGSTER_PG_URL", "PASSARI_DB_URL", "REDIS_URL", "DAGSTER_HOME"):
        environment.pop(name, None)
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="passari-benchmark-") as directory,
        System(Path(directory), environment=environment, definitions="benchmarks.four_ops", workers=0) as system,
    ):
        bench = Bench(system)
        figures.update(memory(bench))
        bench.backfill(few)
        bench.wait(lambda: bench.count("QUEUED") == few)
        with_few = daemon_cpu_per_minute(bench, quiet)
        bench.backfill(submitted)
        # From its first run on: until then the daemon has not looked for new backfills, which it does each half minute.
        bench.wait(lambda: bench.count("QUEUED") > few)
        first = bench.count("QUEUED") - few
        took = bench.wait(lambda: bench.count("QUEUED") == few + submitted)
        figures["submit_runs_per_s"] = round((submitted - first) / took, 1)
        figures.update(execute(bench, executed))
        left = bench.count("QUEUED")
        if many > left:
            bench.fill(many - left)
            assert bench.count("QUEUED") >= many
        bench.system.sleep(30)
        with_many = daemon_cpu_per_minute(bench, quiet)
        figures["daemon_cpu_s_per_minute"] = round(with_many, 2)
        figures["daemon_cpu_ratio"] = round(with_many / with_few, 2)
    return figures


if __name__ == "__main__":
    sys.exit(machine.run(__doc__, "fewer runs, and 1,000 queued ones instead of 10,000", measure))
