"""WebP from its RIFF chunks: size, colours, frames; and whether it is whole.

Sources: RFC 9649 (WebP container, VP8L), RFC 6386 (VP8).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts
from passari_dagster.sip.formats.images import (
    BadImageError,
    decode_in_strips,
    require_decodable_size,
    require_memory,
    take,
)
from passari_dagster.sip.formats.opened import Opened

_MAX_CHUNKS = 100_000
_ALPHA, _ANIMATION = 0x10, 0x02  # flags of VP8X
_REDUCED = 0.125
"""Scale at which the image is built. All data are decoded, by rows where the coding is that of VP8."""


@dataclass
class _Found:
    canvas: tuple[int, int] | None = None
    alpha: bool = False
    animated: bool = False
    lossless: bool = False
    frames: int = 0


def read(file: Opened) -> FileFormat:
    """The format of a WebP file. See `Reader`."""
    try:
        found, (width, height) = _walk(file.stream)
        _decode(file, found, width, height)
    except BadImageError as error:
        raise problems.WEBP_DAMAGED.found(str(error), identified=FileFormat("image/webp")) from error
    facts = ImageFacts(
        width=width,
        height=height,
        color_space="RGB" if found.lossless else "YCbCr",
        bits_per_sample=(8,) * (4 if found.alpha else 3),
        compression="WebP Lossless" if found.lossless else "WebP Lossy",
        extra_samples=("unassociated alpha data",) if found.alpha else (),
    )
    return FileFormat("image/webp", images=(facts,))


def _decode(file: Opened, found: _Found, width: int, height: int) -> None:
    require_decodable_size(width * height * found.frames)
    if found.animated:
        require_memory(16 * width * height, "an animated WebP")
        decode_in_strips(file, "webpload_source", (width, height * found.frames), n=-1)
        return
    if found.lossless:
        require_memory(6 * width * height, "a lossless WebP")
    elif found.alpha:
        require_memory(2 * width * height, "a WebP with alpha channel")
    reduced = max(1, round(width * _REDUCED)), max(1, round(height * _REDUCED))
    decode_in_strips(file, "webpload_source", reduced, scale=_REDUCED)


def _walk(stream: BinaryIO) -> tuple[_Found, tuple[int, int]]:
    """From the first chunk to the last one, which is the end of the file.

    Returns:
        what was found, and the size of the image.
    """
    stream.seek(4)
    size = int.from_bytes(take(stream, 4), "little")
    end = stream.seek(0, 2)
    if size + 8 > end:
        raise BadImageError("truncated: the end of the image is missing")
    if size + 8 < end:
        raise BadImageError("there is something after the end of the image")
    found = _Found()
    image: tuple[int, int] | None = None
    place = 12
    for _ in range(_MAX_CHUNKS):
        if place >= end:
            break
        stream.seek(place)
        kind, length = struct.unpack("<4sI", take(stream, 8))
        place += 8 + length + length % 2
        if place > end:
            raise BadImageError("truncated: a chunk is longer than the file")
        if kind == b"VP8X" and found.canvas is None and image is None:
            _extended(found, take(stream, 10))
        elif kind in (b"VP8 ", b"VP8L"):
            if image is not None or found.animated:
                raise BadImageError("a second image")
            image = _image(found, kind, take(stream, 10))
            found.frames = 1
        elif kind == b"ANMF":
            found.frames += 1
            found.lossless = found.lossless or take(stream, 20)[16:] == b"VP8L"
        elif kind == b"ALPH":
            found.alpha = True
    else:
        raise BadImageError(f"more than {_MAX_CHUNKS} chunks")
    if image is None and not (found.animated and found.frames):
        raise BadImageError("there is no image in it")
    if image is not None and found.canvas not in (None, image):
        raise BadImageError("the canvas has another size than the image")
    return found, image or found.canvas or (0, 0)


def _extended(found: _Found, data: bytes) -> None:
    found.canvas = 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    found.alpha = bool(data[0] & _ALPHA)
    found.animated = bool(data[0] & _ANIMATION)


def _image(found: _Found, kind: bytes, data: bytes) -> tuple[int, int]:
    """Width and height, from the beginning of the coded data."""
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        if data[0] != 0x2F or bits >> 29:
            raise BadImageError("the coded data do not begin as such data do")
        found.lossless = True
        found.alpha = bool(bits >> 28 & 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if data[0] & 1 or data[3:6] != b"\x9d\x01\x2a":
        raise BadImageError("the coded data do not begin as such data do")
    width, height = struct.unpack("<HH", data[6:10])
    if not (width & 0x3FFF and height & 0x3FFF):
        raise BadImageError("the image has no pixels")
    return width & 0x3FFF, height & 0x3FFF
