"""How far long work has come, as lines of a log, and what it came to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from passari_dagster.workflow.environment import Log


@dataclass(frozen=True)
class SyncResult:
    """What a synchronisation did.

    Arguments:
        items: how many were read.
        new: how many of them the database did not know; for hashes, how many changed.
        seconds: how long it took.
        since: changes since when were asked for; None: only everything was.
        unreadable: how many the MuseumPlus user may not read; their hash is not known, and they are asked for again.
        removed: how many are marked, since MuseumPlus does not have them any more.
        partial: whether it stopped before it had come to its end; the next one goes on there.
        done: how many are read of the scrape that is under way, this time and before.
        total: how many it has to read in all; None: not known.
        nights_left: how many more nightly windows it needs; None: not known, or there is no window.
    """

    items: int
    new: int
    seconds: float
    since: datetime | None = None
    unreadable: int = 0
    removed: int = 0
    partial: bool = False
    done: int = 0
    total: int | None = None
    nights_left: int | None = None

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds if self.seconds else 0.0


class Progress:
    """Says how far work has come: done, total, rate, time left.

    Arguments:
        what: its name.
        log: gets the lines.
        done: how much of it was done another time.
    """

    def __init__(self, what: str, log: Log, done: int = 0) -> None:
        self._what, self._log, self._begun, self._before = what, log, time.monotonic(), done
        self.done = done

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    @property
    def rate(self) -> float:
        """Items a second, this time."""
        return (self.done - self._before) / self.seconds if self.seconds else 0.0

    def advance(self, count: int, total: int | None) -> None:
        """`count` more are done, of `total` in all where that is known."""
        self.done += count
        line = f"{self._what}: {self.done} of {'?' if total is None else total}, {self.rate:.0f}/s"
        if total is not None and self.rate:
            line += f", {timedelta(seconds=round(max(0, total - self.done) / self.rate))} left"
        self._log(line)

    def nights_left(self, total: int | None, night: timedelta | None) -> int | None:
        """How many nights of that length the rest takes at this rate."""
        if total is None or night is None or not self.rate:
            return None
        return math.ceil(max(0, total - self.done) / (self.rate * night.total_seconds()))
