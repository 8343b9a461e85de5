"""Chunks of RIFF (WAV) and IFF (AIFF) files: whether the sizes that they tell are true; not what is in them.

Sources: EA IFF 85; Multimedia Programming Interface 1.0 (RIFF). JHOVE wants the sizes to fit the file.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_MAX_CHUNKS = 10_000  # a bound on the work


class BadChunkError(Exception):
    """The file breaks its format; the message says how."""


def walk(stream: BinaryIO, order: str) -> dict[bytes, tuple[int, int]]:
    """Place and size in bytes of each chunk, by its name; of several with one name the first.

    Arguments:
        stream: the file; its first 12 bytes are a form, its size and its kind.
        order: of the bytes in numbers: `<` in RIFF, `>` in IFF.

    Raises:
        BadChunkError: a size that is not true, or too many chunks.
        OSError: a fault of the file system.
    """
    end = stream.seek(0, os.SEEK_END)
    form = 8 + _size(stream, 4, order)
    # An odd form is padded, by those who write as the book says.
    if end not in (form, form + form % 2):
        raise BadChunkError(f"the header tells {form} bytes, the file has {end}")
    found: dict[bytes, tuple[int, int]] = {}
    place = 12
    for _ in range(_MAX_CHUNKS):
        if place >= form:
            return found
        name, size = _read(stream, place, 4), _size(stream, place + 4, order)
        place += 8
        if place + size > end:
            raise BadChunkError(f"truncated: the chunk {name!r} tells {size} bytes, {end - place} are there")
        found.setdefault(name, (place, size))
        place += size + size % 2
    raise BadChunkError(f"more than {_MAX_CHUNKS} chunks")


def _size(stream: BinaryIO, place: int, order: str) -> int:
    size: int = struct.unpack(f"{order}I", _read(stream, place, 4))[0]
    return size


def _read(stream: BinaryIO, place: int, size: int) -> bytes:
    stream.seek(place)
    data = stream.read(size)
    if len(data) != size:
        raise BadChunkError("truncated: a chunk without its header")
    return data
