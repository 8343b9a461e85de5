"""Children are started, watched and stopped; none outlives the supervisor, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from passari_dagster.services.supervisor import Service, ServiceFailed, Stop, Supervisor, stop_on_signals

SHELL_ENV = {"PATH": os.defpath}


def shell(name: str, script: str, ready: Callable[[], bool] | None = None, **options: float) -> Service:
    return Service(name, ["sh", "-c", script], SHELL_ENV, ready, **options)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_children_are_stopped_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def writes_when_asked_to_end(name: str) -> Service:
        up = tmp_path / f"{name}.up"
        script = f"trap 'echo {name} >> {journal}; exit' TERM; touch {up}; while :; do sleep 0.05; done"
        return shell(name, script, up.exists)

    with Supervisor(tmp_path / "logs") as supervisor:
        children = [supervisor.start(writes_when_asked_to_end(name)) for name in ("database", "server", "daemon")]
        supervisor.check()
    assert journal.read_text().split() == ["daemon", "server", "database"]
    assert not any(alive(child.process.pid) for child in children)


def test_the_death_of_one_child_is_told_with_its_log_and_stops_the_others(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs") as supervisor:
        other = supervisor.start(shell("webserver", "sleep 60"))
        supervisor.start(shell("daemon", "sleep 0.3; echo the disk is full; exit 3"))
        with pytest.raises(ServiceFailed) as caught:
            supervisor.sleep(30)
    assert "daemon ended by itself (exit code 3)" in str(caught.value)
    assert "the disk is full" in str(caught.value)
    assert not alive(other.process.pid)


def test_a_child_that_does_not_get_ready_is_told_with_its_log_and_stopped(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with Supervisor(tmp_path / "logs") as supervisor:
        slow = shell("code-server", f"echo $$ > {pid}; echo still importing; sleep 60", lambda: False, deadline=0.5)
        with pytest.raises(ServiceFailed) as caught:
            supervisor.start(slow)
    assert "code-server was not ready after 0.5 seconds" in str(caught.value)
    assert "still importing" in str(caught.value)
    assert str(tmp_path / "logs" / "code-server.log") in str(caught.value)
    assert not alive(int(pid.read_text()))


def test_a_child_that_ends_while_it_starts_is_told_at_once(tmp_path: Path) -> None:
    broken = shell("webserver", "echo no such module; exit 1", lambda: False, deadline=60)
    with Supervisor(tmp_path / "logs") as supervisor, pytest.raises(ServiceFailed, match="no such module"):
        supervisor.start(broken)


def test_a_child_that_does_not_want_to_end_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"trap '' TERM; sh -c 'trap \"\" TERM; sleep 60' & echo $! > {pid}; wait"
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start(shell("code-server", script, pid.exists, grace=0.3))
    assert not alive(child.process.pid)
    assert eventually(lambda: not alive(int(pid.read_text())))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_once_and_a_second_one_does_not_disturb_the_stopping(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        with stop_on_signals():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), number)

    with pytest.raises(Stop) as caught:
        work()
    assert caught.value.number == number
    assert signal.getsignal(number) is before


def test_kill_9_of_the_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from passari_dagster.services.supervisor import Service, Supervisor
        with Supervisor(Path({str(tmp_path)!r}) / "logs") as supervisor:
            # A code server with a run: neither wants to end, and the run is not the supervisor's own child.
            script = "trap '' TERM; sh -c 'trap \\"\\" TERM; sleep 60' & echo $! > {tmp_path}/run; wait"
            service = Service("code-server", ["sh", "-c", script], {{"PATH": os.defpath}})
            print(supervisor.start(service).process.pid, flush=True)
            time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        child = int(process.stdout.readline())
        run = tmp_path / "run"
        assert eventually(lambda: run.exists() and run.read_text().strip() != "")
        assert alive(child)
        assert alive(int(run.read_text()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert eventually(lambda: not alive(child) and not alive(int(run.read_text())))
