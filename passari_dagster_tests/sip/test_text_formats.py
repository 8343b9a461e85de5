"""What the matrix of samples does not tell: the facts of a table, and JSON as Python, which the DPS uses, reads it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.addml import addml
from passari_dagster.sip.formats import html_text
from passari_dagster.sip.formats.facts import FileFormat, TableFacts
from passari_dagster.sip.formats.json_text import JsonReader
from passari_dagster.sip.problems import FileProblem
from passari_dagster_tests.sip.content import look


def table(data: bytes) -> TableFacts:
    found = look(data, ".csv")
    assert isinstance(found, FileFormat), found
    assert found.table is not None
    return found.table


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a;b\r\n1;2\r\n", TableFacts(("a", "b"), ";", "CR+LF", None)),
        (b'a,b\n"1,2",3\n', TableFacts(("a", "b"), ",", "LF", '"')),
        (b"a\tb\r1\t2", TableFacts(("a", "b"), "\t", "CR", None)),
        (b"a|b", TableFacts(("a", "b"), "|", "CR+LF", None)),
        # Commas are decimal signs: both fit, and the semicolon makes no more columns.
        (b"hinta;pituus\n1,5;2,5\n", TableFacts(("hinta", "pituus"), ";", "LF", None)),
        (b"a,b;c\n1,2;3\n", TableFacts(("a,b", "c"), ";", "LF", None)),
        (b"nimi\nkirves\n", TableFacts(("nimi",), ",", "LF", None)),
        # A new line inside a field is none between records.
        (b'a;b\n"x\ny";2\n', TableFacts(("a", "b"), ";", "LF", '"')),
        # A name that is missing, a first record that is data, the mark of UTF-8 before a quote.
        (b"a;;c\n1;2;3\n", TableFacts(("a", "field2", "c"), ";", "LF", None)),
        (b"kirves;1890\nvasara;1920\n", TableFacts(("field1", "field2"), ";", "LF", None)),
        (b'\xef\xbb\xbf"a";b\n1;2\n', TableFacts(("a", "b"), ";", "LF", '"')),
        (b"\xef\xbb\xbf1;2\n3;4\n", TableFacts(("field1", "field2"), ";", "LF", None)),
    ],
)
def test_the_facts_of_a_table(data: bytes, expected: TableFacts) -> None:
    assert table(data) == expected


def test_a_delimiter_that_fits_the_beginning_only_is_not_the_one() -> None:
    begin = b"nimi, laji;vuosi, paikka\n" * 2000
    assert table(begin + b"kirves; Turku\n").delimiter == ";"
    found = look(begin + b"kirves\n", ".csv")
    assert isinstance(found, ContentProblem)
    assert found.code == "csv-damaged"


def test_one_column_is_a_table_only_if_no_delimiter_makes_a_difference() -> None:
    assert table(b"nimi\n" * 5000).fields == ("nimi",)
    found = look(b"nimi\n" * 5000 + b"kirves, iso\n", ".csv")
    assert isinstance(found, ContentProblem)
    assert "',': record 5001 has 2 fields, the first 1" in found.detail


def test_addml_tells_the_table() -> None:
    root = etree.Element("root")
    file_format = FileFormat("text/csv", charset="UTF-8", table=TableFacts(("a", "b"), "\t", "CR+LF", '"'))
    addml(root, file_format, "file:///a.csv")
    told = {
        name: root.findtext(f".//{{*}}{name}")
        for name in ("charset", "recordSeparator", "fieldSeparatingChar", "quotingChar")
    }
    assert told == {"charset": "UTF-8", "recordSeparator": "CR+LF", "fieldSeparatingChar": "\t", "quotingChar": '"'}
    assert [field.get("name") for field in root.iter("{*}fieldDefinition")] == ["a", "b"]
    with pytest.raises(ValueError, match="no table"):
        addml(root, FileFormat("text/csv"), "file:///a.csv")


@pytest.mark.parametrize(
    "inside", ["<p>" + "& " * 900_000 + "</p>", "<script>" + "<" * 1_800_000 + "</script>"], ids=["text", "script"]
)
def test_a_page_that_takes_hours_is_not_waited_for(inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """html5lib copies a text that it has read so far with each of these signs."""
    monkeypatch.setattr(html_text, "MAX_CPU_SECONDS", 1)
    head = "<!DOCTYPE html><html><head><meta charset='utf-8'><title>x</title></head>"
    begun = time.process_time()
    found = look(f"{head}<body>{inside}</body></html>".encode(), ".html")
    assert isinstance(found, ContentProblem)
    assert found.code == "text-too-large"
    assert "more than 1 seconds" in found.detail
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "head", ["<meta " * 300_000, "<meta " + "charset " * 200_000, "<meta charset=" + " " * 1_800_000 + ">"]
)
def test_a_page_that_does_not_tell_its_charset_is_looked_through_once(head: str) -> None:
    begun = time.process_time()
    page = f'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "x"><html><head>{head}<title>x</title></head></html>'
    assert isinstance(look(page.encode(), ".html"), ContentProblem)
    assert time.process_time() - begun < 10


def test_a_page_that_is_not_valid_is_known_all_the_same() -> None:
    """Beside a copy it may be kept as an original; one that was not read to its end is not known to be broken."""
    page = b"<!DOCTYPE html><html><head><meta charset='utf-8'><title>x</title></head><body>"
    broken, large = look(page + b"</p>", ".html"), look(page + b"x" * 3_000_000, ".html")
    assert isinstance(broken, FileProblem)
    assert isinstance(large, FileProblem)
    assert broken.identified == FileFormat("text/html", "5", "UTF-8")
    assert large.identified is None


PARTS = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b"1", b"0", b"-", b".5", b"e3", b"E+", b"true", b"null"),
        *(b" ", b"\n", b"\t", b"\f", b"\xa0", "ä".encode(), b"\xe4", b"\\", b"\\u00e4", b"\\ud800", b"\x00", b"/*"),
        *(b"NaN", b"-Infinity", b"'", b"1" * 4301, b'"' + b"\\n" * 20 + b'"'),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def taken(data: bytes) -> bool:
    """What we say, and say as well when it comes byte by byte."""
    whole, byte_by_byte = JsonReader(), JsonReader()
    answers = []
    for reader, pieces in ((whole, [data]), (byte_by_byte, [data[at : at + 1] for at in range(len(data))])):
        try:
            for piece in pieces:
                reader.feed(piece)
            reader.end()
        except ContentProblem:
            answers.append(False)
        else:
            answers.append(True)
    assert answers[0] == answers[1], data
    return answers[0]


def is_json(data: bytes) -> bool:
    """What Python says, but for the three numbers that it takes and the RFC does not."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(value=VALUES, ascii_only=st.booleans(), part=PARTS, at=st.integers(0, 200), cut=st.integers(0, 3))
def test_json_is_what_python_takes_for_it(value: object, ascii_only: bool, part: bytes, at: int, cut: int) -> None:
    whole = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    at %= len(whole) + 1
    for data in (whole, whole[:at] + part + whole[at + cut :], whole[:at]):
        if data:
            assert taken(data) == is_json(data), data


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PARTS, min_size=1, max_size=8))
def test_json_of_odds_and_ends(parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert taken(data) == is_json(data), data


@pytest.mark.fuzz
@pytest.mark.parametrize(
    ("suffix", "begin", "line", "end"),
    [
        (".csv", b"a;b;c\n", b'12345;"kirves; iso";1890\n', b""),
        (".json", b"[", b'{"id": 12345, "nimi": "kirves"},\n', b"1]"),
        (".xml", b"<a>", b"<kirves id='a'><nimi>b</nimi></kirves>\n", b"</a>"),
        (".txt", b"", b"kirves ja vasara\n", b""),
    ],
    ids=["csv", "json", "xml", "txt"],
)
def test_memory_does_not_depend_on_the_size(tmp_path: Path, suffix: str, begin: bytes, line: bytes, end: bytes) -> None:
    """Ten times the file, within 8 MB of the same memory."""
    peaks = []
    for megabytes in (4, 40):
        path = tmp_path / f"{megabytes}{suffix}"
        path.write_bytes(begin + line * (megabytes * 1_000_000 // len(line)) + end)
        code = (
            "import re, sys; from pathlib import Path; from passari_dagster.sip.formats.identify import examine;"
            "from passari_dagster.sip.rules import Rules; print(examine(Path(sys.argv[1]), Rules()).format.name);"
            "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert abs(peaks[1] - peaks[0]) < 8 * 1024, peaks
