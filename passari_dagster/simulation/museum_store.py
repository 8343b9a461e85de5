"""What was changed in the simulated museum: kept in SQLite, in memory or in a folder where it outlives the process."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from passari_dagster.simulation import museum_files
from passari_dagster.simulation.museum_records import (
    FIRST_MULTIMEDIA,
    FIRST_OBJECT,
    MOST_ATTACHMENTS,
    AttachmentFacts,
    Museum,
    ObjectFacts,
)

_TABLES = """
CREATE TABLE IF NOT EXISTS museum (objects INTEGER, seed INTEGER);
CREATE TABLE IF NOT EXISTS Object
    (id INTEGER PRIMARY KEY, created TEXT, modified TEXT, deleted INTEGER, facts TEXT);
CREATE TABLE IF NOT EXISTS Multimedia
    (id INTEGER PRIMARY KEY, created TEXT, modified TEXT, deleted INTEGER, facts TEXT);
CREATE TABLE IF NOT EXISTS content (id INTEGER PRIMARY KEY, bytes BLOB, path TEXT);
"""
_FILE = "museumplus.sqlite"
ModuleName = Literal["Object", "Multimedia"]


@dataclass(frozen=True)
class Row:
    """What searches look at."""

    id: int
    created: datetime | None
    modified: datetime | None
    deleted: bool = False


class Store:
    """The museum as it is now.

    Arguments:
        museum: as it was at first.
        directory: where changes are kept; None: in memory.

    Raises:
        ValueError: the directory holds the changes of another museum (another size or seed).
    """

    def __init__(self, museum: Museum, directory: Path | None) -> None:
        self.museum = museum
        self._mutex = threading.Lock()
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            directory / _FILE if directory else ":memory:", check_same_thread=False, isolation_level=None
        )
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES}")
        found = self._db.execute("SELECT objects, seed FROM museum").fetchone()
        if found is None:
            self._db.execute("INSERT INTO museum VALUES (?, ?)", (museum.size, museum.seed))
        elif found != (museum.size, museum.seed):
            self._db.close()
            raise ValueError(f"{directory} holds a museum of {found[0]} objects, seed {found[1]}")

    def close(self) -> None:
        """Close the database."""
        with self._mutex:
            self._db.close()

    def object(self, object_id: int) -> ObjectFacts | None:
        """An object; None if there is none (any more)."""
        stored = self._facts("Object", object_id)
        if stored is None:
            return self.museum.object(object_id) if self.museum.has_object(object_id) else None
        facts = ObjectFacts(
            **{
                **stored,
                "multimedia_ids": tuple(stored["multimedia_ids"]),
                "activity_ids": tuple(stored["activity_ids"]),
            }
        )
        return None if facts.deleted else facts

    def attachment(self, multimedia_id: int) -> AttachmentFacts | None:
        """An attachment; None if there is none (any more)."""
        stored = self._facts("Multimedia", multimedia_id)
        if stored is None:
            found = self.museum.has_attachment(multimedia_id)
            return self.museum.attachment(multimedia_id) if found else None
        facts = AttachmentFacts(**stored)
        return None if facts.deleted else facts

    def content(self, multimedia_id: int) -> bytes | Path | None:
        """The file of an attachment; None if there is none."""
        row = self._one("SELECT bytes, path FROM content WHERE id = ?", multimedia_id)
        if row is not None:
            return Path(row[1]) if row[1] is not None else cast("bytes | None", row[0])
        facts = self.attachment(multimedia_id)
        return museum_files.content(facts.kind, multimedia_id) if facts and facts.kind else None

    def has_file(self, facts: AttachmentFacts) -> bool:
        """Whether an attachment has a file, found without making it."""
        row = self._one("SELECT bytes IS NOT NULL OR path IS NOT NULL FROM content WHERE id = ?", facts.id)
        return bool(row[0]) if row is not None else facts.kind is not None

    def save_object(self, facts: ObjectFacts) -> None:
        """Keep an object as it now is."""
        self._save("Object", facts, deleted=facts.deleted)

    def save_attachment(self, facts: AttachmentFacts) -> None:
        """Keep an attachment as it now is."""
        self._save("Multimedia", facts, deleted=facts.deleted)

    def save_content(self, multimedia_id: int, content: bytes | Path | None) -> None:
        """Keep the file of an attachment; a path is read whenever it is asked for; None: there is no file."""
        path = str(content) if isinstance(content, Path) else None
        with self._mutex:
            self._db.execute(
                "INSERT OR REPLACE INTO content VALUES (?, ?, ?)",
                (multimedia_id, None if isinstance(content, Path) else content, path),
            )

    def new_id(self, module: ModuleName) -> int:
        """The next free id."""
        first = (
            FIRST_OBJECT + self.museum.size
            if module == "Object"
            else FIRST_MULTIMEDIA + self.museum.size * MOST_ATTACHMENTS
        )
        row = self._one(f"SELECT max(id) FROM {module} WHERE id >= ?", first)  # noqa: S608 - a Literal
        return row[0] + 1 if row and row[0] is not None else first

    def changed(self, module: ModuleName, after_id: int) -> list[Row]:
        """Everything changed or added, with a greater id, by id."""
        query = f"SELECT id, created, modified, deleted FROM {module} WHERE id > ? ORDER BY id"  # noqa: S608
        with self._mutex:
            rows = self._db.execute(query, (after_id,)).fetchall()
        return [Row(item, _time(created), _time(modified), bool(gone)) for item, created, modified, gone in rows]

    def _facts(self, module: ModuleName, item_id: int) -> dict[str, Any] | None:
        row = self._one(f"SELECT facts FROM {module} WHERE id = ?", item_id)  # noqa: S608 - a Literal
        if row is None:
            return None
        facts: dict[str, Any] = json.loads(row[0])
        return {**facts, "created": _time(facts["created"]), "modified": _time(facts["modified"])}

    def _save(self, module: ModuleName, facts: ObjectFacts | AttachmentFacts, *, deleted: bool) -> None:
        times = [time.isoformat() if time else None for time in (facts.created, facts.modified)]
        text = json.dumps({**asdict(facts), "created": times[0], "modified": times[1]})
        with self._mutex:
            self._db.execute(
                f"INSERT OR REPLACE INTO {module} VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - a Literal
                (facts.id, *times, deleted, text),
            )

    def _one(self, query: str, item_id: int) -> tuple[Any, ...] | None:
        with self._mutex:
            return cast("tuple[Any, ...] | None", self._db.execute(query, (item_id,)).fetchone())


def first_rows(museum: Museum, module: ModuleName, after_id: int) -> Iterator[Row]:
    """What was there from the beginning, by id; made while it is read."""
    if module == "Object":
        for object_id in range(max(after_id + 1, FIRST_OBJECT), FIRST_OBJECT + museum.size):
            yield Row(object_id, *museum.dates(object_id - FIRST_OBJECT))
    else:
        ends = FIRST_MULTIMEDIA + museum.size * MOST_ATTACHMENTS
        for multimedia_id in range(max(after_id + 1, FIRST_MULTIMEDIA), ends):
            if museum.has_attachment(multimedia_id):
                index = (multimedia_id - FIRST_MULTIMEDIA) // MOST_ATTACHMENTS
                yield Row(multimedia_id, *museum.dates(index))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
