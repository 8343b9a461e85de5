"""The whole system running for tests: PostgreSQL, Redis, code server, webserver, daemon, simulated museum and DPS."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx
import pytest
from pydantic import SecretStr

from passari_dagster.services.supervisor import Supervisor
from passari_dagster.services.system import System
from passari_dagster.services.webserver import Webserver
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.conftest import SHARED, shared
from passari_dagster_tests.house import House

Answer = TypeVar("Answer")
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ...on LaunchRunSuccess { run { runId } } ...on PythonError { message } } }"""
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


class Processes(Protocol):
    """What is asked of the processes of a system; a `System` is them on one host."""

    data: Path
    environment: dict[str, str]
    root: Path
    supervisor: Supervisor

    @property
    def webserver(self) -> Webserver: ...

    def sleep(self, seconds: float) -> None: ...


class Running:
    """A running system, and what a test asks of it.

    Arguments:
        house: the simulated museum and DPS.
        system: the processes.
    """

    def __init__(self, house: House, system: Processes) -> None:
        self.house, self.system, self.webserver = house, system, system.webserver
        house.database_url = system.environment["PASSARI_DB_URL"]
        house.redis_url = SecretStr(system.environment["REDIS_URL"])

    def environment(self) -> contextlib.AbstractContextManager[Environment]:
        """The use cases' environment, on the same database."""
        return self.house.environment(workflow=WORKFLOW)

    def wait(self, question: Callable[[], Answer | None], what: str, seconds: float = 180) -> Answer:
        """Ask until there is an answer; the processes are watched meanwhile."""
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}; runs: {self.webserver.runs()[:12]}")
            self.system.sleep(0.5)
        return answer

    def run(self, job: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Launch a job as the UI does, wait for its success, and answer what it was."""
        run_id = self.webserver.launch(job, config)
        status = self.wait(lambda: self._ended(run_id), f"{job} to end")
        assert status == "SUCCESS", self.webserver.run_errors(run_id)
        return self.details(run_id)

    def launch(
        self,
        job: str,
        config: dict[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Launch a job by a request with these headers; the id of its run, which has these tags."""
        params = {
            "selector": {
                "repositoryLocationName": "passari_dagster",
                "repositoryName": "__repository__",
                "jobName": job,
            },
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
        }
        answer = httpx.post(
            f"{self.webserver.url}/graphql",
            json={"query": LAUNCH, "variables": {"params": params}},
            headers=headers,
            trust_env=False,
            timeout=60,
        )
        return str(answer.json()["data"]["launchRun"]["run"]["runId"])

    def preserve(self, object_id: int) -> str:
        """Launch the job of an object, without the backfill that is begun within half a minute; the id of its run."""
        return self.launch("preserve_object", {}, tags={"dagster/partition": str(object_id)})

    def _ended(self, run_id: str) -> str | None:
        status = self.webserver.run_status(run_id)
        return status if status in ENDED else None

    def details(self, run_id: str) -> dict[str, Any]:
        """A run with its tags, parent, steps and materializations' metadata."""
        data = self.webserver.ask(
            """query($id: ID!) { runOrError(runId: $id) { ...on Run {
                runId status jobName parentRunId rootRunId stepKeysToExecute runConfigYaml startTime endTime
                tags { key value }
                stepStats { stepKey status }
                assetMaterializations { metadataEntries { label
                    ...on IntMetadataEntry { intValue } ...on FloatMetadataEntry { floatValue } } } } } }""",
            id=run_id,
        )
        run: dict[str, Any] = data["runOrError"]
        return run

    def runs_of(self, object_id: int) -> list[dict[str, Any]]:
        """All runs of an object, the oldest first."""
        data = self.webserver.ask(
            """query($filter: RunsFilter!) { runsOrError(filter: $filter) { ...on Runs { results {
                runId status parentRunId stepKeysToExecute } } } }""",
            filter={"tags": [{"key": "dagster/partition", "value": str(object_id)}]},
        )
        runs: list[dict[str, Any]] = data["runsOrError"]["results"]
        return runs[::-1]

    def enqueue(self, *object_ids: int) -> dict[str, Any]:
        """Run the job enqueue_objects for these objects."""
        return self.run("enqueue_objects", {"ops": {"enqueue": {"config": {"object_ids": list(object_ids)}}}})

    def stages(self, *object_ids: int) -> list[str]:
        """Where each of the objects is."""
        from passari_dagster.catalogue.models import MuseumObject

        with self.environment() as env, env.transaction() as session:
            stages = []
            for object_id in object_ids:
                row = session.get_one(MuseumObject, object_id)
                package = row.latest_package
                if row.frozen:
                    stages.append("frozen")
                elif package is None:
                    stages.append("new")
                elif package.confirmed_date is None:
                    stages.append("open")
                else:
                    stages.append("preserved" if package.preserved else "rejected")
            return stages

    def wait_until(self, stage: str, *object_ids: int, seconds: float = 240) -> None:
        """Wait until all of the objects are there."""
        self.wait(lambda: set(self.stages(*object_ids)) == {stage}, f"{object_ids} to be {stage}", seconds)

    def good_objects(self) -> list[int]:
        """Objects that nothing is wrong with: most of them."""
        museum = self.house.museum
        good = []
        for object_id in museum.object_ids:
            names = [museum.attachment(id_).filename for id_ in museum.object(object_id).multimedia_ids]
            # "skannaus" is what the museum calls the photographs that are damaged.
            if all(Path(name or "").suffix != ".psd" and not (name or "").startswith("skannaus") for name in names):
                good.append(object_id)
        return good

    def received(self, object_id: int) -> list[Path]:
        """The tars of an object that the DPS received, in their order."""
        return sorted(self.house.dps.received.glob(f"*_Object_{object_id}-*.tar"))

    def dagster(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The stock command line, as the README shows it: in the project's folder, with the system's environment."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "dagster"), *arguments],
            cwd=self.system.root,
            env=self.system.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def passari(self, *arguments: str, code: int = 0) -> str:
        """What our command line says beside the running system, in an environment that names no server."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / "passari-dagster"), *arguments, "--data", str(self.system.data)],
            cwd=self.system.root,
            env={"PATH": os.defpath, "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "--json" in arguments or not [line for line in done.stdout.splitlines() if len(line) > 100]
        return done.stdout + done.stderr if code else done.stdout


WORKFLOW: dict[str, Any] = {
    "poll_interval": 3,
    "step_retries": 1,
    "step_retry_wait": 1.0,
    "confirm_backoff": "PT10S",
    "lock_expiry": 15,
}


@contextlib.contextmanager
def running_system(
    directory: Path,
    objects: int = 60,
    variables: Mapping[str, str] | None = None,
    prepare: Callable[[House], None] = lambda _: None,
    **options: Any,
) -> Iterator[Running]:
    """A system with a museum of its own, synchronised.

    Arguments:
        directory: empty; everything is below.
        objects: how many objects the museum has.
        variables: environment variables for its processes.
        prepare: changes the museum before it is synchronised.
        options: of `System`.
    """
    with museum_and_dps(directory, objects) as house:
        prepare(house)
        with system_of(house, directory / "data", variables, **options) as running:
            for job in ("sync_objects", "sync_attachments", "sync_hashes"):
                running.run(job)
            yield running


@contextlib.contextmanager
def museum_and_dps(directory: Path, objects: int) -> Iterator[House]:
    """A house whose servers are not known yet."""
    house = House(directory, "postgresql://not-known-yet/", SecretStr("redis://not-known-yet"), objects)
    try:
        yield house
    finally:
        house.close()


@contextlib.contextmanager
def system_of(
    house: House, data: Path, variables: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Running]:
    """A system of a house. See `running_system`."""
    config = house.write_config(house.directory / "passari.toml", workflow=WORKFLOW)
    with System(data, config=config, environment={**os.environ, **(variables or {})}, **options) as system:
        yield Running(house, system)


def judge(tar: Path, certificate: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """What the independent judge says of a SIP; its exit code is 0 if there is nothing to object to."""
    program = shared("judge/judge.py")
    return subprocess.run(
        [sys.executable, str(program), str(tar), "--cert", str(certificate)],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "JUDGE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One system for all tests of a worker; they are kept together by the groups "system", "workbench" and "look"."""
    with running_system(tmp_path_factory.mktemp("running")) as system:
        yield system


@pytest.fixture(scope="session")
def judge_cache() -> Path:
    """Where the judge keeps its compiled rules; beside the other runs' temporary files."""
    import tempfile

    assert SHARED
    cache = Path(tempfile.gettempdir()) / "passari-judge-cache"
    cache.mkdir(exist_ok=True)
    return cache


def as_json(value: dict[str, Any]) -> str:
    """For command lines."""
    return json.dumps(value)
