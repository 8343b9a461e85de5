"""What a file is: MIME type, exact version and charset from its bytes, and whether the DPS takes it.

The table of accepted formats is here; how each format is read is in `jpeg`, `tiff` and `markup`. A suffix alone
never makes a format. [Source of the table: the DPS's file format registry, specification 1.13.0.]
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.files import open_regular
from passari_dagster.sip.images import BadImageError, ImageFacts
from passari_dagster.sip.jpeg import read_jpeg
from passari_dagster.sip.markup import TextScanner, XmlScanner, looks_like_xml
from passari_dagster.sip.tiff import read_tiff

JPEG_VERSION = "JPEG version not supported"
JPEG_DAMAGED = "JPEG file is damaged"
TIFF_DAMAGED = "TIFF file is not valid"
EMPTY = "File is empty"

ACCEPTED: Mapping[str, frozenset[str | None]] = {
    # The DPS reads the Exif version of a JPEG where it has one, else the JFIF version.
    "image/jpeg": frozenset({"1.00", "1.01", "1.02", "2.0", "2.1", "2.2", "2.2.1", "2.3", "2.3.1", "2.3.2"}),
    "image/tiff": frozenset({"6.0"}),
    "text/plain": frozenset({None}),
    "text/xml": frozenset({"1.0"}),
}
"""Accepted versions by MIME type; None: the format has no versions and the METS tells none."""

_OTHER_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.S), name)
    for pattern, name in (
        (rb"\x89PNG\r\n\x1a\n", "png"),
        (rb"GIF8[79]a", "gif"),
        (rb"%PDF-", "pdf"),
        (rb"8BPS", "psd"),
        (rb"%!PS", "ps"),
        (rb"\xc5\xd0\xd3\xc6", "eps"),
        (rb"\{\\rtf", "rtf"),
        (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis\.opendocument", "odf"),
        (rb"PK(\x03\x04|\x05\x06)", "zip"),
        (rb"RIFF.{4}WEBP", "webp"),
        (rb"RIFF.{4}WAVE", "wav"),
        (rb"RIFF.{4}AVI ", "avi"),
        (rb"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
        (rb".{4}ftyp(heic|heix|mif1|msf1)", "heic"),
        (rb".{4}ftyp", "mp4"),
        (rb"fLaC", "flac"),
        (rb"ID3", "mp3"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
        (rb"BM.{4}\x00\x00\x00\x00", "bmp"),
        (rb"(?i)\s*<(!doctype\s+)?html[\s>]", "html"),
    )
)
"""Formats that are recognised in order to be refused by name."""

_HEAD_BYTES = 4096
_CHUNK = 1024 * 1024
_SUFFIX = re.compile(r"[a-z0-9]{1,16}")
# A file without its original name is `Multimedia_<id>.attachment`.
_TEXT_SUFFIXES = frozenset({".txt", ".attachment", ""})
_IMAGE_SUFFIXES = {".jpg": JPEG_DAMAGED, ".jpeg": JPEG_DAMAGED, ".tif": TIFF_DAMAGED, ".tiff": TIFF_DAMAGED}


@dataclass(frozen=True)
class FileFormat:
    """A format that the DPS accepts, with the technical metadata of an image."""

    mimetype: str
    version: str | None = None
    charset: str | None = None
    image: ImageFacts | None = None

    @property
    def name(self) -> str:
        """PREMIS formatName: the MIME type, with the charset where there is one."""
        return f"{self.mimetype}; charset={self.charset}" if self.charset else self.mimetype


@dataclass(frozen=True)
class Examined:
    """A file read from its beginning to its end: size in bytes, SHA-256, modification time, format."""

    size: int
    sha256: str
    modified: float
    format: FileFormat | ContentProblem


def examine(path: Path) -> Examined:
    """Read a file for its digest and its format; text is judged on the way, images are decoded besides.

    A content problem is a result here, not an exception: the caller collects those of all files.

    Arguments:
        path: a regular file. The memory used does not depend on its size, but for the pixels of an image.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as stream:
        digest = hashlib.sha256()
        chunks = _chunks(stream, digest.update)
        try:
            found: FileFormat | ContentProblem = identify(stream, path.suffix, chunks)
        except ContentProblem as problem:
            found = problem
        for _ in chunks:  # whatever identification left over
            pass
        status = os.fstat(stream.fileno())
        return Examined(stream.tell(), digest.hexdigest(), status.st_mtime, found)


def identify(stream: BinaryIO, suffix: str, chunks: Iterable[bytes] | None = None) -> FileFormat:
    """The format of a file.

    Arguments:
        stream: the file, seekable.
        suffix: suffix of its name, such as `.jpg`; only tells apart what the bytes leave open.
        chunks: the whole file in pieces, for a caller who wants to see them as well.

    Raises:
        ContentProblem: not a format or version that is accepted, or damaged.
    """
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    suffix = suffix.lower()
    if not head:
        raise ContentProblem(EMPTY)
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(stream)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(stream)
    for signature, name in _OTHER_SIGNATURES:
        if signature.match(head):
            raise ContentProblem(f"Unsupported file format: {name}")
    pieces = _chunks(stream) if chunks is None else chunks
    if looks_like_xml(head, suffix):
        return FileFormat("text/xml", "1.0", _scanned(XmlScanner(head), pieces))
    if suffix in _IMAGE_SUFFIXES:
        raise ContentProblem(_IMAGE_SUFFIXES[suffix], "the file does not begin as such an image does")
    if suffix not in _TEXT_SUFFIXES:
        raise _unsupported(suffix)
    try:
        return FileFormat("text/plain", None, _scanned(TextScanner(), pieces))
    except ContentProblem:
        if suffix == ".txt":
            raise
        raise _unsupported(suffix) from None


def _jpeg(stream: BinaryIO) -> FileFormat:
    try:
        version, image = read_jpeg(stream)
    except BadImageError as error:
        raise ContentProblem(JPEG_DAMAGED, str(error)) from error
    if version not in ACCEPTED["image/jpeg"]:
        raise ContentProblem(JPEG_VERSION, f"version {version}" if version else "neither Exif nor JFIF")
    return FileFormat("image/jpeg", version, image=image)


def _tiff(stream: BinaryIO) -> FileFormat:
    try:
        return FileFormat("image/tiff", "6.0", image=read_tiff(stream))
    except BadImageError as error:
        raise ContentProblem(TIFF_DAMAGED, str(error)) from error


def _scanned(scanner: TextScanner | XmlScanner, chunks: Iterable[bytes]) -> str:
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.charset()


def _unsupported(suffix: str) -> ContentProblem:
    name = suffix.removeprefix(".")
    # The reason is a key by which objects are unfrozen: no wild text in it.
    return ContentProblem(f"Unsupported file format: {name if _SUFFIX.fullmatch(name) else 'unknown'}")


def _chunks(stream: BinaryIO, observe: Callable[[bytes], object] = len) -> Iterator[bytes]:
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        observe(chunk)
        yield chunk
