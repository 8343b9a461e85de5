"""Writing the tar: plain, uncompressed, complete or not there at all; and the last look at the files that go in.

Which files go in, and under which names, is decided elsewhere. [SIP specification: one uncompressed tar, names
relative to its root, no wrapping directory, regular files only.]

Every byte is read once and digested twice, for its file and for the tar. The digests are computed by threads of their
own, beside the reading and writing: hashlib and the system calls run at the same time.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from passari_dagster.durable import open_for_replacement
from passari_dagster.errors import PassariError, TransientFailure
from passari_dagster.sip.files import FilesChanged, open_regular

PART_SUFFIX = ".part"
_CHUNK = 1024 * 1024
_AT_ONCE = 64 * 1024  # less than that is digested sooner than it is handed over


@dataclass(frozen=True)
class Member:
    """One file of the tar, from disk or from memory.

    Arguments:
        name: in the tar.
        source: the file, or its content.
        size: in bytes, as the METS tells.
        sha256: as the METS tells; the content must have it.
        downloaded: the digest is that of the download, not of an examination on this disk.
    """

    name: PurePosixPath
    source: Path | bytes
    size: int
    sha256: str
    downloaded: bool = False


def write_tar(tar: Path, members: Iterable[Member], *, modified: datetime) -> tuple[int, str]:
    """Write the tar under another name and rename it when it is complete and on disk.

    Arguments:
        tar: the final name.
        members: the files, in their order.
        modified: time of modification that all members get.

    Returns:
        size in bytes and SHA-256 of the tar.

    Raises:
        FilesChanged: a file is not the one that was downloaded.
        TransientFailure: a file that was not downloaded is not the one that was examined before.
        OSError: the disk is full, or another fault of the file system; nothing is left behind.
    """
    with open_for_replacement(tar, suffix=PART_SUFFIX) as stream, ThreadPoolExecutor(2) as threads:
        out = _Writer(stream, threads)
        for member in members:
            out.add(member, int(modified.timestamp()))
        out.end()
        return out.size, out.sha256()


def changed(name: PurePosixPath, *, downloaded: bool) -> PassariError:
    """What is told of a file that has not the digest that is known of it.

    Arguments:
        downloaded: the digest is that of the download: the file does not get it back by trying again.
    """
    if downloaded:
        return FilesChanged(f"{name} is not the file that was downloaded; download the object again")
    return TransientFailure(f"{name} changed while it was packed")


class _Digest:
    """SHA-256, computed by another thread, which is one block behind."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._sha256 = hashlib.sha256()
        self._running: Future[None] | None = None

    def update(self, data: bytes) -> None:
        self._wait()
        if len(data) < _AT_ONCE:
            self._sha256.update(data)
        else:
            self._running = self._threads.submit(self._sha256.update, data)

    def hexdigest(self) -> str:
        self._wait()
        return self._sha256.hexdigest()

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None


class _Writer:
    """The tar while it is written. Of tarfile only the headers are used: its copying of the data costs much."""

    def __init__(self, stream: BinaryIO, threads: ThreadPoolExecutor) -> None:
        self.size = 0
        self._stream = stream
        self._threads = threads
        self._digest = _Digest(threads)

    def add(self, member: Member, modified: int) -> None:
        info = tarfile.TarInfo(str(member.name))
        info.size, info.mtime, info.mode = member.size, modified, 0o644
        self._write(info.tobuf(tarfile.PAX_FORMAT))
        if isinstance(member.source, bytes):
            self._write(member.source)
        else:
            with open_regular(member.source) as stream:
                self._copy(stream, member)
        self._write(bytes(-member.size % tarfile.BLOCKSIZE))

    def _copy(self, stream: BinaryIO, member: Member) -> None:
        if os.fstat(stream.fileno()).st_size != member.size:
            raise changed(member.name, downloaded=member.downloaded)
        digest, left = _Digest(self._threads), member.size
        while left:
            block = stream.read(min(left, _CHUNK))
            if not block:
                raise changed(member.name, downloaded=member.downloaded)
            left -= len(block)
            digest.update(block)
            self._write(block)
        if digest.hexdigest() != member.sha256:
            raise changed(member.name, downloaded=member.downloaded)

    def end(self) -> None:
        """Two empty blocks, and as many as make the record full. [POSIX.1-2017, pax, ustar interchange format]"""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._stream.write(data)
        self.size += len(data)
