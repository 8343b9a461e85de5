"""Files that appear whole or not at all: written under another name, fsynced, renamed. And their digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_NAME_BYTES = 255


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory durably, with those above it; harmless where it exists."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def _part(path: Path, suffix: str) -> Path:
    """The name while writing: the final one with the suffix, shortened where a file system could not hold that."""
    name = os.fsencode(path.name)
    if len(name) + len(suffix) <= MAX_NAME_BYTES:
        return path.with_name(path.name + suffix)
    return path.with_name(hashlib.sha256(name).hexdigest() + suffix)


@contextlib.contextmanager
def open_for_replacement(path: Path, *, suffix: str = ".part", mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write; it takes the name `path` when the block ends well, and is removed otherwise.

    Arguments:
        path: the final name, in a directory that exists.
        suffix: added to the name while the file is written.
        mode: permission bits of the new file, before the umask.
    """
    part = _part(path, suffix)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_bytes(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace the file's content durably, in one step."""
    with open_for_replacement(path, mode=mode) as stream:
        stream.write(data)


def sha256_of(path: Path) -> str | None:
    """Lower-case hex digest of a file, read in blocks; None where there is no such file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1024 * 1024):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()
