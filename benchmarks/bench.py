"""A running system for benchmarks, without workers at first, and what is asked of it."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil

from passari_dagster.run_queue.coordinator import RedisRunCoordinator
from passari_dagster.run_queue.dagster_internals import PARTITION_NAME_TAG, SubmitRunContext, copy_record
from passari_dagster.services.supervisor import Child
from passari_dagster.services.system import DEFINITIONS, System

EXAMPLE = Path(__file__).resolve().parent.parent / "passari.toml.example"
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


@contextmanager
def running_system(definitions: str = DEFINITIONS) -> Iterator[System]:
    """A system of its own, with the settings of the example, and without workers.

    Arguments:
        definitions: module that the code server loads.
    """
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parent)}
    for name in ("PASSARI_CONFIG", "DAGSTER_PG_URL", "PASSARI_DB_URL", "REDIS_URL", "DAGSTER_HOME"):
        environment.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="passari-benchmark-") as directory:
        config = Path(directory) / "passari.toml"
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
        config.write_text("".join(line for line in lines if not line.startswith(("database_url", "redis_url"))))
        with System(
            Path(directory) / "data", config=config, environment=environment, definitions=definitions, workers=0
        ) as system:
            yield system
