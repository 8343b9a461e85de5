"""Two worker hosts and a database host, on which cables are pulled and the power goes. See `hosts.py`.

The database host has PostgreSQL, Redis, code server and webserver; hosts a and b run `passari-dagster worker` and
`passari-dagster daemon`, as by the guide; museum and DPS are outside. All see one share. What a pulled cable does to
connections, no kill shows: nobody is told that they have ended, neither server nor client.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import inspect

from passari_dagster.errors import TransientFailure
from passari_dagster.run_queue.ledger import Ledger, connect
from passari_dagster.services.leader import leader_of
from passari_dagster.services.supervisor import Child, Service, Supervisor, start
from passari_dagster.services.system import DEFINITIONS, dagster_environment, free_port, is_open, project_root
from passari_dagster.services.webserver import Webserver
from passari_dagster.settings import CONFIG_VARIABLE
from passari_dagster_tests.hosts import Host, network, on, postgres_on, redis_on
from passari_dagster_tests.house import House, package_rows
from passari_dagster_tests.running import WORKFLOW, Running
from passari_dagster_tests.test_faults import LETTER, assert_preserved_once_and_nothing_left, wait_for_its_end
from passari_dagster_tests.workflow.stories import old_object

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("hosts")]

PASSARI = str(Path(sys.executable).parent / "passari-dagster")
CUT_HOST = 120
"""Seconds from the cut until the run there has ended, and its object is preserved by another host."""
TAKE_OVER = 30
"""Seconds until the stand-by leads."""
WORKERS = 3
"""On each host."""
log = logging.getLogger(__name__)
# A client of the museum's database that holds a row, as a run does for a moment in each step.
HOLD_A_ROW = """
import sys, time
from pydantic import SecretStr
from sqlalchemy import text
from passari_dagster.catalogue import database
engine = database.connect(SecretStr(sys.argv[1]))
with database.transaction(engine) as session:
    session.execute(text("SELECT * FROM museum_packages WHERE museum_object_id = :id FOR UPDATE"), {"id": sys.argv[2]})
    print("holds it", flush=True)
    time.sleep(3600)
"""


class Town:
    """The hosts and what runs on them; for `Running` it is a system.

    Arguments:
        directory: empty; everything is below.
        supervisor: of all processes.
        hosts: database host, worker hosts a and b.
    """

    def __init__(self, directory: Path, supervisor: Supervisor, hosts: Sequence[Host]) -> None:
        self.data, self.supervisor = directory, supervisor
        self.database, self.a, self.b = hosts
        self.environment: dict[str, str] = dict(os.environ)
        self.root = project_root(self.environment)
        self._webserver: Webserver | None = None
        self.daemons: list[tuple[float, str, int]] = []
        """Each sight of Dagster's daemon: when, on which host, its process id."""
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look_for_daemons, name="watch")

    @property
    def webserver(self) -> Webserver:
        assert self._webserver is not None
        return self._webserver

    def sleep(self, seconds: float) -> None:
        self.supervisor.sleep(seconds)

    def start(self, config: Path) -> None:
        """The database host's servers."""
        host, environment = self.database, self.environment
        self.supervisor.start(postgres_on(host, self.data / "postgres", environment))
        self.supervisor.start(redis_on(host, self.data / "redis", environment))
        code_server, webserver = free_port(), free_port()
        environment |= {
            CONFIG_VARIABLE: str(config),
            "PASSARI_CODE_SERVER_HOST": host.address,
            "PASSARI_CODE_SERVER_PORT": str(code_server),
        }
        environment.update(dagster_environment(environment, self.data / "share", keep_code_server=True))
        self._migrate()
        grpc = [
            *(sys.executable, "-m", "dagster", "api", "grpc", "-m", DEFINITIONS, "--location-name", "passari_dagster"),
            *("--host", host.address, "--port", str(code_server), "--use-python-environment-entry-point"),
        ]
        self._start(host, "code-server", grpc, ready=lambda: is_open(code_server, host.address), deadline=180)
        self._webserver = Webserver(f"http://{host.address}:{webserver}")
        http = [
            *(sys.executable, "-m", "dagster_webserver", "-w", str(self.root / "workspace.yaml")),
            *("-h", host.address, "-p", str(webserver)),
        ]
        self._start(host, "webserver", http, ready=self.webserver.code_is_loaded, deadline=180)
        self._watch.start()

    def _migrate(self) -> None:
        """As the guide says, once."""
        argv = self.database.command(PASSARI, "migrate", "--data", str(self.data / "share"))
        migrate = Service(name="migrate", argv=argv, env=self.environment, cwd=self.root)
        child = start(migrate, self.supervisor.logs)
        assert child.process.wait(120) == 0, child.log.read_text()

    def stop(self) -> None:
        """No more is looked at; the processes are the supervisor's."""
        self._over.set()
        if self._webserver is not None:
            self._watch.join()
            self._webserver.close()

    def _start(self, host: Host, name: str, argv: Sequence[str], **options: Any) -> Child:
        service = Service(name=name, argv=argv, env=self.environment, cwd=self.root, **options)
        return self.supervisor.start(on(host, service))

    def start_workers(self, host: Host) -> None:
        """The host's pool of workers, unless it is there."""
        if any(child.name == f"workers-{host.name}" for child in self.supervisor.children):
            return
        self._start(host, "workers", [PASSARI, "worker", "-n", str(WORKERS), *self._data(host)], grace=5)

    def start_daemon(self, host: Host) -> None:
        """It leads, or stands by."""
        self._start(host, "daemon", [PASSARI, "daemon", *self._data(host)], grace=20)

    def _data(self, host: Host) -> list[str]:
        return ["--data", str(self.data / host.name)]

    def leader(self) -> str | None:
        """Name of the host that leads."""
        try:
            name = leader_of(SecretStr(self.environment["REDIS_URL"]))
        except TransientFailure:
            return None
        return name and name.partition(":")[0]

    def forget(self, host: Host) -> None:
        """What ran on a host that is dead is missed by nobody."""
        dead = [child for child in self.supervisor.children if child.name.endswith(f"-{host.name}")]
        self.supervisor.children[:] = [child for child in self.supervisor.children if child not in dead]
        for child in dead:
            child.stop()

    def _look_for_daemons(self) -> None:
        """Several times a second: who is Dagster's daemon, and where."""
        while not self._over.wait(0.25):
            for child in list(self.supervisor.children):
                if child.name.startswith("daemon-"):
                    host = child.name.removeprefix("daemon-")
                    self.daemons += [(time.monotonic(), host, pid) for pid in _daemons_below(child.process.pid)]

    def lives_of_daemons(self) -> list[tuple[str, float, float]]:
        """Each daemon there was: its host, and when it was seen first and last."""
        sights = sorted(self.daemons, key=lambda sight: sight[1:])
        lives = []
        for (host, _), seen in itertools.groupby(sights, key=lambda sight: sight[1:]):
            times = [when for when, _, _ in seen]
            lives.append((host, min(times), max(times)))
        return sorted(lives, key=lambda life: life[1])


def _daemons_below(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                program = process.cmdline()[1:2]
                if program and Path(program[0]).name == "dagster-daemon" and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
    return found


def assert_one_daemon_at_a_time(town: Town) -> None:
    lives = town.lives_of_daemons()
    for (_, _, end), (host, begin, _) in itertools.pairwise(lives):
        assert end < begin, f"the daemon of {host} began while another one lived: {lives}"


OBJECTS: list[int] = []
SENT: list[int] = []
"""Objects that a test has left to the next one."""


def _add_objects(house: House) -> None:
    OBJECTS[:] = [old_object(house, ("kirje.txt", LETTER)) for _ in range(16)]


def enqueueing(*object_ids: int) -> dict[str, Any]:
    """The config of the job enqueue_objects."""
    return {"ops": {"enqueue": {"config": {"object_ids": list(object_ids)}}}}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, Running]]:
    """Host a leads and works, b stands by; the museum is synchronised."""
    directory = tmp_path_factory.mktemp("hosts")
    with network("database", "a", "b") as hosts, contextlib.ExitStack() as stack:
        house = House(directory, "postgresql://not-known-yet/", SecretStr("redis://not-known-yet"), objects=1)
        stack.callback(house.close)
        _add_objects(house)
        config = house.write_config(directory / "passari.toml", workflow=WORKFLOW)
        supervisor = stack.enter_context(Supervisor(directory / "logs"))
        town = Town(directory, supervisor, hosts)
        stack.callback(town.stop)
        town.start(config)
        running = Running(house, town)
        town.start_daemon(town.a)
        running.wait(lambda: town.leader() == "a", "host a to lead")
        town.start_daemon(town.b)
        town.start_workers(town.a)
        for job in ("sync_objects", "sync_attachments", "sync_hashes"):
            running.run(job)
        yield town, running


def test_a_host_that_leads_and_works_is_cut_off_and_comes_back(town: tuple[Town, Running]) -> None:
    """Both runs there stand at the rename that makes the DPS take a package, and one more row is held."""
    hosts, running = town
    before, after, launched_meanwhile = (OBJECTS.pop() for _ in range(3))
    holds = [
        running.house.dps.hold("rename-before", name_contains=f"Object_{before}-"),
        running.house.dps.hold("rename-after", name_contains=f"Object_{after}-"),
    ]
    running.enqueue(before, after)
    running.wait(lambda: all(hold.reached.is_set() for hold in holds), "both runs to stand in submit_sip")
    leases = {run["runId"]: _lease(running, run["runId"]) for id_ in (before, after) for run in running.runs_of(id_)}
    assert {lease.host for lease in leases.values()} == {"a"}
    hosts.start_workers(hosts.b)
    _hold_a_row(hosts, hosts.a, before)

    hosts.a.cut_off()
    cut, cut_at = time.monotonic(), datetime.now(timezone.utc)
    for hold in holds:
        hold.release()  # what the DPS was asked for before the cut, it does now
    meanwhile = running.webserver.launch("enqueue_objects", enqueueing(launched_meanwhile))
    running.wait(lambda: hosts.leader() == "b", "host b to lead", 2 * TAKE_OVER)
    led = time.monotonic() - cut
    for object_id in (before, after):
        running.wait_until("preserved", object_id)
        log.info("cut: object %d preserved after %.0f s", object_id, time.monotonic() - cut)
    preserved = time.monotonic() - cut
    ended = {id_: running.details(id_)["endTime"] - cut_at.timestamp() for id_ in leases}
    log.info("cut: b leads after %.0f s, the runs have failed after %s s", led, [round(x) for x in ended.values()])
    assert running.webserver.run_status(meanwhile) == "SUCCESS"
    running.wait_until("preserved", launched_meanwhile)
    log.info("cut: what was launched meanwhile is preserved after %.0f s", time.monotonic() - cut)

    rows = [_columns(running, object_id) for object_id in (before, after)]
    hosts.a.connect()
    back = time.monotonic()
    for lease in leases.values():
        running.wait(lambda pid=lease.pid: not psutil.pid_exists(pid), "the stalled process to end", CUT_HOST)  # type: ignore[misc]
    log.info("cut: %.0f s after the host came back, its stalled processes are gone", time.monotonic() - back)
    _wait_until_redis_is_clean(running)
    assert led < TAKE_OVER
    assert preserved < CUT_HOST
    assert max(ended.values()) < CUT_HOST
    assert [_columns(running, object_id) for object_id in (before, after)] == rows
    assert {running.details(run_id)["status"] for run_id in leases} == {"FAILURE"}
    for object_id in (before, after, launched_meanwhile):
        statuses = [run["status"] for run in wait_for_its_end(running, object_id)]
        went_on = [status for number, status in enumerate(statuses) if "FAILURE" not in statuses[number:]]
        # The run that went on may have heard the verdict, and done all; or the sensor launched a confirmation while
        # that did it already: cancelled at the door.
        assert set(went_on) in ({"SUCCESS"}, {"SUCCESS", "CANCELED"}), statuses
        assert_preserved_once_and_nothing_left(running, object_id)
    assert_one_daemon_at_a_time(hosts)
    running.wait(lambda: _working_hosts(running) == {"a": WORKERS, "b": WORKERS}, "a's workers to be there again", 90)


def _lease(running: Running, run_id: str) -> Any:
    with contextlib.closing(Ledger(connect(running.system.environment["REDIS_URL"]))) as ledger:
        lease = ledger.lease_of(run_id)
    assert lease is not None
    return lease


def _hold_a_row(town: Town, host: Host, object_id: int) -> None:
    """A client on this host is in the middle of a transaction on the object's package."""
    argv = [sys.executable, "-c", HOLD_A_ROW, town.environment["PASSARI_DB_URL"], str(object_id)]
    client = Service(name="client", argv=argv, env=town.environment, cwd=town.root)
    output = town.supervisor.logs / f"client-{host.name}.log"
    town.supervisor.start(on(host, replace(client, ready=lambda: "holds it" in output.read_text())))


def _columns(running: Running, object_id: int) -> dict[str, Any]:
    with running.environment() as env:
        (package,) = package_rows(env, object_id)
    return {column.key: getattr(package, column.key) for column in inspect(type(package)).column_attrs}


def _wait_until_redis_is_clean(running: Running) -> None:
    with contextlib.closing(Ledger(connect(running.system.environment["REDIS_URL"]))) as ledger:
        running.wait(lambda: not ledger.queued(), "the queue to be empty", 60)
        running.wait(lambda: not list(ledger.leases()), "the leases to go", 60)
        running.wait(lambda: not ledger.claims(), "the claims to go", 90)


def _working_hosts(running: Running) -> dict[str, int]:
    """How many workers each host has, as RQ has it."""
    from rq import Worker
    from rq.serializers import JSONSerializer

    with contextlib.closing(redis.Redis.from_url(running.system.environment["REDIS_URL"])) as client:
        names = sorted(worker.hostname or "" for worker in Worker.all(connection=client, serializer=JSONSerializer))
    return {name: len(list(group)) for name, group in itertools.groupby(names)}


def test_four_download_and_two_package_over_the_workers_of_two_hosts(town: tuple[Town, Running]) -> None:
    hosts, running = town
    hosts.start_workers(hosts.b)
    objects = [OBJECTS.pop() for _ in range(2 * WORKERS + 2)]
    paths = {
        f"/module/Multimedia/{running.house.museum.object(object_id).multimedia_ids[0]}/attachment"
        for object_id in objects
    }
    holds = [running.house.museum.hold(lambda seen, path=path: seen.path == path, at="body") for path in paths]  # type: ignore[misc]
    running.enqueue(*objects)
    running.wait(lambda: len(_busy_hosts(running)) == 2 * WORKERS, "all workers of both hosts to have a run")
    running.system.sleep(5)
    busy, downloading = _busy_hosts(running), sum(hold.reached.is_set() for hold in holds)
    for hold in holds:
        hold.release()
    assert Counter(busy) == {"a": WORKERS, "b": WORKERS}
    assert downloading == 4, "the others wait for a place"
    first_runs = [running.runs_of(object_id)[0]["runId"] for object_id in objects]
    running.wait(
        lambda: all(running.webserver.run_status(run_id) == "SUCCESS" for run_id in first_runs),
        "all packages to be sent",
    )
    spans = [_spans(running, run_id) for run_id in first_runs]
    assert _at_once([span["download_object"] for span in spans]) == 4
    assert _at_once([span["create_sip"] for span in spans]) == 2
    SENT[:] = objects


def _busy_hosts(running: Running) -> list[str]:
    with contextlib.closing(Ledger(connect(running.system.environment["REDIS_URL"]))) as ledger:
        return [lease.host for lease in ledger.leases()]


def _spans(running: Running, run_id: str) -> dict[str, tuple[float, float]]:
    """When each step of a run began and ended."""
    data = running.webserver.ask(
        "query($id:ID!){runOrError(runId:$id){...on Run{stepStats{stepKey startTime endTime}}}}", id=run_id
    )
    return {step["stepKey"]: (step["startTime"], step["endTime"]) for step in data["runOrError"]["stepStats"]}


def _at_once(spans: Sequence[tuple[float, float]]) -> int:
    """How many of them there were at the same time, at most."""
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


def test_the_host_of_the_leading_daemon_dies_and_the_stand_by_takes_over(town: tuple[Town, Running]) -> None:
    """Packages that were sent before are confirmed all the same, each once."""
    hosts, running = town
    object_id = OBJECTS.pop()
    hosts.start_workers(hosts.b)
    leads, stands_by = (hosts.a, hosts.b) if hosts.leader() == "a" else (hosts.b, hosts.a)
    struck, struck_at = time.monotonic(), datetime.now(timezone.utc)
    leads.die()
    hosts.forget(leads)
    running.webserver.launch("enqueue_objects", enqueueing(object_id))  # a backfill, whose runs only a daemon makes
    running.wait(lambda: hosts.leader() == stands_by.name, "the stand-by to lead", 2 * TAKE_OVER)
    led = time.monotonic() - struck
    running.wait(lambda: _heartbeat(running) > struck_at.timestamp() + led, "a heartbeat of its daemon", 2 * TAKE_OVER)
    beat = time.monotonic() - struck
    running.wait(lambda: running.runs_of(object_id), "the daemon to make the run", 120)
    log.info("death: the stand-by leads after %.0f s, its daemon lives after %.0f s", led, beat)
    log.info("death: it has made a run after %.0f s", time.monotonic() - struck)
    running.wait_until("preserved", object_id, *SENT)
    log.info("death: all is preserved after %.0f s", time.monotonic() - struck)
    assert led < TAKE_OVER
    assert beat < TAKE_OVER
    assert_one_daemon_at_a_time(hosts)
    for each in (object_id, *SENT):
        wait_for_its_end(running, each)
        assert_preserved_once_and_nothing_left(running, each)
    _wait_until_redis_is_clean(running)


def _heartbeat(running: Running) -> float:
    """The newest of Dagster's daemons, in seconds since the epoch."""
    data = running.webserver.ask("{instance{daemonHealth{allDaemonStatuses{lastHeartbeatTime}}}}")
    statuses = data["instance"]["daemonHealth"]["allDaemonStatuses"]
    return max(status["lastHeartbeatTime"] or 0.0 for status in statuses)
