"""Bringing the database up to date with MuseumPlus: objects and attachments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from passari_dagster import locks
from passari_dagster.catalogue import scrapes
from passari_dagster.catalogue import synchronisation as tables
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject
from passari_dagster.errors import TransientFailure
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.search import AttachmentRecord, ObjectRecord, Record, SearchPage
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.pages import Source
from passari_dagster.workflow.progress import SyncResult
from passari_dagster.workflow.scrape import Options, Scraper

__all__ = ["Options", "Source", "SyncResult", "sync_attachments", "sync_objects"]

OVERLAP = timedelta(hours=1)
"""A scrape of changes asks for what changed since so long before the last one started: changes are never missed,
at the price of reading a few items twice."""
LOCK_WAIT = 6 * 3600.0
"""Seconds that a scrape waits for the other one to end."""
BY_DEFAULT = Options()
PATIENCE = (60.0, 180.0, 420.0, 900.0)
"""Seconds to wait for a MuseumPlus that is away, before each further try: some minutes do not cost the whole night."""


def sync_objects(
    env: Environment, log: Log, options: Options = BY_DEFAULT, patience: Sequence[float] = ()
) -> SyncResult:
    """Read the objects that changed since the last scrape; all of them the first time, and when a scan is due.

    Arguments:
        patience: seconds to wait before each further try, where something failed that may pass.
    """
    return _sync(env, log, OBJECTS, options, patience)


def sync_attachments(
    env: Environment, log: Log, options: Options = BY_DEFAULT, patience: Sequence[float] = ()
) -> SyncResult:
    """Read the attachments that changed since the last scrape; all of them the first time, and when a scan is due.

    Arguments:
        patience: as that of `sync_objects`.
    """
    return _sync(env, log, ATTACHMENTS, options, patience)


def _sync(
    env: Environment, log: Log, source: Source[Record], options: Options, patience: Sequence[float]
) -> SyncResult:
    with env.lock(locks.MUSEUMPLUS_SYNC, wait=LOCK_WAIT), MuseumPlus(env.settings.museumplus) as museum:
        scraper = Scraper(env, museum, source, options, log)
        if not options.save_progress:
            scraper.read_unsaved()
            return scraper.result()
        for wait in (*patience, None):
            try:
                _read(env, scraper, source, options)
                break
            except locks.LockLostError:
                raise
            except TransientFailure as error:
                if wait is None:
                    raise
                log(f"{source.name}: {error}; it is tried again in {wait:g} s")
                if not scraper.nap(wait):
                    break
        return scraper.result()


def _read(env: Environment, scraper: Scraper[Record], source: Source[Record], options: Options) -> None:
    """Read what is due, unless it was read by this call before something failed."""
    with env.transaction() as session:
        known = scrapes.last_started(session, source.name)
        scanned = scrapes.last_started(session, source.scan)
        scanning = scrapes.under_way(session, source.scan) is not None
    if known is not None:
        scraper.read_changes(OVERLAP)
    elif not scanning:
        scraper.go_on_for_passari_workflow()
    full = options.full and not scraper.has_scanned
    if not scraper.partial and (scanning or full or _is_due(env, scanned)):
        scraper.scan()
    if not scraper.partial and known is None and scanning:
        scraper.read_changes(OVERLAP)  # the scan has taken days: what changed since it began is not left for later
    if not scraper.partial and known is not None:
        scraper.read_unknown()


def removed_by_last_scan(env: Environment, source: Source[Any], sample: int) -> tuple[int, list[int]]:
    """How many items the last scan did not find, and the first ids of them."""
    with env.transaction() as session:
        scanned = scrapes.last_started(session, source.scan)
        return scrapes.removed_since(session, source.item, scanned, sample) if scanned is not None else (0, [])


def _is_due(env: Environment, scanned: datetime | None) -> bool:
    return scanned is None or env.now() - scanned >= timedelta(days=env.settings.workflow.full_scan_days)


def _search_objects(museum: MuseumPlus, **query: Any) -> SearchPage[ObjectRecord]:
    return museum.search("Object", **query)


def _search_attachments(museum: MuseumPlus, **query: Any) -> SearchPage[AttachmentRecord]:
    return museum.search("Multimedia", **query)


def _upsert_objects(session: Session, records: Sequence[ObjectRecord]) -> int:
    return tables.upsert_objects(session, [vars(r) for r in records], {r.id: r.multimedia_ids for r in records})


def _upsert_attachments(session: Session, records: Sequence[AttachmentRecord]) -> int:
    return tables.upsert_attachments(session, [vars(r) for r in records], {r.id: r.object_ids for r in records})


OBJECTS = Source("sync_objects", "scan_objects", "Object", MuseumObject, _search_objects, _upsert_objects)
ATTACHMENTS = Source(
    "sync_attachments", "scan_attachments", "Multimedia", MuseumAttachment, _search_attachments, _upsert_attachments
)
