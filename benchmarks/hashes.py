"""Attachment hashes in the embedded PostgreSQL: all, and those of a few changes; each object has two attachments.

    python benchmarks/hashes.py [--quick] [--json]

| figure | is |
|---|---|
| full_200k_s, full_1m_s | all hashes counted for the first time, so that each row changes |
| unchanged_200k_s | all counted again, with nothing changed |
| after_200_changes_s | 200 attachments have changed, and their objects were marked; median of five |
| longest_lock_s | longest transaction of all these, its commit included: no row is locked for longer |
| longest_wait_s | longest that somebody waited who changed objects at random meanwhile |
| client_cpu_s_1m | CPU of this process in full_1m_s; the database does the rest |
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import big_catalogue, machine
from benchmarks.instant_toolkit import InstantToolkit
from passari_dagster.catalogue import attachment_hashes
from passari_dagster.services.embedded import EmbeddedRedis
from passari_dagster.settings import load
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.hashes import HashResult, sync_hashes

CHANGES = 200
EXAMPLE = Path(__file__).resolve().parent.parent / "passari.toml.example"


LONGEST: list[float] = [0.0]
"""Seconds of the longest transaction so far."""


class TimedEnvironment(Environment):
    """Notes how long each transaction lasts, its commit included: none of its locks lasts longer."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """As those of `Environment`."""
        begun = time.monotonic()
        try:
            with super().transaction() as session:
                yield session
        finally:
            LONGEST[0] = max(LONGEST[0], time.monotonic() - begun)


class Somebody:
    """Changes objects at random in another connection, as a person or a run does, and notes the longest wait."""

    def __init__(self, engine: Engine, objects: int) -> None:
        self.longest = 0.0
        self.changes = 0
        self._engine, self._objects, self._over = engine, objects, threading.Event()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """For as long as the block runs."""
        thread = threading.Thread(target=self._change)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self._engine.dispose()

    def _change(self) -> None:
        chance = random.Random(5)
        while not self._over.wait(0.02):
            begun = time.monotonic()
            with self._engine.begin() as connection:
                connection.execute(
                    text("UPDATE museum_objects SET freeze_reason = 'x' WHERE id = :id"),
                    {"id": chance.randint(1, self._objects)},
                )
            self.longest = max(self.longest, time.monotonic() - begun)
            self.changes += 1


@contextlib.contextmanager
def environment(engine: Engine) -> Iterator[Environment]:
    """What the use case needs: the database, and Redis for its lock."""
    with (
        tempfile.TemporaryDirectory(prefix="passari-benchmark-") as directory,
        EmbeddedRedis(Path(directory) / "redis") as redis,
    ):
        os.environ["PASSARI_CONFIG"] = str(EXAMPLE)
        settings = load(database_url=engine.url.render_as_string(hide_password=False), redis_url=redis.url())
        yield TimedEnvironment(settings=settings, engine=engine, toolkit=InstantToolkit())


def timed(env: Environment, *, full: bool = False) -> tuple[float, HashResult]:
    """Seconds of wall time, and what was done."""
    begun = time.monotonic()
    result = sync_hashes(env, lambda _: None, full=full)
    return time.monotonic() - begun, result


def change(env: Environment, first_id: int) -> None:
    """New hashes for attachments of different objects; the objects are marked in the same transaction."""
    step = big_catalogue.ATTACHMENTS * 7
    attachments = [first_id * big_catalogue.ATTACHMENTS + number * step for number in range(CHANGES)]
    with env.transaction() as session:
        changed = session.scalars(
            text(
                "UPDATE museum_attachments SET metadata_hash = md5(metadata_hash) || md5(metadata_hash || 'x') "
                "FROM object_attachment_association AS link WHERE link.museum_attachment_id = museum_attachments.id "
                "AND museum_attachments.id = ANY(:ids) RETURNING link.museum_object_id"
            ),
            {"ids": attachments},
        ).all()
        attachment_hashes.mark_stale(session, changed)


def measure_catalogue(objects: int, figures: dict[str, Any]) -> None:
    """One size."""
    name = {200_000: "200k", 1_000_000: "1m"}.get(objects, str(objects))
    with big_catalogue.museum_database() as engine, environment(engine) as env:
        big_catalogue.fill(engine, objects)
        somebody = Somebody(create_engine(engine.url), objects)
        LONGEST[0] = 0.0
        cpu = time.process_time()
        seconds, result = timed(env)
        figures[f"client_cpu_s_{name}"] = round(time.process_time() - cpu, 2)
        assert (result.full, result.new, result.stale) == (True, objects, 0)
        figures[f"full_{name}_s"] = round(seconds, 2)
        seconds, result = timed(env, full=True)
        assert result.new == 0
        figures[f"unchanged_{name}_s"] = round(seconds, 2)
        after = []
        for number in range(5):
            change(env, 1 + number)
            seconds, result = timed(env)
            assert (result.full, result.items, result.new) == (False, CHANGES, CHANGES)
            after.append(seconds)
        figures["after_200_changes_s"] = max(figures.get("after_200_changes_s", 0), round(statistics.median(after), 3))
        figures["longest_lock_s"] = max(figures.get("longest_lock_s", 0), round(LONGEST[0], 3))
        with engine.begin() as connection:
            connection.execute(text("UPDATE museum_attachments SET metadata_hash = 'x' || id WHERE id % 4 = 1"))
        with somebody.busy():
            _, result = timed(env, full=True)
        assert somebody.changes > 10
        figures["longest_wait_s"] = max(figures.get("longest_wait_s", 0), round(somebody.longest, 3))


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {"longest_lock_s": 0.0, "after_200_changes_s": 0.0, "longest_wait_s": 0.0}
    for objects in (20_000,) if quick else (200_000, 1_000_000):
        measure_catalogue(objects, figures)
    return figures


if __name__ == "__main__":
    sys.exit(machine.run(__doc__, "20,000 objects only", measure))
