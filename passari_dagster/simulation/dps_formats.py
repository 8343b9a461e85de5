"""Structure checks of file formats, in the manner of JHOVE and `file`.

Independent of the packager's own checks, and in places stricter: so a package can be rejected though the packager
found nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from passari_dagster import safe_xml

_MAX_IFDS = 10_000
_CODECS = {"UTF-8": "utf-8", "UTF-16": "utf-16", "UTF-32": "utf-32", "ISO-8859-15": "iso-8859-15"}
_RESTART_OR_SCAN = re.compile(rb"\xff[\xd0-\xd7\xda]")
_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)


def faults(path: Path, mime: str, charset: str) -> Iterator[str]:
    """What is wrong with a file of the declared MIME type and charset."""
    if mime == "image/tiff":
        yield from _tiff(path)
    elif mime == "image/jpeg":
        yield from _jpeg(path)
    elif mime.startswith("text/") or charset:
        yield from _text(path, charset)
    if mime == "text/xml":
        try:
            safe_xml.parse(path.read_bytes(), source=path.name)
        except safe_xml.UnsafeXmlError as error:
            yield str(error)


def _tiff(path: Path) -> Iterator[str]:
    size = path.stat().st_size
    with path.open("rb") as stream:

        def read(offset: int, count: int) -> bytes:
            stream.seek(offset)
            return stream.read(count).ljust(count, b"\0")

        head = read(0, 8)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or struct.unpack(f"{order}H", head[2:4]) != (42,):
            yield "TIFF-hul: no TIFF header"
            return
        (offset,) = struct.unpack(f"{order}I", head[4:])
        seen: set[int] = set()
        while offset:
            if offset in seen or len(seen) > _MAX_IFDS or offset + 2 > size:
                yield f"TIFF-hul: IFD offset {offset} leads nowhere"
                return
            if offset % 2:
                yield f"TIFF-hul: IFD offset not word-aligned: {offset}"
            seen.add(offset)
            (count,) = struct.unpack(f"{order}H", read(offset, 2))
            last = -1
            for index in range(count):
                entry = read(offset + 2 + 12 * index, 12)
                tag, kind, values, where = struct.unpack(f"{order}HHII", entry)
                if tag <= last:
                    yield f"TIFF-hul: Tag {tag} out of sequence"
                last = max(last, tag)
                length = values * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 0)
                if length > 4 and (where % 2 or where + length > size):
                    yield f"TIFF-hul: value offset of tag {tag} not word-aligned or outside the file: {where}"
            (offset,) = struct.unpack(f"{order}I", read(offset + 2 + 12 * count, 4))


def _jpeg(path: Path) -> Iterator[str]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(2) != b"\xff\xd8":
            yield "JPEG-hul: does not begin with SOI"
        stream.seek(max(0, size - 2))
        if stream.read(2) != b"\xff\xd9":
            yield "JPEG-hul: does not end with EOI"
        stream.seek(0)
        yield from _restarts(stream)


def _restarts(stream: BinaryIO) -> Iterator[str]:
    """Restart markers count from 0 to 7 and begin anew (ITU-T T.81, B.2.1); a wrong one is corrupt image data."""
    expected, held = 0, b""
    while block := stream.read(1 << 20):
        data = held + block
        for match in _RESTART_OR_SCAN.finditer(data):
            number = match[0][1] - 0xD0
            if number > 7:  # a scan begins
                expected = 0
            elif number != expected:
                yield f"ImageMagick: Corrupt JPEG data: found marker RST{number} instead of RST{expected}"
                return
            else:
                expected = (expected + 1) % 8
        held = data[-1:] if data.endswith(b"\xff") else b""


def _text(path: Path, charset: str) -> Iterator[str]:
    codec = _CODECS.get(charset.upper())
    if codec is None:
        yield f"no known charset is declared: {charset!r}"
        return
    try:
        with path.open(encoding=codec) as stream:
            while stream.read(1 << 20):
                pass
    except UnicodeError as error:
        yield f"does not decode as {charset}: {error}"
