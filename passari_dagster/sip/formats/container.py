"""A ZIP file that is a document: its members, read within bounds and with their checksums.

What members a document has to have is known by `odf`, `ooxml` and `epub`. Archives that are unpacked into a package are
no documents and do not belong here.
"""

from __future__ import annotations

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from passari_dagster import safe_xml
from passari_dagster.sip import problems
from passari_dagster.sip.problems import Kind

MAX_MEMBERS = 20_000
MAX_DIRECTORY = 8 * 1024 * 1024
"""Most bytes of a list of members, which is kept in memory."""

MAX_RATIO = 200
"""A member of more than `LARGE` bytes that was compressed better than this is a bomb; XML comes to about 30."""

LARGE = 64 * 1024 * 1024

MAX_CONTENT, MAX_GROWTH = 1024 * 1024 * 1024, 20
"""Most bytes of all members together: the first, and the second times the size of the file."""

_CHUNK = 64 * 1024
_MAX_SMALL = 4 * 1024 * 1024
_END, _END_BYTES, _MAX_COMMENT = b"PK\x05\x06", 22, 65_535
_LOCATOR, _LOCATOR_BYTES, _END64_BYTES = b"PK\x06\x07", 20, 56
_ENCRYPTED = 0x1
# [Source: ODF 1.3 part 2, 2.2; ECMA-376 part 2, annex B; EPUB OCF 3.3, 4.3]
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


class BadContainerError(Exception):
    """The ZIP file, or an XML member of it, is damaged; the message says how."""


class Container:
    """The members of a document.

    Arguments:
        stream: the file.

    Raises:
        BadContainerError: no ZIP file, or damaged.
        ContentProblem: more than can be checked.
        OSError: a fault of the file system.
    """

    def __init__(self, stream: BinaryIO) -> None:
        size = _require_small_directory(stream)
        with _damage():
            self._zip = zipfile.ZipFile(stream)
        members = self._zip.infolist()
        self.first = members[0].filename if members else ""
        self._members = {member.filename: member for member in members}
        self.names = self._members.keys()
        if len(self._members) != len(members):
            raise BadContainerError("two members have one name")
        if sum(member.file_size for member in members) > MAX_CONTENT + MAX_GROWTH * size:
            raise problems.TOO_MUCH_WORK.found("the members together are too large")
        for member in members:
            if member.compress_type not in _METHODS:
                raise BadContainerError(f"{member.filename!r} is compressed by a method that documents may not use")
            if member.file_size > max(LARGE, MAX_RATIO * member.compress_size):
                raise problems.TOO_MUCH_WORK.found(f"{member.filename!r} is a decompression bomb")

    def is_stored(self, name: str) -> bool:
        """Whether a member is there without compression."""
        return self._members[name].compress_type == zipfile.ZIP_STORED

    def is_encrypted(self) -> bool:
        """Whether a member is encrypted in the manner of ZIP, which none of the documents allows."""
        return any(member.flag_bits & _ENCRYPTED for member in self._members.values())

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content of a member; at its end the checksum was compared.

        Raises:
            BadContainerError: it is missing or damaged.
        """
        if name not in self._members:
            raise BadContainerError(f"{name!r} is missing")
        with _damage(), self._zip.open(name) as member:
            while chunk := member.read(_CHUNK):
                yield chunk

    def small(self, name: str) -> bytes:
        """The content of a member that is read as a whole.

        Raises:
            BadContainerError: it is missing, damaged, or not small.
        """
        content = bytearray()
        for chunk in self.chunks(name):
            content += chunk
            if len(content) > _MAX_SMALL:
                raise BadContainerError(f"{name!r} is too large")
        return bytes(content)

    def scan(self, name: str, visit: safe_xml.Visitor | None = None) -> tuple[str, dict[str, str]]:
        """Read an XML member. See `safe_xml.scan`.

        Raises:
            BadContainerError: it is missing, damaged, or not well-formed.
            ContentProblem: more than can be checked.
        """
        try:
            return safe_xml.scan(self.chunks(name), source=name, visit=visit)
        except safe_xml.TooMuchXmlError as error:
            raise problems.TOO_MUCH_WORK.found(str(error)) from error
        except safe_xml.UnsafeXmlError as error:
            raise BadContainerError(str(error)) from error

    def scan_list(self, name: str, visit: safe_xml.Visitor) -> tuple[str, dict[str, str]]:
        """Read an XML member that tells of other members, and which is kept. See `scan`."""
        if name in self._members and self._members[name].file_size > MAX_DIRECTORY:
            raise problems.TOO_MUCH_WORK.found(f"{name!r} has more than {MAX_DIRECTORY} bytes")
        return self.scan(name, visit)

    def require_sound(self, xml_suffixes: tuple[str, ...]) -> None:
        """Read every member to its end, those with one of the suffixes as XML.

        Raises:
            BadContainerError: one is damaged, or not well-formed.
        """
        for name in self.names:
            if name.lower().endswith(xml_suffixes):
                self.scan(name)
            else:
                for _ in self.chunks(name):
                    pass


@contextmanager
def _damage() -> Iterator[None]:
    """What `zipfile` raises over a damaged file, as `BadContainerError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # which is a place before the beginning of the file
            raise
        raise BadContainerError(str(error)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise BadContainerError(str(error) or type(error).__name__) from error


def _require_small_directory(stream: BinaryIO) -> int:
    """Look at the end of the file before `zipfile` reads all its members into memory.

    Returns:
        the size of the file.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _MAX_COMMENT - _END_BYTES - _LOCATOR_BYTES - _END64_BYTES))
    tail = stream.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise BadContainerError("the list of members is missing: the file was cut off, or is no ZIP file")
    count, length = struct.unpack_from("<HI", tail, at + 10)
    before = at - _LOCATOR_BYTES
    if tail[max(0, before) : at].startswith(_LOCATOR) and before >= _END64_BYTES:
        count, length = struct.unpack_from("<QQ", tail, before - _END64_BYTES + 32)
    if count > MAX_MEMBERS or length > MAX_DIRECTORY:
        raise problems.TOO_MUCH_WORK.found(f"more than {MAX_MEMBERS} members")
    return size


def require_first(container: Container, kind: Kind) -> None:
    """A document tells its MIME type at its very beginning. [Source: ODF 1.2 part 3, 3.3; EPUB OCF 3.3, 4.3.]

    Raises:
        ContentProblem: the member is not the first, or is compressed.
    """
    if container.first != "mimetype" or not container.is_stored("mimetype"):
        raise kind.found("'mimetype' is not the first member, without compression")
