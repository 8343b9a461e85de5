"""Bringing the database up to date with MuseumPlus: objects and attachments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic

from sqlalchemy.orm import Session

from passari_dagster import locks, stopping
from passari_dagster.catalogue import synchronisation as tables
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject
from passari_dagster.errors import TransientFailure
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.search import AttachmentRecord, ObjectRecord, Record, SearchModule, SearchPage
from passari_dagster.workflow.environment import Environment, Log

OVERLAP = timedelta(hours=1)
"""An incremental scrape asks for what changed since so long before the last one started: changes are never missed,
at the price of reading a few items twice."""
UNKNOWN_LIMIT = 5000
"""Most items of unknown hash that a scrape asks for by their ids."""
UNKNOWN_BATCH = 100
"""So many of them in one search."""
FEW = 5
"""So many items more than one in a hundred may leave the catalogue while it is read, without a doubt of the reading."""
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
        unreadable: how many the MuseumPlus user may not read; their hash is not known, and they are asked for again.
        partial: whether it was asked to stop before it had come to its end; the next one does its work again.
    """

    items: int
    new: int
    seconds: float
    since: datetime | None = None
    unreadable: int = 0
    partial: bool = False

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

    def fetch(museum: MuseumPlus, **query: Any) -> SearchPage[ObjectRecord]:
        return museum.search("Object", **query)

    def upsert(session: Session, records: Sequence[ObjectRecord]) -> int:
        rows = _rows(records, "id", "title", "created_date", "modified_date", "metadata_hash")
        return tables.upsert_objects(session, rows, {r.id: r.multimedia_ids for r in records})

    return _Scrape(env, "sync_objects", "Object", MuseumObject, fetch, upsert, log).run()


def sync_attachments(env: Environment, log: Log) -> SyncResult:
    """Read the attachments that changed since the last scrape; all of them the first time."""

    def fetch(museum: MuseumPlus, **query: Any) -> SearchPage[AttachmentRecord]:
        return museum.search("Multimedia", **query)

    def upsert(session: Session, records: Sequence[AttachmentRecord]) -> int:
        rows = _rows(records, "id", "filename", "created_date", "modified_date", "metadata_hash")
        return tables.upsert_attachments(session, rows, {r.id: r.object_ids for r in records})

    return _Scrape(env, "sync_attachments", "Multimedia", MuseumAttachment, fetch, upsert, log).run()


def _rows(records: Sequence[ObjectRecord] | Sequence[AttachmentRecord], *columns: str) -> list[dict[str, Any]]:
    return [{column: getattr(record, column) for column in columns} for record in records]


@dataclass
class _Scrape(Generic[Record]):
    """One scrape of a module, and what it has come to.

    Arguments:
        name: of its progress in the database.
        module: MuseumPlus's name of it.
        item: its table.
        fetch: searches the module; keywords as those of `MuseumPlus.search`.
        upsert: writes records; answers how many of them are new.
        read, new, unreadable, partial: of its `SyncResult`, as far as it has come.
    """

    env: Environment
    name: str
    module: SearchModule
    item: tables.Item
    fetch: Callable[..., SearchPage[Record]]
    upsert: Callable[[Session, Sequence[Record]], int]
    log: Log
    read: int = 0
    new: int = 0
    unreadable: set[int] = field(default_factory=set)
    partial: bool = False

    def run(self) -> SyncResult:
        """Read what changed, then what could not be read before."""
        env, name = self.env, self.name
        with env.lock(locks.MUSEUMPLUS_SYNC, wait=LOCK_WAIT), MuseumPlus(env.settings.museumplus) as museum:
            progress = Progress(name, self.log)
            with env.transaction() as session:
                before = tables.begin_scrape(session, name)
            since = before - OVERLAP if before is not None else None
            self.log(f"{name}: reading {'everything' if since is None else f'what changed since {since.isoformat()}'}")
            started = self._read_changes(museum, since, progress)
            if started is not None:
                with env.transaction() as session:
                    tables.finish_scrape(session, name, started=started)
                if since is not None:
                    self._read_unknown(museum)
        return SyncResult(self.read, self.new, progress.seconds, since, len(self.unreadable), self.partial)

    def _read_changes(self, museum: MuseumPlus, since: datetime | None, progress: Progress) -> datetime | None:
        """Page by page, by key: nothing is skipped or read twice when the catalogue changes meanwhile.

        Returns:
            when it began, by MuseumPlus's clock; None: it was asked to stop before it came to the end.
        """
        started: datetime | None = None
        total: int | None = None
        left = last_id = 0
        while not self._is_to_stop():
            page = self._page(museum, last_id, since)
            if started is None:
                started, total = page.server_time or self.env.now(), page.total
            if page.last_id is None:
                self._require_all(total, left)
                return started
            self._take(page)
            last_id = page.last_id
            count = len(page.records) + len(page.unreadable)
            left = page.total - count if page.total is not None else 0
            progress.advance(count, total)
        return None

    def _page(self, museum: MuseumPlus, after_id: int, since: datetime | None) -> SearchPage[Record]:
        """A page. An empty one is the end, or a moment's slip that would lose the rest: it is asked for again."""
        for _ in range(2):
            page = self.fetch(
                museum, after_id=after_id, modified_since=since, limit=self.env.settings.museumplus.page_size
            )
            if page.last_id is not None:
                break
        return page

    def _require_all(self, total: int | None, left: int) -> None:
        """Compare what was read with what MuseumPlus said there is: in all, and after the last page.

        Raises:
            TransientFailure: too much is missing for items that were deleted meanwhile.
        """
        if max((total or 0) * 99 // 100 - self.read, left) > FEW:
            raise TransientFailure(
                f"{self.name}: MuseumPlus has nothing more after {self.read} items, though it spoke of {total}, and "
                f"of {left} after the last ones; this scrape does not count, the next one reads the same again"
            )

    def _read_unknown(self, museum: MuseumPlus) -> None:
        """Ask by id for items whose hash is not known: that somebody may read them now is no change of theirs.

        By a search, since a hash is that of the item where it stands in a search page.
        """
        with self.env.transaction() as session:
            ids = tables.ids_without_hash(session, self.item, UNKNOWN_LIMIT)
        ids = [item_id for item_id in ids if item_id not in self.unreadable]
        size = min(UNKNOWN_BATCH, self.env.settings.museumplus.page_size)
        progress = Progress(f"{self.name}, items of unknown hash", self.log)
        for batch in (ids[at : at + size] for at in range(0, len(ids), size)):
            if self._is_to_stop():
                return
            self._take(self.fetch(museum, ids=batch, limit=size))
            progress.advance(len(batch), len(ids))

    def _take(self, page: SearchPage[Record]) -> None:
        """Write a page."""
        with self.env.transaction() as session:
            self.new += self.upsert(session, page.records)
        self.read += len(page.records) + len(page.unreadable)
        if not page.unreadable:
            return
        # A transaction of its own: one that takes its rows out of their order could be in a deadlock with the hashes'.
        with self.env.transaction() as session:
            self.new += tables.forget_hashes(session, self.item, page.unreadable)
        self.unreadable.update(page.unreadable)
        self.log(
            f"{self.name}: MuseumPlus gave system fields only of {', '.join(map(str, page.unreadable))}: its user "
            f"lacks read permission on module {self.module} for them; once it is granted, the next sync reads them"
        )

    def _is_to_stop(self) -> bool:
        if stopping.is_asked():
            self.partial = True
            self.log(f"{self.name}: stops early, as asked, after {self.read} items")
        return self.partial
