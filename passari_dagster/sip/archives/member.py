"""What the kinds of archives have in common: a member, and a file that libraries read with a limit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.problems import Kind

CHUNK = 1024 * 1024
"""Most bytes of a member that are in memory at once."""


@dataclass(frozen=True)
class Member:
    """A file or directory in an archive, as the archive tells it: nothing of this is to be believed.

    Arguments:
        name: its path, with `/` between the parts.
        size: in bytes.
        modified: time of its last change (POSIX), where the archive has one.
        directory: it is one, and has no content.
        problem: why it cannot be unpacked, as far as its kind of archive knows.
        read: its content, in pieces of at most `CHUNK` bytes; to be called before the next member is asked for.
            Raises `ContentProblem` for what is damaged.
    """

    name: str
    size: int
    modified: float | None
    directory: bool
    problem: ContentProblem | None
    read: Callable[[], Iterator[bytes]]


MembersOf = Callable[[BinaryIO, int], Iterator[Member]]
"""The members of an archive, in its order. May be asked several times of one stream.

Arguments:
    stream: the archive, seekable.
    most: there is no need to go on after so many members.

Raises:
    ContentProblem: the archive as a whole is damaged, or of a variant that is not supported.
    OSError: a fault of the file system.
"""


class CarefulFile(io.RawIOBase):
    """An archive for a library that believes what the archive says of the size of its own tables.

    Arguments:
        stream: the archive.
        budget: bytes that may be read; to be set again for the next table; None: as many as one likes.
        excess: what is wrong with an archive that has more.
    """

    def __init__(self, stream: BinaryIO, budget: int | None, excess: Kind) -> None:
        self._stream, self._excess = stream, excess
        self.budget = budget
        self.last = b""
        """What was read last."""
        self.fault: OSError | None = None
        """Of the file system: libraries take it for a fault of the archive."""

    def read(self, size: int = -1) -> bytes:
        if self.budget is not None and size > self.budget:
            raise self._excess.found(f"it has a table of {size} bytes")
        try:
            self.last = self._stream.read(self.budget + 1 if size < 0 and self.budget is not None else size)
        except OSError as error:
            self.fault = error
            raise
        if self.budget is not None:
            if len(self.last) > self.budget:
                raise self._excess.found("its tables are too large")
            self.budget -= len(self.last)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
