"""Bringing the database up to date with MuseumPlus: objects, attachments, attachment hashes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from passari_dagster import locks
from passari_dagster.catalogue import synchronisation as tables
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.search import AttachmentRecord, ObjectRecord, SearchPage
from passari_dagster.workflow.environment import Environment, Log

OVERLAP = timedelta(hours=1)
"""An incremental scrape asks for what changed since so long before the last one started: changes are never missed,
at the price of reading a few items twice."""
HASH_BATCH = 2000
LOCK_WAIT = 6 * 3600.0
"""Seconds that a scrape waits for the other one to end."""


@dataclass(frozen=True)
class SyncResult:
    """What a synchronisation did.

    Arguments:
        items: how many were read.
        new: how many of them the database did not know; for hashes, how many changed.
        seconds: how long it took.
        since: changes since when were asked for; None: everything was read.
        unreadable: how many the MuseumPlus user may not read; what the database knows of them stays as it is.
    """

    items: int
    new: int
    seconds: float
    since: datetime | None = None
    unreadable: int = 0

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds if self.seconds else 0.0


class Progress:
    """Says how far long work has come: done, total, rate, time left."""

    def __init__(self, what: str, log: Log) -> None:
        self._what, self._log, self._begun = what, log, time.monotonic()
        self.done = 0

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    def advance(self, count: int, total: int | None) -> None:
        """`count` more are done, of `total` in all where that is known."""
        self.done += count
        rate = self.done / self.seconds if self.seconds else 0.0
        line = f"{self._what}: {self.done} of {'?' if total is None else total}, {rate:.0f}/s"
        if total is not None and rate:
            line += f", {timedelta(seconds=round(max(0, total - self.done) / rate))} left"
        self._log(line)


def sync_objects(env: Environment, log: Log) -> SyncResult:
    """Read the objects that changed since the last scrape; all of them the first time."""

    def fetch(museum: MuseumPlus, after_id: int, since: datetime | None, limit: int) -> SearchPage[ObjectRecord]:
        return museum.search("Object", after_id=after_id, modified_since=since, limit=limit)

    def write(page: SearchPage[ObjectRecord]) -> int:
        rows = _rows(page.records, "id", "title", "created_date", "modified_date", "metadata_hash")
        with env.transaction() as session:
            return tables.upsert_objects(session, rows, {r.id: r.multimedia_ids for r in page.records})

    return _scrape(env, "sync_objects", fetch, write, log)


def sync_attachments(env: Environment, log: Log) -> SyncResult:
    """Read the attachments that changed since the last scrape; all of them the first time."""

    def fetch(museum: MuseumPlus, after_id: int, since: datetime | None, limit: int) -> SearchPage[AttachmentRecord]:
        return museum.search("Multimedia", after_id=after_id, modified_since=since, limit=limit)

    def write(page: SearchPage[AttachmentRecord]) -> int:
        rows = _rows(page.records, "id", "filename", "created_date", "modified_date", "metadata_hash")
        with env.transaction() as session:
            return tables.upsert_attachments(session, rows, {r.id: r.object_ids for r in page.records})

    return _scrape(env, "sync_attachments", fetch, write, log)


def _rows(records: Sequence[ObjectRecord] | Sequence[AttachmentRecord], *columns: str) -> list[dict[str, Any]]:
    return [{column: getattr(record, column) for column in columns} for record in records]


def _scrape(
    env: Environment,
    name: str,
    fetch: Callable[[MuseumPlus, int, datetime | None, int], SearchPage[ObjectRecord] | SearchPage[AttachmentRecord]],
    write: Callable[[SearchPage[ObjectRecord]], int] | Callable[[SearchPage[AttachmentRecord]], int],
    log: Log,
) -> SyncResult:
    """Page by page, by key: nothing is skipped or read twice when the catalogue changes meanwhile."""
    settings = env.settings.museumplus
    with env.lock(locks.MUSEUMPLUS_SYNC, wait=LOCK_WAIT), MuseumPlus(settings) as museum:
        with env.transaction() as session:
            before = tables.begin_scrape(session, name)
        since = before - OVERLAP if before is not None else None
        log(f"{name}: reading {'everything' if since is None else f'what changed since {since.isoformat()}'}")
        progress, new, unreadable, last_id = Progress(name, log), 0, 0, 0
        started: datetime | None = None
        total: int | None = None
        while True:
            page = fetch(museum, last_id, since, settings.page_size)
            if started is None:
                started = page.server_time or env.now()
                total = page.total
            if page.last_id is None:
                break
            new += write(page)  # type: ignore[arg-type]  # fetch and write come in pairs
            if page.unreadable:
                unreadable += len(page.unreadable)
                log(f"{name}: the MuseumPlus user may not read {', '.join(map(str, page.unreadable))}")
            last_id = page.last_id
            progress.advance(len(page.records) + len(page.unreadable), total)
        with env.transaction() as session:
            tables.finish_scrape(session, name, started=started)
    return SyncResult(progress.done, new, progress.seconds, since, unreadable)


def sync_hashes(env: Environment, log: Log) -> SyncResult:
    """Compute the attachment hash of every object anew, in short transactions."""
    with env.transaction() as session:
        total = tables.count_objects(session)
    progress, changed, last_id = Progress("sync_hashes", log), 0, 0
    while True:
        with env.transaction() as session:
            ids = tables.object_ids_after(session, last_id, HASH_BATCH)
            if not ids:
                break
            changed += tables.update_attachment_hashes(session, ids)
        last_id = ids[-1]
        progress.advance(len(ids), total)
    return SyncResult(progress.done, changed, progress.seconds)
