"""What a download brought, file by file, with digests: the packager compares, so that nothing is lost on the way.

The manifest lies beside the files, in the package directory, and not in the package. So does what was changed in the
documents before they were written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from passari_dagster import durable
from passari_dagster.errors import PermanentFailure

NAME = "manifest.json"
CHANGES = "changes.json"


class Manifest:
    """Digests of the files of a download, by path relative to the package's root; each change is durable.

    Arguments:
        root: the object's package directory.
    """

    def __init__(self, root: Path) -> None:
        self._path, self._changes_path = root / NAME, root / CHANGES
        self.digests = _read(self._path)
        self.changes = _read(self._changes_path)
        """What was changed in documents, by path."""

    def add(self, files: Mapping[str, str]) -> None:
        """Record files: a lower-case hex SHA-256 digest for each path."""
        self.digests.update(files)
        self._write()

    def tell_change(self, path: str, note: str | None) -> None:
        """Record what was changed in a document, before the document is; None: nothing, it is as MuseumPlus gave it."""
        if note == self.changes.get(path):
            return
        if note is None:
            del self.changes[path]
        else:
            self.changes[path] = note
        _write(self._changes_path, self.changes)

    def keep_only(self, paths: set[str]) -> None:
        """Forget files that are no longer part of the object."""
        self.digests = {path: digest for path, digest in self.digests.items() if path in paths}
        self._write()
        for path in set(self.changes) - paths:
            self.tell_change(path, None)

    def holds(self, path: str, file: Path) -> bool:
        """Whether the file is the one that was recorded under this path."""
        digest = self.digests.get(path)
        return digest is not None and durable.sha256_of(file) == digest

    def read(self, path: str, file: Path) -> bytes:
        """A document, as it was recorded under this path.

        Raises:
            PermanentFailure: it is missing, not recorded, or another one.
        """
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            data = None
        if data is None or hashlib.sha256(data).hexdigest() != self.digests.get(path):
            raise PermanentFailure(f"{path} is missing, or is not the file that {NAME} tells of")
        return data

    def _write(self) -> None:
        _write(self._path, self.digests)


def _read(path: Path) -> dict[str, str]:
    try:
        entries: dict[str, str] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return entries


def _write(path: Path, entries: Mapping[str, str]) -> None:
    durable.write_bytes(path, json.dumps(entries, sort_keys=True, indent=0).encode())
