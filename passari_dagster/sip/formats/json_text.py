"""JSON: the whole file is read as RFC 8259 has it, as a stream. Its meaning is nobody's business here.

The DPS loads the file with Python's `json`, which holds all of it in memory. What that refuses is refused here; ijson
is not strict enough for it (it takes `"a""` and a form feed, and refuses half of a surrogate pair). So the grammar,
which is small, is here, and strings with escapes are read by Python's own scanner. Names that occur twice are no fault:
the RFC advises against them and does not forbid them. `NaN` and `Infinity` are no JSON, though Python takes them.
"""

from __future__ import annotations

import codecs
import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # not in the stubs

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened

MAX_DEPTH = 500
"""Deepest nesting: the DPS's reader calls itself for each level, and Python ends that at about a thousand."""

MAX_DIGITS = 4300
"""Longest integer: Python makes no number of more digits."""

_MAX_VALUE = 16 * 1024 * 1024
"""Longest string in characters: it is held in memory."""

_TOKEN = re.compile(
    r'[ \t\n\r]*(?:(?P<mark>[][{},:])|(?P<string>"[^"\\\x00-\x1f]*")|(?P<quote>")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(?P<word>true|false|null)|(?P<odd>[^ \t\n\r]))?"
)
_PLAIN = (
    r'(?:"[^"\\\x00-\x1f]*"|-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)'
    r"(?=[ \t\n\r]*[],}])"
)
_ITEMS = {"[": _PLAIN, "{": r'"[^"\\\x00-\x1f]*"[ \t\n\r]*:[ \t\n\r]*' + _PLAIN}
_SPACE, _COMMA = r"[ \t\n\r]*", r"[ \t\n\r]*,[ \t\n\r]*"
_FIRST_RUN = {bracket: re.compile(f"{_SPACE}{item}(?:{_COMMA}{item})*") for bracket, item in _ITEMS.items()}
_NEXT_RUN = {bracket: re.compile(f"(?:{_COMMA}{item})+") for bracket, item in _ITEMS.items()}
"""Plain members in a row, inside either bracket: most of a file, and so read at one go."""

_UNSURE = 8
"""A token that ends fewer characters before the end of a chunk may go on in the next: `1.` and `tru`."""


def read(file: Opened) -> FileFormat:
    """The format of a JSON file. See `Reader`."""
    reader = JsonReader()
    for chunk in file.chunks:
        reader.feed(chunk)
    reader.end()
    return FileFormat("application/json", charset="UTF-8")


class JsonReader:
    """Reads a JSON text without keeping it. Feed it all chunks, then call `end`."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._inside: list[str] = []
        """The brackets that are open."""
        # What may come next: a value, a name, or one of the marks; `]` and `}` only after their opening or a value.
        self._value, self._name, self._marks = True, False, ""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the text.

        Raises:
            ContentProblem: no JSON, or more than can be checked.
        """
        self._decode(chunk, final=False)
        if len(self._rest) > _MAX_VALUE:
            raise problems.TEXT_TOO_LARGE.found(f"a value of more than {_MAX_VALUE} characters")

    def end(self) -> None:
        """The text has ended.

        Raises:
            ContentProblem: see `feed`.
        """
        self._decode(b"", final=True)
        if self._inside or self._value:
            raise problems.JSON_DAMAGED.found("it ends too early")

    def _decode(self, chunk: bytes, *, final: bool) -> None:
        try:
            text = self._rest + self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise problems.JSON_DAMAGED.found(f"not UTF-8: {error.reason}") from error
        self._rest = text[self._read(text, final=final) :]

    def _read(self, text: str, *, final: bool) -> int:
        """Read what is sure. Returns where the rest begins."""
        at = 0
        sure = len(text) if final else len(text) - _UNSURE
        while True:
            at = self._run(text, at)
            token = _TOKEN.match(text, at)
            if token is None:
                break
            kind, end = token.lastgroup, token.end()
            if kind is None:
                break
            if kind == "quote":
                closed = _string_end(text, end, final=final)
                if closed is None:
                    break
                kind, end = "string", closed
            elif end > sure and kind not in ("mark", "string"):
                break
            if kind == "mark":
                self._mark(token["mark"])
            elif kind == "string" and self._name:
                self._name, self._marks = False, ":"
            elif kind == "odd" or not self._value:
                raise problems.JSON_DAMAGED.found(f"{token[0].strip()[:20]!r} where it may not be")
            else:
                if kind == "number":
                    _check_digits(token["number"])
                self._value_ended()
            at = end
        return at

    def _run(self, text: str, at: int) -> int:
        """Read plain members, as many as come. Returns where they end."""
        if not self._inside:
            return at
        if self._marks.startswith(","):
            runs = _NEXT_RUN
        elif self._name or (self._value and self._inside[-1] == "["):
            runs = _FIRST_RUN
        else:
            return at
        run = runs[self._inside[-1]].match(text, at)
        if run is None:
            return at
        self._value_ended()
        return run.end()

    def _mark(self, mark: str) -> None:
        if mark in "[{" and self._value:
            self._inside.append(mark)
            if len(self._inside) > MAX_DEPTH:
                raise problems.JSON_DAMAGED.found(f"nested more than {MAX_DEPTH} deep")
            self._value, self._name, self._marks = mark == "[", mark == "{", "]" if mark == "[" else "}"
        elif mark not in self._marks:
            raise problems.JSON_DAMAGED.found(f"{mark!r} where it may not be")
        elif mark == ":":
            self._value, self._marks = True, ""
        elif mark == ",":
            self._value, self._name, self._marks = self._inside[-1] == "[", self._inside[-1] == "{", ""
        else:
            self._inside.pop()
            self._value_ended()

    def _value_ended(self) -> None:
        self._value = self._name = False
        self._marks = {"[": ",]", "{": ",}"}[self._inside[-1]] if self._inside else ""


def _string_end(text: str, begin: int, *, final: bool) -> int | None:
    """Where a string ends whose first character is at `begin`; None: further on than the text.

    Raises:
        ContentProblem: it is none.
    """
    try:
        return int(scanstring(text, begin, True)[1])
    except JSONDecodeError as error:
        # An escape may be cut as well.
        cut = error.msg.startswith("Unterminated string") or error.pos > len(text) - 2 * _UNSURE
        if cut and not final:
            return None
        raise problems.JSON_DAMAGED.found(error.msg) from error


def _check_digits(number: str) -> None:
    if len(number.lstrip("-")) > MAX_DIGITS and number.lstrip("-").isdigit():
        raise problems.JSON_DAMAGED.found(f"a number of more than {MAX_DIGITS} digits")
