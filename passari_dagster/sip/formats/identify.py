"""`examine`: one file of a package, for its format and its digest. Which module reads it is decided by its first bytes.

A suffix alone never makes a format: it tells apart what the bytes leave open.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from passari_dagster.errors import ContentProblem
from passari_dagster.sip import problems
from passari_dagster.sip.files import open_regular
from passari_dagster.sip.formats import (
    accepted,
    av,
    csv_text,
    gif,
    html_text,
    jp2,
    jpeg,
    json_text,
    odf,
    ole,
    ooxml,
    pdf,
    plain_text,
    png,
    postscript,
    tiff,
    webp,
    xml_text,
    zipped,
)
from passari_dagster.sip.formats.facts import Examined, FileFormat
from passari_dagster.sip.formats.opened import Opened, Reader
from passari_dagster.sip.rules import Rules

_Known = TypeVar("_Known")


def _signatures(*table: tuple[bytes, _Known]) -> tuple[tuple[re.Pattern[bytes], _Known], ...]:
    """What is known of files by their first bytes; of several that match, the first counts."""
    return tuple((re.compile(pattern, re.S), known) for pattern, known in table)


def _known(signatures: tuple[tuple[re.Pattern[bytes], _Known], ...], head: bytes) -> _Known | None:
    return next((known for signature, known in signatures if signature.match(head)), None)


_DPX = {b"V1.0": "1.0", b"V2.0": "2.0"}
_READERS = _signatures(
    (rb"\xff\xd8\xff", jpeg.read),
    (rb"SDPX|XPDS", lambda file: FileFormat("image/x-dpx", _DPX.get(file.head[8:12]))),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", tiff.read),
    (rb"\x89PNG\r\n\x1a\n", png.read),
    (rb"GIF8[79]a", gif.read),
    (rb"RIFF.{4}WEBP", webp.read),
    (rb"\x00\x00\x00\x0cjP  \r\n\x87\n(?!.{8}mj)", jp2.read),
    (rb"%PDF-", pdf.read),
    (rb"PK\x03\x04", zipped.read),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ole.read),
    (rb"RIFF.{4}WAVE|RF64", av.read_wav),
    (rb"FORM.{4}AIF[FC]", av.read_aiff),
    (rb".{4}ftyp(?!heic|heix|mif1|msf1|mj)|\0.{3}(moov|wide|free|skip)|.{4}mdat", av.read),
    (rb"fLaC|ID3[\x02-\x04]|\xff[\xe2\xe3\xf0-\xf5\xf8-\xfd]|\x1aE\xdf\xa3|OggS", av.read),
    (rb"RIFF.{4}AVI |\x00\x00\x01\xba|(\x47.{187}){4}\x47", av.read),
    (rb"%!PS-Adobe-\d\.\d EPSF|\xc5\xd0\xd3\xc6", postscript.read),
)
"""Who reads a file that begins so."""

_REFUSED = _signatures(
    (rb"8BPS", "psd"),
    (rb"%!PS", "ps"),
    (rb"\{\\rtf", "rtf"),
    (rb"PK\x05\x06", "zip"),
    (rb".{4}ftyp(heic|heix|mif1|msf1)", "heic"),
    (rb"BM.{4}\x00\x00\x00\x00", "bmp"),
)
"""What is recognised in order to be refused by its name."""

_NOT_PACKAGED = _signatures(
    (rb".{4}ftypmj", "mj2"),
    (rb"\x00\x00\x00\x0cjP  \r\n\x87\n", "mj2"),
    (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", "asf"),
    (rb"\x1f\x07\x00[\x3f\xbf]", "dv"),
    (rb"\x00\x00\x01\xb3", "mpeg-video"),
)
"""Video that the DPS takes and we do not package: recognised by name. [Signatures: PRONOM]"""

_MIMETYPES = {
    "bmp": "image/bmp",
    "heic": "image/heic",
    "psd": "image/vnd.adobe.photoshop",
    "rtf": "application/rtf",
    "zip": "application/zip",
}
"""Of refused formats, for originals that are kept beside a copy; others are `application/octet-stream`."""

_HEAD_BYTES = 4096
_CHUNK = 1024 * 1024
_SUFFIX = re.compile(r"[a-z0-9]{1,16}")
# A file without its original name is `Multimedia_<id>.attachment`.
_TEXT_SUFFIXES = frozenset({".txt", ".attachment", ""})
_TEXT_READERS: dict[str, Reader] = {
    ".csv": csv_text.read,
    ".tsv": csv_text.read,
    ".json": json_text.read,
    ".geojson": json_text.read,
}
"""Formats that have no beginning of their own: the suffix says what the whole content is then tested for."""

_DAMAGED = {
    ".jpg": problems.JPEG_UNDETECTED,
    ".jpeg": problems.JPEG_UNDETECTED,
    ".tif": problems.TIFF_DAMAGED,
    ".tiff": problems.TIFF_DAMAGED,
    ".dng": problems.DNG_DAMAGED,
    ".png": problems.PNG_DAMAGED,
    ".gif": problems.GIF_DAMAGED,
    ".jp2": problems.JP2_DAMAGED,
    ".webp": problems.WEBP_DAMAGED,
    ".pdf": problems.PDF_DAMAGED,
    ".epub": problems.EPUB_DAMAGED,
    **dict.fromkeys(av.SUFFIXES, problems.AV_DAMAGED),
    **dict.fromkeys(odf.SUFFIXES | ooxml.SUFFIXES | ole.SUFFIXES, problems.OFFICE_DAMAGED),
}
"""What a file is that bears the suffix and has not the beginning of its format."""


def examine(path: Path, rules: Rules, sha256: str | None = None) -> Examined:
    """Look at a file for its format: as far as its reader needs, which for some formats is the whole file.

    A content problem is a result here, not an exception: the caller collects those of all files.

    Arguments:
        path: a regular file. The memory used does not depend on its size, but for the pixels of an image.
        rules: what the installation lets pass.
        sha256: digest known from the download, which is taken over without a look: who packs the file compares it,
            and so must who believes a problem of it. None: it is computed.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as stream:
        head = stream.read(_HEAD_BYTES)
        try:
            found: FileFormat | ContentProblem = identify(
                Opened(stream, path, head, path.suffix.lower(), _chunks(stream), rules)
            )
        except ContentProblem as problem:
            found = problem
        if sha256 is None:
            sha256 = _sha256(stream)
        status = os.fstat(stream.fileno())
        return Examined(status.st_size, sha256, status.st_mtime, found)


def identify(file: Opened) -> FileFormat:
    """The format of a file, which the DPS accepts and we package.

    Raises:
        ContentProblem: another one, or damaged.
        OSError: a fault of the file system.
    """
    found = _read(file)
    known = accepted.table().get((found.mimetype, found.version))
    if known is None:
        version = f"version {found.version}"
        raise problems.VERSION.found(version, identified=found, format=accepted.name_of(found.mimetype))
    if not known.packaged:
        raise problems.NOT_PACKAGED.found(format=known.name)
    return found


def _read(file: Opened) -> FileFormat:
    if not file.head:
        raise problems.EMPTY.found()
    read = _known(_READERS, file.head)
    if read is not None:
        return read(file)
    refused = _known(_REFUSED, file.head)
    if refused is not None:
        raise _unsupported(refused)
    not_packaged = _known(_NOT_PACKAGED, file.head)
    if not_packaged is not None:
        raise problems.NOT_PACKAGED.found(format=not_packaged)
    if html_text.looks_like_html(file.head, file.suffix):
        return html_text.read(file)
    if xml_text.looks_like_xml(file.head, file.suffix):
        return xml_text.read_xml(file)
    if file.suffix in _TEXT_READERS:
        return _TEXT_READERS[file.suffix](file)
    if file.suffix in _DAMAGED:
        raise _DAMAGED[file.suffix].found("the file does not begin as such a file does")
    if file.suffix not in _TEXT_SUFFIXES:
        raise _unsupported_suffix(file.suffix)
    try:
        return plain_text.read_text(file)
    except ContentProblem:
        if file.suffix == ".txt":
            raise
        raise _unsupported_suffix(file.suffix) from None


def _unsupported_suffix(suffix: str) -> ContentProblem:
    name = suffix.removeprefix(".")
    # The reason is a key by which objects are unfrozen: no wild text in it.
    return _unsupported(name if _SUFFIX.fullmatch(name) else "unknown")


def _unsupported(name: str) -> ContentProblem:
    identified = FileFormat(_MIMETYPES.get(name, "application/octet-stream"))
    return problems.UNSUPPORTED.found(identified=identified, format=name)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        yield chunk


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(stream):
        digest.update(chunk)
    return digest.hexdigest()
