"""The bytes of simulated attachments: small, real, and the same at every start.

One image of each kind is made and kept; each attachment has its own id written into a harmless place of it, so that
no two files are alike. Which attachment has which kind is decided in `museum_records`.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import Literal, get_args

from PIL import Image

Kind = Literal["jpeg", "exif", "tiff", "xml", "text", "damaged_jpeg", "psd"]
"""`damaged_jpeg` is one that viewers open but a strict decoder refuses; `psd` is a format that no archive takes."""
KINDS: tuple[Kind, ...] = get_args(Kind)
SUFFIX: dict[Kind, str] = {
    "jpeg": "jpg",
    "exif": "jpg",
    "tiff": "tif",
    "xml": "xml",
    "text": "txt",
    "damaged_jpeg": "jpg",
    "psd": "psd",
}
_SIZE = (64, 48)
_EXIF_IFD, _EXIF_VERSION = 0x8769, 0x9000


def content(kind: Kind, multimedia_id: int) -> bytes:
    """The file of an attachment."""
    mark = str(multimedia_id).encode()
    if kind == "xml":
        return (
            b'<?xml version="1.0" encoding="UTF-8"?>\n<luettelo><esine tunnus="%s">'
            b"<nimi>J\xc3\xa4\xc3\xa4tel\xc3\xb6asema</nimi></esine></luettelo>\n" % mark
        )
    if kind == "text":
        return b"Kuvaus %s\nHyv\xc3\xa4 s\xc3\xa4ilytett\xc3\xa4v\xc3\xa4ksi.\n" % mark
    if kind in ("jpeg", "exif", "damaged_jpeg"):
        image = _damaged_jpeg() if kind == "damaged_jpeg" else _jpeg(exif=kind == "exif")
        at = _end_of_application_segments(image)
        return image[:at] + b"\xff\xfe" + struct.pack(">H", 2 + len(mark)) + mark + image[at:]
    image = _psd() if kind == "psd" else _tiff()
    return image[: -len(mark)] + mark  # the last pixels of the picture


def _picture() -> Image.Image:
    width, height = _SIZE
    picture = Image.new("RGB", _SIZE)
    picture.putdata([(x * 4, y * 5, (x + y) * 2) for y in range(height) for x in range(width)])
    return picture


@lru_cache
def _jpeg(*, exif: bool) -> bytes:
    out, data = io.BytesIO(), Image.Exif()
    if exif:
        data.get_ifd(_EXIF_IFD)[_EXIF_VERSION] = b"0220"
    # JFIF segment first in both; an Exif segment after it.
    _picture().save(out, "JPEG", quality=80, dpi=(300, 300), **({"exif": data.tobytes()} if exif else {}))
    return out.getvalue()


def _end_of_application_segments(jpeg: bytes) -> int:
    at = 2
    while jpeg[at] == 0xFF and 0xE0 <= jpeg[at + 1] <= 0xEF:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return at


@lru_cache
def _damaged_jpeg() -> bytes:
    """One of its restart markers has the wrong number, as after a fault of a disk: a tolerant decoder guesses on."""
    out = io.BytesIO()
    _picture().save(out, "JPEG", quality=80, dpi=(300, 300), restart_marker_rows=1)
    return out.getvalue().replace(b"\xff\xd1", b"\xff\xd4")


@lru_cache
def _tiff() -> bytes:
    """A baseline RGB image, little endian, uncompressed, one strip at the end of the file."""
    width, height = _SIZE
    count, entries_at = 12, 10
    extra_at = entries_at + count * 12 + 4  # after the entries comes the offset of the next directory: none
    resolution = struct.pack("<II", 300, 1)
    extra = struct.pack("<HHH", 8, 8, 8) + resolution + resolution
    strip = _picture().tobytes()
    short, long, rational = 3, 4, 5
    entries = [
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, 3, extra_at),  # bits per sample
        (259, short, 1, 1),  # no compression
        (262, short, 1, 2),  # RGB
        (273, long, 1, extra_at + len(extra)),  # where the strip is
        (277, short, 1, 3),
        (278, long, 1, height),
        (279, long, 1, len(strip)),
        (282, rational, 1, extra_at + 6),
        (283, rational, 1, extra_at + 14),
        (296, short, 1, 2),  # dots per inch
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    header = b"II*\0" + struct.pack("<I", entries_at - 2) + struct.pack("<H", count)
    return header + directory + struct.pack("<I", 0) + extra + strip


@lru_cache
def _psd() -> bytes:
    """An RGB picture of one layer, uncompressed."""
    width, height = _SIZE
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3)
    planes = b"".join(band.tobytes() for band in _picture().split())
    return header + struct.pack(">III", 0, 0, 0) + struct.pack(">H", 0) + planes
