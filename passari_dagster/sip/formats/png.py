"""PNG from its chunks: every checksum, the order of chunks, and the pixels, unpacked row by row in little memory.

Sources: PNG specification, second edition (ISO/IEC 15948, "PNG 1.2"); what pngcheck, which the DPS runs, finds.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import PngImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts
from passari_dagster.sip.formats.images import (
    BadImageError,
    opened_by_pillow,
    require_decodable_size,
    require_same_size,
    take,
)
from passari_dagster.sip.formats.opened import Opened

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHUNK = 256 * 1024
_MAX_CHUNKS = 2_000_000  # a bound on the work; a 2 GB file in chunks of 8 KB has 250,000
_KINDS: dict[int, tuple[str, int, tuple[int, ...], bool]] = {
    # colour type: MIX colour space, samples, bit depths that it allows, whether the last sample is alpha
    0: ("BlackIsZero", 1, (1, 2, 4, 8, 16), False),
    2: ("RGB", 3, (8, 16), False),
    3: ("PaletteColor", 1, (1, 2, 4, 8), False),
    4: ("BlackIsZero", 2, (8, 16), True),
    6: ("RGB", 4, (8, 16), True),
}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced image: first column, first row, step across, step down."""
_BEFORE_PALETTE = frozenset({b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB"})
_BEFORE_DATA = _BEFORE_PALETTE | {b"PLTE", b"bKGD", b"hIST", b"tRNS", b"pHYs", b"sPLT"}
_ONCE = (_BEFORE_DATA | {b"IHDR", b"IEND", b"tIME"}) - {b"sPLT"}
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    kind: int
    interlaced: bool

    @property
    def samples(self) -> int:
        return _KINDS[self.kind][1]

    def passes(self) -> Iterator[tuple[int, int]]:
        """Bytes in a row and number of rows of each pass; one pass where the image is not interlaced."""
        steps = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        for left, top, across, down in steps:
            columns, rows = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                yield 1 + -(-columns * self.depth * self.samples // 8), rows


class _Rows:
    """Unpacks the pixels as they come, and counts them."""

    def __init__(self, header: _Header) -> None:
        self._inflate = zlib.decompressobj()
        self._passes = header.passes()
        self._row = 0  # bytes in a row of this pass
        self._left = 0  # rows still to come in this pass
        self._wanted = 0  # bytes until the next row begins

    def feed(self, packed: bytes) -> None:
        while packed:
            if self._inflate.eof:
                raise BadImageError("there is something after the end of the pixels")
            try:
                data = self._inflate.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise BadImageError(f"the pixels cannot be unpacked: {error}") from error
            packed = self._inflate.unconsumed_tail or self._inflate.unused_data
            self._count(data)

    def finish(self) -> None:
        self._count(self._inflate.flush())
        if not self._inflate.eof or self._left or self._wanted or next(self._passes, None):
            raise BadImageError("truncated: pixels are missing")

    def _count(self, data: bytes) -> None:
        """Each row begins with the number of its filter, 0 to 4."""
        at = self._wanted
        if at > len(data):
            self._wanted -= len(data)
            return
        while at < len(data):
            if not self._left:
                self._row, self._left = next(self._passes, (0, 0))
                if not self._left:
                    raise BadImageError("there are more pixels than the image has")
            rows = min(self._left, -(-(len(data) - at) // self._row))
            if max(data[at : at + (rows - 1) * self._row + 1 : self._row]) > 4:
                raise BadImageError("a row has an unknown filter")
            self._left -= rows
            at += rows * self._row
        self._wanted = at - len(data)


def read(file: Opened) -> FileFormat:
    """The format of a PNG file. See `Reader`."""
    try:
        header = _walk(file.stream)
        with opened_by_pillow(file, PngImagePlugin.PngImageFile) as image:
            # Its pixels were unpacked above; what Pillow will not even open, the DPS refuses.
            require_same_size((header.width, header.height), image.size)
    except BadImageError as error:
        raise problems.PNG_DAMAGED.found(str(error), identified=FileFormat("image/png", "1.2")) from error
    color_space, samples, _, alpha = _KINDS[header.kind]
    facts = ImageFacts(
        width=header.width,
        height=header.height,
        color_space=color_space,
        bits_per_sample=(header.depth,) * samples,
        compression="ZIP",
        extra_samples=("unassociated alpha data",) if alpha else (),
    )
    return FileFormat("image/png", "1.2", images=(facts,))


def _walk(stream: BinaryIO) -> _Header:
    """From the first chunk to the last one, which is the end of the file."""
    stream.seek(len(SIGNATURE))
    header: _Header | None = None
    rows: _Rows | None = None
    seen: set[bytes] = set()
    previous = b""
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack(">I4s", take(stream, 8))
        _require_order(kind, previous, seen)
        keep = b"" if header is None or kind in (b"PLTE", b"tRNS") else None
        checksum = zlib.crc32(kind)
        for part in _parts(stream, length):
            checksum = zlib.crc32(part, checksum)
            if kind == b"IDAT" and rows is not None:
                rows.feed(part)
            elif keep is not None and len(keep) < _CHUNK:
                keep += part
        if checksum != int.from_bytes(take(stream, 4), "big"):
            raise BadImageError(f"the checksum of a chunk {_name(kind)} is wrong")
        if kind == b"IHDR":
            header = _header(keep or b"")
            require_decodable_size(header.width * header.height)
            rows = _Rows(header)
        elif keep is not None and header is not None:
            _require_palette(kind, len(keep), header, seen)
        elif kind == b"IEND":
            break
        seen.add(kind)
        previous = kind
    else:
        raise BadImageError(f"more than {_MAX_CHUNKS} chunks")
    if header is None or rows is None:
        raise BadImageError("the header is missing")
    if length:
        raise BadImageError("the last chunk is not empty")
    if header.kind == 3 and b"PLTE" not in seen:
        raise BadImageError("the palette is missing")
    rows.finish()
    if stream.read(1):
        raise BadImageError("there is something after the end of the image")
    return header


def _header(data: bytes) -> _Header:
    if len(data) != 13:
        raise BadImageError("the header has another length than 13")
    width, height, depth, kind, compression, filters, interlace = struct.unpack(">IIBBBBB", data)
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise BadImageError("the image has no valid size")
    if kind not in _KINDS or depth not in _KINDS[kind][2] or compression or filters or interlace > 1:
        raise BadImageError("the header tells no valid kind of pixels")
    return _Header(width, height, depth, kind, interlace == 1)


def _require_order(kind: bytes, previous: bytes, seen: set[bytes]) -> None:
    if not kind.isalpha():
        raise BadImageError("a chunk has no valid name")
    if (kind == b"IHDR") != (not seen):
        raise BadImageError("the first chunk is not the header" if not seen else "a second header")
    if kind[:1].isupper() and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        raise BadImageError(f"an unknown critical chunk {_name(kind)}")
    if kind in _ANIMATION:
        raise problems.UNSUPPORTED.found("an animated PNG", format="apng")
    if kind in seen and kind in _ONCE:
        raise BadImageError(f"a second chunk {_name(kind)}")
    if kind == b"IDAT" and b"IDAT" in seen and previous != b"IDAT":
        raise BadImageError("there is another chunk among the pixels")
    if (kind in _BEFORE_DATA and b"IDAT" in seen) or (kind in _BEFORE_PALETTE and b"PLTE" in seen):
        raise BadImageError(f"a chunk {_name(kind)} is out of order")
    if kind == b"IEND" and b"IDAT" not in seen:
        raise BadImageError("there are no pixels")


def _require_palette(kind: bytes, length: int, header: _Header, seen: set[bytes]) -> None:
    if kind == b"PLTE":
        colors, left_over = divmod(length, 3)
        if left_over or not 1 <= colors <= (1 << header.depth if header.kind == 3 else 256) or header.kind in (0, 4):
            raise BadImageError("the palette does not fit the image")
    elif header.kind in (4, 6) or (header.kind == 3 and b"PLTE" not in seen):
        raise BadImageError("a chunk tRNS does not fit the image")


def _parts(stream: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        part = take(stream, min(length, _CHUNK))
        length -= len(part)
        yield part


def _name(kind: bytes) -> str:
    return kind.decode("ascii")
