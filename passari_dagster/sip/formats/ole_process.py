"""Follows the streams of one OLE2 container through its sectors, in a process that `guarded` starts.

What the streams mean is known by `ole`. `olefile` reads container and directory; the streams are not read into
memory, but for the small ones, which share sectors. Source: [MS-CFB].
"""

from __future__ import annotations

import logging
import os
import struct
from array import array
from pathlib import Path

import olefile

from passari_dagster.sip.formats import guarded

_HEADER_BYTES = _HEAD_BYTES = _LEAST_SECTOR = 512
_COUNTS = (40, 44, 64, 72)
"""Where in the header the numbers of sectors are: of directory, FAT, small FAT, DIFAT."""

_MAX_WORD = 300


class _BadOleError(Exception):
    """The message says what is wrong."""


def examine(path: str) -> dict[str, object]:
    """Facts of an OLE2 container.

    Returns:
        `{"damaged": detail}`, or `{"streams": {name: head}}`: of each stream and storage in the root its name in lower
        case and, in hexadecimal, the first 512 bytes at most; a storage has none.

    Raises:
        MemoryError: the file needs more than there is.
        OSError: a fault of the file system.
    """
    logging.disable()  # olefile warns of what it then raises
    try:
        _require_table_in_file(path)
        with olefile.OleFileIO(path) as ole:
            return {"streams": _Streams(ole).heads()}
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        return {"damaged": str(error)[:_MAX_WORD]}
    except Exception as error:  # hostile bytes find every way to fail
        return {"damaged": str(error)[:_MAX_WORD] or type(error).__name__}


def _require_table_in_file(path: str) -> None:
    """The numbers of sectors that `olefile` believes, and reads one after the other."""
    with Path(path).open("rb") as stream:
        header = stream.read(_HEADER_BYTES)
        size = stream.seek(0, os.SEEK_END)
    if len(header) < _HEADER_BYTES:
        raise _BadOleError("truncated: the header is not whole")
    for place in _COUNTS:
        (count,) = struct.unpack_from("<I", header, place)
        if count * _LEAST_SECTOR > size:
            raise _BadOleError(f"{count} sectors of a table in a file of {size} bytes")


class _Streams:
    def __init__(self, ole: olefile.OleFileIO) -> None:
        self._ole = ole
        self._size = ole.fp.seek(0, 2)
        self._seen = bytearray(len(ole.fat))
        self._seen_small = bytearray()
        if ole.root.size:
            self._follow(ole.root, ole.fat, self._seen, ole.sector_size)
        if any(entry is not None and entry.is_minifat for entry in ole.direntries):
            ole.loadminifat()
            self._seen_small = bytearray(len(ole.minifat))

    def heads(self) -> dict[str, str]:
        """See `examine`.

        Raises:
            _BadOleError: a stream leads nowhere, in a circle, into another one, or ends too early.
        """
        for entry in self._ole.direntries:
            if entry is None or entry.entry_type != olefile.STGTY_STREAM or not entry.size:
                continue
            if entry.is_minifat:
                self._follow(entry, self._ole.minifat, self._seen_small, self._ole.mini_sector_size)
            else:
                self._follow(entry, self._ole.fat, self._seen, self._ole.sector_size)
        return {kid.name.lower(): self._head(kid).hex() for kid in self._ole.root.kids}

    def _follow(self, entry: olefile.OleDirectoryEntry, table: array[int], seen: bytearray, sector_size: int) -> None:
        sector, left = entry.isectStart, entry.size
        large = table is self._ole.fat
        while left > 0:
            if sector >= len(table) or seen[sector]:
                raise _BadOleError(f"the stream {entry.name!r} is broken")
            if large and (sector + 1) * sector_size + min(left, sector_size) > self._size:
                raise _BadOleError(f"truncated: the end of the stream {entry.name!r} is missing")
            seen[sector] = 1
            left -= sector_size
            sector = table[sector]

    def _head(self, entry: olefile.OleDirectoryEntry) -> bytes:
        if entry.entry_type != olefile.STGTY_STREAM or not entry.size:
            return b""
        if entry.is_minifat:
            data: bytes = self._ole.openstream([entry.name]).read(_HEAD_BYTES)
            return data
        self._ole.fp.seek((entry.isectStart + 1) * self._ole.sector_size)
        data = self._ole.fp.read(_HEAD_BYTES)
        return data[: entry.size]


if __name__ == "__main__":
    guarded.serve(examine)
