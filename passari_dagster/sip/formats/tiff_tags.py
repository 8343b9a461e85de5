"""The tags of a TIFF: its directories, and whether the data that they speak of are there.

What the tags of a format mean, TIFF or DNG, is known by its own module. Sources: TIFF 6.0 (Adobe, 1992), BigTIFF; what
JHOVE's TIFF module requires of a valid file (tags in order, even offsets).
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from passari_dagster.sip import problems
from passari_dagster.sip.formats.images import BadImageError

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT = 256, 257, 258, 259, 262, 277, 339

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_MAX_VALUES = 500_000  # more strips or tiles than that are not believable
_MAX_SAMPLES = 1_000
_MAX_SHORT_TEXT = 64
_MAX_DIRECTORIES = 5_000
_MAX_WORK = 100_000_000
"""Most entries and values of all directories together that are looked at, each as often as it is: many directories may
share their values, and entries. It takes some five seconds."""

_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 278, 279, 284
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    offset: int  # of the value


class Tiff:
    """A classic TIFF, by its header.

    Raises:
        BadImageError: truncated.
        ContentProblem: a BigTIFF.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._work = 0
        self.size = stream.seek(0, os.SEEK_END)
        header = self.read(0, 8)
        self.byte_order = {b"II": "little endian", b"MM": "big endian"}[header[:2]]
        self.sign = "<" if header[:2] == b"II" else ">"
        magic, self._first = struct.unpack(f"{self.sign}HI", header[2:])
        if magic == 43:
            raise problems.TIFF_VARIANT.found("BigTIFF; save as classic TIFF 6.0")

    def read(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise BadImageError("truncated: the directory is incomplete")
        return data

    def work(self, entries: int = 0, values: int = 0) -> None:
        """Say what will be looked at. An entry is as much work as 200 values.

        Raises:
            BadImageError: all together is too much.
        """
        self._work += 200 * entries + values
        if self._work > _MAX_WORK:
            raise BadImageError("the directories are too many, or too long")

    def pages(self) -> Iterator[Directory]:
        """The directories, from the first to the last."""
        offset, seen = self._first, set[int]()
        while offset or not seen:
            if offset in seen or len(seen) >= _MAX_DIRECTORIES:
                raise BadImageError("the directories lead in a circle, or are too many")
            seen.add(offset)
            directory = Directory(self, offset)
            yield directory
            offset = directory.next


class Directory:
    """One image file directory."""

    def __init__(self, tiff: Tiff, offset: int) -> None:
        self.tiff = tiff
        if offset % 2 or offset < 8:
            raise BadImageError("the directory is at an odd place")
        (count,) = struct.unpack(f"{tiff.sign}H", tiff.read(offset, 2))
        tiff.work(entries=count)
        raw = tiff.read(offset + 2, 12 * count + 4)
        (self.next,) = struct.unpack(f"{tiff.sign}I", raw[-4:])
        self.entries: dict[int, _Entry] = {}
        previous = -1
        for number in range(count):
            tag, kind, values = struct.unpack_from(f"{tiff.sign}HHI", raw, 12 * number)
            if tag <= previous:
                raise BadImageError(f"tag {tag} is out of order")
            previous = tag
            self.entries[tag] = self._entry(tag, kind, values, offset + 2 + 12 * number + 8)
        if not count:
            raise BadImageError("the directory is empty")

    def _entry(self, tag: int, kind: int, count: int, place: int) -> _Entry:
        if kind not in _TYPE_BYTES:
            raise BadImageError(f"tag {tag} has an unknown type")
        size = _TYPE_BYTES[kind] * count
        if size <= 4:
            return _Entry(kind, count, place)
        (offset,) = struct.unpack(f"{self.tiff.sign}I", self.tiff.read(place, 4))
        if offset % 2:
            raise BadImageError(f"the value of tag {tag} is at an odd place")
        if offset + size > self.tiff.size:
            raise BadImageError(f"truncated: the value of tag {tag} is missing")
        return _Entry(kind, count, offset)

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> Sequence[int]:
        """Values of a tag, or the default where the tag is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return default
        if entry.kind not in _INTEGERS or not 0 < entry.count <= _MAX_VALUES:
            raise BadImageError(f"tag {tag} has a bad type or length")
        self.tiff.work(values=entry.count)
        values = array(_INTEGERS[entry.kind], self.tiff.read(entry.offset, _TYPE_BYTES[entry.kind] * entry.count))
        if (self.tiff.sign == "<") != (sys.byteorder == "little"):
            values.byteswap()
        return values

    def integer(self, tag: int, default: int | None = None) -> int:
        """The only value of a tag."""
        values = self.integers(tag, () if default is None else (default,))
        if len(values) != 1:
            raise BadImageError(f"tag {tag} is missing or has several values")
        return values[0]

    def text(self, tag: int) -> bytes | None:
        """A short text with its closing NUL."""
        entry = self.entries.get(tag)
        if entry is None:
            return None
        if entry.kind != 2:
            raise BadImageError(f"tag {tag} is no text")
        return self.tiff.read(entry.offset, min(entry.count, _MAX_SHORT_TEXT))

    def size(self) -> tuple[int, int]:
        """Width and height."""
        width, height = self.integer(WIDTH), self.integer(LENGTH)
        if not (width and height):
            raise BadImageError("the image has no pixels")
        return width, height

    def bits(self) -> tuple[int, ...]:
        """Of each sample of a pixel."""
        samples = self.integer(SAMPLES, 1)
        if samples > _MAX_SAMPLES:
            raise BadImageError(f"{samples} samples per pixel are not believable")
        bits = tuple(self.integers(BITS, (1,)))
        if len(bits) == 1:
            bits *= samples
        if len(bits) != samples or not all(1 <= value <= 64 for value in bits):
            raise BadImageError("BitsPerSample does not fit SamplesPerPixel")
        return bits

    def sample_unit(self) -> str:
        """In the words of MIX."""
        return "floating point" if self.integers(SAMPLE_FORMAT, (1,))[0] == 3 else "integer"

    @property
    def tiled(self) -> bool:
        """In tiles, not in strips."""
        return _TILE_OFFSETS in self.entries

    def parts(self) -> tuple[Sequence[int], Sequence[int]]:
        """Places and sizes in bytes of the strips or tiles."""
        offsets = self.integers(_TILE_OFFSETS if self.tiled else _STRIP_OFFSETS)
        return offsets, self.integers(_TILE_BYTES if self.tiled else _STRIP_BYTES)

    def require_data(self, *, measured: bool) -> None:
        """Every strip or tile is inside the file, and where it can be measured as long as the image needs.

        Raises:
            BadImageError: something is missing.
        """
        width, height = self.size()
        depths = self.bits()
        tiled = self.tiled
        offsets, sizes = self.parts()
        planes = len(depths) if self.integer(_PLANAR, 1) == 2 else 1
        across, down = width, self.integer(_ROWS_PER_STRIP, 2**32 - 1)
        if tiled:
            across, down = self.integer(_TILE_WIDTH), self.integer(_TILE_LENGTH)
        if not (across and down) or (tiled and (across % 16 or down % 16)):
            raise BadImageError("tiles or strips have no valid size")
        down = down if tiled else min(down, height)
        parts = -(-width // across) * -(-height // down) * planes
        if not len(offsets) == len(sizes) == parts:
            raise BadImageError("there are too few or too many tiles or strips")
        if not all(offset + size <= self.tiff.size for offset, size in zip(offsets, sizes, strict=True)):
            raise BadImageError("truncated: image data are missing")
        if not measured:
            return
        bits = sum(depths) // planes
        full = -(-across * bits // 8) * down
        last = full if tiled else -(-across * bits // 8) * (height - (height - 1) // down * down)
        in_plane = parts // planes
        if any(size < (last if n % in_plane == in_plane - 1 else full) for n, size in enumerate(sizes)):
            raise BadImageError("truncated: image data are missing")
