"""`passari-dagster demo` as a stranger starts it: objects come to rest, more can be done in it, SIGTERM ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

from passari_dagster.errors import SettingsError
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.services import demo as story
from passari_dagster.services.demo_material import USERNAME, Material
from passari_dagster.services.system import read_env
from passari_dagster.services.webserver import Webserver
from passari_dagster.settings import MuseumPlusSettings
from passari_dagster.simulation import dps as simulated_dps
from passari_dagster.simulation import museumplus as simulated_museum
from passari_dagster.simulation.dps_faults import Faults as DpsFaults
from passari_dagster.simulation.museum_faults import Faults as MuseumFaults
from passari_dagster.simulation.museum_records import LOG_FIELD
from passari_dagster_tests.running import ENDED, judge

PROGRAM = str(Path(sys.executable).parent / "passari-dagster")


class Demo:
    """A demo that runs as a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data, self.log = data, data.with_suffix(".log")
        options = ["--port", "3900", "--museum-objects", "40", "--timeout", "600"]
        faults = ["--museum-fault", "latency=0.01", "--dps-fault", "latency=0.01"]
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                [PROGRAM, "demo", "--data", str(data), *options, *faults], stdout=stream, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, question: Callable[[], object], what: str, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while not question():
            assert self.process.poll() is None, self.said()[-3000:]
            assert time.monotonic() < deadline, f"waited for {what}\n{self.said()[-3000:]}"
            time.sleep(0.5)

    def webserver(self) -> Webserver:
        match = re.search(r"user interface +(\S+)", self.said())
        assert match
        return Webserver(match[1])

    def museum(self) -> str:
        """Address of the simulated museum."""
        match = re.search(r"http://[\d.]+:\d+(?=/ria-ws)", (self.data / "passari.toml").read_text())
        assert match
        return match[0]

    def log_entries(self, object_id: int) -> list[tuple[str, str]]:
        """What the museum was told of an object: packages and verdicts."""
        settings = MuseumPlusSettings.model_validate(
            {
                "url": f"{self.museum()}/ria-ws/application",
                "username": USERNAME,
                "password": Material(self.data / "keys").museumplus_password.read_text(),
                "object_preservation_field_name": LOG_FIELD,
            }
        )
        with MuseumPlus(settings) as museum:
            return [(entry["filename"], entry["status"]) for entry in museum.read_log(object_id)]

    def stop(self) -> None:
        """As `kill` does it; nothing is left over."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        assert len(children) >= 7
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []

    def count(self, condition: str) -> int:
        engine = create_engine(read_env(self.data)["PASSARI_DB_URL"])
        with engine.connect() as connection:
            number = connection.scalar(text(f"SELECT count(*) FROM museum_packages WHERE {condition}"))
        engine.dispose()
        return int(number or 0)

    def run(self, job: str, config: dict[str, object] | None = None) -> None:
        webserver = self.webserver()
        run_id = webserver.launch(job, config)
        self.wait(lambda: webserver.run_status(run_id) in ENDED, f"{job} to end")
        assert webserver.run_status(run_id) == "SUCCESS", webserver.run_errors(run_id)
        webserver.close()


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[[], Demo]]:
    """Starts a demo, always on the same folder."""
    started: list[Demo] = []

    def start() -> Demo:
        started.append(Demo(tmp_path / "demo"))
        return started[-1]

    yield start
    for demo in started:
        demo.process.kill()
        demo.process.wait()


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
@pytest.mark.timeout(840)
def test_the_demo_ends_well_takes_an_update_and_every_sip_that_the_dps_received_is_without_fault(
    start_demo: Callable[[], Demo], judge_cache: Path
) -> None:
    demo = start_demo()
    demo.wait(lambda: "18 preserved, 1 rejected, 1 frozen" in demo.said(), "20 objects to be at rest")
    assert str(demo.data) in demo.said()

    # An object changes in the museum, and is preserved again.
    first = next(entry for entry in _verdicts(demo.data) if entry["status"] == "accepted")
    match = re.search(r"_Object_(\d+)-", first["name"])
    assert match
    object_id = int(match[1])
    httpx.post(f"{demo.museum()}/simulation/objects/{object_id}/edit", json={"title": "Kirves"}).raise_for_status()
    for job in ("sync_objects", "sync_hashes"):
        demo.run(job)
    demo.run("enqueue_objects", {"ops": {"enqueue": {"config": {"object_ids": [object_id]}}}})
    demo.wait(
        lambda: demo.count(f"museum_object_id = {object_id} AND preserved AND confirmed_date IS NOT NULL") == 2,
        "the update to be preserved",
    )

    # The museum was told, of the rejected one as well.
    verdicts = [(entry["name"], entry["status"]) for entry in _verdicts(demo.data)]
    assert demo.log_entries(object_id) == [verdict for verdict in verdicts if f"_Object_{object_id}-" in verdict[0]]
    (rejected,) = [verdict for verdict in verdicts if verdict[1] == "rejected"]
    assert demo.log_entries(int(rejected[0].partition("_Object_")[2].partition("-")[0])) == [rejected]

    received = sorted((demo.data / "dps" / "received").iterdir())
    assert len(received) == 20, "19 objects were sent, one of them twice, and none more often"
    certificate = Material(demo.data / "keys").certificate
    faults = {}
    for tar in received:
        verdict = judge(tar, certificate, judge_cache)
        if verdict.returncode:
            faults[tar.name] = verdict.stdout
    assert faults == {}

    commands = [child.cmdline() for child in psutil.Process(demo.process.pid).children(recursive=True)]
    assert sum(command[-2:] == ["--latency", "0.01"] for command in commands) == 2, "the museum and the DPS are slow"
    demo.stop()

    # Another day it goes on from there.
    demo = start_demo()
    demo.wait(lambda: "user interface" in demo.said(), "the demo to come up again")
    assert "20 objects were enqueued before" in demo.said()
    demo.wait(lambda: "18 preserved, 1 rejected, 1 frozen" in demo.said(), "the objects of the first day")
    demo.stop()


def _verdicts(data: Path) -> list[dict[str, str]]:
    lines = (data / "dps" / "verdicts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# Faults


class Caught(Exception):
    """The simulator would start here."""


def knobs(
    monkeypatch: pytest.MonkeyPatch, main: Callable[[list[str]], int], simulator: str, arguments: Sequence[str]
) -> object:
    """The faults with which a simulator's own command line would start it."""

    def catch(*_: object, **given: object) -> None:
        raise Caught(given["faults"])

    monkeypatch.setattr(simulator, catch)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(Caught) as caught:
        main([*arguments])
    faults: object = caught.value.args[0]
    return faults


def test_faults_of_the_demo_are_those_of_the_simulators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = ["latency=0.5", "slow-body=2", "error-rate=0.25", "cut-rate=0.5", "short_rate=1", "drop-rate=0"]
    main, simulator = simulated_museum.main, "passari_dagster.simulation.museumplus.SimulatedMuseum"
    faults = knobs(monkeypatch, main, simulator, story.museum_flags(given))
    assert faults == MuseumFaults(0.5, 2, 0.25, 0.5, 1, 0, seed=1)

    given = ["latency=0.5", "drop-after-bytes=1000", "drops=2", "disk-full=false", "no-fsync=true", "rest_failures=3"]
    given += ["missing-html=true", "missing-xml=true", "damage=1"]
    needed = ["--directory", str(tmp_path), "--certificate", "c", "--contract-id", "c", "--authorized-keys", "k"]
    main, simulator = simulated_dps.main, "passari_dagster.simulation.dps.SimulatedDps"
    faults = knobs(monkeypatch, main, simulator, [*needed, *story.dps_flags(given)])
    assert faults == DpsFaults(0.5, 1000, 2, False, True, 3, True, True, 1)


@pytest.mark.parametrize(
    ("flags", "fault", "said"),
    [
        (story.museum_flags, "speed=3", "--museum-fault speed=3: should be NAME=VALUE with one of the names latency, "),
        (story.museum_flags, "seed=3", "one of the names"),
        (story.museum_flags, "latency", "a number, 0 or greater"),
        (story.museum_flags, "latency=nan", "a number, 0 or greater"),
        (story.museum_flags, "latency=-1", "a number, 0 or greater"),
        (story.museum_flags, "error_rate=1.5", "a share from 0 to 1"),
        (story.dps_flags, "damage=1.5", "--dps-fault damage=1.5: the value should be a whole number, 0 or greater"),
        (story.dps_flags, "no-fsync=yes", "true or false"),
        (story.dps_flags, "", "one of the names latency, drop-after-bytes, "),
    ],
)
def test_a_fault_that_there_is_not_is_refused(
    flags: Callable[[Sequence[str]], tuple[str, ...]], fault: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        flags([fault])


@pytest.mark.parametrize("where", ["option", "environment"])
def test_the_command_tells_of_a_wrong_fault_before_anything_starts(tmp_path: Path, where: str) -> None:
    option = ["--museum-fault", "latency=1", "--museum-fault", "speed=3"] if where == "option" else []
    env = {} if where == "option" else {"PASSARI_DEMO_MUSEUM_FAULTS": "latency=1 speed=3"}
    done = subprocess.run(
        [PROGRAM, "demo", "--data", str(tmp_path / "demo"), *option],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("--museum-fault speed=3: should be NAME=VALUE")
    assert not (tmp_path / "demo").exists()
