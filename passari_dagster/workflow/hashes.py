"""Each object's hash over its attachments, kept up to date: those that are stale, and now and then all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from passari_dagster import locks, stopping
from passari_dagster.catalogue import attachment_hashes as hashes
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.progress import Progress, SyncResult

BATCH = 10_000
"""Objects of one transaction, which locks its rows for about a fifth of a second. Larger ones are no faster."""
EARLY = timedelta(hours=1)
"""So much before a count of all hashes is due it may begin: a run of each night does not begin at the same second."""
LOCK_WAIT = 600.0
"""Seconds that a run waits for another one to end."""


@dataclass(frozen=True)
class HashResult(SyncResult):
    """What a run did.

    Arguments:
        full: whether the hashes of all objects were counted; else those only whose links or attachments had changed.
        stale: how many are stale still: of objects that others had locked, and of changes that came meanwhile.
    """

    full: bool = False
    stale: int = 0


def sync_hashes(env: Environment, log: Log, *, full: bool = False) -> HashResult:
    """Compute the attachment hashes that are stale; or all, when that is asked for, is due, or was stopped half way.

    Arguments:
        full: count all now.
    """
    with env.lock(locks.HASHES, wait=LOCK_WAIT):
        return _Run(env, log).run(full)


class _Run:
    def __init__(self, env: Environment, log: Log) -> None:
        self._env, self._log = env, log
        self._progress = Progress("sync_hashes", log)
        self._changed = 0
        self._partial = False

    def run(self, full: bool) -> HashResult:
        read_id = self._recount_from(full)
        if read_id is not None:
            self._recount(read_id)
        if not self._partial:
            self._stale()
        with self._env.transaction() as session:
            left = hashes.count_stale(session)
        done, seconds = self._progress.done, self._progress.seconds
        return HashResult(done, self._changed, seconds, partial=self._partial, full=read_id is not None, stale=left)

    def _recount_from(self, full: bool) -> int | None:
        """The id after which all hashes are to be counted; None: only stale ones are."""
        env, now = self._env, self._env.now()
        with env.transaction() as session:
            read_id = hashes.recount_under_way(session)
            if read_id is not None:
                self._log(f"sync_hashes: goes on with the count of all hashes after object {read_id}")
                return read_id
            last = hashes.last_recount(session)
            if full or last is None or now - last >= env.settings.workflow.hash_recount_interval - EARLY:
                why = "asked for" if full else "never done" if last is None else f"done last on {last:%Y-%m-%d}"
                self._log(f"sync_hashes: counts all hashes ({why})")
                return hashes.begin_recount(session, now=now)
        return None

    def _recount(self, read_id: int) -> None:
        """All hashes after an id. What is interrupted goes on there; a batch that is counted twice does no harm."""
        env = self._env
        with env.transaction() as session:
            left = hashes.count_objects(session, after=read_id)
        while not self._is_to_stop():
            with env.transaction() as session:
                batch = hashes.next_batch(session, after=read_id, limit=BATCH, stale=False)
                if batch is None:
                    hashes.finish_recount(session)
                    return
                done = hashes.refresh(session, batch)
            for object_id in done.passed:
                # Each by itself: nothing is held while somebody else's row is waited for.
                with env.transaction() as session:
                    hashes.mark_stale(session, [object_id])
            with env.transaction() as session:
                hashes.save_recount(session, read_id=batch.upto, items=batch.objects)
            read_id = batch.upto
            self._advance(batch, done, left)

    def _stale(self) -> None:
        """What is stale, once through the ids: what is marked behind, or passed over, is the next run's."""
        env = self._env
        with env.transaction() as session:
            total = self._progress.done + hashes.count_stale(session)
        after = 0
        while not self._is_to_stop():
            with env.transaction() as session:
                batch = hashes.next_batch(session, after=after, limit=BATCH, stale=True)
                if batch is None:
                    return
                done = hashes.refresh(session, batch)
            after = batch.upto
            self._advance(batch, done, total)

    def _advance(self, batch: hashes.Batch, done: hashes.Refreshed, total: int) -> None:
        self._changed += done.changed
        self._progress.advance(batch.objects - len(done.passed), total)

    def _is_to_stop(self) -> bool:
        if stopping.is_asked() and not self._partial:
            self._partial = True
            self._log(f"sync_hashes: stops early, as asked, after {self._progress.done} objects")
        return self._partial
