"""Documents from outside are read without harm."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest

from passari_dagster import safe_xml
from passari_dagster.safe_xml import UnsafeXmlError

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BOMB = f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l9;</a>'.encode()


def test_a_good_document_is_read() -> None:
    root = safe_xml.parse("<a>K\xe4\xe4rint\xe4liina &amp; r\xf6ijy</a>".encode(), source="x")
    assert (root.tag, root.text) == ("a", "K\xe4\xe4rint\xe4liina & r\xf6ijy")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not well-formed"),
        (b"<a>", "not well-formed"),
        (b"<a>&unknown;</a>", "not well-formed"),
        (b"<a/><b/>", "not well-formed"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>', "document type declaration"),
        (b"<!DOCTYPE a><a/>", "document type declaration"),
        (b"<a>" * 100_000, "not well-formed"),
    ],
)
def test_what_is_no_document_of_ours_is_refused_by_name(document: bytes, said: str) -> None:
    with pytest.raises(UnsafeXmlError, match=rf"^MuseumPlus /module/Object/1: .*{said}"):
        safe_xml.parse(document, source="MuseumPlus /module/Object/1")


def test_an_entity_bomb_does_not_go_off() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeXmlError):
            safe_xml.parse(BOMB, source="x")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_no_file_is_read_for_a_document(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("salaisuus")
    document = f'<!DOCTYPE a [<!ENTITY f SYSTEM "file://{tmp_path}/secret">]><a>&f;</a>'.encode()
    with pytest.raises(UnsafeXmlError) as raised:
        safe_xml.parse(document, source="x")
    assert "salaisuus" not in str(raised.value)


def test_a_document_larger_than_the_bound_is_not_parsed() -> None:
    assert safe_xml.parse(b"<a/>", source="x", limit=4).tag == "a"
    with pytest.raises(UnsafeXmlError, match="5 bytes of XML, the limit is 4"):
        safe_xml.parse(b"<ab/>", source="x", limit=4)


def test_elements_are_told_as_they_end_and_not_kept() -> None:
    document = b"<r xmlns='urn:r'>" + b"<!--x--><p n='1'>text <b/></p>\n" * 200_000 + b"</r>"
    tracemalloc.start()
    try:
        told = safe_xml.elements(io.BytesIO(document), source="x")
        assert [next(told), next(told)] == [("b", {}, ""), ("p", {"n": "1"}, "text")]
        assert sum(1 for _ in told) == 2 * 200_000 - 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    for broken in (b"", b"<a>", BOMB):
        with pytest.raises(UnsafeXmlError, match=r"^x: not well-formed"):
            list(safe_xml.elements(io.BytesIO(broken), source="x"))
