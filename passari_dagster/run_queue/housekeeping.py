"""Housekeeping of Dagster's own records: what is old and no longer needed is removed, a little at a time.

It can be stopped or killed at any moment: each batch goes whole or not at all, and the next call goes on with what is
left. Between two batches there is a pause as long as the batch took, so that half of the database's time, at most, is
ours. What of the museum still needs a run is asked of who calls.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg

from passari_dagster import stopping
from passari_dagster.run_queue import records
from passari_dagster.run_queue.dagster_internals import LocalComputeLogManager
from passari_dagster.run_queue.records import Family

LEAST_PAUSE = 0.02
FOLDERS_AT_ONCE = 500
Needed = Callable[[Collection[str]], Collection[str]]
"""Of these partition keys, those whose runs are kept whatever their age."""
TICK_FILE = re.compile(r"\d+\.(out|err|complete)")


@dataclass(frozen=True)
class Limits:
    """How long records are kept after their end.

    Arguments:
        runs: runs with their events and output, backfills.
        assets: runs that tell of assets or checks: the plots show them.
        ticks: ticks of schedules and sensors, with what they logged.
    """

    runs: timedelta
    assets: timedelta
    ticks: timedelta


@dataclass
class Swept:
    """What was removed.

    Arguments:
        counts: how many of each kind.
        kept: old runs that are still needed.
        left: whether there was no time for all of it.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("runs", "events", "backfills", "ticks", "log_folders", "log_files"), 0)
    )
    kept: int = 0
    left: bool = False


class TimeIsUpError(Exception):
    """This is a good place to stop."""


class Pace:
    """Pauses between batches, and the end of the time.

    Arguments:
        seconds: that all of it may take.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether to stop: the time is up, or somebody asks for it."""
        return stopping.is_asked() or time.monotonic() > self._until

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """A part of the work, and the pause after it.

        Raises:
            TimeIsUpError: instead of beginning it.
        """
        if self.is_over:
            raise TimeIsUpError
        begun = time.monotonic()
        yield
        time.sleep(max(LEAST_PAUSE, time.monotonic() - begun))


def sweep(
    instance: dg.DagsterInstance,
    limits: Limits,
    needed: Needed,
    pace: Pace,
    now: datetime | None = None,
) -> Swept:
    """Remove what is older than the limits.

    Arguments:
        limits: how old that is.
        needed: of these partition keys, those whose runs are kept whatever their age.
        pace: how fast, and how long.
        now: the moment that ages are counted from; None: this one.

    Raises:
        PermanentFailure: the instance is not on PostgreSQL.
    """
    now = now or datetime.now(timezone.utc)
    swept = Swept()
    try:
        records.prepare(instance)
        _sweep_runs(instance, limits, needed, pace, now, swept)
        for kind, remove, age in (
            ("backfills", records.remove_backfills, limits.runs),
            ("ticks", records.remove_ticks, limits.ticks),
            ("events", records.remove_runless_events, limits.assets),
        ):
            while True:
                with pace.batch():
                    removed = remove(instance, now - age)
                swept.counts[kind] += removed
                if not removed:
                    break
        _sweep_orphans(instance, pace, swept)
        _sweep_logs(instance, limits, pace, now, swept)
    except TimeIsUpError:
        swept.left = True
    return swept


def _old_and_not_needed(
    instance: dg.DagsterInstance, families: list[Family], limits: Limits, needed: Needed, now: datetime
) -> list[str]:
    """Runs of those families that may go."""
    old = [family for family in families if _is_old(family, limits, now)]
    if any(family.tells_of_assets for family in old):
        # Asked anew for each batch: an asset that is materialized meanwhile has another latest run.
        latest = records.latest_of_assets(instance)
        old = [family for family in old if latest.isdisjoint(family.run_ids)]
    partitions = {key for family in old for key in family.partitions}
    still = set(needed(partitions)) if partitions else set()
    return [run_id for family in old if still.isdisjoint(family.partitions) for run_id in family.run_ids]


def _sweep_runs(
    instance: dg.DagsterInstance, limits: Limits, needed: Needed, pace: Pace, now: datetime, swept: Swept
) -> None:
    after: int | None = 0
    while after is not None:
        with pace.batch():
            families, after = records.old_families(instance, now - min(limits.runs, limits.assets), after)
            gone = _old_and_not_needed(instance, families, limits, needed, now)
            if gone:
                swept.counts["events"] += records.remove_runs(instance, gone)
        swept.counts["runs"] += len(gone)
        swept.kept += sum(len(family.run_ids) for family in families) - len(gone)


def count_old_runs(instance: dg.DagsterInstance, limits: Limits, needed: Needed, now: datetime | None = None) -> int:
    """How many runs `sweep` would remove."""
    now = now or datetime.now(timezone.utc)
    found: set[str] = set()
    after: int | None = 0
    while after is not None:
        families, after = records.old_families(instance, now - min(limits.runs, limits.assets), after)
        found.update(_old_and_not_needed(instance, families, limits, needed, now))
    return len(found)


def _is_old(family: Family, limits: Limits, now: datetime) -> bool:
    age = limits.assets if family.tells_of_assets else limits.runs
    return family.finished and not family.in_open_backfill and family.ended < (now - age).timestamp()


def _sweep_orphans(instance: dg.DagsterInstance, pace: Pace, swept: Swept) -> None:
    after: str | None = ""
    while after is not None:
        with pace.batch():
            removed, after = records.remove_orphans(instance, after)
        swept.counts["events"] += removed


def _sweep_logs(instance: dg.DagsterInstance, limits: Limits, pace: Pace, now: datetime, swept: Swept) -> None:
    """Output of runs that are gone, and what old ticks logged.

    Dagster's manager keeps a folder for each run, `<run id>/compute_logs/`, and for each sensor and schedule
    `<repository>/<name>/<tick>.err`. The rows went before the files: what a kill leaves is found here.
    """
    manager = instance.compute_log_manager
    if not isinstance(manager, LocalComputeLogManager):
        return
    base = Path(manager._base_dir)
    folders = _folders_of_runs(base, (now - limits.runs).timestamp())
    while batch := _take(folders, FOLDERS_AT_ONCE):
        with pace.batch():
            there = records.existing(instance, [folder.name for folder in batch])
            for folder in batch:
                if folder.name not in there:
                    shutil.rmtree(folder, ignore_errors=True)
                    swept.counts["log_folders"] += 1
    files = _files_of_ticks(base, (now - limits.ticks).timestamp())
    while batch := _take(files, FOLDERS_AT_ONCE):
        with pace.batch():
            for file in batch:
                file.unlink(missing_ok=True)
        swept.counts["log_files"] += len(batch)


def _folders_of_runs(base: Path, before: float) -> Iterator[Path]:
    """Folders of runs that nobody has written to lately."""
    for entry in _entries(base):
        if _is_run_id(entry.name) and _is_older(entry, before):
            yield Path(entry.path)


def _files_of_ticks(base: Path, before: float) -> Iterator[Path]:
    """Files, two folders deep, of ticks that are old."""
    for repository in _entries(base):
        if not _is_run_id(repository.name):
            for instigator in _entries(Path(repository.path)):
                for entry in _entries(Path(instigator.path)):
                    if TICK_FILE.fullmatch(entry.name) and _is_older(entry, before):
                        yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder now, or nothing where it is none. Read whole: to remove while reading may pass over some."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        return list(found)
    return []


def _is_older(entry: os.DirEntry[str], before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):  # somebody else removes it
        return entry.stat(follow_symlinks=False).st_mtime < before
    return False


def _is_run_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _take(paths: Iterator[Path], count: int) -> list[Path]:
    return list(itertools.islice(paths, count))
