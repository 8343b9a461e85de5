"""CSV: a table as text, in which every record has as many fields as the first. It is read as the DPS reads it.

file-scraper gives the file to Python's `csv`, strictly, with the delimiter that the METS tells and `"` as the quoting
character; it refuses a field of more than a mebibyte of characters, and a first record that has not as many fields as
the METS names. It does not compare the other records; we do, for a table whose rows differ is no table, and the
delimiter is known by nothing else.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from passari_dagster.errors import ContentProblem
from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, TableFacts
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.formats.plain_text import charset_of

DELIMITERS = (";", ",", "\t", "|")
"""In which order they are tried where several fit."""

QUOTE = '"'
MAX_FIELDS = 16_384
"""Most columns: as many as a spreadsheet has. Each is named in the METS."""

_MAX_FIELD = 1024 * 1024
_MAX_RECORD = 4 * 1024 * 1024
_SAMPLE = 1000
_NUMBER = re.compile(r"[+-]?[\d.,\s]*\d[\d.,\s]*%?")
_SEPARATORS = {"\r\n": "CR+LF", "\n": "LF", "\r": "CR"}

# Of the whole process, as the module has it: raised once, to what the DPS has. It is a limit of ours too.
csv.field_size_limit(_MAX_FIELD)


def read(file: Opened) -> FileFormat:
    """The format of a CSV file. See `Reader`.

    The file is read once for its digest and charset, and once or more as a table: again for each delimiter that fits
    the first thousand records and fits not all.
    """
    charset = charset_of(file.head, file.chunks)
    found = {delimiter: _look(file, charset, delimiter, _SAMPLE) for delimiter in DELIMITERS}
    if all(_width(result) == 1 for result in found.values()):
        # No delimiter makes a difference so far: a table of one column, if none does to the end.
        found = {delimiter: _look(file, charset, delimiter, None) for delimiter in DELIMITERS}
        if all(_width(result) == 1 for result in found.values()):
            return _format(found[","], charset)
    for delimiter in sorted(DELIMITERS, key=lambda delimiter: -_width(found[delimiter])):
        if _width(found[delimiter]) > 1:
            found[delimiter] = _look(file, charset, delimiter, None)
            if _width(found[delimiter]):
                return _format(found[delimiter], charset)
    faults = [found[delimiter] for delimiter in _by_likelihood(file.head.decode(charset, "ignore"))]
    raise next(fault for fault in faults if isinstance(fault, ContentProblem))


def _format(result: TableFacts | ContentProblem, charset: str) -> FileFormat:
    if isinstance(result, ContentProblem):
        raise result
    return FileFormat("text/csv", charset=charset, table=result)


def _width(result: TableFacts | ContentProblem) -> int:
    """Number of columns; 0: no table."""
    return len(result.fields) if isinstance(result, TableFacts) else 0


def _by_likelihood(head: str) -> list[str]:
    """The delimiters, beginning with the one that the first lines have most of: its fault is worth telling."""
    return sorted(DELIMITERS, key=lambda delimiter: -head.count(delimiter))


def _look(file: Opened, charset: str, delimiter: str, most: int | None) -> TableFacts | ContentProblem:
    """The table with that delimiter, as far as its first `most` records, or why it is none."""
    file.stream.seek(0)
    text = io.TextIOWrapper(file.stream, charset, newline="")
    try:
        return _table(_Lines(text), delimiter, most)
    except (csv.Error, UnicodeDecodeError) as error:  # the latter: it was changed meanwhile
        return problems.CSV_DAMAGED.found(f"with the delimiter {delimiter!r}: {error}")
    except ContentProblem as problem:
        return problem
    finally:
        text.detach()


def _table(lines: _Lines, delimiter: str, most: int | None) -> TableFacts:
    first: list[str] | None = None
    # Python's csv takes a lone carriage return for the end of a record, as the DPS does.
    for number, record in enumerate(csv.reader(lines, delimiter=delimiter, quotechar=QUOTE, strict=True), start=1):
        lines.begin_record()
        if first is None:
            if not record:
                raise problems.CSV_DAMAGED.found("the first line is empty")
            if len(record) > MAX_FIELDS:
                raise problems.TEXT_TOO_LARGE.found(f"{len(record)} columns")
            first = record
        # An empty line, mostly the last, is no record.
        if record and len(record) != len(first):
            raise problems.CSV_DAMAGED.found(
                f"with the delimiter {delimiter!r}: record {number} has {len(record)} fields, the first {len(first)}"
            )
        if number == most:
            break
    if first is None:
        raise problems.CSV_DAMAGED.found("no record")
    return TableFacts(_names(first), delimiter, lines.separator, QUOTE if lines.quoted else None)


def _names(first: list[str]) -> tuple[str, ...]:
    """Names of the columns: the first record, unless it has a number in it and so is data already."""
    # The DPS leaves the byte order mark of UTF-8 in the text; it counts as part of the first field.
    fields = [field.removeprefix("\ufeff").strip(QUOTE).strip() for field in first]
    if any(_NUMBER.fullmatch(field) for field in fields):
        fields = [""] * len(first)
    return tuple(field or f"field{number}" for number, field in enumerate(fields, start=1))


class _Lines(Iterator[str]):
    """The lines of a text, of bounded length, with their ends; remembers what was seen in them."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._record = 0
        self.separator = "CR+LF"
        """How the first line ends, in the words of ADDML; a text of one line is taken for one of Windows."""
        self.quoted = False
        """Whether a quoting character was seen."""
        self._begun = False

    def begin_record(self) -> None:
        """The lines so far are a record."""
        self._record = 0

    def __next__(self) -> str:
        line = self._text.readline(_MAX_RECORD + 1 - self._record)
        if not line:
            raise StopIteration
        self._record += len(line)
        if self._record > _MAX_RECORD:
            raise problems.TEXT_TOO_LARGE.found(f"a record of more than {_MAX_RECORD} characters")
        if not self._begun:
            self._begun = True
            end = line[len(line.rstrip("\r\n")) :]
            self.separator = _SEPARATORS.get(end, self.separator)
        self.quoted = self.quoted or QUOTE in line
        return line
