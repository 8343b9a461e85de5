"""`passari-dagster demo` as a stranger starts it: objects come to rest, more can be done in it, SIGTERM ends it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

from passari_dagster.services.demo_material import Material
from passari_dagster.services.system import read_env
from passari_dagster.services.webserver import Webserver
from passari_dagster_tests.running import ENDED, judge

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo"), pytest.mark.timeout(840)]


class Demo:
    """A demo that runs as a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data, self.log = data, data.with_suffix(".log")
        command = [str(Path(sys.executable).parent / "passari-dagster"), "demo", "--data", str(data), "--port", "3900"]
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                [*command, "--museum-objects", "40", "--timeout", "600"], stdout=stream, stderr=subprocess.STDOUT
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
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo")
    yield demo
    demo.process.kill()
    demo.process.wait()


def test_the_demo_ends_well_takes_an_update_and_every_sip_that_the_dps_received_is_without_fault(
    demo: Demo, judge_cache: Path
) -> None:
    demo.wait(lambda: "18 preserved, 1 rejected, 1 frozen" in demo.said(), "20 objects to be at rest")
    assert str(demo.data) in demo.said()

    # An object changes in the museum, and is preserved again.
    settings = (demo.data / "passari.toml").read_text()
    museum = re.search(r"http://[\d.]+:\d+(?=/ria-ws)", settings)
    assert museum
    first = next(entry for entry in _verdicts(demo.data) if entry["status"] == "accepted")
    match = re.search(r"_Object_(\d+)-", first["name"])
    assert match
    object_id = int(match[1])
    httpx.post(f"{museum[0]}/simulation/objects/{object_id}/edit", json={"title": "Kirves"}).raise_for_status()
    for job in ("sync_objects", "sync_hashes"):
        demo.run(job)
    demo.run("enqueue_objects", {"ops": {"enqueue": {"config": {"object_ids": [object_id]}}}})
    demo.wait(
        lambda: demo.count(f"museum_object_id = {object_id} AND preserved AND confirmed_date IS NOT NULL") == 2,
        "the update to be preserved",
    )

    received = sorted((demo.data / "dps" / "received").iterdir())
    assert len(received) == 20, "19 objects were sent, one of them twice, and none more often"
    certificate = Material(demo.data / "keys").certificate
    faults = {}
    for tar in received:
        verdict = judge(tar, certificate, judge_cache)
        if verdict.returncode:
            faults[tar.name] = verdict.stdout
    assert faults == {}

    children = psutil.Process(demo.process.pid).children(recursive=True)
    assert len(children) >= 7
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def _verdicts(data: Path) -> list[dict[str, str]]:
    lines = (data / "dps" / "verdicts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
