"""What breaks while a SIP is being sent: worker, pool, daemon, webserver, code server, Redis, PostgreSQL.

Each time an object's run stands in `submit_sip`, just before or just after the rename that makes the DPS take its
package; something breaks, is started again as systemd would, and nobody does anything more. The object ends preserved
once, uploaded once, and every run in a true status. `PASSARI_FAULT_ROUNDS=5 make faults` does it five times, at both
points; `PASSARI_FAULT_TABLE=FILE` has the times written as a table, as in `docs/reference/faults.md`.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Literal

import psutil
import pytest
import redis

from passari_dagster.run_queue.ledger import Ledger, connect
from passari_dagster.services.supervisor import Child, start
from passari_dagster_tests.house import House
from passari_dagster_tests.running import Running, running_system
from passari_dagster_tests.test_faults import LETTER, assert_preserved_once_and_nothing_left, wait_for_its_end
from passari_dagster_tests.workflow.stories import old_object

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("PASSARI_FAULT_ROUNDS", "0"))
"""Each fault at each point, so many times; 0: the short form, each fault once, at one of the points."""
OUTAGE = 30.0
Place = Literal["rename-before", "rename-after"]
POINTS: dict[str, Place] = {"before the rename": "rename-before", "after the rename": "rename-after"}


@dataclass
class Scene:
    """An object's run that stands in `submit_sip`.

    Arguments:
        running: the system.
        run_id: the run.
        horse: the process that executes it.
    """

    running: Running
    run_id: str
    horse: psutil.Process


def find(running: Running, name: str) -> Child:
    """A process of the system."""
    return next(child for child in running.system.supervisor.children if child.name == name)


def start_again(running: Running, child: Child) -> None:
    """As systemd would: the same command, in the same place of the order in which all are stopped."""
    children = running.system.supervisor.children
    place = children.index(child)
    children.remove(child)
    running.system.supervisor.adopt(start(child.service, running.system.supervisor.logs))
    children.insert(place, children.pop())


def kill(name: str) -> Callable[[Scene], None]:
    """kill -9 of a process of the system, and its start a moment later."""

    def strike(scene: Scene) -> None:
        child = find(scene.running, name)
        child.process.kill()
        child.process.wait()
        time.sleep(random.uniform(0, 2))
        start_again(scene.running, child)

    return strike


def kill_horse(scene: Scene) -> None:
    scene.horse.kill()


def kill_worker(scene: Scene) -> None:
    worker = scene.horse.parent()
    assert worker is not None
    assert worker.cmdline()[0].startswith("passari worker")
    worker.kill()


def stop_horse(scene: Scene) -> None:
    scene.horse.suspend()


def flush(scene: Scene) -> None:
    client = redis.Redis.from_url(scene.running.system.environment["REDIS_URL"])
    client.flushall()
    client.close()


def outage(name: str, how: signal.Signals) -> Callable[[Scene], None]:
    """A server that is away for half a minute."""

    def strike(scene: Scene) -> None:
        child = find(scene.running, name)
        child.process.send_signal(how)
        child.process.wait()
        time.sleep(OUTAGE)
        start_again(scene.running, child)

    return strike


@dataclass(frozen=True)
class Fault:
    """What breaks.

    Arguments:
        strike: breaks it, and has it started again where it does not start by itself.
        within: seconds from then until the run has ended, or goes on to its end, by the requirements.
        survives: the run may go on through it.
    """

    strike: Callable[[Scene], None]
    within: float
    survives: bool = False


FAULTS = {
    "kill -9 of the run's process": Fault(kill_horse, 30),
    "kill -9 of the worker": Fault(kill_worker, 60),
    "kill -9 of the pool": Fault(kill("workers"), 60),
    "SIGSTOP of the run's process": Fault(stop_horse, 60),
    "kill -9 of the daemon": Fault(kill("daemon"), 120, survives=True),
    "kill -9 of the webserver": Fault(kill("webserver"), 120, survives=True),
    "kill -9 of the code server": Fault(kill("code-server"), 120, survives=True),
    "kill -9 of Redis": Fault(kill("redis"), 120, survives=True),
    "FLUSHALL": Fault(flush, 120, survives=True),
    "Redis away for 30 s": Fault(outage("redis", signal.SIGTERM), 120, survives=True),
    "PostgreSQL restarted": Fault(kill("postgres"), 120, survives=True),
    "PostgreSQL away for 30 s": Fault(outage("postgres", signal.SIGINT), 120, survives=True),
}


CASES = (
    list(itertools.product(FAULTS, POINTS, range(ROUNDS)))
    if ROUNDS
    else [(fault, point, 0) for fault, point in zip(FAULTS, itertools.cycle(POINTS), strict=False)]
)


@dataclass
class Times:
    """Seconds from the fault's end until the first run had ended, and until the object was preserved."""

    ended: list[float] = field(default_factory=list)
    preserved: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system, with an object for each fault."""
    # A killed run's lock expires soon, so that the matrix takes minutes less.
    quick = {"PASSARI_WORKFLOW__LOCK_EXPIRY": "6"}
    with running_system(tmp_path_factory.mktemp("matrix"), 1, quick, prepare=_add_objects) as system:
        yield system


def _add_objects(house: House) -> None:
    OBJECTS[:] = [old_object(house, ("kirje.txt", LETTER)) for _ in CASES]


OBJECTS: list[int] = []


@pytest.fixture(scope="module")
def table() -> Iterator[dict[tuple[str, str], Times]]:
    """The times of all faults, written where PASSARI_FAULT_TABLE says."""
    times: dict[tuple[str, str], Times] = {}
    yield times
    path = os.environ.get("PASSARI_FAULT_TABLE")
    if path:
        Path(path).write_text(_as_table(times), encoding="utf-8")


def _as_table(times: dict[tuple[str, str], Times]) -> str:
    made = f"{ROUNDS or 1} round{'s' * (ROUNDS > 1)}, {os.cpu_count()} cores, {datetime.now(timezone.utc):%Y-%m-%d}"
    lines = [
        "# Faults, and how long the way back takes",
        "",
        f"Made by `PASSARI_FAULT_TABLE=docs/reference/faults.md make faults` ({made}). Medians, in seconds from",
        "the end of the fault. Each time the object was preserved once, its SIP uploaded once, and no lock, claim or",
        "lease was left.",
        "",
        "| while `submit_sip` stands | fault | the run has ended | required | the object is preserved |",
        "|---|---|---|---|---|",
    ]
    for (fault, point), taken in times.items():
        lines.append(
            f"| {point} | {fault} | {median(taken.ended):.0f} | {FAULTS[fault].within:.0f} | "
            f"{median(taken.preserved):.0f} |"
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("fault", "point", "round_"), CASES)
def test_whatever_breaks_the_object_is_preserved_once(
    running: Running, table: dict[tuple[str, str], Times], fault: str, point: str, round_: int
) -> None:
    object_id = OBJECTS.pop()
    hold = running.house.dps.hold(POINTS[point], name_contains=f"Object_{object_id}-")
    running.enqueue(object_id)
    running.wait(hold.reached.is_set, "the run to stand in submit_sip")
    (run,) = running.runs_of(object_id)
    scene = Scene(running, run["runId"], _process_of(running, run["runId"]))
    time.sleep(random.uniform(0, 1))

    FAULTS[fault].strike(scene)
    struck = datetime.now(timezone.utc)
    hold.release()
    runs = wait_for_its_end(running, object_id, seconds=240)
    first = running.details(scene.run_id)
    ended = max(0.0, first["endTime"] - struck.timestamp())
    assert ended < FAULTS[fault].within, f"the first run ended {first['status']} after {ended:.0f} s"
    assert first["status"] == "FAILURE" or (FAULTS[fault].survives and first["status"] == "SUCCESS")
    assert {run["status"] for run in runs} <= {"SUCCESS", "FAILURE", "CANCELED"}
    taken = table.setdefault((fault, point), Times())
    taken.ended.append(ended)
    taken.preserved.append((datetime.now(timezone.utc) - struck).total_seconds())
    assert_preserved_once_and_nothing_left(running, object_id)
    _assert_nothing_in_redis(running, object_id)


def _process_of(running: Running, run_id: str) -> psutil.Process:
    ledger = Ledger(connect(running.system.environment["REDIS_URL"]))
    try:
        lease = ledger.lease_of(run_id)
    finally:
        ledger.close()
    assert lease is not None
    return psutil.Process(lease.pid)


def _assert_nothing_in_redis(running: Running, object_id: int) -> None:
    ledger = Ledger(connect(running.system.environment["REDIS_URL"]))
    claimed = f"preserve_object:{object_id}"
    try:
        running.wait(lambda: claimed not in ledger.claims(), "the claim to be freed", seconds=60)
        running.wait(lambda: not list(ledger.leases()), "the leases to go", seconds=30)
    finally:
        ledger.close()
