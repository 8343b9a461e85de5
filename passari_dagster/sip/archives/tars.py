"""TAR, as it is or compressed by gzip, bzip2 or xz. [Source: POSIX pax; GNU tar.]

Python's `tarfile` reads the headers; here is what that leaves to its caller: the size of headers, the end, kinds of
members.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import IO, BinaryIO, cast

from passari_dagster.errors import ContentProblem
from passari_dagster.sip import problems
from passari_dagster.sip.archives.inflate import COMPRESSIONS, InflatedFile, inflated
from passari_dagster.sip.archives.member import CHUNK, CarefulFile, Member

_HEADER_BYTES = 256 * 1024
"""Of one member: its path may be long, and have attributes of a file system beside it."""
_USUAL_HEADER_BYTES = 4096
_PADDING_BYTES = 16 * 1024 * 1024
"""Of zeros after the end: tapes have large blocks."""
_LONG_NUMBER = re.compile(rb"\d{256}")


def members(stream: BinaryIO, most: int) -> Iterator[Member]:
    """See `MembersOf`. An archive that does not end as one is damaged: something may be missing."""
    content = _content(stream)
    file = _Headers(content, most)
    try:
        with tarfile.TarFile(
            fileobj=cast("IO[bytes]", file), mode="r", encoding="utf-8", errors="surrogateescape"
        ) as archive:
            while (info := archive.next()) is not None:
                if info.size < 0:
                    raise problems.ARCHIVE_DAMAGED.found(f"{info.name!r} has a negative size")
                directory = info.isdir()
                yield Member(
                    name=info.name,
                    size=0 if directory else info.size,
                    modified=info.mtime,
                    directory=directory,
                    problem=_problem(info),
                    read=partial(_bytes, content, info),
                )
                file.budget = _HEADER_BYTES
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError, IndexError) as error:
        raise problems.ARCHIVE_DAMAGED.found(str(error)) from error
    # tarfile takes whatever is no header for the end.
    if file.last != bytes(tarfile.BLOCKSIZE):
        raise problems.ARCHIVE_DAMAGED.found("it has no end, or a damaged header")
    _require_nothing_more(content)


def is_tar(stream: BinaryIO) -> bool:
    """Whether a file is a TAR, by the checksum of its first header."""
    try:
        tarfile.TarInfo.frombuf(_content(stream, tarfile.BLOCKSIZE).read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError, ContentProblem):
        return False
    return True


class _Headers(CarefulFile):
    """What tarfile reads headers from."""

    def __init__(self, content: BinaryIO, most: int) -> None:
        super().__init__(content, _HEADER_BYTES, problems.ARCHIVE_DAMAGED)
        # tarfile remembers the headers that hold for all members.
        self._left = _HEADER_BYTES + most * _USUAL_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise problems.ARCHIVE_DAMAGED.found("a header has a negative size")
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise problems.ARCHIVE_DAMAGED.found("its headers are too large")
        if _LONG_NUMBER.search(data):
            # The searches of older versions of tarfile take hours over them (CVE-2024-6232).
            raise problems.ARCHIVE_DAMAGED.found("a header has a number without end")
        return data


def _content(stream: BinaryIO, most: int = CHUNK) -> BinaryIO:
    """The TAR itself, from its beginning; decompressed by so many bytes at once."""
    stream.seek(0)
    head = stream.read(6)
    stream.seek(0)
    for magic, new in COMPRESSIONS.items():
        if head.startswith(magic):
            return cast("BinaryIO", InflatedFile(inflated(stream, new, most)))
    return stream


def _problem(info: tarfile.TarInfo) -> ContentProblem | None:
    if info.issym():
        return problems.SYMBOLIC_LINK.found(f"{info.name!r} to {info.linkname!r}")
    if not (info.isdir() or info.isreg()):
        return problems.ARCHIVE_SPECIAL_FILE.found(f"{info.name!r}, of type {info.type!r}")
    if info.issparse():
        return problems.ARCHIVE_VARIANT.found(f"{info.name!r} is a sparse file")
    if any("\udc80" <= letter <= "\udcff" for letter in info.name):
        return problems.ARCHIVE_NAME_ENCODING.found(f"{info.name.encode(errors='surrogateescape')!r} is not UTF-8")
    return None


def _bytes(content: BinaryIO, info: tarfile.TarInfo) -> Iterator[bytes]:
    content.seek(info.offset_data)
    left = info.size
    while left:
        chunk = content.read(min(CHUNK, left))
        if not chunk:
            raise problems.ARCHIVE_DAMAGED.found("it breaks off")
        left -= len(chunk)
        yield chunk


def _require_nothing_more(content: BinaryIO) -> None:
    read = 0
    while chunk := content.read(CHUNK):
        read += len(chunk)
        if chunk.strip(b"\0") or read > _PADDING_BYTES:
            raise problems.ARCHIVE_DAMAGED.found("there is something after its end")
