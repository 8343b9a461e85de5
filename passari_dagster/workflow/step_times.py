"""What the logs of a package's steps tell: attempts, how long each took, and what was downloaded.

The logs are `steplog`'s, in the package's directory while it is made, and compressed in the archive afterwards. Those
of passari-workflow have no times: of them only the last lines are told.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import re
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

STEPS = ("download-object", "create-sip", "submit-sip", "confirm-sip")
MAX_BYTES = 32 * 1024 * 1024
"""Of one log that are read."""
LONGEST_LINE = 64 * 1024
TAIL = 15
"""Last lines that are told."""
MOST_ATTEMPTS = 20
"""The last attempts that are told; all are counted."""
_LINE = re.compile(r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]+\+00:00) (?P<text>.*)", re.S)
_FILE = re.compile(r"attachment (?P<id>\d+): .*, (?P<size>\d+) bytes, SHA-256 (?P<sha256>[0-9a-f]{64})", re.S)
_TITLE, _FAILED = "--- ", "failed: "


@dataclass(frozen=True)
class Attempt:
    """One attempt of a step.

    Arguments:
        number: the first one is 1.
        took: from its first line to its last: what a kill cut off after that is not in it.
        failure: why it failed; empty: it ended well, or was killed.
        last: its last line.
    """

    number: int
    began: datetime
    took: timedelta
    failure: str
    last: str


@dataclass(frozen=True)
class StepLog:
    """What one log tells.

    Arguments:
        step: `download-object`, `create-sip`, `submit-sip` or `confirm-sip`.
        path: of the log.
        size: bytes of it, as it is kept.
        attempts: how many attempts it tells of; 0: it has no times.
        last_attempts: the last of them.
        tail: its last lines.
        files: size and SHA-256 of each attachment's file that was downloaded, by the attachment's id.
    """

    step: str
    path: Path
    size: int
    attempts: int
    last_attempts: tuple[Attempt, ...]
    tail: tuple[str, ...]
    files: dict[int, tuple[int, str]]


def step_logs(directories: list[Path], sip_id: str) -> list[StepLog]:
    """The logs of a package's steps, in the steps' order; of each the first one that is found.

    Arguments:
        directories: where logs may be.
        sip_id: of the package: what a log tells of another one is passed over.

    Raises:
        OSError: a log is there and cannot be read.
    """
    found: list[StepLog] = []
    for step, directory in itertools.product(STEPS, directories):
        if any(log.step == step for log in found):
            continue
        for path in (directory / f"{step}.log", directory / f"{step}.log.gz"):
            if path.is_file():
                found.append(_read(path, step, sip_id))
                break
    return found


def read_bounded(path: Path, limit: int) -> bytes:
    """The beginning of a file, which may be compressed.

    Raises:
        OSError, EOFError: it cannot be read.
    """
    with _open(path) as stream:
        return stream.read(limit)


def last_lines(path: Path) -> tuple[str, ...]:
    """The last lines of a log, which may be compressed."""
    return tuple(deque(_lines(path), TAIL))


def _read(path: Path, step: str, sip_id: str) -> StepLog:
    tail: deque[str] = deque(maxlen=TAIL)
    last: deque[Attempt] = deque(maxlen=MOST_ATTEMPTS)
    files: dict[int, tuple[int, str]] = {}
    attempts, ours = 0, True
    for line in _lines(path):
        parts = _LINE.fullmatch(line)
        text = parts["text"] if parts else line
        if parts and text.startswith(_TITLE):
            ours = not sip_id or text.endswith(f"-{sip_id}.tar")
            if ours:
                attempts += 1
                last.append(Attempt(attempts, datetime.fromisoformat(parts["time"]), timedelta(), "", ""))
        if not ours:
            continue
        tail.append(line)
        if parts and last:
            took = datetime.fromisoformat(parts["time"]) - last[-1].began
            failure = text.removeprefix(_FAILED) if text.startswith(_FAILED) else last[-1].failure
            last[-1] = Attempt(attempts, last[-1].began, took, failure, "" if text.startswith(_TITLE) else text)
        file = _FILE.fullmatch(text) if step == STEPS[0] else None
        if file:
            files[int(file["id"])] = (int(file["size"]), file["sha256"])
    return StepLog(step, path, path.stat().st_size, attempts, tuple(last), tuple(tail), files)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    # What is read of it is bounded, so that a small file that becomes a large one does no harm.
    with cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb") as stream:
        try:
            yield stream
        except zlib.error as error:
            raise OSError(f"{path.name} is damaged: {error}") from error


def whole(path: Path) -> Iterator[str]:
    """All lines of a log, which may be compressed; a very long one comes in parts.

    Raises:
        OSError, EOFError: it cannot be read.
    """
    return _lines(path, sys.maxsize)


def _lines(path: Path, left: int = MAX_BYTES) -> Iterator[str]:
    with _open(path) as stream:
        while left > 0 and (line := stream.readline(min(left, LONGEST_LINE))):
            left -= len(line)
            yield line.decode("utf-8", "replace").rstrip("\n")
