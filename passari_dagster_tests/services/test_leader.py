"""One leader runs the daemon, whatever happens to processes and to Redis; two daemons never run at once.

The daemon is a harmless process here, which writes down that it lives, twenty times a second.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
import redis
from dagster._daemon.daemon import SensorDaemon
from dagster._daemon.types import DaemonHeartbeat
from pydantic import SecretStr

from passari_dagster.errors import SettingsError, TransientFailure
from passari_dagster.services import check, leader
from passari_dagster.services.daemon import daemon_service
from passari_dagster.services.embedded import EmbeddedRedis
from passari_dagster.services.leader import lead, leader_of
from passari_dagster.services.leader_guard import clock
from passari_dagster.services.supervisor import Service, ServiceFailed
from passari_dagster.settings import Settings, load
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.services.test_supervisor import alive, eventually
from passari_dagster_tests.test_cli import command

EXPIRY = 3
DAEMON = """
import os, signal, sys, time
_, journal, kind = sys.argv
if kind == "stubborn":  # and with a child of its own, as stubborn
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.fork()
if kind == "slow":  # to end
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(1))
with open(journal, "ab", buffering=0) as stream:
    while True:
        stream.write(b"%d %f\\n" % (os.getpid(), time.clock_gettime(time.CLOCK_BOOTTIME)))
        time.sleep(0.05)
"""
HOST = """
import sys
from pathlib import Path
from pydantic import SecretStr
from passari_dagster.services.leader import lead
from passari_dagster.services.supervisor import Service, Stop, stop_on_signals
_, url, expiry, alone, logs, *argv = sys.argv
try:
    with stop_on_signals():
        lead(SecretStr(url), Service("daemon", argv, {}, grace=5), Path(logs), expiry=int(expiry),
             alone=alone == "alone", report=lambda text: print(text, flush=True))
except Stop:
    print("stopped", flush=True)
"""


@dataclass
class Host:
    """A process that leads or stands by, as on a host of its own."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def name(self) -> str:
        """As the lock has it."""
        return f"{os.uname().nodename}:{self.process.pid}"

    def says(self, words: str, times: int = 1) -> bool:
        """Wait for a report."""
        return eventually(lambda: self.output.read_text().count(words) >= times)


class Town:
    """Redis, hosts, and what all their daemons write down."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal = folder, folder / "journal"
        self.redis = EmbeddedRedis(folder / "redis")
        self.url = SecretStr("")
        self._hosts: list[Host] = []

    def host(self, *, expiry: int = EXPIRY, alone: bool = False, kind: str = "obedient") -> Host:
        """Another host."""
        folder = self.folder / f"host{len(self._hosts)}"
        folder.mkdir()
        daemon = [sys.executable, "-I", "-S", "-c", DAEMON, str(self.journal), kind]
        arguments = [self.url.get_secret_value(), str(expiry), "alone" if alone else "", str(folder), *daemon]
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", HOST, *arguments], stdout=output, stderr=output)
        self._hosts.append(Host(process, folder / "output"))
        return self._hosts[-1]

    def lives(self) -> list[tuple[int, float, float]]:
        """Each daemon that has lived: its process id, and its first and last sign of life."""
        found: dict[int, tuple[float, float]] = {}
        if self.journal.exists():
            for line in self.journal.read_text().splitlines():
                pid, when = line.split()
                first, _ = found.get(int(pid), (float(when), 0.0))
                found[int(pid)] = (first, float(when))
        return [(pid, first, last) for pid, (first, last) in sorted(found.items(), key=lambda item: item[1])]

    def daemon(self, number: int) -> int:
        """Process id of the first, second, … daemon, as soon as it lives."""
        assert eventually(lambda: len(self.lives()) >= number), self.reports()
        return self.lives()[number - 1][0]

    def never_two(self) -> bool:
        """Whether each daemon was dead before the next one lived."""
        lives = self.lives()
        return all(last < first for (_, _, last), (_, first, _) in itertools.pairwise(lives))

    def reports(self) -> str:
        """All that the hosts have said."""
        return "\n".join(f"{host.name}:\n{host.output.read_text()}" for host in self._hosts)

    def close(self) -> None:
        """Stop all hosts."""
        for host in self._hosts:
            for number in (signal.SIGCONT, signal.SIGTERM):
                host.process.send_signal(number)
        for host in self._hosts:
            host.process.wait(20)


def flush(url: SecretStr) -> None:
    """Redis forgets everything."""
    with contextlib.closing(redis.Redis.from_url(url.get_secret_value())) as client:
        client.flushall()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    with town.redis:
        town.url = SecretStr(town.redis.url())
        with contextlib.closing(town):
            yield town


def test_a_stand_by_takes_over_at_once_when_the_leader_is_stopped(town: Town) -> None:
    assert leader_of(town.url) is None
    first = town.host(alone=True)
    town.daemon(1)
    assert leader_of(town.url) == first.name
    second = town.host()
    assert second.says(f"stands by, {first.name} leads")
    time.sleep(EXPIRY)  # a leader that lives goes on
    assert len(town.lives()) == 1

    stopped = clock()
    first.process.send_signal(signal.SIGTERM)
    town.daemon(2)
    assert town.lives()[1][1] - stopped < EXPIRY * 5 / 6, "nobody had to wait for the lock's expiry"
    assert leader_of(town.url) == second.name
    assert town.never_two()
    assert first.process.wait(10) == 0
    assert first.says("stopped")


def test_kill_9_of_the_leader_moves_the_daemon_within_two_expiries(town: Town) -> None:
    first = town.host(alone=True)
    daemon = town.daemon(1)
    second = town.host()
    assert second.says("stands by")
    killed = clock()
    first.process.kill()
    assert eventually(lambda: not alive(daemon), 2), "it is not left alone"
    town.daemon(2)
    assert town.lives()[1][1] - killed < 2 * EXPIRY
    assert leader_of(town.url) == second.name
    assert town.never_two()


@pytest.mark.parametrize("kind", ["obedient", "stubborn"])
def test_a_leader_that_stands_still_loses_its_daemon_before_another_starts_one(town: Town, kind: str) -> None:
    """SIGSTOP, or a machine that swaps: it cannot stop its daemon. The daemon may not even want to end."""
    first = town.host(alone=True, kind=kind)
    daemon = town.daemon(1)
    family = [daemon, *(child.pid for child in psutil.Process(daemon).children())]
    assert len(family) == (2 if kind == "stubborn" else 1)
    second = town.host()
    assert second.says("stands by")
    stopped = clock()
    first.process.send_signal(signal.SIGSTOP)
    assert second.says("runs the daemon")
    assert not any(alive(pid) for pid in family)
    town.daemon(len(family) + 1)
    of_first = [life for life in town.lives() if life[0] in family]
    of_second = [life for life in town.lives() if life[0] not in family]
    last = max(last for _, _, last in of_first)
    assert last - stopped < EXPIRY
    assert last < min(first for _, first, _ in of_second)

    first.process.send_signal(signal.SIGCONT)
    assert first.says("does not lead any more")
    assert first.says(f"stands by, {second.name} leads")
    assert first.process.poll() is None
    assert leader_of(town.url) == second.name


def test_flushall_never_makes_two_daemons(town: Town) -> None:
    """Whoever is the quickest takes the lock, while the old leader's daemon lives yet."""
    hosts = [town.host(kind="slow") for _ in range(3)]
    town.daemon(1)
    for number in (2, 3):
        flush(town.url)
        town.daemon(number)
        assert eventually(lambda: leader_of(town.url) is not None)
    time.sleep(0.5)
    assert town.never_two()
    living = [pid for pid, _, _ in town.lives() if alive(pid)]
    assert living == [town.lives()[-1][0]]
    assert leader_of(town.url) in {host.name for host in hosts}


def test_a_short_absence_of_redis_does_not_stop_the_daemon(town: Town) -> None:
    host = town.host(alone=True, expiry=10)
    daemon = town.daemon(1)
    town.redis.__exit__(None, None, None)
    assert host.says("Redis cannot be reached")
    town.redis.__enter__()
    assert host.says("Redis is back, still leads")
    time.sleep(1)
    assert [pid for pid, _, _ in town.lives()] == [daemon]
    assert alive(daemon)
    assert leader_of(town.url) == host.name


def test_a_long_absence_of_redis_stops_the_daemon_before_the_lock_expires(town: Town) -> None:
    """Redis hangs: nobody is told that the connection is dead."""
    host = town.host(alone=True)
    daemon = town.daemon(1)
    assert town.redis.child is not None
    server = town.redis.child.process
    absent = clock()
    server.send_signal(signal.SIGSTOP)
    try:
        assert eventually(lambda: not alive(daemon))
        assert town.lives()[0][2] - absent < EXPIRY
        assert host.says("the lock was not renewed in time, Redis cannot be reached (TimeoutError)")
        assert host.says("stands by, Redis cannot be reached")
        with pytest.raises(TransientFailure, match="Redis cannot be asked who leads"):
            leader_of(SecretStr("redis://:salaisuus@127.0.0.1:1/0"))
    finally:
        server.send_signal(signal.SIGCONT)
    town.daemon(2)
    assert town.never_two()


def test_redis_that_is_away_at_the_beginning_is_waited_for(town: Town) -> None:
    town.redis.__exit__(None, None, None)
    host = town.host(alone=True)
    assert host.says("stands by, Redis cannot be reached (ConnectionError)")
    town.redis.__enter__()
    town.daemon(1)
    assert leader_of(town.url) == host.name


def test_a_first_leader_that_knows_nothing_waits_until_another_ones_daemon_would_be_dead(town: Town) -> None:
    host = town.host()
    assert host.says("waits until a former leader's child is dead for sure")
    leads = clock()
    assert leader_of(town.url) == host.name
    town.daemon(1)
    assert town.lives()[0][1] - leads > EXPIRY / 2


def test_a_daemon_that_ends_by_itself_is_an_error_and_frees_the_lead(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    service = Service("daemon", ["sh", "-c", "sleep 0.3; echo the port is taken; exit 3"], {"PATH": os.defpath})
    with pytest.raises(ServiceFailed, match=r"daemon ended by itself \(exit code 3\)(?s:.*)the port is taken"):
        lead(town.url, service, tmp_path / "logs", expiry=EXPIRY, alone=True)
    assert leader_of(town.url) is None
    assert list((tmp_path / "tmp").iterdir()) == [], "the pipe to the guard is gone"


def test_a_guard_that_is_killed_takes_the_daemon_along(town: Town) -> None:
    host = town.host(alone=True)
    daemon = town.daemon(1)
    guard = psutil.Process(daemon).parent()
    assert guard is not None
    assert "leader_guard" in " ".join(guard.cmdline())
    guard.kill()
    assert eventually(lambda: not alive(daemon), 2)
    assert host.process.wait(10) != 0
    assert leader_of(town.url) is None


# What `passari-dagster check` says of it.


def settings(town: Town) -> Settings:
    """All of them that this check looks at."""
    return Settings.model_construct(redis_url=town.url)


def test_check_names_the_leader_or_says_that_nobody_runs_the_daemon(town: Town, empty_database: str) -> None:
    environment = {"DAGSTER_PG_URL": empty_database}
    assert "passari-dagster daemon" in check.daemon(settings(town), environment)
    host = town.host(alone=True)
    town.daemon(1)
    assert check.daemon(settings(town), environment) == f"{host.name} leads"


def test_check_reports_a_stock_daemon_beside_the_leaders(town: Town) -> None:
    """The leader's daemon meets its heartbeats, and complains in its log."""
    host = town.host(alone=True)
    town.daemon(1)
    assert not leader.intruder_beside(town.url)
    with (host.output.parent / "daemon.log").open("a") as log:
        log.write("Another SENSOR daemon is still sending heartbeats. You likely have multiple daemon processes\n")
    assert host.says("another daemon runs beside ours, and is not under this lead")
    assert eventually(lambda: leader.intruder_beside(town.url))
    with pytest.raises(SettingsError, match=f"{host.name} leads, but another Dagster daemon runs beside"):
        check.daemon(settings(town), {})


def test_check_reports_a_stock_daemon_where_nobody_leads(
    town: Town, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the heartbeats in Dagster's database: those that go on, not those that remain of a daemon that was stopped."""
    from dagster_postgres import PostgresRunStorage

    monkeypatch.setattr(check, "HEARTBEAT_WAIT", 1.0)
    environment = {"DAGSTER_PG_URL": empty_database}
    storage = PostgresRunStorage(empty_database, should_autocreate_tables=True)
    assert "nobody runs it" in check.daemon(settings(town), environment)
    storage.add_daemon_heartbeat(heartbeat("stock", age=20))
    assert "nobody runs it" in check.daemon(settings(town), environment)

    def send() -> None:
        for _ in range(10):
            storage.add_daemon_heartbeat(heartbeat("stock"))
            time.sleep(0.2)

    daemon = threading.Thread(target=send)
    daemon.start()
    try:
        with pytest.raises(SettingsError, match="nobody leads, but a Dagster daemon runs"):
            check.daemon(settings(town), environment)
    finally:
        daemon.join()
        storage.dispose()


def heartbeat(daemon_id: str, age: float = 0) -> DaemonHeartbeat:
    return DaemonHeartbeat(time.time() - age, "SENSOR", daemon_id, [])


def test_dagster_says_what_we_listen_for_when_two_daemons_run(caplog: pytest.LogCaptureFixture) -> None:
    """Dagster's private contract: the complaint in the log is all that it makes of a second daemon."""
    with dg.DagsterInstance.ephemeral() as instance, caplog.at_level(logging.ERROR, "dagster.daemon"):
        ours = SensorDaemon(settings={})
        ours._check_add_heartbeat(instance, "ours", heartbeat_interval_seconds=0, error_interval_seconds=300)
        ours._check_add_heartbeat(instance, "ours", heartbeat_interval_seconds=0, error_interval_seconds=300)
        assert caplog.text == ""
        instance.add_daemon_heartbeat(heartbeat("stock"))
        ours._check_add_heartbeat(instance, "ours", heartbeat_interval_seconds=0, error_interval_seconds=300)
    assert leader.COMPLAINT.decode() in caplog.text


# The command.


def test_the_command_without_settings_says_what_is_missing(tmp_path: Path) -> None:
    done = command(tmp_path, "daemon")
    assert done.returncode == 2
    assert "PASSARI_DB_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_wants_to_know_dagsters_database_and_the_code_server(tmp_path: Path) -> None:
    given = {"PASSARI_CONFIG": str(PROJECT / "passari.toml.example")}
    done = command(tmp_path, "daemon", env=given)
    assert done.returncode == 2
    assert "DAGSTER_PG_URL" in done.stderr
    given |= {"DAGSTER_PG_URL": "postgresql://me:secret-word@127.0.0.1:1/x", "PASSARI_CODE_SERVER_HOST": "code.example"}
    done = command(tmp_path, "daemon", env=given)
    assert done.returncode == 2
    assert done.stderr.strip() == "PASSARI_CODE_SERVER_PORT should name the code server of this installation"


def test_the_daemon_finds_the_servers_that_environment_and_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("PASSARI_CONFIG", "passari.toml.example")
    for variable in ("PASSARI_DB_URL", "REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)
    given = {
        "DAGSTER_PG_URL": "postgresql://museum@db.example/dagster",
        "PASSARI_CODE_SERVER_HOST": "code.example",
        "PASSARI_CODE_SERVER_PORT": "4000",
    }
    env = daemon_service(load(), given, tmp_path).env
    assert env["DAGSTER_PG_URL"] == "postgresql+psycopg2://museum@db.example/dagster"
    assert (env["PASSARI_CODE_SERVER_HOST"], env["PASSARI_CODE_SERVER_PORT"]) == ("code.example", "4000")
    assert env["REDIS_URL"] == "redis://localhost:6379/0"
    assert env["PASSARI_DB_URL"].startswith("postgresql+psycopg2://")
    assert env["PASSARI_CONFIG"] == str(PROJECT / "passari.toml.example")


def test_the_command_waits_for_redis_until_it_is_stopped(tmp_path: Path) -> None:
    environment = {
        "PATH": os.defpath,
        "PASSARI_CONFIG": str(PROJECT / "passari.toml.example"),
        "REDIS_URL": "redis://:salaisuus@127.0.0.1:1/0",
        "DAGSTER_PG_URL": "postgresql://museum@127.0.0.1:1/dagster",
        "PASSARI_CODE_SERVER_HOST": "127.0.0.1",
        "PASSARI_CODE_SERVER_PORT": "1",
    }
    output = tmp_path / "output"
    program = [sys.executable, "-c", "from passari_dagster.cli import app; app()", "daemon"]
    with output.open("wb") as stream:
        process = subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=stream, stderr=stream)
    host = Host(process, output)
    try:
        assert host.says("stands by, Redis cannot be reached (ConnectionError)")
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert "stopped (SIGTERM)" in output.read_text()
    assert "salaisuus" not in output.read_text()


def test_complaints_are_heard_in_a_log_that_logrotate_has_cut(tmp_path: Path) -> None:
    log = tmp_path / "dagster-daemon.log"
    log.write_text("words of yesterday\n" * 100)
    complaints = leader._Complaints(log)
    log.write_bytes(b"")
    log.write_bytes(leader.COMPLAINT + b"\n")
    assert complaints.is_new_one()
    assert not complaints.is_new_one()
