"""7z: its table as `seven_table` reads it, its content by liblzma. [Source: 7-Zip, 7zFormat.txt; LZMA specification.]

Supported is what 7-Zip and others make by themselves of pictures and documents: LZMA, LZMA2, the latter also after a
filter for programs or sounds, and no compression.
py7zr's own decompression is left aside, since its memory grows with the archive.
"""

from __future__ import annotations

import json
import lzma
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, TypedDict

from passari_dagster.errors import ContentProblem, TransientFailure
from passari_dagster.sip import problems
from passari_dagster.sip.archives.inflate import MAX_MEMORY, InflatedFile, decompressed
from passari_dagster.sip.archives.member import CHUNK, Member

MAGIC = b"7z\xbc\xaf\x27\x1c"
_COPY, _LZMA, _LZMA2, _AES = "00", "030101", "21", "06f10701"
_DELTA, _X86 = "03", ("04", "03030103")

_BLOCK = 64 * 1024
_WAIT = 600  # seconds for the table, of which it may work 60
_OF_THE_CONTENT = (-signal.SIGXCPU, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
_LEAST_DICTIONARY = 4096


class _Folder(TypedDict):
    """A compressed stream, with one or many files in it: properties of each coder (both in hexadecimal), where it
    begins, sizes in bytes; of several streams that make one (BCJ2) the packed size is not told.
    """

    coders: dict[str, str]
    start: int
    packed: int | None
    size: int


def members(stream: BinaryIO, most: int) -> Iterator[Member]:
    """See `MembersOf`; the stream is a file on disk."""
    table = _table(stream, most)
    folders: list[_Folder] = table["folders"]
    contents = _Contents(stream, folders)
    starts = [0] * len(folders)
    for entry in table["members"]:
        number = entry["folder"]
        read, folder_problem = partial(iter, ()), None
        if number is not None:
            folder_problem = _folder_problem(folders[number], repr(entry["name"]))
            read = partial(_bytes, contents, number, starts[number], entry["size"], entry["crc"])
            starts[number] += entry["size"]
        yield Member(
            name=entry["name"],
            size=entry["size"],
            modified=entry["modified"],
            directory=entry["directory"],
            problem=_problem(entry) or folder_problem,
            read=read,
        )


def _table(stream: BinaryIO, most: int) -> dict[str, Any]:
    command = [sys.executable, "-m", f"{__package__}.seven_table", str(most)]
    try:
        result = subprocess.run(  # noqa: S603 - no shell, and our own program
            command, stdin=stream, capture_output=True, timeout=_WAIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TransientFailure(f"the table of a 7z archive was not read within {_WAIT} seconds") from error
    if result.returncode in _OF_THE_CONTENT:
        raise problems.ARCHIVE_DAMAGED.found("its table cannot be read")
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip()[-500:]
        raise TransientFailure(f"the table of a 7z archive was not read, exit code {result.returncode}: {said}")
    table: dict[str, Any] = json.loads(result.stdout)
    fault = table.get("fault")
    if fault == "encrypted":
        raise problems.ARCHIVE_ENCRYPTED.found("with the names of its files")
    if fault is not None:
        raise problems.ARCHIVE_DAMAGED.found(fault)
    return table


def _problem(entry: dict[str, Any]) -> ContentProblem | None:
    name = repr(entry["name"])
    if entry["link"]:
        return problems.SYMBOLIC_LINK.found(name)
    if entry["special"]:
        return problems.ARCHIVE_SPECIAL_FILE.found(name)
    if entry["size"] < 0:
        return problems.ARCHIVE_DAMAGED.found(f"{name} has a negative size")
    return None


def _folder_problem(folder: _Folder, name: str) -> ContentProblem | None:
    if _AES in folder["coders"]:
        return problems.ARCHIVE_ENCRYPTED.found(name)
    try:
        _filters(folder)
    except _UnknownError:
        return problems.ARCHIVE_VARIANT.found(f"{name}: a compression other than LZMA and LZMA2")
    if min(_dictionary(folder), folder["size"]) > MAX_MEMORY:
        return problems.ARCHIVE_VARIANT.found(f"{name}: its decompression takes too much memory")
    return None


def _content(stream: BinaryIO, folder: _Folder) -> Iterator[bytes]:
    """The files of a folder, one after the other, in pieces of at most `CHUNK` bytes."""
    at, left, made = folder["start"], folder["packed"] or 0, 0
    try:
        filters = _filters(folder)
        inflator = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, filters) if filters else None
    except (lzma.LZMAError, ValueError, IndexError) as error:
        raise problems.ARCHIVE_DAMAGED.found(f"compression of an unknown kind: {error}") from error
    while made < folder["size"]:
        data = b""
        if inflator is None or inflator.needs_input:
            stream.seek(at)
            data = stream.read(min(_BLOCK, left))
            at, left = at + len(data), left - len(data)
        piece = data if inflator is None else decompressed(inflator, data, CHUNK)
        if not piece and not data:
            raise problems.ARCHIVE_DAMAGED.found("it breaks off")
        made += len(piece)
        if piece:
            yield piece


class _Contents:
    """The content of the folder that is read; one at a time, since each takes memory."""

    def __init__(self, stream: BinaryIO, folders: list[_Folder]) -> None:
        self._stream, self._folders = stream, folders
        self._number, self._content = -1, InflatedFile(iter(()))

    def of(self, number: int) -> InflatedFile:
        """Of this folder; from its beginning, if another one was read before."""
        if number != self._number:
            self._number = number
            self._content = InflatedFile(_content(self._stream, self._folders[number]))
        return self._content


class _UnknownError(Exception):
    """A method, or several together, that we do not know."""


def _dictionary(folder: _Folder) -> int:
    """Bytes that the decompressor remembers."""
    if _LZMA in folder["coders"]:
        return int.from_bytes(bytes.fromhex(folder["coders"][_LZMA])[1:5], "little")
    code = bytes.fromhex(folder["coders"].get(_LZMA2, ""))[:1]
    return (2 | code[0] & 1) << ((code[0] & 0x3F) // 2 + 11) if code else 0


def _filters(folder: _Folder) -> list[dict[str, int]]:
    """As liblzma wants them; none: the content is not compressed."""
    coders = dict(folder["coders"])
    if folder["packed"] is None:
        raise _UnknownError
    if coders.keys() == {_COPY}:
        return []
    # What is longer than the content is never used.
    size = max(min(_dictionary(folder), folder["size"]), _LEAST_DICTIONARY)
    if coders.keys() == {_LZMA}:
        rest, lc = divmod(int(coders[_LZMA][:2] or "ff", 16), 9)
        pb, lp = divmod(rest, 5)
        return [{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": lc, "lp": lp, "pb": pb}]
    if coders.pop(_LZMA2, None) is None or len(coders) > 1:
        raise _UnknownError
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": size}]
    for method, properties in coders.items():
        if method in _X86:
            filters.insert(0, {"id": lzma.FILTER_X86})
        elif method == _DELTA:
            filters.insert(0, {"id": lzma.FILTER_DELTA, "dist": int(properties[:2] or "0", 16) + 1})
        else:
            raise _UnknownError
    return filters


def _bytes(contents: _Contents, number: int, start: int, size: int, crc: int | None) -> Iterator[bytes]:
    content = contents.of(number)
    content.seek(start)
    found, left = 0, size
    while left:
        chunk = content.read(min(CHUNK, left))
        if not chunk:
            raise problems.ARCHIVE_DAMAGED.found("it breaks off")
        left -= len(chunk)
        found = zlib.crc32(chunk, found)
        yield chunk
    if crc is not None and found != crc:
        raise problems.ARCHIVE_DAMAGED.found("its checksum is wrong")
