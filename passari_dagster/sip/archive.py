"""Writing the tar: plain, uncompressed, complete or not there at all.

Which files go in, and under which names, is decided elsewhere. [SIP specification: one uncompressed tar, names
relative to its root, no wrapping directory, regular files only.]
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from passari_dagster.durable import open_for_replacement
from passari_dagster.errors import TransientFailure
from passari_dagster.sip.files import open_regular

PART_SUFFIX = ".part"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Member:
    """One file of the tar: from disk, with the size (bytes) and SHA-256 that the METS tells, or from memory."""

    name: PurePosixPath
    source: Path | bytes
    size: int
    sha256: str


def write_tar(tar: Path, members: Iterable[Member], *, modified: datetime) -> tuple[int, str]:
    """Write the tar under another name and rename it when it is complete and on disk.

    Arguments:
        tar: the final name.
        members: the files, in their order.
        modified: time of modification that all members get.

    Returns:
        size in bytes and SHA-256 of the tar.

    Raises:
        TransientFailure: a file is not the one that was examined before.
        OSError: the disk is full, or another fault of the file system; nothing is left behind.
    """
    with open_for_replacement(tar, suffix=PART_SUFFIX) as stream:
        out = _HashingWriter(stream)
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as archive:
            for member in members:
                _add(archive, member, int(modified.timestamp()))
    return out.size, out.digest.hexdigest()


def _add(archive: tarfile.TarFile, member: Member, modified: int) -> None:
    info = tarfile.TarInfo(str(member.name))
    info.size, info.mtime, info.mode = member.size, modified, 0o644
    if isinstance(member.source, bytes):
        archive.addfile(info, io.BytesIO(member.source))
        return
    with open_regular(member.source) as stream:
        if os.fstat(stream.fileno()).st_size != member.size:
            raise _changed(member)
        reader = _HashingReader(stream, member)
        archive.addfile(info, reader)
        if reader.digest.hexdigest() != member.sha256:
            raise _changed(member)


def _changed(member: Member) -> TransientFailure:
    return TransientFailure(f"{member.name} changed while it was packed")


class _HashingReader(io.RawIOBase):
    """What tarfile reads a member from; the file must not end before its time."""

    def __init__(self, stream: BinaryIO, member: Member) -> None:
        self.stream = stream
        self.member = member
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        if len(data) < size:
            raise _changed(self.member)
        self.digest.update(data)
        return data


class _HashingWriter(io.RawIOBase):
    """What tarfile writes to."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # tarfile writes nothing but bytes
        self.stream.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)
