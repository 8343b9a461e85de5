"""ZIP: its members by its central directory. [Source: PKWARE, APPNOTE.TXT 6.3.10, by section.]

Python's `zipfile` reads it; here is what that leaves to its caller: layout, names, kinds of members.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from typing import IO, BinaryIO, cast

from passari_dagster.errors import ContentProblem
from passari_dagster.sip import problems
from passari_dagster.sip.archives.member import CHUNK, CarefulFile, Member

_ENCRYPTED = 0x2041  # §4.4.4: bits 0, 6, 13
_UTF8 = 0x800  # §4.4.4: bit 11
_EXTENDED_TIME, _UNICODE_PATH = 0x5455, 0x7075  # Info-ZIP's extra fields; the second: §4.6.9
_LOCAL_HEADER_BYTES = 30  # §4.3.7, without the name
_ENTRY_BYTES = 512
"""Of the central directory, on average: 46 and the path with its extra fields."""


def members(stream: BinaryIO, most: int) -> Iterator[Member]:
    """See `MembersOf`. Only the methods that every reader of ZIP knows are supported, stored and deflated: those of
    ISO/IEC 21320-1, and the only ones of which `zipfile` bounds the output.
    """
    with _opened(stream, most) as archive:
        _require_sound_layout(archive)
        for info in archive.infolist():
            name = _name(info)
            directory = info.orig_filename.endswith("/") or stat.S_ISDIR(info.external_attr >> 16)
            problem = _problem(info, name, directory)
            shown = info.orig_filename if name is None else name
            yield Member(shown, info.file_size, _modified(info), directory, problem, partial(_content, archive, info))


def is_document(stream: BinaryIO, most: int) -> bool | None:
    """Whether the file is a document of an office program or an EPUB, which are ZIPs too; None: it cannot be read.

    They tell by a member `mimetype` [ODF 1.3 part 2 §3.3; EPUB OCF 3 §4.3], or `[Content_Types].xml` [OPC §10].
    """
    try:
        with _opened(stream, most) as archive:
            for info in archive.infolist():
                if info.orig_filename.lower() == "[content_types].xml":
                    return True
                if info.orig_filename == "mimetype" and not _problem(info, info.orig_filename, directory=False):
                    return next(_content(archive, info), b"").startswith(b"application/")
    except ContentProblem as problem:
        return False if problem.code == problems.ARCHIVE_TOO_MANY_FILES.code else None
    return False


@contextlib.contextmanager
def _opened(stream: BinaryIO, most: int) -> Iterator[zipfile.ZipFile]:
    stream.seek(0)
    file = CarefulFile(stream, max(CHUNK, most * _ENTRY_BYTES), problems.ARCHIVE_TOO_MANY_FILES)
    with _damage_told(file), zipfile.ZipFile(cast("IO[bytes]", file)) as archive:
        file.budget = None
        yield archive


@contextlib.contextmanager
def _damage_told(file: CarefulFile) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise problems.ARCHIVE_NAME_ENCODING.found(f"{error.object!r} is called UTF-8, and is not") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        ValueError,
        OverflowError,
        RuntimeError,  # also what zipfile says of a method that it does not know
        OSError,
    ) as error:
        if file.fault is not None:
            raise file.fault from None
        # A place before the beginning of the file is not the disk's fault.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise problems.ARCHIVE_DAMAGED.found(str(error)) from error


def _require_sound_layout(archive: zipfile.ZipFile) -> None:
    """The members lie one after the other from the beginning of the file, as all archivers write them.

    Members that overlap are a bomb; what lies before the first one would be lost in silence.
    """
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise problems.ARCHIVE_DAMAGED.found(f"{info.orig_filename!r} overlaps another member")
        if not end and info.header_offset:
            raise problems.ARCHIVE_DAMAGED.found("there is something before its first member")
        end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size
    if end > archive.start_dir:
        raise problems.ARCHIVE_DAMAGED.found("its last member overlaps the directory")


def _problem(info: zipfile.ZipInfo, name: str | None, directory: bool) -> ContentProblem | None:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & _ENCRYPTED:
        return problems.ARCHIVE_ENCRYPTED.found(repr(info.orig_filename))
    if stat.S_ISLNK(mode):
        return problems.SYMBOLIC_LINK.found(repr(info.orig_filename))
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return problems.ARCHIVE_SPECIAL_FILE.found(repr(info.orig_filename))
    if name is None:
        raw = info.orig_filename.encode("cp437")
        return problems.ARCHIVE_NAME_ENCODING.found(f"{raw!r} is not UTF-8, nor the same in code pages 437 and 850")
    if directory:
        return problems.ARCHIVE_DAMAGED.found(f"{name!r}, a directory, has content") if info.file_size else None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return problems.ARCHIVE_VARIANT.found(f"{name!r}: compression method {info.compress_type}")
    return None


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    # zipfile stops in silence at the size that the directory tells: one more, and we see whether there is more.
    longer = copy.copy(info)
    longer.file_size += 1
    try:
        with archive.open(longer) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, RuntimeError) as error:
        raise problems.ARCHIVE_DAMAGED.found(str(error)) from error


def _name(info: zipfile.ZipInfo) -> str | None:
    """The path; None: nobody can tell what it is.

    Without the flag for UTF-8 the standard says code page 437 (appendix D). In truth macOS writes UTF-8 without the
    flag, which no sensible text of a code page looks like; and Windows writes its own code page, in Europe 850. The
    two code pages agree in the usual letters (all of Finnish and Swedish): where they do not, we do not guess.
    """
    if info.flag_bits & _UTF8:
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")
    unicode_path = _extra(info, _UNICODE_PATH)
    with contextlib.suppress(UnicodeDecodeError):
        if unicode_path[:5] == b"\1" + struct.pack("<I", zlib.crc32(raw)):
            return unicode_path[5:].decode()
        return raw.decode()
    name = info.orig_filename
    if name != raw.decode("cp850") or not all(letter.isascii() or letter.isalpha() for letter in name):
        return None
    return name


def _modified(info: zipfile.ZipInfo) -> float | None:
    """In UTC where the archiver tells that; else the local time of its machine, taken for ours, as unzip does."""
    extended = _extra(info, _EXTENDED_TIME)
    if len(extended) >= 5 and extended[0] & 1:
        return float(struct.unpack("<i", extended[1:5])[0])
    try:
        datetime(*info.date_time, tzinfo=timezone.utc)
    except ValueError:
        return None
    # The first day of its calendar means that the archiver had no date.
    return time.mktime((*info.date_time, 0, 0, -1)) if info.date_time > (1980, 1, 1, 0, 0, 0) else None


def _extra(info: zipfile.ZipInfo, wanted: int) -> bytes:
    """An extra field (§4.5.1); empty: there is none."""
    data = info.extra
    while len(data) >= 4:
        kind, length = struct.unpack("<HH", data[:4])
        if kind == wanted:
            return data[4 : 4 + length]
        data = data[4 + length :]
    return b""
