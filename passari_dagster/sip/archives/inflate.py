"""Decompression with flat memory: gzip, bzip2, xz, and the bare LZMA of 7z."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from passari_dagster.sip import problems
from passari_dagster.sip.archives.member import CHUNK

MAX_MEMORY = 100 * 1024 * 1024
"""Bytes that a decompressor may take: what `xz -9` and 7-Zip's strongest usual method need is 65 MB."""

_BLOCK = 16 * 1024  # small: what is left of a block when a stream ends is copied


class Inflator(Protocol):
    """A decompressor as those of `bz2` and `lzma` are."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """zlib's decompressor in the manner of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


COMPRESSIONS: dict[bytes, Callable[[], Inflator]] = {
    b"\x1f\x8b": _Gunzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY),
}
"""What makes sense of a file that begins so."""


def inflated(stream: BinaryIO, new: Callable[[], Inflator], most: int = CHUNK) -> Iterator[bytes]:
    """The content in pieces of at most so many bytes; compressed streams one after the other are one content.

    Arguments:
        stream: from where it stands.
        new: makes the decompressor of each stream.

    Raises:
        ContentProblem: damaged, or it takes too much memory.
        OSError: a fault of the file system.
    """
    # Zeros fill up the end, where they do.
    while rest := stream.read(_BLOCK).lstrip(b"\0"):
        while rest:
            inflator = new()
            while not inflator.eof:
                piece = decompressed(inflator, rest, most)
                rest = b""
                if piece:
                    yield piece
                elif not inflator.eof:
                    rest = stream.read(_BLOCK)
                    if not rest:
                        raise problems.ARCHIVE_DAMAGED.found("it breaks off")
            rest = inflator.unused_data.lstrip(b"\0")


def decompressed(inflator: Inflator, data: bytes, most: int) -> bytes:
    """One step of a decompressor. Raises `ContentProblem`, whatever the data is."""
    try:
        return inflator.decompress(data, most)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        if isinstance(error, MemoryError) or "emory" in str(error):
            raise problems.ARCHIVE_VARIANT.found("its decompression takes too much memory") from error
        raise problems.ARCHIVE_DAMAGED.found(f"decompression failed: {error}") from error


class InflatedFile(io.RawIOBase):
    """Decompressed content as a file that can be read and skipped, but not rewound."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        return b"".join(self._take(size))

    def _take(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._piece:
                self._piece = memoryview(next(self._pieces, b""))
                if not self._piece:
                    return
            part = self._piece[:size] if size > 0 else self._piece
            self._piece = self._piece[len(part) :]
            self._at += len(part)
            size -= len(part) if size > 0 else 0
            yield part

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence or offset < self._at:
            raise problems.ARCHIVE_DAMAGED.found("its members are not in their order")
        for _ in self._take(offset - self._at):
            pass
        return self._at

    def tell(self) -> int:
        return self._at
