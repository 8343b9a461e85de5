"""What a download brought, file by file, with digests: the packager compares, so that nothing is lost on the way.

Told as well is what cannot be seen from the files: archives that were unpacked and are gone, and what was changed in
documents before they were written. The manifest lies beside the files, in the package directory, not in the package.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from passari_dagster import durable
from passari_dagster.sip.files import FilesChanged

NAME = "manifest.json"


@dataclass(frozen=True)
class UnpackedArchive:
    """An archive in whose place there is a directory of the same name.

    Arguments:
        kind: `ZIP`, `TAR` or `7z`.
        size: in bytes, as it was downloaded.
        sha256: lower-case hex digest, likewise.
        unpacked: when, with a time zone.
    """

    kind: str
    size: int
    sha256: str
    unpacked: datetime


class Manifest:
    """Digests of the files of a download, and its archives, by path relative to the package's root; each change is
    durable.

    Arguments:
        root: the object's package directory.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self.digests: dict[str, str] = {}
        self.archives: dict[str, UnpackedArchive] = {}
        self.changes: dict[str, str] = {}
        """What was changed in documents, by path."""
        with contextlib.suppress(FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            self._read()

    def _read(self) -> None:
        """Take over what is there; what is no manifest counts as none."""
        found = json.loads(self._path.read_bytes())
        archives = {
            path: UnpackedArchive(**{**archive, "unpacked": datetime.fromisoformat(archive["unpacked"])})
            for path, archive in found.get("archives", {}).items()
        }
        # Before there were archives, it was the files' digests and nothing else.
        files = {str(path): str(digest) for path, digest in found.get("files", found).items()}
        self.digests, self.archives, self.changes = files, archives, dict(found.get("changes", {}))

    def add(self, files: Mapping[str, str], archives: Mapping[str, UnpackedArchive] | None = None) -> None:
        """Record files, a lower-case hex SHA-256 digest for each path, and the archives that they were in."""
        self.digests.update(files)
        self.archives.update(archives or {})
        self._write()

    def tell_change(self, path: str, note: str | None) -> None:
        """Record what was changed in a document, before the document is; None: nothing, it is as MuseumPlus gave it."""
        if note == self.changes.get(path):
            return
        if note is None:
            del self.changes[path]
        else:
            self.changes[path] = note
        self._write()

    def keep_only(self, paths: set[str]) -> None:
        """Forget files that are no longer part of the object, and archives of which nothing is."""
        self.digests = {path: digest for path, digest in self.digests.items() if path in paths}
        self.archives = {path: archive for path, archive in self.archives.items() if self.below(path)}
        self.changes = {path: note for path, note in self.changes.items() if path in paths}
        self._write()

    def forget(self, directory: str) -> None:
        """Forget all that was in a directory."""
        gone = self.below(directory).keys()
        if gone:
            self.keep_only(self.digests.keys() - gone)

    def below(self, directory: str) -> dict[str, str]:
        """The files that are recorded in a directory, with their digests."""
        return {path: digest for path, digest in self.digests.items() if path.startswith(f"{directory}/")}

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

    def _write(self) -> None:
        archives = {
            path: {**asdict(archive), "unpacked": archive.unpacked.isoformat()}
            for path, archive in self.archives.items()
        }
        manifest = {"files": self.digests, "archives": archives, "changes": self.changes}
        durable.write_bytes(self._path, json.dumps(manifest, sort_keys=True, indent=0).encode())
