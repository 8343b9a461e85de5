"""What can break in a running system, and how it is started again, as systemd and people would."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import redis
from pydantic import SecretStr

from passari_dagster.services.leader import intruder_beside
from passari_dagster.services.supervisor import Child, Service, start
from passari_dagster_tests import off_clock
from passari_dagster_tests.running import Running

OUTAGE = 30.0
SHUTDOWN = 10.0
"""Seconds that processes get to end when their host is shut down."""
CLOCK_OFF = 300
LONG_START = 45.0
"""Seconds in which the runs of dead workers are found, and reported failed."""


@dataclass
class Scene:
    """An object's run that stands somewhere.

    Arguments:
        running: the system.
        horse: the process that executes the run.
        afterwards: what is put right when the case is over.
    """

    running: Running
    horse: psutil.Process
    afterwards: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def find(self, name: str) -> Child:
        """A process of the system."""
        return next(child for child in self.running.system.supervisor.children if child.name == name)

    def start_again(self, child: Child, service: Service | None = None) -> None:
        """As systemd would: the same command, in the same place of the order in which all are stopped.

        Arguments:
            child: has ended.
            service: another command.
        """
        supervisor = self.running.system.supervisor
        place = supervisor.children.index(child)
        supervisor.children.remove(child)
        supervisor.adopt(start(service or child.service, supervisor.logs))
        supervisor.children.insert(place, supervisor.children.pop())

    @contextlib.contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        """Redis, for a person who may do everything."""
        with contextlib.closing(redis.Redis.from_url(self.running.system.environment["REDIS_URL"])) as client:
            yield client


Strike = Callable[[Scene], None]


def kill(name: str) -> Strike:
    """kill -9 of a process of the system, and its start a moment later."""

    def strike(scene: Scene) -> None:
        child = scene.find(name)
        _kill(child)
        time.sleep(random.uniform(0, 2))
        scene.start_again(child)

    return strike


def _kill(child: Child) -> None:
    child.process.kill()
    child.process.wait()


def kill_horse(scene: Scene) -> None:
    """kill -9 of the run's process."""
    scene.horse.kill()


def kill_worker(scene: Scene) -> None:
    """kill -9 of its parent."""
    worker = scene.horse.parent()
    assert worker is not None
    assert worker.cmdline()[0].startswith("passari worker")
    worker.kill()


def stop_horse(scene: Scene) -> None:
    """SIGSTOP of the run's process."""
    scene.horse.suspend()


def terminate_everything(scene: Scene) -> None:
    """A host is shut down, and starts again: SIGTERM to every single process, SIGKILL to those that stay."""
    _shut_down(scene, list(scene.running.system.supervisor.children))


def terminate_workers(scene: Scene) -> None:
    """The same with a host of workers: databases and daemon go on, and hear what its processes say in their end."""
    _shut_down(scene, [scene.find("workers")])


def _shut_down(scene: Scene, children: list[Child]) -> None:
    processes = [process for child in children for process in _with_descendants(child)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    until = time.monotonic() + SHUTDOWN
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, until - time.monotonic()))
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for child in children:
        child.process.wait()
    for child in children:
        scene.start_again(child)


def _with_descendants(child: Child) -> list[psutil.Process]:
    process = psutil.Process(child.process.pid)
    return [process, *process.children(recursive=True)]


def cut_power(scene: Scene) -> None:
    """kill -9 of everything; then all is back but the code server, which is the last to come up, by far."""
    children = list(scene.running.system.supervisor.children)
    for child in children:
        _kill(child)
    late = scene.find("code-server")
    for child in children:
        if child is not late:
            # Nobody waits for anybody, but for the databases.
            is_server = child.name in ("postgres", "redis")
            scene.start_again(child, child.service if is_server else replace(child.service, ready=None))
    time.sleep(LONG_START)
    scene.start_again(late)


def lose_redis(scene: Scene) -> None:
    """kill -9 of a Redis that writes nothing to disk: it comes back empty."""
    child = scene.find("redis")
    with scene.redis() as client:
        client.set("survivor", 1)
        client.config_set("appendonly", "no")
        directory = Path(str(client.config_get("dir")["dir"]))
    _kill(child)
    for name in ("appendonly.aof", "dump.rdb"):
        (directory / name).unlink(missing_ok=True)
    time.sleep(random.uniform(0, 2))
    scene.start_again(child)
    with scene.redis() as client:
        # Our own keys may be there again by now.
        assert not client.exists("survivor"), "nothing has come back"


def flush(scene: Scene) -> None:
    """FLUSHALL."""
    with scene.redis() as client:
        client.flushall()


def fill_redis(scene: Scene) -> None:
    """Redis has no memory left for a while, and says so, as deploy/redis.conf wants it."""
    with scene.redis() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        time.sleep(OUTAGE)
        client.config_set("maxmemory", 0)


def outage(name: str, how: signal.Signals) -> Strike:
    """A server that is away for half a minute."""

    def strike(scene: Scene) -> None:
        child = scene.find(name)
        child.process.send_signal(how)
        child.process.wait()
        time.sleep(OUTAGE)
        scene.start_again(child)

    return strike


def start_second_daemon(scene: Scene) -> None:
    """Somebody starts Dagster's own daemon beside ours, which leads; and the run's process dies under the two."""
    system = scene.running.system
    log = system.supervisor.logs / "second-daemon.log"
    log.unlink(missing_ok=True)
    program = Path(sys.executable).parent / "dagster-daemon"
    second = system.supervisor.start(
        Service(
            name="second-daemon",
            argv=[sys.executable, str(program), "run", "-w", str(system.root / "workspace.yaml")],
            env=system.environment,
            cwd=system.root,
            ready=lambda: b"Instance is configured with the following daemons" in log.read_bytes(),
        )
    )

    def stop() -> None:
        system.supervisor.children.remove(second)
        second.stop()

    scene.afterwards.callback(stop)
    redis_url = SecretStr(system.environment["REDIS_URL"])
    scene.afterwards.callback(
        scene.running.wait, lambda: intruder_beside(redis_url), "the leader to see the other daemon", 90
    )
    time.sleep(random.uniform(0, 5))
    kill_horse(scene)


def set_clock_of_workers(seconds: int) -> Strike:
    """The pool is killed, and starts again on a host whose clock is off: the rest of the object's way is gone there."""

    def strike(scene: Scene) -> None:
        child = scene.find("workers")
        true = child.service
        _kill(child)
        off = replace(
            true,
            argv=[sys.executable, off_clock.__file__, *true.argv[1:]],
            env={**true.env, **off_clock.variables(seconds)},
        )
        scene.start_again(child, off)
        scene.afterwards.callback(_set_right, scene, true)
        scene.afterwards.callback(_assert_off, scene.running, seconds)

    return strike


def _set_right(scene: Scene, true: Service) -> None:
    child = scene.find("workers")
    child.stop()
    scene.start_again(child, true)


def _assert_off(running: Running, seconds: int) -> None:
    """The last run's times are those of its host; it is over for a minute or two at most."""
    # One that was refused, because another of its object was live, has times of the daemon's host.
    last = running.webserver.runs(statuses=("SUCCESS",))[0]
    off = running.details(last["runId"])["startTime"] - time.time()
    assert abs(off - seconds) < CLOCK_OFF / 2, "the clock was off"


@dataclass(frozen=True)
class Fault:
    """What breaks.

    Arguments:
        strike: breaks it, and has it started again where it does not start by itself.
        within: seconds from then until the run has ended, or goes on to its end, by the requirements.
        survives: the run may go on through it.
        needs_faketime: a clock is set.
    """

    strike: Strike
    within: float
    survives: bool = False
    needs_faketime: bool = False


FAULTS = {
    "kill -9 of the run's process": Fault(kill_horse, 30),
    "kill -9 of the worker": Fault(kill_worker, 60),
    "kill -9 of the pool": Fault(kill("workers"), 60),
    "SIGSTOP of the run's process": Fault(stop_horse, 60),
    "kill -9 of the daemon": Fault(kill("daemon"), 120, survives=True),
    "kill -9 of the webserver": Fault(kill("webserver"), 120, survives=True),
    "kill -9 of the code server": Fault(kill("code-server"), 120, survives=True),
    "SIGTERM of everything": Fault(terminate_everything, 120),
    "SIGTERM of all that is on a host of workers": Fault(terminate_workers, 120),
    "power cut, and the code server is back late": Fault(cut_power, 120),
    "kill -9 of Redis": Fault(kill("redis"), 120, survives=True),
    "kill -9 of Redis without AOF": Fault(lose_redis, 120, survives=True),
    "FLUSHALL": Fault(flush, 120, survives=True),
    "Redis away for 30 s": Fault(outage("redis", signal.SIGTERM), 120, survives=True),
    "Redis out of memory for 30 s": Fault(fill_redis, 120, survives=True),
    "PostgreSQL restarted": Fault(kill("postgres"), 120, survives=True),
    "PostgreSQL away for 30 s": Fault(outage("postgres", signal.SIGINT), 120, survives=True),
    "two daemons, and kill -9 of the run's process": Fault(start_second_daemon, 30),
    "clock of the workers 5 minutes ahead": Fault(set_clock_of_workers(CLOCK_OFF), 60, needs_faketime=True),
    "clock of the workers 5 minutes behind": Fault(set_clock_of_workers(-CLOCK_OFF), 60, needs_faketime=True),
}
