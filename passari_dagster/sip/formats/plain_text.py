"""Plain text: which charset it is in, and whether the DPS will take it. Read as a stream, chunk by chunk.

What a text means is known by the modules of the formats that are written in text: they ask `charset_of` here first.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened

# What file-scraper's TextEncodingExtractor forbids: all controls but tab and new lines; in Latin 9 those above as well.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LATIN_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(file: Opened) -> FileFormat:
    """The format of a plain text. See `Reader`."""
    return FileFormat("text/plain", charset=charset_of(file.head, file.chunks))


def charset_of(head: bytes, chunks: Iterable[bytes]) -> str:
    """The charset of a whole text, which is also the name of Python's codec for it.

    Raises:
        ContentProblem: see `TextScanner.charset`.
    """
    scanner = TextScanner(head)
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.charset()


class TextScanner:
    """Decides the charset of a text: UTF-16 or UTF-32 by its byte order mark, else UTF-8, else ISO-8859-15.

    Feed it all chunks, then ask `charset`.

    Arguments:
        head: the first bytes of the text, four at least if it has as many.
    """

    def __init__(self, head: bytes) -> None:
        marked = next((charset for mark, charset in _BOMS if head.startswith(mark)), None)
        self._marked = marked is not None
        self._first = _Reading(marked or "UTF-8", _CONTROLS)
        self._latin = _Reading("ISO-8859-15", _LATIN_CONTROLS)

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the text."""
        self._first.feed(chunk)
        if not self._marked:
            self._latin.feed(chunk)

    def charset(self) -> str:
        """The charset, now that the text has ended.

        Raises:
            ContentProblem: control characters, which no text has; in ISO-8859-15 they also betray the code pages
                of Windows.
        """
        self._first.feed(b"", final=True)
        if self._first.decodes:
            if self._first.control is not None:
                raise problems.TEXT_CONTROL.found(f"character {ord(self._first.control):02X}")
            return self._first.charset
        if self._marked:
            raise problems.TEXT_ENCODING.found(f"not {self._first.charset}, which its byte order mark tells")
        if self._latin.control is not None:
            raise problems.TEXT_ENCODING.found("neither UTF-8 nor ISO-8859-15; save as UTF-8")
        return self._latin.charset


class _Reading:
    """A text as it looks in one charset."""

    def __init__(self, charset: str, controls: re.Pattern[str]) -> None:
        self.charset, self._controls = charset, controls
        self.decodes = True
        self.control: str | None = None
        """The first control character."""
        self._decoder = codecs.getincrementaldecoder(charset)()

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        if not self.decodes:
            return
        try:
            text = self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            self.decodes = False
            return
        if self.control is None and (match := self._controls.search(text)):
            self.control = match[0]
