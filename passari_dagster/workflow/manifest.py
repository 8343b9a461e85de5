"""What a download brought, file by file, with digests: the packager compares, so that nothing is lost on the way.

Told as well is what cannot be seen from the files: archives that were unpacked and are gone, and what was changed in
documents before they were written. The manifest lies beside the files, in the package directory, not in the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from passari_dagster import durable
from passari_dagster.sip.files import FilesChanged

NAME = "manifest.json"
T = TypeVar("T")


@dataclass(frozen=True)
class UnpackedArchive:
    """An archive in whose place there is a directory of the same name.

    Arguments:
        kind: `ZIP`, `TAR` or `7z`.
        size: in bytes, as it was downloaded.
        sha256: lower-case hex digest, likewise.
        unpacked: when, with a time zone.
        left_out: leftovers of operating systems that were in it, by path in the archive.
    """

    kind: str
    size: int
    sha256: str
    unpacked: datetime
    left_out: tuple[str, ...] = ()


class Manifest:
    """Digests of the files of a download, and its archives, by path relative to the package's root; each change is
    durable.

    On disk it is a row of JSON documents, each of which changes what those before it tell. So a change costs no more
    where there are many files. The last one may have been cut by a kill: what it tells of is then not known.

    Arguments:
        root: the object's package directory.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self.digests: dict[str, str] = {}
        self.archives: dict[str, UnpackedArchive] = {}
        self.changes: dict[str, str] = {}
        """What was changed in documents, by path."""
        self._neighbours: dict[str, set[str]] = {}
        """Paths of files, by the directory of the attachment that they belong to."""
        self._appendable = False
        """What is on disk is whole, and another document may follow."""
        with contextlib.suppress(FileNotFoundError):
            self._read(self._path.read_bytes())

    def _read(self, data: bytes) -> None:
        """Take over what is there; what is no manifest counts as none."""
        text, at = data.decode("latin-1"), 0  # JSON is ASCII, and what is none does no harm
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            while at < len(text):
                found, at = json.JSONDecoder().raw_decode(text, at)
                at += 1  # the new line
                # Before there were archives, it was the files' digests and nothing else.
                files, archives = found.get("files", found), found.get("archives", {})
                self._apply(
                    _Change(files, {path: _archive(archives[path]) for path in archives}, found.get("changes", {}))
                )
            self._appendable = text.endswith("\n")

    def _apply(self, change: _Change) -> None:
        _update(self.digests, change.files)
        _update(self.archives, change.archives)
        _update(self.changes, change.changes)
        for path, digest in change.files.items():
            neighbours = self._neighbours.setdefault(_attachment(path), set())
            if digest is None:
                neighbours.discard(path)
            else:
                neighbours.add(path)

    def add(self, files: Mapping[str, str], archives: Mapping[str, UnpackedArchive] | None = None) -> None:
        """Record files, a lower-case hex SHA-256 digest for each path, and the archives that they were in."""
        self._record(_Change(files, archives or {}))

    def tell_change(self, path: str, note: str | None) -> None:
        """Record what was changed in a document, before the document is; None: nothing, it is as MuseumPlus gave it."""
        if note != self.changes.get(path):
            self._record(_Change(changes={path: note}))

    def keep_only(self, paths: set[str]) -> None:
        """Forget files that are no longer part of the object, and archives of which nothing is."""
        self._apply(_Change(dict.fromkeys(self.digests.keys() - paths)))
        self.archives = {path: archive for path, archive in self.archives.items() if self.below(path)}
        self.changes = {path: note for path, note in self.changes.items() if path in paths}
        self._write()

    def forget(self, directory: str) -> Collection[str]:
        """Forget all that was in a directory; returns the paths of the files."""
        gone = self.below(directory)
        if gone:
            self._record(
                _Change(
                    dict.fromkeys(gone),
                    {path: None for path in self.archives if path.startswith(f"{directory}/")},
                    {path: None for path in self.changes if path.startswith(f"{directory}/")},
                )
            )
        return gone

    def below(self, directory: str) -> dict[str, str]:
        """The files that are recorded in an attachment's directory, or in one below, with their digests."""
        neighbours = self._neighbours.get(_attachment(directory), ())
        return {path: self.digests[path] for path in neighbours if path.startswith(f"{directory}/")}

    def holds(self, path: str, file: Path) -> bool:
        """Whether the file is the one that was recorded under this path."""
        digest = self.digests.get(path)
        return digest is not None and durable.sha256_of(file) == digest

    def read(self, path: str, file: Path) -> bytes:
        """A document, as it was recorded under this path.

        Raises:
            FilesChanged: it is missing, not recorded, or another one.
        """
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            data = None
        if data is None or hashlib.sha256(data).hexdigest() != self.digests.get(path):
            raise FilesChanged(f"{path} is missing, or is not the file that {NAME} tells of")
        return data

    def _record(self, change: _Change) -> None:
        self._apply(change)
        if not self._appendable:
            self._write()
            return
        self._appendable = False
        with self._path.open("ab") as stream:
            stream.write(change.as_json())
            stream.flush()
            os.fsync(stream.fileno())
        self._appendable = True

    def _write(self) -> None:
        """All of it as one document."""
        durable.write_bytes(self._path, _Change(self.digests, self.archives, self.changes).as_json())
        self._appendable = True


@dataclass(frozen=True)
class _Change:
    """What is known from now on, by path; None: no longer."""

    files: Mapping[str, str | None] = field(default_factory=dict)
    archives: Mapping[str, UnpackedArchive | None] = field(default_factory=dict)
    changes: Mapping[str, str | None] = field(default_factory=dict)

    def as_json(self) -> bytes:
        archives = {
            path: archive and {**asdict(archive), "unpacked": archive.unpacked.isoformat()}
            for path, archive in self.archives.items()
        }
        told = {"files": dict(self.files), "archives": archives, "changes": dict(self.changes)}
        return json.dumps(told, sort_keys=True).encode() + b"\n"


def _archive(told: dict[str, Any] | None) -> UnpackedArchive | None:
    if told is None:
        return None
    unpacked, left_out = datetime.fromisoformat(told["unpacked"]), tuple(told.get("left_out", ()))
    return UnpackedArchive(**{**told, "unpacked": unpacked, "left_out": left_out})


def _update(known: dict[str, T], change: Mapping[str, T | None]) -> None:
    for path, value in change.items():
        if value is None:
            known.pop(path, None)
        else:
            known[path] = value


def _attachment(path: str) -> str:
    """The directory of the attachment, `attachments/7`, that a path belongs to."""
    return "/".join(path.split("/", 2)[:2])
