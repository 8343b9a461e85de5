"""What a process has read of the runs of open backfills, so that it does not read them again.

For each chunk that it submits, and each half minute until a backfill has ended, Dagster's daemon asks for all
runs of the backfill, and unpacks each: with ten thousand runs that is what the daemon spends most of its time on. The
answer here is the same one. It costs three columns of each run, and the rest of those that have changed.

A run takes some 2 kB of memory here; the cap on partition keys bounds how many there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg

from passari_dagster.run_queue.dagster_internals import submit_at_once

FORGET_AFTER = 300.0
"""Seconds: the daemon asks for the runs of an open backfill each 30."""
READ_AT_ONCE = 1000
SUBMIT_AT_ONCE = 200
"""Runs that the daemon submits before it notes how far it has come, and sees whether the backfill was cancelled: some
seconds' worth. Those that it made before it was killed it finds again, however many they are."""

Stamp = tuple[str, datetime]
"""A run's status, and when it was written last. Who writes may have another clock: a stamp is equal or not, no more."""


@dataclass
class _Backfill:
    asked: float
    runs: dict[str, tuple[Stamp, dg.DagsterRun]] = field(default_factory=dict)


class BackfillRuns:
    """Remembers the runs of those backfills that were asked for lately.

    Arguments:
        read: reads runs whole, by their ids.
    """

    def __init__(self, read: Callable[[Sequence[str]], Sequence[dg.DagsterRun]]) -> None:
        self._read = read
        self._backfills: dict[str, _Backfill] = {}
        self._lock = threading.Lock()
        submit_at_once(SUBMIT_AT_ONCE)

    def answer(self, backfill_id: str, stamps: dict[str, Stamp]) -> list[dg.DagsterRun]:
        """All runs of a backfill, in the order of their stamps.

        Arguments:
            stamps: of all its runs, by id, as they are now.
        """
        now = time.monotonic()
        with self._lock:
            self._backfills = {key: value for key, value in self._backfills.items() if now - value.asked < FORGET_AFTER}
            known = self._backfills.setdefault(backfill_id, _Backfill(now))
            known.asked = now
            known.runs = {run_id: seen for run_id, seen in known.runs.items() if stamps.get(run_id) == seen[0]}
            missing = [run_id for run_id in stamps if run_id not in known.runs]
            for start in range(0, len(missing), READ_AT_ONCE):
                # What is written meanwhile has another stamp the next time, and is read once more.
                for run in self._read(missing[start : start + READ_AT_ONCE]):
                    known.runs[run.run_id] = (stamps[run.run_id], run)
            return [known.runs[run_id][1] for run_id in stamps if run_id in known.runs]
