"""What ties child processes to their supervisor; a script of the standard library alone.

`leash.py run SIGNAL PARENT USER COMMAND…` becomes the command, which the kernel sends the signal when the parent dies.
(A `preexec_fn` would do the same, but may dead-lock where the parent has threads, and Python warns of it.)

`leash.py guard` reads process groups, one per line, until its standard input ends: then the supervisor is gone, and
whoever still lives in these groups after a grace period, such as a child's own child, is killed.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
GRACE = 5.0
POLL = 0.1


def run(death_signal: int, parent: int, user: str, argv: list[str]) -> None:
    """Become the command, on a leash.

    Arguments:
        death_signal: what the kernel sends when the parent dies.
        parent: process id of the supervisor.
        user: system user to become; empty: stay.
        argv: the command.
    """
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)  # after setuid, which clears it
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606 - the supervisor's own command


def guard() -> None:
    """Outlive the supervisor by a little, and leave nobody behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = [int(line) for line in sys.stdin]
    deadline = time.monotonic() + GRACE
    while groups and time.monotonic() < deadline:
        groups = [group for group in groups if _send(group, 0)]
        time.sleep(POLL)
    for group in groups:
        _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    if sys.argv[1] == "guard":
        guard()
    else:
        run(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
