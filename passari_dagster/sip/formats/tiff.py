"""TIFF from its directory: classic TIFF 6.0 with one page, and the technical metadata in it.

Sources: TIFF 6.0 (Adobe, 1992), TIFF Technical Notes 1 and 2, DNG 1.6, BigTIFF, GeoTIFF 1.1; what JHOVE's TIFF
module requires of a valid file (tags in order, even offsets, a well-formed date).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from PIL import TiffImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts
from passari_dagster.sip.formats.images import BadImageError, decode, require_decodable_size
from passari_dagster.sip.formats.opened import Opened

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_MAX_VALUES = 500_000  # more strips or tiles than that are not believable
_MAX_SHORT_TEXT = 64

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_DATE_TIME, _COLOR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 306, 320, 338, 339
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_GEO_KEYS, _DNG_VERSION = 34735, 50706

_COLOR_SPACES: Mapping[int, tuple[str, int]] = {
    # PhotometricInterpretation: MIX colour space, samples that it needs
    0: ("WhiteIsZero", 1),
    1: ("BlackIsZero", 1),
    2: ("RGB", 3),
    3: ("PaletteColor", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
    8: ("CIELab", 3),
}
_COMPRESSIONS: Mapping[int, str] = {
    1: "Uncompressed",
    2: "CCITT 1D",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    5: "LZW",
    6: "JPEG",
    7: "JPEG",
    8: "ZIP",
    32773: "PackBits",
    32946: "ZIP",
}
_EXTRA: Mapping[int, str] = {
    0: "unspecified data",
    1: "associated alpha data (with pre-multiplied color)",
    2: "unassociated alpha data",
}
_DATE = re.compile(rb"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d\0")


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    offset: int  # of the value


class _Directory:
    """The first image file directory of a TIFF."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = stream.seek(0, os.SEEK_END)
        header = self._read(0, 8)
        self.byte_order = {b"II": "little endian", b"MM": "big endian"}[header[:2]]
        self._order = "<" if header[:2] == b"II" else ">"
        magic, offset = struct.unpack(f"{self._order}HI", header[2:])
        if magic == 43:
            raise problems.TIFF_VARIANT.found("BigTIFF; save as classic TIFF 6.0")
        if offset % 2 or offset < 8:
            raise BadImageError("the directory is at an odd place")
        (count,) = struct.unpack(f"{self._order}H", self._read(offset, 2))
        raw = self._read(offset + 2, 12 * count + 4)
        (self.next,) = struct.unpack(f"{self._order}I", raw[-4:])
        self.entries: dict[int, _Entry] = {}
        previous = -1
        for number in range(count):
            tag, kind, values = struct.unpack_from(f"{self._order}HHI", raw, 12 * number)
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
        (offset,) = struct.unpack(f"{self._order}I", self._read(place, 4))
        if offset % 2:
            raise BadImageError(f"the value of tag {tag} is at an odd place")
        if offset + size > self._end:
            raise BadImageError(f"truncated: the value of tag {tag} is missing")
        return _Entry(kind, count, offset)

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Values of a tag, or the default where the tag is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return default
        if entry.kind not in _INTEGERS or not 0 < entry.count <= _MAX_VALUES:
            raise BadImageError(f"tag {tag} has a bad type or length")
        data = self._read(entry.offset, _TYPE_BYTES[entry.kind] * entry.count)
        return struct.unpack(f"{self._order}{entry.count}{_INTEGERS[entry.kind]}", data)

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
        return self._read(entry.offset, min(entry.count, _MAX_SHORT_TEXT))

    def in_file(self, offset: int, size: int) -> bool:
        return offset + size <= self._end

    def _read(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise BadImageError("truncated: the directory is incomplete")
        return data


def read(file: Opened) -> FileFormat:
    """The format of a TIFF file. See `Reader`."""
    try:
        return FileFormat("image/tiff", "6.0", images=(read_tiff(file.stream),))
    except BadImageError as error:
        raise problems.TIFF_DAMAGED.found(str(error), identified=FileFormat("image/tiff", "6.0")) from error


def read_tiff(stream: BinaryIO) -> ImageFacts:
    """Technical metadata of a TIFF 6.0 file with one page, which is decoded as well.

    Without compression there is nothing to decode: such a file is measured, every row must be there.

    Raises:
        BadImageError: truncated, damaged, or not valid.
        ContentProblem: several pages, a variant that is not accepted, or too large to be decoded.
    """
    directory = _Directory(stream)
    _require_supported(directory)
    width, height = directory.integer(_WIDTH), directory.integer(_LENGTH)
    if not (width and height):
        raise BadImageError("the image has no pixels")
    compression = directory.integer(_COMPRESSION, 1)
    facts = _facts(directory, width, height, compression)
    # Rows of subsampled YCbCr have no length that is known beforehand.
    measured = compression == 1 and facts.color_space != "YCbCr"
    _require_data(directory, facts, measured=measured)
    date = directory.text(_DATE_TIME)
    if date is not None and not _DATE.fullmatch(date):
        raise BadImageError("the date (tag 306) is not written as YYYY:MM:DD HH:MM:SS")
    if not measured:
        require_decodable_size(width, height)
    # Opened in any case: what Pillow does not know, the DPS refuses.
    decode(stream, TiffImagePlugin.TiffImageFile, (width, height), pixels=not measured)
    return facts


def _require_supported(directory: _Directory) -> None:
    if _DNG_VERSION in directory.entries:
        raise problems.UNSUPPORTED.found("a camera's raw image (DNG)", format="dng")
    if _GEO_KEYS in directory.entries:
        raise problems.TIFF_VARIANT.found("GeoTIFF; the DPS does not take it yet")
    if directory.next:
        raise problems.MULTI_PAGE_TIFF.found("save each page as a file of its own")


def _facts(directory: _Directory, width: int, height: int, compression: int) -> ImageFacts:
    photometric = directory.integer(_PHOTOMETRIC)
    if photometric not in _COLOR_SPACES:
        raise problems.TIFF_VARIANT.found(f"PhotometricInterpretation {photometric}")
    if compression not in _COMPRESSIONS:
        raise problems.TIFF_VARIANT.found(f"Compression {compression}")
    color_space, needed = _COLOR_SPACES[photometric]
    samples = directory.integer(_SAMPLES, 1)
    if samples < needed:
        raise BadImageError(f"{samples} samples per pixel, {color_space} needs {needed}")
    if color_space == "PaletteColor":
        if _COLOR_MAP not in directory.entries:
            raise BadImageError("the palette is missing")
        if samples > 1:
            # MIX as the DPS wants it has no way to say this.
            raise problems.TIFF_VARIANT.found("a palette with extra samples")
    bits = directory.integers(_BITS, (1,))
    if len(bits) == 1:
        bits *= samples
    if len(bits) != samples or not all(1 <= value <= 64 for value in bits):
        raise BadImageError("BitsPerSample does not fit SamplesPerPixel")
    extra = directory.integers(_EXTRA_SAMPLES) if _EXTRA_SAMPLES in directory.entries else ()
    return ImageFacts(
        width=width,
        height=height,
        color_space=color_space,
        bits_per_sample=bits,
        compression=_COMPRESSIONS[compression],
        sample_unit="floating point" if directory.integers(_SAMPLE_FORMAT, (1,))[0] == 3 else "integer",
        byte_order=directory.byte_order,
        extra_samples=tuple(_EXTRA.get(extra[n] if n < len(extra) else 0, _EXTRA[0]) for n in range(samples - needed)),
    )


def _require_data(directory: _Directory, facts: ImageFacts, *, measured: bool) -> None:
    """Every strip or tile is inside the file, and where it can be measured as long as the image needs."""
    tiled = _TILE_OFFSETS in directory.entries
    offsets = directory.integers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    sizes = directory.integers(_TILE_BYTES if tiled else _STRIP_BYTES)
    planes = len(facts.bits_per_sample) if directory.integer(_PLANAR, 1) == 2 else 1
    across, down = facts.width, directory.integer(_ROWS_PER_STRIP, 2**32 - 1)
    if tiled:
        across, down = directory.integer(_TILE_WIDTH), directory.integer(_TILE_LENGTH)
    if not (across and down) or (tiled and (across % 16 or down % 16)):
        raise BadImageError("tiles or strips have no valid size")
    down = down if tiled else min(down, facts.height)
    parts = -(-facts.width // across) * -(-facts.height // down) * planes
    if not len(offsets) == len(sizes) == parts:
        raise BadImageError("there are too few or too many tiles or strips")
    if not all(directory.in_file(offset, size) for offset, size in zip(offsets, sizes, strict=True)):
        raise BadImageError("truncated: image data are missing")
    if not measured:
        return
    bits = sum(facts.bits_per_sample) // planes
    full = -(-across * bits // 8) * down
    last = full if tiled else -(-across * bits // 8) * (facts.height - (facts.height - 1) // down * down)
    in_plane = parts // planes
    if any(size < (last if n % in_plane == in_plane - 1 else full) for n, size in enumerate(sizes)):
        raise BadImageError("truncated: image data are missing")
