"""One scrape of a module of MuseumPlus: by key, in parts of the id space, side by side, each page with its progress.

Which scrape is due is decided in `synchronise`. A scan is a scrape of everything, which sees what was removed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic
from zoneinfo import ZoneInfo

from passari_dagster import stopping
from passari_dagster.catalogue import scrapes
from passari_dagster.catalogue import synchronisation as tables
from passari_dagster.catalogue.scrapes import Part, Scrape
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.items import truncated_message
from passari_dagster.museumplus.search import Record
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.pages import FEW, Page, Reader, Source, cut
from passari_dagster.workflow.progress import Progress, SyncResult
from passari_dagster.workflow.side_by_side import SideBySide

UNKNOWN_LIMIT = 5000
"""Most items of unknown hash that are asked for by their ids."""
ASKED_BY_ID = 100
"""So many ids in one search."""
PAGES_IN_A_PART = 2
MIN_ITEMS_TO_JUDGE = 10
"""Items on a page, at least, none of which could be read, for it to be asked whether the user may read any at all."""
READABLE = 20
"""So many items that were readable once are asked for then."""
WITNESSES = 3
"""So many items that were seen are asked for with those that were not: an answer that has none of them is wrong."""


@dataclass(frozen=True)
class Options:
    """What a person may want of a sync.

    Arguments:
        full: read everything now, even if no scan is due.
        limit: stop after so many items.
        offset: without saving progress: leave out so many items, by ascending id.
        save_progress: go on where the last one stopped, and let the next one go on here.
        window: stop at the end of the nightly window.
        accept_removals: mark what MuseumPlus does not have any more, however much it is.
    """

    full: bool = False
    limit: int | None = None
    offset: int = 0
    save_progress: bool = True
    window: bool = True
    accept_removals: bool = False

    def __post_init__(self) -> None:
        if self.offset and self.save_progress:
            raise ValueError("offset leaves items out: save_progress should be false with it")


class Scraper(Generic[Record]):
    """The scrapes of one run, and what they have come to. Transactions and log are the calling thread's."""

    def __init__(
        self, env: Environment, museum: MuseumPlus, source: Source[Record], options: Options, log: Log
    ) -> None:
        self._env, self._options, self._log = env, options, log
        self._source: Source[Record] = source
        self._settings = env.settings.museumplus
        self._reader: Reader[Record] = Reader(
            museum, source, page_size=self._settings.page_size, limit=options.limit, offset=options.offset
        )
        local = env.now().astimezone(ZoneInfo(env.settings.time_zone))
        self._end = env.settings.workflow.sync_end(local) if options.window else None
        self._progress = Progress(source.name, log)
        self._total: int | None = None
        self._since: datetime | None = None
        self._read = self._new = self._removed = 0
        self._unreadable: set[int] = set()
        self._may_read = False
        self.partial = False
        """Whether it was to stop before it came to its end."""
        self.has_scanned = False
        """Whether a scan has come to its end."""

    def result(self) -> SyncResult:
        """What it has come to."""
        night = self._env.settings.workflow.sync_night
        return SyncResult(
            items=self._read,
            new=self._new,
            seconds=self._progress.seconds,
            since=self._since,
            unreadable=len(self._unreadable),
            removed=self._removed,
            partial=self.partial,
            done=self._progress.done,
            total=self._total,
            nights_left=self._progress.nights_left(self._total, night) if self.partial else None,
        )

    # Which items

    def read_changes(self, overlap: timedelta) -> None:
        """Read what changed since the last finished scrape started, and before; first finish one that is under way.

        Arguments:
            overlap: how long before.
        """
        name = self._source.name
        with self._env.transaction() as session:
            known, scrape = scrapes.last_started(session, name), scrapes.under_way(session, name)
        if scrape is not None:
            if not self._scrape(name, scrape):
                return
            known = scrape.started
        if known is not None:
            self._scrape(name, self._begin(name, known - overlap))

    def go_on_for_passari_workflow(self) -> None:
        """Go on with the first scrape of all, in which passari-workflow was interrupted, if there is one."""
        with self._env.transaction() as session:
            scrape = scrapes.under_way(session, self._source.name)
            scrape = scrape or scrapes.adopt(session, self._source.name, self._source.item, total=None)
        if scrape is not None:
            self._log(
                f"{self._source.name}: going on where passari-workflow was interrupted, after {scrape.items} items"
            )
            self._scrape(self._source.name, scrape)

    def scan(self) -> None:
        """Read everything, and mark what MuseumPlus does not have any more; go on with a scan that is under way.

        Raises:
            PermanentFailure: too much would be marked.
        """
        source = self._source
        with self._env.transaction() as session:
            scrape = scrapes.under_way(session, source.scan)
        scrape = scrape or self._begin(source.scan, None)
        if not self._scrape(source.scan, scrape, scan=True) or not self._mark_removed(scrape.started):
            return
        self.has_scanned = True
        with self._env.transaction() as session:
            scrapes.finish(session, source.scan, started=scrape.started)
            known = scrapes.last_started(session, source.name)
            if known is None or known < scrape.started:
                # What changed before has been read with all the rest.
                scrapes.finish(session, source.name, started=scrape.started)

    def read_unsaved(self) -> None:
        """Read everything, or as much as was asked for, and save no progress."""
        for page in self._reader.pages(Part(1, None, 0), None, counted=False):
            self._require_permission(page)
            self._take(page, None)
            self._advance(page, None)
            if self._is_to_stop():
                return

    def read_unknown(self) -> None:
        """Ask by id for items whose hash is not known: that somebody may read them now is no change of theirs.

        By a search, since a hash is that of the item where it stands in a search page.
        """
        with self._env.transaction() as session:
            ids = tables.ids_without_hash(session, self._source.item, UNKNOWN_LIMIT)
        ids = [item_id for item_id in ids if item_id not in self._unreadable]
        progress = Progress(f"{self._source.name}, items of unknown hash", self._log)
        for batch in (ids[at : at + self._batch_size] for at in range(0, len(ids), self._batch_size)):
            if self._is_to_stop():
                return
            self._take_by_id(batch)
            progress.advance(len(batch), len(ids))

    # A scrape

    def _begin(self, name: str, since: datetime | None) -> Scrape:
        """Begin a scrape: how much there is, and at which time of MuseumPlus's."""
        greatest = self._reader.search(modified_since=since, limit=1, descending=True)
        total = greatest.total
        parts = [Part(1, None, 0)]
        if total is not None and total > 2 * PAGES_IN_A_PART * self._settings.page_size:
            lowest = self._reader.search(modified_since=since, limit=1)
            if lowest.last_id is not None and greatest.last_id is not None:
                parts = cut(lowest.last_id, greatest.last_id, total // (PAGES_IN_A_PART * self._settings.page_size))
        with self._env.transaction() as session:
            started = greatest.server_time or self._env.now()
            return scrapes.begin(session, name, started=started, since=since, total=total, parts=parts)

    def _scrape(self, name: str, scrape: Scrape, *, scan: bool = False) -> bool:
        """Read the parts of a scrape that are left.

        Returns:
            whether it has come to its end.
        """
        what = "everything" if scrape.since is None else f"what changed since {scrape.since.isoformat()}"
        self._log(f"{self._source.name}: reading {what}" + (f", after {scrape.items} items" if scrape.items else ""))
        self._since, self._total = self._since or scrape.since, scrape.total
        self._progress = Progress(self._source.name, self._log, scrape.items)
        # MuseumPlus gave one item and spoke of more: so what it speaks of is what matches, not what is in its answer.
        counted = scrape.total is not None and scrape.total > 1
        threads = min(self._settings.max_connections, len(scrape.parts)) if self._options.limit is None else 1
        reading = SideBySide(
            (self._reader.pages(part, scrape.since, counted=counted) for part in scrape.parts), threads
        )
        left = {part.first_id for part in scrape.parts}
        for page in reading:
            self._require_permission(page)
            self._take(page, name, scan=scan)
            if page.last:
                left.discard(page.part.first_id)
            self._advance(page, scrape.total)
            if left and self._is_to_stop():
                reading.stop()
        if left:
            self.partial = True
            return False
        self._require_all(name, scrape)
        if not scan:
            with self._env.transaction() as session:
                scrapes.finish(session, name, started=scrape.started)
        return True

    @property
    def _batch_size(self) -> int:
        """How many items are asked for by id at once."""
        return min(ASKED_BY_ID, self._settings.page_size)

    def _require_all(self, name: str, scrape: Scrape) -> None:
        """Compare what was read with what MuseumPlus said there is.

        Raises:
            TransientFailure: too much is missing for items that were deleted meanwhile.
        """
        with self._env.transaction() as session:
            read = scrapes.items_read(session, name)
        if not _short(read, scrape.total):
            return
        # Over many nights much may be deleted. An answer without an item tells nothing.
        now = self._reader.search(modified_since=scrape.since, limit=1)
        if now.last_id is None or _short(read, now.total):
            with self._env.transaction() as session:
                scrapes.abandon(session, name)
            raise TransientFailure(
                f"{self._source.name}: MuseumPlus gave {read} items, though it spoke of {scrape.total}; this scrape "
                "does not count, the next one reads the same again"
            )

    # What is written

    def _take(self, page: Page[Record], name: str | None, *, scan: bool = False) -> None:
        """Write a page, and that it was read.

        Arguments:
            name: of the scrape whose progress is saved; None: of none.
            scan: what is not on the page, and should be, is noted.
        """
        self._tell_unreadable(page.unreadable)
        source = self._source
        with self._env.transaction() as session:
            self._new += source.upsert(session, page.records) if page.records else 0
            scrapes.note_seen(session, source.scan, page.ids)
            if scan:
                scrapes.note_unseen(
                    session, source.scan, source.item, after_id=page.after_id, upto_id=page.upto_id, seen=page.ids
                )
            if name is not None:
                upto_id = page.upto_id if page.upto_id is not None else max(page.ids, default=page.after_id)
                scrapes.advance(session, name, page.part.first_id, read_id=upto_id, items=len(page.ids), done=page.last)
        self._read += len(page.ids)

    def _take_by_id(self, ids: Sequence[int]) -> set[int]:
        """Ask for items by their ids, and write those that there are.

        Returns:
            which there are.
        """
        answer = self._reader.search(ids=ids, limit=len(ids))
        if answer.total is not None and answer.total > len(answer.records) + len(answer.unreadable):
            raise TransientFailure(
                f"{self._source.name}: asked for {len(ids)} items by id, MuseumPlus spoke of {answer.total} and gave "
                f"{len(answer.records) + len(answer.unreadable)}; set museumplus.page_size to what it gives at once"
            )
        page = Page(Part(1, None, 0), 0, None, answer.records, answer.unreadable, last=False)
        self._take(page, None)
        return set(page.ids)

    def _require_permission(self, page: Page[Record]) -> None:
        """That nothing of a page could be read tells of its items only, if others can be read still.

        Raises:
            PermanentFailure: none can, as far as we know: the hashes of all of them are kept.
        """
        if page.records or len(page.unreadable) < MIN_ITEMS_TO_JUDGE or self._may_read:
            return
        with self._env.transaction() as session:
            known = tables.ids_with_hash(session, self._source.item, READABLE, without=page.unreadable)
        self._may_read = bool(known and self._reader.search(ids=known, limit=len(known)).records)
        if not self._may_read:
            raise PermanentFailure(truncated_message(page.unreadable[0]))

    def _tell_unreadable(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        # A transaction of its own: one that takes its rows out of their order could be in a deadlock with another.
        with self._env.transaction() as session:
            self._new += tables.forget_hashes(session, self._source.item, ids)
        self._unreadable.update(ids)
        self._log(
            f"{self._source.name}: MuseumPlus gave system fields only of {', '.join(map(str, ids))}: its user "
            f"lacks read permission on module {self._source.module} for them; once it is granted, the next sync reads "
            "them"
        )

    def _advance(self, page: Page[Record], total: int | None) -> None:
        if page.ids:
            self._progress.advance(len(page.ids), total)

    # What was removed

    def _mark_removed(self, started: datetime) -> bool:
        """Mark what the scan did not find, and what MuseumPlus does not have when it is asked for it by id.

        Arguments:
            started: when the scan did, by MuseumPlus's clock.

        Returns:
            whether all of it was looked at.

        Raises:
            PermanentFailure: it is so much that somebody should look first.
        """
        source = self._source
        with self._env.transaction() as session:
            number, known = scrapes.count_unseen(session, source.scan), tables.count(session, source.item)
            witnesses: list[int] = scrapes.some_seen(session, source.scan, source.item, WITNESSES)
        most = max(FEW, known * self._env.settings.workflow.sync_most_removed)
        if number > most and not self._options.accept_removals and not self._take_those_that_are_back(witnesses, most):
            return False
        while True:
            ids = self._unseen(after=0)
            if not ids:
                return True
            if self._is_to_stop():
                return False
            gone = self._gone(ids, witnesses)
            with self._env.transaction() as session:
                # By MuseumPlus's clock, if ours is behind it: it is counted what was removed since the scan started.
                now = max(self._env.now(), started)
                self._removed += scrapes.mark_removed(session, source.item, gone, now=now)
                scrapes.note_seen(session, source.scan, ids)

    def _take_those_that_are_back(self, witnesses: list[int], most: float) -> bool:
        """Much was not seen: of what MuseumPlus gives by id, for instance since a permission was granted again, nothing
        is removed.

        Returns:
            whether all of it was looked at.

        Raises:
            PermanentFailure: more is gone than may be marked without a person's word.
        """
        source, number, after = self._source, 0, 0
        while ids := self._unseen(after=after):
            if self._is_to_stop():
                return False
            gone = self._gone(ids, witnesses)
            with self._env.transaction() as session:
                scrapes.note_seen(session, source.scan, sorted(set(ids).difference(gone)))
            number, after = number + len(gone), ids[-1]
            if number > most:
                share = self._env.settings.workflow.sync_most_removed
                raise PermanentFailure(
                    f"{source.name}: MuseumPlus shows {number} items or more no more, which is more than "
                    f"workflow.sync_most_removed ({share:.0%}) of those that are known; nothing is marked as removed. "
                    "Have its user's permissions been changed? Then have them granted again: the next sync sees it. If "
                    "all is well, run the sync with accept_removals: true"
                )
        return True

    def _unseen(self, *, after: int) -> list[int]:
        with self._env.transaction() as session:
            return scrapes.unseen(session, self._source.scan, self._batch_size, after=after)

    def _gone(self, ids: list[int], witnesses: list[int]) -> list[int]:
        """Those of the items that MuseumPlus does not have; the others are written."""
        there = self._take_by_id([*ids, *witnesses])
        if there.isdisjoint(witnesses):
            raise TransientFailure(
                f"{self._source.name}: MuseumPlus does not give items that it should have ({witnesses or 'none seen'}):"
                " what it does not give is not marked as removed; the next sync asks again"
            )
        return [item_id for item_id in ids if item_id not in there]

    # When to stop

    def nap(self, seconds: float) -> bool:
        """Wait; False: it is to stop instead."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._is_to_stop():
                return False
            time.sleep(min(left, 1.0))
        return not self._is_to_stop()

    def _is_to_stop(self) -> bool:
        why = self._why_to_stop() if not self.partial else None
        if why is not None:
            self.partial = True
            self._log(f"{self._source.name}: stops early, {why}, after {self._read} items; the next one goes on there")
        return self.partial

    def _why_to_stop(self) -> str | None:
        if stopping.is_asked():
            return "as asked"
        if self._end is not None and self._env.now() >= self._end:
            return f"at the end of the nightly window ({self._end:%H:%M})"
        if self._options.limit is not None and self._read >= self._options.limit:
            return "at the limit"
        return None


def _short(read: int, total: int | None) -> bool:
    return (total or 0) * 99 // 100 - read > FEW
