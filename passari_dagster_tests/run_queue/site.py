"""A worker host for tests: the project's own dagster.yaml over real PostgreSQL and Redis, and real worker pools."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil
import redis
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from passari_dagster.run_queue.coordinator import RedisRunCoordinator
from passari_dagster.run_queue.dagster_internals import SubmitRunContext
from passari_dagster.run_queue.launcher import RedisRunLauncher
from passari_dagster.run_queue.ledger import Ledger
from passari_dagster.services.embedded import EmbeddedRedis
from passari_dagster_tests.run_queue import toy_runs

Answer = TypeVar("Answer")
NOWHERE = RemoteRepositoryOrigin(
    GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="toys"), "__repository__"
)
"""Dagster wants to know where a queued run's job is served; workers import it, and ask nobody."""


class Site:
    """An instance, its queue, and pools of workers.

    Arguments:
        directory: for everything that is written.
        instance: made of the project's dagster.yaml.
        server: the queue's Redis.
    """

    def __init__(self, directory: Path, instance: dg.DagsterInstance, server: EmbeddedRedis) -> None:
        self.directory, self.instance, self.server = directory, instance, server
        self.gate = directory / "gate"

    @property
    def coordinator(self) -> RedisRunCoordinator:
        """Ours, as the instance has it."""
        assert isinstance(self.instance.run_coordinator, RedisRunCoordinator)
        return self.instance.run_coordinator

    @property
    def launcher(self) -> RedisRunLauncher:
        """Ours, as the instance has it."""
        assert isinstance(self.instance.run_launcher, RedisRunLauncher)
        return self.instance.run_launcher

    @property
    def ledger(self) -> Ledger:
        """What Redis holds."""
        return self.coordinator.ledger

    def create(self, job: dg.JobDefinition, partition: str | None = None, **tags: str) -> dg.DagsterRun:
        """A run that was not submitted yet."""
        ops = {node.name: {"config": {"gate": str(self.gate)}} for node in job.nodes if job in GATED}
        if partition:
            tags["dagster/partition"] = partition
        return self.instance.create_run_for_job(
            job,
            run_config={"ops": ops} if ops else {},
            tags=tags,
            job_code_origin=dg.reconstructable(job).get_python_origin(),
            remote_job_origin=RemoteJobOrigin(NOWHERE, job.name),
        )

    def submit(self, job: dg.JobDefinition, partition: str | None = None, **tags: str) -> str:
        """Launch a run as the UI does; its id."""
        run = self.create(job, partition, **tags)
        self.coordinator.submit_run(SubmitRunContext(run, None))  # type: ignore[arg-type]  # it is not asked
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        """The run as it is now."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def status(self, run_id: str) -> str:
        """Its status."""
        return self.run(run_id).status.value

    def wait(self, question: Callable[[], Answer | None], what: str, seconds: float = 60) -> Answer:
        """Ask until there is an answer."""
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}: {self.said()[-3000:]}"
            time.sleep(0.05)
        return answer

    def wait_for(self, run_id: str, status: str, seconds: float = 60) -> None:
        """Wait until the run has a status."""
        self.wait(lambda: self.status(run_id) == status, f"{run_id} to be {status}, not {self.status(run_id)}", seconds)

    def wait_until_at_the_gate(self, run_id: str) -> None:
        """Wait until the run executes its op."""
        self.wait(self.gate.with_suffix(f".{run_id}").exists, f"{run_id} to execute")

    def messages(self, run_id: str) -> str:
        """All that the run's events say."""
        return "\n".join(str(entry) for entry in self.instance.all_logs(run_id))

    def stop_redis(self) -> None:
        """Redis ends, and keeps what it holds as it does when it is told to end."""
        self.server.__exit__(None, None, None)

    def start_redis(self) -> None:
        """It is back."""
        self.server.__enter__()

    def process_of(self, run_id: str) -> psutil.Process:
        """The process that executes the run."""
        lease = self.wait(lambda: self.ledger.lease_of(run_id), "a lease")
        return psutil.Process(lease.pid)

    def said(self) -> str:
        """What the pools have logged."""
        return "\n".join(path.read_text() for path in self.directory.glob("pool-*.log"))

    @contextlib.contextmanager
    def pool(self, workers: int = 1, **variables: str) -> Iterator[psutil.Process]:
        """A pool of workers, as a process of its own."""
        number = len(list(self.directory.glob("pool-*.log")))
        with (self.directory / f"pool-{number}.log").open("w") as log:
            process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).parent / "passari-dagster"), "worker", "-n", str(workers)),
                    *("--data", str(self.directory)),
                ],
                env={**os.environ, **variables},
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait()


GATED = (toy_runs.gated, toy_runs.stubborn, toy_runs.talkative)


def kill(process: psutil.Process) -> None:
    """kill -9."""
    process.send_signal(signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(10)


def flush(site: Site) -> None:
    """FLUSHALL."""
    client = redis.Redis.from_url(site.server.url())
    client.flushall()
    client.close()


def variables_of(directory: Path, database: str, server: EmbeddedRedis, home: Path) -> dict[str, Any]:
    """The environment of a worker host."""
    for name in ("logs", "artifacts"):
        (directory / name).mkdir()
    return {
        "DAGSTER_HOME": str(home),
        "DAGSTER_PG_URL": database,
        "PASSARI_DB_URL": database,
        "REDIS_URL": server.url(),
        "PASSARI_COMPUTE_LOG_DIR": str(directory / "logs"),
        "PASSARI_ARTIFACT_DIR": str(directory / "artifacts"),
        "PASSARI_CODE_SERVER_HOST": "127.0.0.1",
        "PASSARI_CODE_SERVER_PORT": "1",
    }
