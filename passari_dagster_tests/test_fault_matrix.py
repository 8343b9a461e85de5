"""What breaks while an object is on its way: a process of ours, Redis, PostgreSQL, a host, its clock.

Each time an object's run stands in `submit_sip`, just before or just after the rename that makes the DPS take its
package, or waits for MuseumPlus; something breaks, is started again as systemd would, and nobody does anything more.
The object ends preserved once, uploaded once, and every run in a true status. What breaks is told in `strikes.py`.

`PASSARI_FAULT_ROUNDS=5 make faults` does it five times, at each of the points, round by round; with ARGS="-n 4" on four
systems side by side, which wait more than they work. `PASSARI_FAULT_TABLE=FILE` has the times written as a table, as
in `docs/reference/faults.md`, those of earlier runs included: see `fault_times.py`.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from _pytest.mark import ParameterSet

from passari_dagster.run_queue.ledger import Ledger, connect
from passari_dagster.simulation.museum_faults import Point, Seen
from passari_dagster_tests import fault_times, off_clock
from passari_dagster_tests.fault_times import Times
from passari_dagster_tests.house import House
from passari_dagster_tests.running import Running, running_system
from passari_dagster_tests.strikes import FAULTS, Scene
from passari_dagster_tests.test_faults import LETTER, assert_preserved_once_and_nothing_left, wait_for_its_end
from passari_dagster_tests.workflow.stories import old_object

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("PASSARI_FAULT_ROUNDS", "0"))
"""Each fault at each point, so many times; 0: the short form, each fault once, at one of the points."""
TABLE = os.environ.get("PASSARI_FAULT_TABLE")
NO_FAKETIME = "Debian's package faketime is not installed"


class Hold(Protocol):
    """A place where the simulated museum or DPS has a run stand."""

    reached: threading.Event

    def release(self) -> None:
        """Let it pass."""


def _before_the_rename(house: House, object_id: int) -> Hold:
    return house.dps.hold("rename-before", name_contains=f"Object_{object_id}-")


def _after_the_rename(house: House, object_id: int) -> Hold:
    return house.dps.hold("rename-after", name_contains=f"Object_{object_id}-")


def _somewhere_in_the_download(house: House, object_id: int) -> Hold:
    (multimedia_id,) = house.museum.object(object_id).multimedia_ids
    part = f"Multimedia/{multimedia_id}"
    path = f"/module/{random.choice([f'Object/{object_id}', part, f'{part}/attachment'])}"
    at: Point = random.choice(("request", "answer", "body"))
    return house.museum.hold(lambda seen: seen == Seen("GET", path), at=at)


POINTS = {
    "before the rename": _before_the_rename,
    "after the rename": _after_the_rename,
    "in the download": _somewhere_in_the_download,
}


def _cases() -> Iterator[ParameterSet]:
    kinds: Iterable[tuple[int, str, str]] = itertools.product(range(ROUNDS), FAULTS, POINTS)
    if not ROUNDS:
        kinds = ((0, fault, point) for fault, point in zip(FAULTS, itertools.cycle(POINTS), strict=False))
    for round_, fault, point in kinds:
        missing = FAULTS[fault].needs_faketime and off_clock.library() is None
        yield pytest.param(
            *(fault, point), id=f"{fault}, {point}, {round_}", marks=[pytest.mark.skip(NO_FAKETIME)] if missing else []
        )


CASES = list(_cases())
OBJECTS: list[int] = []
"""One for each case."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system, with an object for each case."""
    # A killed run's lock expires soon, so that the matrix takes minutes less.
    quick = {"PASSARI_WORKFLOW__LOCK_EXPIRY": "6"}
    with running_system(tmp_path_factory.mktemp("matrix"), 1, quick, prepare=_add_objects) as system:
        yield system


def _add_objects(house: House) -> None:
    OBJECTS[:] = [old_object(house, ("kirje.txt", LETTER)) for _ in CASES]


@pytest.mark.parametrize(("fault", "point"), CASES)
def test_whatever_breaks_the_object_is_preserved_once(running: Running, fault: str, point: str) -> None:
    object_id, what = OBJECTS.pop(), FAULTS[fault]
    hold = POINTS[point](running.house, object_id)
    running.enqueue(object_id)
    running.wait(hold.reached.is_set, "the run to stand there")
    (run,) = running.runs_of(object_id)
    scene = Scene(running, _process_of(running, run["runId"]))
    time.sleep(random.uniform(0, 3))

    with scene.afterwards:
        what.strike(scene)
        struck = datetime.now(timezone.utc)
        hold.release()
        runs = wait_for_its_end(running, object_id, seconds=240)
        preserved = (datetime.now(timezone.utc) - struck).total_seconds()
        first = running.details(run["runId"])
        ended = max(0.0, first["endTime"] - struck.timestamp())
        assert ended < what.within, f"the first run ended {first['status']} after {ended:.0f} s"
        assert first["status"] == "FAILURE" or (what.survives and first["status"] == "SUCCESS")
        assert {run["status"] for run in runs} <= {"SUCCESS", "FAILURE", "CANCELED"}
        assert_preserved_once_and_nothing_left(running, object_id)
        _assert_nothing_in_redis(running, object_id)
    if TABLE:
        required = {name: fault.within for name, fault in FAULTS.items()}
        fault_times.record(Path(TABLE), Times(fault, point, ended, preserved), required)


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
