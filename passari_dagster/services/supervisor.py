"""Child processes under one supervisor: started in order, watched, stopped in the reverse order.

What the processes are is told in `system.py`. Nothing here knows Dagster, PostgreSQL or Redis.

A child never outlives its supervisor. The kernel ends it at the supervisor's death (`PR_SET_PDEATHSIG`), and a guard
process, which waits for the end of a pipe from the supervisor, ends what the children have started themselves: see
`leash.py`.
Start children from the main thread: the kernel counts the death of the starting thread as the parent's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import BinaryIO

from passari_dagster.errors import PassariError

LEASH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))
POLL = 0.1


class ServiceFailed(PassariError):
    """A process did not get ready, or ended when it should not; the message shows the end of its log."""


class Stop(BaseException):
    """SIGINT, SIGTERM or SIGHUP: stop everything. Not an `Exception`, so that no handler of errors takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True)
class Service:
    """One process to run.

    Arguments:
        name: as shown to people; also the name of its log.
        argv: the command. Never a secret: everybody on the machine can read it.
        env: the whole environment of the process.
        ready: answers whether it serves; None: it does as soon as it runs.
        cwd: its working directory.
        user: system user to run as, when the supervisor is root.
        stop_signal: asks it to end well.
        deadline: seconds until it has to be ready.
        grace: seconds it gets to end well, before it is killed.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    deadline: float = 60.0
    grace: float = 10.0


@dataclass
class Child:
    """A service that was started, in a session and process group of its own."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path
    _stopped: bool = False

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    def died(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Ask it to end, wait, then kill all that is left of its group. Harmless when done before."""
        if self._stopped:  # the number of the group may be somebody else's by now
            return
        self._stopped = True
        if not self.died():
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.service.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.service.grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def failure(self, what: str) -> ServiceFailed:
        """An error that says what happened and shows the end of the log."""
        return ServiceFailed(f"{self.name} {what}. The end of {self.log}:\n{tail(self.log)}")


def start(service: Service, logs: Path) -> Child:
    """Start a service, and wait until it is ready.

    Raises:
        ServiceFailed: it ended, or was not ready in time; it has been stopped.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{service.name}.log"
    with log.open("ab") as stream:
        child = Child(service, _spawn(service, stream), log)
    try:
        _wait_until_ready(child)
    except BaseException:
        child.stop()
        raise
    return child


def _spawn(service: Service, log: BinaryIO) -> subprocess.Popen[bytes]:
    leash = [*LEASH, "run", str(int(service.stop_signal)), str(os.getpid()), service.user or ""]
    return subprocess.Popen(  # noqa: S603 - commands are our own
        [*leash, *service.argv],
        env=dict(service.env),
        cwd=service.cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait_until_ready(child: Child) -> None:
    service = child.service
    deadline = time.monotonic() + service.deadline
    while service.ready is not None and not service.ready():
        if child.died():
            raise child.failure(f"ended while it started (exit code {child.process.returncode})")
        if time.monotonic() > deadline:
            raise child.failure(f"was not ready after {service.deadline:g} seconds")
        time.sleep(POLL)


def last_lines(output: bytes, lines: int = 40) -> str:
    """The end of what a process has said, for a message."""
    text = output.decode("utf-8", errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def tail(log: Path) -> str:
    """The last lines of a log."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        return last_lines(stream.read())


@dataclass
class Supervisor:
    """The children, in the order of their start. A context manager: all are stopped when it ends.

    Arguments:
        logs: folder of the children's logs.
    """

    logs: Path
    children: list[Child] = field(default_factory=list)
    _guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Supervisor:
        self._guard = subprocess.Popen(  # noqa: S603
            [*LEASH, "guard"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={},
            cwd="/",
            bufsize=0,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, service: Service) -> Child:
        """Start a service, wait until it is ready, and watch it from now on.

        Raises:
            ServiceFailed: it ended, or was not ready in time; or another child died meanwhile.
        """
        child = self.adopt(start(service, self.logs))
        self.check()
        return child

    def adopt(self, child: Child) -> Child:
        """Watch a child that was started elsewhere; it is stopped with the others."""
        self.children.append(child)
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(b"%d\n" % child.process.pid)
        return child

    def check(self) -> None:
        """See that all children live.

        Raises:
            ServiceFailed: one has died.
        """
        for child in self.children:
            if child.died():
                raise child.failure(f"ended by itself (exit code {child.process.returncode})")

    def sleep(self, seconds: float) -> None:
        """Wait, and watch the children meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.5))

    def stop(self) -> None:
        """Stop all children, the last one first, and the guard."""
        while self.children:
            self.children.pop().stop()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise `Stop` in the block, once; what follows them is ignored while it stops."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def handler(number: int, _frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stop(number)

    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
