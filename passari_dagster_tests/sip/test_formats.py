"""What a file is, from its bytes; and what the museum is told when it cannot be preserved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.formats.xml_text import XmlScanner
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip import content
from passari_dagster_tests.sip.content import jpeg, look, tiff, without_jfif


def kind(data: bytes, suffix: str = "") -> str:
    found = look(data, suffix)
    assert isinstance(found, FileFormat), found
    return f"{found.name} {found.version}"


def reason(data: bytes, suffix: str = "") -> str:
    found = look(data, suffix)
    assert isinstance(found, ContentProblem), found
    return found.reason


def test_exif_tells_the_version_where_both_are_there() -> None:
    with_exif = jpeg(exif=b"0221")
    at = with_exif.index(b"\xff\xe1")
    both = jpeg()[:20] + with_exif[at:]
    assert kind(both) == "image/jpeg 2.2.1"
    assert kind(jpeg()) == "image/jpeg 1.01"
    assert kind(jpeg(exif=b"abcd")) == "image/jpeg 1.01"


def test_a_suffix_makes_no_format() -> None:
    """A JPEG named .tif is a JPEG, and a PNG named .jpg is a PNG."""
    assert kind(jpeg(), ".tif") == "image/jpeg 1.01"
    assert kind(tiff(), ".attachment") == "image/tiff 6.0"
    assert kind(content.image_file("PNG"), ".jpg") == "image/png 1.2"
    assert reason(b"\x01\x02rubbish", ".JPG") == "JPEG MIME type detection failed"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (without_jfif(jpeg()), "JPEG version not supported"),
        (jpeg(exif=b"0100"), "JPEG version not supported"),
        (content.jfif_version(jpeg(), 9), "JPEG version not supported"),
        (content.mpo(), "MPO JPEG files not supported"),
        (jpeg()[:-1], "JPEG file is damaged"),
        (jpeg()[:100], "JPEG file is damaged"),
        (jpeg()[:-2] + jpeg(), "JPEG file is damaged"),
        (jpeg() + b"something", "JPEG file is damaged"),
        (jpeg()[:2] + b"\xff\xd9", "JPEG file is damaged"),
        (content.multi_page_tiff(), "Multi-page TIFF not allowed"),
        (content.big_tiff(), "TIFF variant not supported"),
        (content.tiff_with_tag(34735, "H", (1, 1, 0, 0), 4), "TIFF variant not supported"),
        (content.tiff_with_tag(306, "s", "yesterday afternoon", 20), "TIFF file failed JHOVE validation"),
        (tiff()[:-10], "TIFF file failed JHOVE validation"),
        (tiff("RGB", "tiff_lzw")[:-10], "TIFF file failed JHOVE validation"),
        (tiff()[:8], "TIFF file failed JHOVE validation"),
        (content.bomb_tiff(), "Image too large to be checked"),
    ],
)
def test_images_that_cannot_be_preserved(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def test_padding_after_a_jpeg_is_harmless() -> None:
    """Cameras fill up the last block."""
    assert kind(jpeg() + b"\0" * 100) == "image/jpeg 1.01"


def test_an_odd_place_in_a_tiff_fails_in_the_dps() -> None:
    """JHOVE calls such a file not valid."""
    data = tiff()
    offset = int.from_bytes(data[4:8], "little")
    moved = data + b"\0" * (1 - len(data) % 2) + data[offset : offset + 2 + 12 * 30]
    odd = len(data) + (1 - len(data) % 2)
    assert odd % 2
    assert reason(moved[:4] + odd.to_bytes(4, "little") + moved[8:]) == "TIFF file failed JHOVE validation"


@pytest.mark.parametrize(
    ("data", "suffix", "expected"),
    [
        (b"8BPS\0\1", ".psd", "psd"),
        (b"PK\3\4aaaa", ".zip", "zip"),
        (b"\0\1\2", ".dat", "dat"),
        (b"\0\1\2", ".attachment", "attachment"),
        (b"\0\1\2", "", "unknown"),
        (b"\0\1\2", ".<b>'\n", "unknown"),
    ],
    # A PDF holds the second of its making, and pytest-xdist wants the same names in all its processes.
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_other_formats_are_refused_by_name(data: bytes, suffix: str, expected: str) -> None:
    """The name is the reason by which objects are unfrozen once the format is supported."""
    assert reason(data, suffix) == f"Unsupported file format: {expected}"


def test_text() -> None:
    assert kind("ä\r\n\t€".encode(), ".txt") == "text/plain; charset=UTF-8 None"
    assert kind("ä€".encode("iso-8859-15"), ".TXT") == "text/plain; charset=ISO-8859-15 None"
    assert kind(b"tekstia", ".attachment") == "text/plain; charset=UTF-8 None"
    assert reason("€".encode("cp1252") + b"\xe4", ".txt") == "Text encoding not supported"
    assert reason(b"form feed \f", ".txt") == "Text file has control characters"
    assert reason(b"bell \x07", ".txt") == "Text file has control characters"
    assert reason(b"", ".txt") == "File is empty"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<a>", "XML file is not well-formed"),
        (b"<a>\xff</a>", "XML file is not well-formed"),
        (b"<a>&b;</a>", "XML file is not well-formed"),
        # These break the rules of namespaces and of xml:id only; the DPS looks at those as well.
        (b"<lido: xmlns:lido='urn:a'/>", "XML file is not well-formed"),
        (b"<a:b/>", "XML file is not well-formed"),
        (b"<a xml:id='1'/>", "XML file is not well-formed"),
        (b"<a><b xml:id='c'/><b/><b xml:id='c'/></a>", "XML file is not well-formed"),
        (b"<?xml version='1.1'?><a/>", "XML version not supported"),
        (b"<?xml version='1.0' encoding='windows-1252'?><a/>", "XML encoding not supported"),
        (b"<?xml version='1.0' encoding='UTF-16'?><a/>", "XML encoding not supported"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "XML file has a document type declaration"),
        (
            b"<a xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='urn:a http://a/a.xsd'/>",
            "XML file names a schema that the DPS does not know",
        ),
        (
            b"<a xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:noNamespaceSchemaLocation='a.xsd'/>",
            "XML file names a schema that the DPS does not know",
        ),
    ],
)
def test_xml_that_would_fail_in_the_dps(data: bytes, expected: str) -> None:
    assert reason(data, ".xml") == expected


def test_an_entity_bomb_does_not_go_off() -> None:
    entities = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 50}'>" for n in range(1, 12))
    bomb = f"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY e0 'x'>{entities}]><a>&e11;</a>"
    # The parser may notice it first, or the declaration is refused.
    assert reason(bomb.encode(), ".xml") in (
        "XML file is not well-formed",
        "XML file has a document type declaration",
    )


def test_what_is_outside_the_root_element_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be dropped while it is read."""
    monkeypatch.setattr("passari_dagster.sip.formats.xml_text._MAX_OUTSIDE", 1000)
    for begin in (b"<a/>", b"<?xml version='1.0'?>"):
        scanner = XmlScanner(begin)
        scanner.feed(begin)
        scanner.feed(b"<!-- -->" * 10)  # the parser may tell of the root element one chunk late
        scanner.feed(b"<!-- -->" * 100)
        with pytest.raises(ContentProblem, match="outside the root element"):
            scanner.feed(b"<!-- -->" * 100)
    assert kind(b"<a>" + b"<!-- -->" * 200_000 + b"</a>", ".xml") == "text/xml; charset=UTF-8 1.0"


def test_xml_that_passes() -> None:
    assert kind(content.LIDO, ".xml") == "text/xml; charset=UTF-8 1.0"
    assert kind(b"\xef\xbb\xbf<?xml version='1.0'?><a/>", "") == "text/xml; charset=UTF-8 1.0"
    latin = "<?xml version='1.0' encoding='ISO-8859-1'?><a>ä</a>".encode("latin-1")
    assert kind(latin, ".xml") == "text/xml; charset=ISO-8859-15 1.0"


def test_digest_and_size_are_of_the_whole_file_whatever_it_is(tmp_path: Path) -> None:
    """A problem found early must not cut the digest short: it tells a damaged disk from a bad file."""
    import hashlib

    data = b"<a>\xff" + b"x" * 5_000_000
    for name in ("a.xml", "a.dat"):
        path = tmp_path / name
        path.write_bytes(data)
        examined = examine(path, Rules())
        assert isinstance(examined.format, ContentProblem)
        assert (examined.size, examined.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would wait for ever, a link leads anywhere."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("pipe", "link", "none"):
        with pytest.raises(OSError):
            examine(tmp_path / name, Rules())


SEEDS = [*content.ACCEPTED_IMAGES.values(), content.LIDO, content.mpo(), content.bomb_tiff(), b"", b"<a/>"]
SUFFIXES = st.sampled_from(["", ".jpg", ".tif", ".xml", ".txt", ".attachment", ".png", ".\udc80"])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"<?xml"]), SUFFIXES)
def test_any_bytes_are_a_format_or_a_content_problem(data: bytes, begin: bytes, suffix: str) -> None:
    look(begin + data, suffix)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(SEEDS), SUFFIXES)
def test_damaged_files_are_a_format_or_a_content_problem(data: st.DataObject, seed: bytes, suffix: str) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 6))):
        if damaged:
            damaged[data.draw(st.integers(0, min(len(damaged), 900) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    look(bytes(damaged[:cut] if data.draw(st.booleans()) else damaged), suffix)
