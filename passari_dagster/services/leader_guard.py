"""What ends a leader's child in time when the leader itself cannot; a script of the standard library alone.

`leader_guard.py PIPE DEADLINE COMMAND…` runs the command, and kills its whole process group at the deadline, unless the
leader has written a later one to the pipe before. A leader that is stopped, swapped out or hangs in a name look-up
writes nothing, and its lock in Redis expires without it: its child must be dead by then. How leaders are found is told
in `leader.py`.

Deadlines are readings of `CLOCK_BOOTTIME`, one a line: all processes of a machine see the same clock, nobody sets it,
and it goes on while the machine sleeps.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

LEASH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")))
POLL = 0.1


def clock() -> float:
    """Seconds since the machine started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def run(pipe: Path, deadline: float, argv: list[str]) -> int:
    """Run the command until it ends, the deadline has come or somebody sends SIGTERM, which is passed on.

    Arguments:
        pipe: named pipe of later deadlines; removed here. Its end means that the leader is gone: SIGTERM.
        deadline: when the command has to be dead, as long as the pipe says nothing else.
        argv: the command. It is killed when this process is.
    """
    # Neither waits for a writer, who may be gone.
    beats = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    pipe.unlink()
    leash = [*LEASH, "run", str(int(signal.SIGKILL)), str(os.getpid()), ""]
    child = subprocess.Popen([*leash, *argv])  # noqa: S603 - the leader's own command
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    leader_lives, rest = True, b""
    while child.poll() is None:
        left = deadline - clock()
        if left <= 0:
            _kill(child)
        # The child's end is only seen by looking again.
        ready, _, _ = select.select([beats] if leader_lives else [], [], [], min(left, POLL))
        if not ready:
            continue
        received = os.read(beats, 65536)
        if received:
            *lines, rest = (rest + received).split(b"\n")
            deadline = max(deadline, *map(float, lines)) if lines else deadline
        else:
            leader_lives = False
            child.send_signal(signal.SIGTERM)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child first, then whoever it has started, and this process."""
    child.kill()
    with contextlib.suppress(OSError):  # a full disk
        print("killed: its leader gave no sign of life", flush=True)  # noqa: T201 - to the child's log
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
