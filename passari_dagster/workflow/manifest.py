"""What a download brought, file by file, with digests: the packager compares, so that nothing is lost on the way.

The manifest lies beside the files, in the package directory, and not in the package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from passari_dagster import durable
from passari_dagster.errors import PermanentFailure

NAME = "manifest.json"


class Manifest:
    """Digests of the files of a download, by path relative to the package's root; each change is durable.

    Arguments:
        root: the object's package directory.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        try:
            self.digests: dict[str, str] = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            self.digests = {}

    def add(self, files: Mapping[str, str]) -> None:
        """Record files: a lower-case hex SHA-256 digest for each path."""
        self.digests.update(files)
        self._write()

    def keep_only(self, paths: set[str]) -> None:
        """Forget files that are no longer part of the object."""
        self.digests = {path: digest for path, digest in self.digests.items() if path in paths}
        self._write()

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
        durable.write_bytes(self._path, json.dumps(self.digests, sort_keys=True, indent=0).encode())
