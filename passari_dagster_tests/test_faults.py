"""Kill -9 at any point: without a person the object ends preserved once, uploaded once, and nothing is left over.

Real processes are killed: the forks of workers, one for each run. All objects are enqueued together, and
a thread for each waits in ambush for its run.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from passari_dagster import locks
from passari_dagster.catalogue.models import MuseumPackage
from passari_dagster.simulation.museum_faults import Seen
from passari_dagster.simulation.museumplus import LOG_FIELD
from passari_dagster.sip.workspace import Workspace, archive_path
from passari_dagster_tests.house import House, package_rows
from passari_dagster_tests.running import ENDED, WORKFLOW, Running, running_system
from passari_dagster_tests.workflow.stories import old_object

# All of them share a campaign, and so a process; the cases of the matrix are dealt out one by one.
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("campaign")]

DEADLINE = 240
"""Seconds from the kill until the object is preserved, on a machine that does other things as well."""
SEEN = 30
"""Seconds from the kill until the run counts as failed."""
LETTER = b"Hyv\xc3\xa4 yst\xc3\xa4v\xc3\xa4, kirves on l\xc3\xb6ytynyt.\n" * 8_000  # some 300 kB
MIDDLE = 100_000
"""Where in the letter's package its sending is stopped."""
LONG_BOOK = 500_000_000
"""Bytes, so that its SIP is in the making for a while."""
CONFIRMATION = ["confirm_sip"]
log = logging.getLogger(__name__)


@dataclass
class Ambush:
    """A place where a run is stopped.

    Arguments:
        sprung: whether the run stands there.
        release: lets others pass, once the run is dead.
    """

    sprung: Callable[[], bool]
    release: Callable[[], None] = lambda: None


@dataclass
class Scene:
    """What there was when a run was killed."""

    object_id: int
    run_id: str
    at: datetime
    package: MuseumPackage
    parts: list[str]
    """Unfinished tars in the package directory."""
    in_transfer: dict[str, int]
    """What lay at the DPS in `transfer/` of the object: names and sizes."""
    received: int
    """How many of the object's packages the DPS had taken."""
    told: int
    """How many verdicts MuseumPlus knew of the object."""

    @property
    def intended(self) -> bool:
        """Whether the intent to send was recorded."""
        return self.package.submission_date is not None


@dataclass(frozen=True)
class Point:
    """Where a run is killed.

    Arguments:
        lay: sets the ambush for an object's run.
        proof: whether the scene is that of this point.
        confirming: it is the object's second run that is killed.
    """

    lay: Callable[[Running, int], Ambush]
    proof: Callable[[Scene], bool]
    confirming: bool = False
    text: Callable[[Path], bytes | Path] = field(default=lambda _: LETTER)


def _long_book(directory: Path) -> Path:
    path = directory / "book.txt"
    with path.open("wb") as stream:
        for _ in range(LONG_BOOK // len(LETTER)):
            stream.write(LETTER)
    return path


def _request(method: str, path: Callable[[Running, int], str], at: Any) -> Callable[[Running, int], Ambush]:
    def lay(running: Running, object_id: int) -> Ambush:
        wanted = Seen(method, path(running, object_id))
        hold = running.house.museum.hold(lambda seen: seen == wanted, at=at)
        return Ambush(hold.reached.is_set, hold.release)

    return lay


def _attachment(running: Running, object_id: int) -> str:
    return f"/module/Multimedia/{running.house.museum.object(object_id).multimedia_ids[0]}/attachment"


def _log_field(_: Running, object_id: int) -> str:
    return f"/module/Object/{object_id}/{LOG_FIELD}"


def _upload(point: Any, after_bytes: int = 0) -> Callable[[Running, int], Ambush]:
    def lay(running: Running, object_id: int) -> Ambush:
        hold = running.house.dps.hold(point, name_contains=f"Object_{object_id}-", after_bytes=after_bytes)
        return Ambush(hold.reached.is_set, hold.release)

    return lay


def _unfinished_tar(running: Running, object_id: int) -> Ambush:
    return Ambush(lambda: bool(_parts(running.house, object_id)))


def _parts(house: House, object_id: int) -> list[str]:
    return [path.name for path in _workspace(house, object_id).root.glob("*.part")]


def _workspace(house: House, object_id: int) -> Workspace:
    return Workspace(house.settings().package_dir, object_id)


def _incomplete(scene: Scene) -> int | None:
    """Size of what lies at the DPS under a provisional name; None: it is not so that just this lies there."""
    sizes = list(scene.in_transfer.values())
    return sizes[0] if len(sizes) == 1 and next(iter(scene.in_transfer)).endswith(".incomplete") else None


POINTS = {
    "download_object, in the middle of a file": Point(
        _request("GET", _attachment, "body"), lambda scene: not scene.package.downloaded
    ),
    "create_sip, in the middle of the tar": Point(
        _unfinished_tar, lambda scene: bool(scene.parts) and not scene.package.packaged, text=_long_book
    ),
    "submit_sip, before the first byte": Point(
        _upload("open"),
        lambda scene: bool(scene.package.packaged) and not scene.intended and not scene.in_transfer,
    ),
    "submit_sip, in the middle of the bytes": Point(
        _upload("write", MIDDLE), lambda scene: not scene.intended and _incomplete(scene) == MIDDLE
    ),
    "submit_sip, before the rename": Point(
        _upload("rename-before"), lambda scene: scene.intended and _incomplete(scene) == scene.package.sip_size
    ),
    "submit_sip, after the rename and before the commit": Point(
        _upload("rename-after"),
        lambda scene: scene.intended and not scene.package.uploaded and _incomplete(scene) is None,
    ),
    "confirm_sip, before MuseumPlus is told": Point(
        _request("PUT", _log_field, "request"),
        lambda scene: scene.package.verdict is not None and scene.package.confirmed_date is None and scene.told == 0,
        confirming=True,
    ),
    "confirm_sip, after MuseumPlus is told": Point(
        _request("PUT", _log_field, "answer"),
        lambda scene: scene.package.verdict is not None and scene.package.confirmed_date is None and scene.told == 1,
        confirming=True,
    ),
}
REFUSED, CANCELLED, FORGOTTEN = "refused by MuseumPlus", "cancelled", "forgotten by the run retries"
REFUSALS = 2
"""Confirmations of the one object that fail."""
BACK_OFF = timedelta(seconds=10)
"""After the first; the same as in `WORKFLOW`."""


class Campaign:
    """Objects that are enqueued together, and their runs, each of which is killed at its point.

    Arguments:
        running: the system.
        objects: by point, and by what else they are for.
    """

    def __init__(self, running: Running, objects: dict[str, int]) -> None:
        self.running, self.house, self.objects = running, running.house, objects
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=len(POINTS))
        self._kills: dict[str, Future[Scene]] = {}

    def __enter__(self) -> Campaign:
        for name, point in POINTS.items():
            ambush = point.lay(self.running, self.objects[name])
            self._kills[name] = self._pool.submit(self._kill, point, self.objects[name], ambush)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def killed(self, name: str) -> Scene:
        """The scene of the kill at a point, when it is done."""
        kill = self._kills[name]
        self.running.wait(kill.done, f"a run to be killed: {name}", seconds=600)
        return kill.result()

    def _kill(self, point: Point, object_id: int, ambush: Ambush) -> Scene:
        run: dict[str, Any] | None = None
        process: psutil.Process | None = None
        while not ambush.sprung() or process is None:
            if self._over.is_set():
                raise TimeoutError(f"no run of object {object_id} came by")
            run = run or self.live_run(object_id, confirming=point.confirming)
            process = process or (process_of(self.running, run["runId"]) if run else None)
            time.sleep(0.01 if process else 0.3)
        assert run is not None
        process.suspend()  # or it might go on while we look around
        try:
            return self._look_around(object_id, run["runId"])
        finally:
            process.kill()
            psutil.wait_procs([process], timeout=10)
            ambush.release()

    def _look_around(self, object_id: int, run_id: str) -> Scene:
        transfer = self.house.dps.home / "transfer"
        lying = {path.name: path.stat().st_size for path in transfer.glob(f"*_Object_{object_id}-*")}
        return Scene(
            object_id=object_id,
            run_id=run_id,
            at=datetime.now(timezone.utc),
            package=self.package(object_id),
            parts=_parts(self.house, object_id),
            in_transfer=lying,
            received=len(self.running.received(object_id)),
            told=len(self.house.museum.log_field(object_id)),
        )

    def live_run(self, object_id: int, *, confirming: bool) -> dict[str, Any] | None:
        """The object's run that executes now."""
        for run in self.running.runs_of(object_id):
            if run["status"] == "STARTED" and (run["stepKeysToExecute"] == CONFIRMATION) == confirming:
                return run
        return None

    def package(self, object_id: int) -> MuseumPackage:
        """The object's only package."""
        with self.running.environment() as env:
            (package,) = package_rows(env, object_id)
        return package


def process_of(running: Running, run_id: str) -> psutil.Process | None:
    """The process that executes a run; None if there is none yet."""
    data = running.webserver.ask(
        "query($id:ID!){logsForRun(runId:$id){...on EventConnection{events{...on EngineEvent{message}}}}}", id=run_id
    )
    for event in data["logsForRun"]["events"]:
        told, _, rest = event.get("message", "").partition("Started process for run (pid: ")
        if not told and rest:
            process = psutil.Process(int(rest.split(")")[0]))
            assert " ".join(process.cmdline()).startswith("passari run: "), "the fork of a worker"
            return process
    return None


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """All objects are enqueued together, and the DPS picks up at once."""
    objects: dict[str, int] = {}

    def prepare(house: House) -> None:
        books = tmp_path_factory.mktemp("books")
        for name, point in POINTS.items():
            objects[name] = old_object(house, ("kirje.txt", point.text(books)))
        for name in (REFUSED, CANCELLED, FORGOTTEN):
            objects[name] = old_object(house, ("kirje.txt", LETTER))

    with (
        running_system(tmp_path_factory.mktemp("faults"), 1, prepare=prepare) as running,
        Campaign(running, objects) as campaign,
    ):
        requests = (1 + running.house.settings().museumplus.retries) * (1 + int(WORKFLOW["step_retries"]))
        running.house.museum.faults.fail_next(
            REFUSALS * requests, path_contains=_log_field(running, objects[REFUSED]), method="PUT"
        )
        running.enqueue(*(object_id for name, object_id in objects.items() if name not in (CANCELLED, FORGOTTEN)))
        yield campaign


def wait_for_its_end(running: Running, object_id: int, seconds: float = DEADLINE) -> list[dict[str, Any]]:
    """The object's runs, when it is preserved and none of them executes any more."""
    running.wait_until("preserved", object_id, seconds=seconds)

    def ended() -> list[dict[str, Any]] | None:
        runs = running.runs_of(object_id)
        return runs if all(run["status"] in ENDED for run in runs) else None

    return running.wait(ended, f"the runs of object {object_id} to end")


def _succeeded(running: Running, run: dict[str, Any], step: str) -> bool:
    stats = running.details(run["runId"])["stepStats"]
    return any((stat["stepKey"], stat["status"]) == (step, "SUCCESS") for stat in stats)


def _retry_of(running: Running, scene: Scene) -> dict[str, Any] | None:
    """The run that was started in the killed one's place, when it has ended."""
    for run in running.runs_of(scene.object_id):
        in_its_place = run["parentRunId"] == scene.run_id and run["stepKeysToExecute"] != CONFIRMATION
        if in_its_place and run["status"] in ENDED:
            return run
    return None


def assert_preserved_once_and_nothing_left(running: Running, object_id: int) -> None:
    house = running.house
    assert len(running.received(object_id)) == 1, "the DPS got it once"
    with running.environment() as env:
        (package,) = package_rows(env, object_id)
    assert package.preserved
    (entry,) = house.museum.log_field(object_id)
    assert (entry["filename"], entry["status"]) == (package.sip_filename, "accepted")

    transfer = house.dps.home / "transfer"
    assert [path.name for path in transfer.iterdir() if f"Object_{object_id}-" in path.name] == []
    settings = house.settings()
    assert [path.name for path in settings.package_dir.iterdir() if str(object_id) in path.name] == []
    logs = archive_path(settings.archive_dir, object_id, str(package.sip_filename)) / "logs"
    steps = ("download-object", "create-sip", "submit-sip", "confirm-sip")
    assert {path.name for path in logs.iterdir()} == {
        *(f"{step}.log.gz" for step in steps),
        *(f"{package.transfer_id}-ingest-report.{kind}.gz" for kind in ("xml", "html")),
    }
    client = redis.Redis.from_url(running.system.environment["REDIS_URL"])
    try:
        # A run that has ended holds nothing, and what a killed one held expires.
        running.wait(
            lambda: not client.keys(f"lock:*{locks.object_lock(object_id)}"),
            f"the lock of object {object_id} to be free",
            seconds=2 * int(WORKFLOW["lock_expiry"]),
        )
    finally:
        client.close()


@pytest.mark.parametrize("name", POINTS)
def test_a_killed_run_is_started_again_and_its_object_ends_preserved_once(
    campaign: Campaign, name: str, record_property: Callable[[str, object], None]
) -> None:
    running, point, scene = campaign.running, POINTS[name], campaign.killed(name)
    assert point.proof(scene), scene
    left = DEADLINE - (datetime.now(timezone.utc) - scene.at).total_seconds()
    # What is over already is measured by its own clock.
    runs = wait_for_its_end(running, scene.object_id, seconds=max(left, 1))
    confirmed = campaign.package(scene.object_id).confirmed_date
    assert confirmed is not None
    took = (confirmed - scene.at).total_seconds()
    dead = running.details(scene.run_id)
    seen = dead["endTime"] - scene.at.timestamp()
    record_property("seconds from kill to preserved", took)
    log.info("killed in %s: seen after %.1f s, preserved after %.0f s", name, seen, took)
    assert took < DEADLINE
    assert dead["status"] == "FAILURE"
    assert seen < SEEN
    if point.confirming:
        # It may be launched again by the sensor as well, which the database makes harmless.
        again = [run for run in runs if run["parentRunId"] == scene.run_id]
        assert "SUCCESS" in {run["status"] for run in again}
    else:
        # The DPS may be quicker than the retry, which has nothing left to do then.
        retry = running.wait(lambda: _retry_of(running, scene), "the killed run to be started again")
        assert retry["status"] == "SUCCESS"
        assert "dagster/retry_number" in {tag["key"] for tag in running.details(retry["runId"])["tags"]}
        runs = running.runs_of(scene.object_id)
        confirmations = [run["stepKeysToExecute"] for run in runs].count(CONFIRMATION)
        # Or quicker than the end of the retry's `submit_sip`, which then goes on to confirm by itself.
        assert confirmations == 1 or _succeeded(running, retry, "confirm_sip")
        assert len(runs) == 2 + confirmations, "killed, started again once, and confirmed by one of both"
    assert_preserved_once_and_nothing_left(running, scene.object_id)


def test_a_confirmation_that_museumplus_refuses_comes_back_with_back_off_and_the_others_go_on(
    campaign: Campaign,
) -> None:
    running, object_id = campaign.running, campaign.objects[REFUSED]
    runs = wait_for_its_end(running, object_id)
    assert [run["status"] for run in runs] == ["SUCCESS", *["FAILURE"] * REFUSALS, "SUCCESS"]
    assert all(run["stepKeysToExecute"] == CONFIRMATION for run in runs[1:])
    for refused in runs[1:-1]:
        tags = {tag["key"] for tag in running.details(refused["runId"])["tags"]}
        assert "dagster/auto_retry_run_id" not in tags, "an op's error is not the affair of the run retries"
    package = campaign.package(object_id)
    assert package.confirm_attempts == REFUSALS + 1
    assert package.verdict_date is not None
    assert package.confirm_requested_date is not None
    back_off = sum((BACK_OFF * 2**attempt for attempt in range(REFUSALS)), timedelta())
    assert package.confirm_requested_date - package.verdict_date >= back_off

    between = [datetime.fromtimestamp(running.details(run["runId"])["startTime"], timezone.utc) for run in runs[1::2]]
    others = [campaign.package(campaign.objects[name]).confirmed_date for name in POINTS]
    assert any(between[0] < other < between[1] for other in others if other is not None)
    assert_preserved_once_and_nothing_left(running, object_id)


def test_a_confirmation_that_a_person_cancels_is_launched_again(campaign: Campaign) -> None:
    running, object_id = campaign.running, campaign.objects[CANCELLED]
    ambush = _request("PUT", _log_field, "request")(running, object_id)
    running.enqueue(object_id)
    running.wait(ambush.sprung, "the confirmation to stand still")
    run = campaign.live_run(object_id, confirming=True)
    assert run is not None
    data = running.webserver.ask(
        "mutation($id:String!){terminateRun(runId:$id){__typename ...on Error{message}}}", id=run["runId"]
    )
    assert data["terminateRun"] == {"__typename": "TerminateRunSuccess"}
    running.wait(lambda: running.webserver.run_status(run["runId"]) == "CANCELED", "the run to be cancelled", 30)
    assert running.house.museum.count(_log_field(running, object_id), "PUT") == 1, "it did not try again"
    ambush.release()
    runs = wait_for_its_end(running, object_id)
    assert runs[-1]["parentRunId"] == run["runId"]
    assert runs[-1]["stepKeysToExecute"] == CONFIRMATION
    assert campaign.package(object_id).confirm_attempts == 2
    assert_preserved_once_and_nothing_left(running, object_id)


def test_a_killed_run_is_started_again_even_if_its_backfill_ends_before(campaign: Campaign) -> None:
    """Dagster does not retry a run whose backfill has ended, and it may end in the seconds before the retry."""
    running, object_id = campaign.running, campaign.objects[FORGOTTEN]
    ambush = _upload("open")(running, object_id)
    running.enqueue(object_id)
    running.wait(ambush.sprung, "the run to stand still")
    run = campaign.live_run(object_id, confirming=False)
    assert run is not None
    process = process_of(running, run["runId"])
    assert process is not None
    tags = {tag["key"]: tag["value"] for tag in running.details(run["runId"])["tags"]}
    _end_backfill(running, tags["dagster/backfill"])
    process.kill()
    killed = time.monotonic()
    ambush.release()
    runs = wait_for_its_end(running, object_id, seconds=DEADLINE)
    log.info("forgotten by the run retries: preserved after %.0f s", time.monotonic() - killed)
    dead = running.details(run["runId"])
    assert dead["status"] == "FAILURE"
    assert "dagster/auto_retry_run_id" not in {tag["key"] for tag in dead["tags"]}
    assert len(runs) == 3, "killed, started again once, confirmed"
    again = {tag["key"]: tag["value"] for tag in running.details(runs[1]["runId"])["tags"]}
    assert again["dagster/sensor_name"] == "killed_runs"
    assert again["dagster/parent_run_id"] == run["runId"]
    assert again["dagster/retry_number"] == "1"
    assert_preserved_once_and_nothing_left(running, object_id)


def _end_backfill(running: Running, backfill_id: str) -> None:
    """As the daemon does, had it looked in the seconds between the kill and the retry."""
    program = (
        "import sys, dagster as dg\n"
        "from dagster._core.execution.backfill import BulkActionStatus\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    backfill = instance.get_backfill(sys.argv[1])\n"
        "    instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_FAILED))\n"
    )
    subprocess.run([sys.executable, "-c", program, backfill_id], env=running.system.environment, check=True, timeout=60)
