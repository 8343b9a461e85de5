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

import sys
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.bench import Bench, cpu_seconds, running_system


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
    figures: dict[str, Any] = {}
    with running_system("benchmarks.four_ops") as system:
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
