"""JPEG from its markers: version (Exif or JFIF), size, colours, and whether it is whole.

Sources: ITU-T T.81 (markers), JFIF 1.02, Exif 2.32 (CIPA DC-008), MPO (CIPA DC-007). Which versions are accepted
is in `accepted.csv`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

from PIL import JpegImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats import accepted
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

MIMETYPE = "image/jpeg"

_CHUNK = 64 * 1024
_MAX_SEGMENTS = 20_000  # a bound on the work; ICC and XMP of the largest camera files need a few hundred
_SOI, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# In coded data FF is followed by 00 or a restart marker; anything else ends the scan.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")

_EXIF_IFD, _EXIF_VERSION, _MP_NUMBER_OF_IMAGES = 0x8769, 0x9000, 0xB001


@dataclass
class _Found:
    jfif: str | None = None
    exif: str | None = None
    mpo: bool = False
    adobe_transform: int | None = None
    frame: tuple[int, int, int, int] | None = None  # precision, height, width, components
    sampling: tuple[tuple[int, int], ...] = ()  # of each component, across and down
    in_passes: bool = False  # the coefficients of the whole image are wanted before the first pixel
    scans: int = 0


def read(file: Opened) -> FileFormat:
    """The format of a JPEG file. See `Reader`."""
    try:
        found, image = _read_jpeg(file)
    except BadImageError as error:
        raise problems.JPEG_DAMAGED.found(str(error)) from error
    version = _version(found.exif, found.jfif, file.rules.jpeg_exif_23)
    if (MIMETYPE, version) not in accepted.table():
        told = f"Exif {found.exif or 'absent'}, JFIF {found.jfif or 'absent'}; see the setting `sip.jpeg_exif_23`"
        version = found.exif or found.jfif
        raise problems.JPEG_VERSION.found(told, identified=FileFormat(MIMETYPE, version, images=(image,)))
    return FileFormat(MIMETYPE, version, images=(image,))


def _version(exif: str | None, jfif: str | None, exif_23: Literal["exif", "jfif", "freeze"]) -> str | None:
    """The version to tell: of Exif where the file has one, else of JFIF; of Exif 2.3 and later as the rule has it.

    The DPS's registry has Exif 2.3 and later as recommended, and at the same time as not supported in its ingest.
    """
    if exif is None or tuple(map(int, exif.split("."))) < (2, 3) or exif_23 == "exif":
        return exif or jfif
    return jfif if exif_23 == "jfif" else None


def _read_jpeg(file: Opened) -> tuple[_Found, ImageFacts]:
    """Versions and technical metadata of a JPEG file, which is decoded as well.

    Raises:
        BadImageError: truncated or damaged, or with something after its end.
        ContentProblem: several images in one file (MPO), or too large to be decoded.
    """
    found = _walk(file.stream)
    if found.frame is None or not found.scans:
        raise BadImageError("the file ends before the image begins")
    precision, height, width, components = found.frame
    if not (width and height and components):
        raise BadImageError("the image has no pixels")
    if found.mpo:
        raise problems.MPO.found("the file has several images; save the first one alone")
    facts = ImageFacts(
        width=width,
        height=height,
        color_space=_color_space(components, found.adobe_transform),
        bits_per_sample=(precision,) * components,
        compression="JPEG",
    )
    require_decodable_size(width * height)
    if found.in_passes:
        require_memory(_coefficient_bytes(width, height, found.sampling), "a JPEG in several passes (progressive)")
    with opened_by_pillow(file, JpegImagePlugin.JpegImageFile) as image:
        require_same_size((width, height), image.size)
        image.draft(image.mode, (1, 1))  # all data are decoded, a small image is built of them
        image.load()
    return found, facts


def _coefficient_bytes(width: int, height: int, sampling: tuple[tuple[int, int], ...]) -> int:
    """What libjpeg allocates for an image that comes in passes: two bytes for each coefficient."""
    across, down = max(h for h, _ in sampling), max(v for _, v in sampling)
    return sum(2 * -(-width * h // across) * -(-height * v // down) for h, v in sampling)


def _walk(stream: BinaryIO) -> _Found:
    """From the first marker to the last one."""
    stream.seek(0)
    if take(stream, 2) != bytes((0xFF, _SOI)):
        raise BadImageError("no start of image")
    found = _Found()
    for _ in range(_MAX_SEGMENTS):
        marker = _marker(stream)
        if marker == _EOI:
            if not found.mpo:  # refused later, by its own name
                _require_end(stream)
            return found
        if marker in _STANDALONE:
            continue
        if marker in (0x00, _SOI):
            raise BadImageError(f"unexpected marker {marker:02X}")
        length = int.from_bytes(take(stream, 2), "big")
        if length < 2:
            raise BadImageError("a segment without length")
        _note(found, marker, take(stream, length - 2))
        if marker == _SOS:
            found.scans += 1
            _skip_scan(stream)
    raise BadImageError(f"more than {_MAX_SEGMENTS} segments")


def _note(found: _Found, marker: int, data: bytes) -> None:
    if marker == _APP0 and data[:5] == b"JFIF\0" and len(data) >= 7:
        found.jfif = found.jfif or f"{data[5]}.{data[6]:02d}"
    elif marker == _APP1 and data[:6] == b"Exif\0\0":
        found.exif = found.exif or _exif_version(data[6:])
    elif marker == _APP2 and data[:4] == b"MPF\0":
        found.mpo = found.mpo or _images_in_mpf(data[4:]) > 1
    elif marker == _APP14 and data[:5] == b"Adobe" and len(data) >= 12:
        found.adobe_transform = data[11]
    elif marker in _FRAMES:
        if found.frame is not None:
            raise BadImageError("a second frame")
        if len(data) < 6:
            raise BadImageError("a frame without size")
        found.frame = struct.unpack(">BHHB", data[:6])
        found.sampling = tuple((byte >> 4 or 1, byte & 15 or 1) for byte in data[7::3]) or ((1, 1),)
        found.in_passes = marker in _PROGRESSIVE
    elif marker == _SOS and found.frame is not None and data[:1] != found.frame[3].to_bytes(1, "big"):
        found.in_passes = True  # a scan for each component


def _color_space(components: int, transform: int | None) -> str:
    """MIX colour space; an Adobe segment tells whether the components are transformed."""
    if components == 1:
        return "BlackIsZero"
    if components == 3:
        return "RGB" if transform == 0 else "YCbCr"
    if components == 4:
        return "YCCK" if transform == 2 else "CMYK"
    raise BadImageError(f"{components} colour components")


def _exif_version(tiff: bytes) -> str | None:
    """`0221` is 2.2.1, `0230` is 2.3."""
    pointer = _ifd(tiff, None).get(_EXIF_IFD)
    if pointer is None:
        return None
    order = "little" if tiff[:2] == b"II" else "big"
    raw = _ifd(tiff, int.from_bytes(pointer, order)).get(_EXIF_VERSION)  # type: ignore[arg-type]
    if raw is None or not raw.isdigit():
        return None
    text = raw.decode("ascii")
    return f"{int(text[:2])}.{text[2]}" + (f".{text[3]}" if text[3] != "0" else "")


def _images_in_mpf(tiff: bytes) -> int:
    raw = _ifd(tiff, None).get(_MP_NUMBER_OF_IMAGES, b"")
    return int.from_bytes(raw, "little" if tiff[:2] == b"II" else "big")


def _ifd(tiff: bytes, offset: int | None) -> dict[int, bytes]:
    """Tags of a directory inside a segment, each with its four bytes of value; empty where it cannot be read.

    Damaged metadata is no damage of the image: the versions that are not found are simply not there.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return {}
        if offset is None:
            (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, offset)
        entries = (struct.unpack_from(f"{order}HHI4s", tiff, offset + 2 + 12 * n) for n in range(count))
        return {tag: value for tag, _, _, value in entries}
    except struct.error:
        return {}


def _marker(stream: BinaryIO) -> int:
    if take(stream, 1) != b"\xff":
        raise BadImageError("a marker is missing")
    code = 0xFF
    while code == 0xFF:  # any number of fill bytes
        code = take(stream, 1)[0]
    return code


def _skip_scan(stream: BinaryIO) -> None:
    """Move to the marker that ends the coded data."""
    rest = b""
    while chunk := stream.read(_CHUNK):
        data = rest + chunk
        if match := _END_OF_SCAN.search(data):
            stream.seek(match.start() - len(data), 1)
            return
        rest = data[-1:] if data.endswith(b"\xff") else b""
    raise BadImageError("truncated: the end of the image is missing")


def _require_end(stream: BinaryIO) -> None:
    """Nothing but padding may follow the image."""
    while chunk := stream.read(_CHUNK):
        if chunk.strip(b"\0\xff\r\n \x1a"):
            raise BadImageError("there is something after the end of the image")
