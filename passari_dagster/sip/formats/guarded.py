"""Looks through a hostile file in a process of its own, whose memory and time are limited.

For libraries that keep a file's structure in memory, or may crash: such a file then costs that process only. Used by
`pdf`, `ole` and `av`; which facts are wanted of a file is known by the modules that are run here.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from passari_dagster.errors import TransientFailure
from passari_dagster.sip import problems
from passari_dagster.sip.problems import Kind

MAX_MEMORY = 1024 * 1024 * 1024
"""Address space of the process, bytes."""

MAX_CPU_SECONDS = 120
"""A PDF of 100 MB takes less than one."""

MAX_SECONDS = 600
"""Wall time, after which the machine or its disk is taken to be too busy."""

_SECONDS_PER_CPU_SECOND = 3
"""Of what more computing is allowed than `MAX_CPU_SECONDS`."""

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
_TOO_LARGE = "too_large"


def facts(
    module: str,
    path: Path,
    damaged: Kind,
    *,
    too_large: Kind = problems.TOO_MUCH_WORK,
    max_memory: int = MAX_MEMORY,
    max_cpu_seconds: int = MAX_CPU_SECONDS,
) -> dict[str, Any]:
    """What a module finds in a file, when it is run with `serve`.

    Arguments:
        module: its full name.
        path: the file.
        damaged: what is raised when the process crashes, or does not come to the end of what is `bounded`.
        too_large: what is raised when the file needs more than the limits.
        max_memory, max_cpu_seconds: the limits: bytes of address space, and seconds.

    Raises:
        ContentProblem: more work than is allowed, or a crash.
        TransientFailure: it did not get to its end in time, without so much computing.
        OSError: a fault of the file system, or the process was stopped by somebody else.
    """
    # Libraries go by the locale when they open a file by its path, which need not be ASCII.
    command = [sys.executable, "-I", "-m", module, str(path.absolute()), str(max_memory), str(max_cpu_seconds)]
    max_seconds = wall_seconds(max_cpu_seconds)
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, timeout=max_seconds, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
    except subprocess.TimeoutExpired:
        raise TransientFailure(f"{path}: {module} did not end within {max_seconds:g} seconds") from None
    if done.returncode == -signal.SIGXCPU:
        raise too_large.found(f"more than {max_cpu_seconds} seconds of computing")
    if done.returncode == -signal.SIGPROF:
        raise damaged.found("the library that reads such files does not come to an end on it")
    if -done.returncode in _CRASHES:
        raise damaged.found("the library that reads such files crashes on it")
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip()
        raise OSError(f"{path}: {module} ended with {done.returncode}: {told[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found.get(_TOO_LARGE):
        raise too_large.found(f"more than {max_memory} bytes of memory are needed")
    return found


def wall_seconds(cpu_seconds: int) -> float:
    """How long a process may take that may compute for so long."""
    return MAX_SECONDS + _SECONDS_PER_CPU_SECOND * max(0, cpu_seconds - MAX_CPU_SECONDS)


def serve(examine: Callable[[str], dict[str, object]]) -> None:
    """Be that process: examine the file that the command line names, and tell what was found.

    Arguments:
        examine: gets the path; its answer is what `facts` returns. May raise MemoryError.
    """
    max_memory, max_cpu_seconds = map(int, sys.argv[2:4])
    resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
    resource.setrlimit(resource.RLIMIT_CPU, (max_cpu_seconds, max_cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found = examine(sys.argv[1])
    except MemoryError:
        found = {_TOO_LARGE: True}
    os.write(sys.stdout.fileno(), json.dumps(found).encode())


@contextmanager
def bounded() -> Iterator[None]:
    """For the part of `examine` that only looks for the facts: it may take a third of the computing that the file is
    allowed, which honest files are far from. A library that is lost in a file takes all of it, and the answer is then
    that the file is too large, which helps nobody.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_CPU)
    signal.setitimer(signal.ITIMER_PROF, allowed / 3)  # its signal ends the process, in the middle of a library, too
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
