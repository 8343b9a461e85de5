"""GIF from its blocks: version, size, palette; all frames are decoded.

Sources: GIF87a and GIF89a (CompuServe).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import GifImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts
from passari_dagster.sip.formats.images import (
    BadImageError,
    opened_by_pillow,
    require_decodable_size,
    require_memory,
    require_same_size,
    take,
)
from passari_dagster.sip.formats.opened import Opened

_MAX_FRAMES = 10_000
_BYTES_PER_PIXEL = 16  # for Pillow, which paints a frame over those before it
_SLACK = 4096  # zeros after the end: cameras and old discs fill up the last block
_IMAGE, _EXTENSION, _TRAILER = b"\x2c", b"\x21", b"\x3b"


@dataclass
class _Found:
    version: str
    width: int
    height: int
    table_bits: int  # of the largest colour table; 0: none
    frames: int = 0
    right: int = 0  # how far frames reach, which may be farther than the size says
    bottom: int = 0


def read(file: Opened) -> FileFormat:
    """The format of a GIF file. See `Reader`."""
    try:
        found = _walk(file.stream)
        _decode(file, found)
    except BadImageError as error:
        version = f"19{file.head[3:6].decode('ascii')}"
        raise problems.GIF_DAMAGED.found(str(error), identified=FileFormat("image/gif", version)) from error
    facts = ImageFacts(
        width=found.width,
        height=found.height,
        color_space="PaletteColor",
        bits_per_sample=(found.table_bits,),
        compression="LZW",
    )
    return FileFormat("image/gif", found.version, images=(facts,))


def _decode(file: Opened, found: _Found) -> None:
    canvas = max(found.width, found.right) * max(found.height, found.bottom)
    require_decodable_size(canvas * found.frames)
    require_memory(_BYTES_PER_PIXEL * canvas, "a GIF")
    with opened_by_pillow(file, GifImagePlugin.GifImageFile) as image:
        require_same_size((found.width, found.height), image.size)
        for number in range(found.frames):
            image.seek(number)
            image.load()
        try:
            image.seek(found.frames)
        except EOFError:
            return
    raise BadImageError("there is a frame after the last one")


def _walk(stream: BinaryIO) -> _Found:
    """From the first block to the last one."""
    stream.seek(0)
    signature = take(stream, 6)
    width, height, flags, _, _ = struct.unpack("<HHBBB", take(stream, 7))
    if not (width and height):
        raise BadImageError("the image has no pixels")
    found = _Found(f"19{signature[3:].decode('ascii')}", width, height, 0)
    _color_table(stream, found, flags)
    while (kind := take(stream, 1)) != _TRAILER:
        if kind == _EXTENSION:
            take(stream, 1)
        elif kind == _IMAGE:
            _frame(stream, found)
        else:
            raise BadImageError(f"an unknown block {kind.hex()}")
        while length := take(stream, 1)[0]:
            take(stream, length)
    if not found.frames:
        raise BadImageError("there is no image in it")
    if stream.read(_SLACK).strip(b"\0") or stream.read(1):
        raise BadImageError("there is something after the end of the image")
    return found


def _frame(stream: BinaryIO, found: _Found) -> None:
    left, top, width, height, flags = struct.unpack("<HHHHB", take(stream, 9))
    if not (width and height):
        raise BadImageError("a frame has no pixels")
    _color_table(stream, found, flags)
    if not found.table_bits:
        raise BadImageError("the palette is missing")
    if not 1 <= take(stream, 1)[0] <= 11:
        raise BadImageError("a frame has no valid code size")
    found.frames += 1
    found.right, found.bottom = max(found.right, left + width), max(found.bottom, top + height)
    if found.frames > _MAX_FRAMES:
        raise problems.IMAGE_TOO_LARGE.found(f"more than {_MAX_FRAMES} frames")


def _color_table(stream: BinaryIO, found: _Found, flags: int) -> None:
    if flags & 0x80:
        bits = (flags & 7) + 1
        found.table_bits = max(found.table_bits, bits)
        take(stream, 3 << bits)
