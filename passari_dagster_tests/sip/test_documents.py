"""Documents: what others say of the same files, how much memory they take, and what no sample tells."""

from __future__ import annotations

import errno
import io
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path, PurePosixPath

import olefile
import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.errors import ContentProblem, TransientFailure
from passari_dagster.sip import problems
from passari_dagster.sip.formats import container, guarded
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster_tests.sip.content import look
from passari_dagster_tests.sip.samples import ole, pdf, zipped
from passari_dagster_tests.sip.samples.sample import Sample

MB = 1024 * 1024


def found(sample: Sample) -> tuple[bytes, FileFormat]:
    data = sample.make()
    result = look(data, PurePosixPath(sample.filename).suffix)
    assert isinstance(result, FileFormat), result
    return data, result


# Second opinions


@pytest.mark.parametrize("sample", pdf.SAMPLES, ids=lambda sample: sample.filename)
def test_pikepdf_and_its_xmp_agree_on_a_pdf(sample: Sample) -> None:
    """In this process and through pikepdf's own reading of the metadata, not through ours."""
    data, ours = found(sample)
    with pikepdf.Pdf.open(io.BytesIO(data)) as document:
        claimed = document.open_metadata().pdfa_status
        assert ours.version == (f"A-{claimed.lower()}" if claimed else document.pdf_version)


@pytest.mark.parametrize("sample", zipped.SAMPLES, ids=lambda sample: sample.filename)
def test_lxml_finds_the_same_in_a_zip_file(sample: Sample) -> None:
    data, ours = found(sample)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        versions = {
            version
            for name in names
            if name.endswith((".xml", ".opf"))
            for version in etree.fromstring(archive.read(name)).xpath("/*/@*[local-name()='version']")
        }
        if names[0] == "mimetype":
            assert archive.read("mimetype").decode() == ours.mimetype
            versions.discard("1.0" if ours.mimetype.endswith("zip") else "")
            assert versions == {{"2.0.1": "2.0", "3": "3.0"}.get(str(ours.version), ours.version)}
        else:
            assert f'"{ours.mimetype}.main+xml"'.encode() in archive.read("[Content_Types].xml")


@pytest.mark.parametrize("sample", ole.SAMPLES, ids=lambda sample: sample.filename)
def test_olefile_reads_every_stream(sample: Sample) -> None:
    data, ours = found(sample)
    main = {"msword": "WordDocument", "vnd.ms-excel": "Workbook", "vnd.ms-powerpoint": "PowerPoint Document"}
    with olefile.OleFileIO(io.BytesIO(data), raise_defects=olefile.DEFECT_POTENTIAL) as opened:
        assert opened.exists(main[ours.mimetype.rpartition("/")[2]])
        assert all(len(opened.openstream(path).read()) == opened.get_size(path) for path in opened.listdir())


OTHERS = {
    "file": (["file", "--brief"], re.compile(r"PDF document, version (\d\.\d)")),
    "qpdf": (["qpdf", "--check"], re.compile(r"PDF Version: (\d\.\d)")),
    "pdfinfo": (["pdfinfo"], re.compile(r"PDF version: +(\d\.\d)")),
    "exiftool": (["exiftool", "-PDFVersion"], re.compile(r": (\d\.\d)")),
}


def test_tools_of_the_system_agree_on_a_pdf(tmp_path: Path) -> None:
    """Those that are installed; `file` alone is one that the DPS asks as well."""
    path = tmp_path / "raportti.pdf"
    for version in ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7"):
        path.write_bytes(pdf.pdf(version))
        for command, pattern in (OTHERS[name] for name in OTHERS if shutil.which(name)):
            told = subprocess.run([*command, path], capture_output=True, text=True, check=True, timeout=60).stdout
            match = pattern.search(told)
            assert match is not None, told
            assert match[1] == version


# Memory and time


def cost(path: Path) -> tuple[float, int, str]:
    """CPU seconds and peak memory of a process that examines the file, its child included; what it found."""
    code = (
        "import resource, sys; from pathlib import Path; from passari_dagster.sip.rules import Rules;"
        "from passari_dagster.sip.formats.identify import examine;"
        "found = examine(Path(sys.argv[1]), Rules()).format;"
        "peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN));"
        "print(peak, getattr(found, 'version', None) or found)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A process starts with the peak of the one that it was forked from: the shell's, not that of these tests.
    command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, _, version = told.strip().partition(" ")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, int(peak) // 1024, version


@pytest.mark.fuzz
def test_memory_does_not_grow_with_a_pdf(tmp_path: Path) -> None:
    """A hundred scans of a megabyte each, and one."""
    peaks = []
    for pages in (1, 100):
        path = tmp_path / f"{pages}.pdf"
        with pikepdf.Pdf.new() as document:
            for _ in range(pages):
                page = document.add_blank_page(page_size=(200, 200))
                image = pikepdf.Stream(document, os.urandom(MB), Width=1024, Height=1024, BitsPerComponent=8)
                image["/ColorSpace"] = pikepdf.Name.DeviceGray
                page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im=image))
            document.save(path, force_version="1.7", compress_streams=False)
        seconds, peak, version = cost(path)
        assert version == "1.7"
        assert seconds < 10
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 30


@pytest.mark.fuzz
def test_memory_does_not_grow_with_a_part_of_a_docx(tmp_path: Path) -> None:
    """100 MB of XML and 100 MB of an image, and next to nothing."""
    paragraph = b"<p><r>kirves</r></p>" * 1000
    peaks = []
    for size in (1, 100 * MB):
        path = tmp_path / f"{size}.docx"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, data in zipped.ooxml().items():
                archive.writestr(name, data)
            with archive.open("word/footnotes.xml", "w") as part:
                part.write(b"<a>")
                for number in range(-(-size // len(paragraph))):
                    part.write(paragraph + b"<!--%d %s-->" % (number, os.urandom(300).hex().encode()))
                part.write(b"</a>")
            with archive.open(zipfile.ZipInfo("media/image2.png"), "w") as part:
                for _ in range(-(-size // MB)):
                    part.write(os.urandom(MB))
        seconds, peak, version = cost(path)
        assert version == "2007 onwards"
        assert seconds < 60
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20


# The guard


def test_a_process_that_crashes_or_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash and too much computing are the file's fault, anything else is not."""
    package = tmp_path / "crash.sh"

    def run(script: str) -> None:
        package.write_text(f"#!/bin/sh\n{script}\n")
        package.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(package))
        guarded.facts("module", tmp_path, problems.PDF_DAMAGED)

    with pytest.raises(ContentProblem, match="PDF file is damaged"):
        run("kill -SEGV $$")
    with pytest.raises(ContentProblem, match="Document too large"):
        run("kill -XCPU $$")
    with pytest.raises(ContentProblem, match="PDF file is damaged"):
        run("kill -PROF $$")
    with pytest.raises(OSError, match="-9"):
        run("kill -KILL $$")
    with pytest.raises(OSError, match="no space"):
        run("echo no space >&2; exit 1")
    monkeypatch.setattr(guarded, "MAX_SECONDS", 0.2)
    with pytest.raises(TransientFailure, match="did not end"):  # a busy machine, or a disk that hangs
        run("exec sleep 20")


def test_a_fault_of_the_disk_is_no_fault_of_the_document() -> None:
    class Disk(io.BytesIO):
        broken = False

        def read(self, size: int | None = -1) -> bytes:
            if self.broken:
                raise OSError(errno.EIO, "disk")
            return super().read(size)

    disk = Disk(zipped.pack(zipped.odf()))
    opened = container.Container(disk)
    disk.broken = True
    with pytest.raises(OSError, match="disk"):
        opened.small("mimetype")


# XML


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "no element"),
        (b"<a>", "no element"),
        (b"<a:b/>", "unbound prefix"),
        (b"<a/><b/>", "junk"),
        (b"<?xml version='1.0' encoding='kirves'?><a/>", "unknown encoding"),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "not supported"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "declares an entity"),
        (b"<!DOCTYPE a [<!ENTITY % b SYSTEM 'c'>%b;]><a/>", "declares an entity"),
        (b"<!DOCTYPE a [<!ATTLIST a b CDATA 'c'>]><a/>", "an attribute"),
        (b"<!DOCTYPE a [<!ELEMENT a ANY>]><a/>", "an element"),
        (b"<a>" * 1001, "inside each other"),
    ],
)
def test_xml_that_is_refused(document: bytes, message: str) -> None:
    with pytest.raises(safe_xml.UnsafeXmlError, match=message):
        safe_xml.scan([document], source="part")


def test_a_tag_that_does_not_end_is_not_kept() -> None:
    with pytest.raises(safe_xml.UnsafeXmlError, match="without an end"):
        safe_xml.scan([b"<a b='", *[b"x" * MB] * 40], source="part")
    assert safe_xml.scan([b"<a>", *[b"x" * MB] * 40, b"</a>"], source="part") == ("a", {})


NAMES = b"".join(b"<x%d/>" % number for number in range(20_000))
TOO_MUCH = {
    "names": NAMES,
    "attributes": b"".join(b"<x a%d=''/>" % number for number in range(20_000)),
    "prefixes": b"".join(b"<x xmlns:a%d='u'/>" % number for number in range(20_000)),
    "a long namespace": b"<x xmlns='" + b"u" * 5000 + b"'/>",
    "long names": b"".join(b"<x%d%s/>" % (number, b"x" * 4000) for number in range(300)),
    "one tag": b"<x" + b"".join(b" a%d=''" % number for number in range(120_000)) + b"/>",
}


@pytest.mark.parametrize("inside", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_a_parser_would_keep_is_bounded(inside: bytes) -> None:
    document = b"<a>" + inside + b"</a>"
    with pytest.raises(safe_xml.TooMuchXmlError):
        safe_xml.scan([document], source="part")
    part = zipped.pack(zipped.ooxml() | {"word/styles.xml": document})
    for found in (look(part, ".docx"), look(document, ".xml"), look(document.decode().encode("utf-16"), ".xml")):
        assert isinstance(found, ContentProblem)
        assert found.code in (problems.TOO_MUCH_WORK.code, problems.TEXT_TOO_LARGE.code)


def test_identifiers_that_are_kept_are_bounded() -> None:
    ids = b"".join(b"<p xml:id='i%d'/>" % number for number in range(210_000))
    page = b"".join(b"<p id='i%d'/>" % number for number in range(210_000))
    begin = b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "xhtml1-strict.dtd"><html xmlns='
    for document in (
        b"<a>" + ids + b"</a>",
        begin + b'"http://www.w3.org/1999/xhtml"><head><title>a</title></head><body>' + page + b"</body></html>",
    ):
        found = look(document, ".xml")
        assert isinstance(found, ContentProblem)
        assert found.code == problems.TEXT_TOO_LARGE.code


def test_a_list_of_members_that_is_kept_is_bounded() -> None:
    types = zipped.ooxml()["[Content_Types].xml"]
    name = b'<Override PartName="/%s" ContentType="b"/>' % os.urandom(150_000).hex().encode()
    found = look(zipped.pack({**zipped.ooxml(), "[Content_Types].xml": types.replace(b"</", name * 30 + b"</", 1)}))
    assert isinstance(found, ContentProblem)
    assert found.code == problems.TOO_MUCH_WORK.code


def test_long_comments_take_no_longer_than_short_ones() -> None:
    """The parser looks at a comment from its beginning as often as it gets a piece of it."""
    seconds = []
    for times in (1, 300):
        comment = b"<!--" + b"x" * (3_600_000 // times) + b"-->"
        document = io.BytesIO(b"<a>" + comment * (10 * times) + b"</a>")
        before = time.process_time()
        safe_xml.scan(iter(lambda: document.read(64 * 1024), b""), source="part")  # noqa: B023
        seconds.append(time.process_time() - before)
    assert seconds[0] < 20 * seconds[1] + 0.2


def test_scan_tells_every_element() -> None:
    seen: list[tuple[str, dict[str, str]]] = []
    document = b"<!DOCTYPE a SYSTEM 'a.dtd'><a xmlns='urn:a' xmlns:b='urn:b' b:c='1'>&nbsp;<b:d e='2'/></a>"
    root = safe_xml.scan([document[:20], document[20:]], source="part", visit=lambda *tag: seen.append(tag))
    assert seen == [("{urn:a}a", {"{urn:b}c": "1"}), ("{urn:b}d", {"e": "2"})]
    assert root == seen[0]


# Whatever the bytes are

SEEDS = [
    (zipped.pack(zipped.odf()), ".odt"),
    (zipped.pack(zipped.ooxml()), ".docx"),
    (zipped.pack(zipped.epub()), ".epub"),
]
SLOW_SEEDS = [(pdf.pdf("1.5", conformance="2b"), ".pdf"), (ole.ole(ole.doc()), ".doc"), (ole.ole(ole.xls()), ".xls")]


def damage(data: st.DataObject, seed: bytes) -> bytes:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    return bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(SEEDS))
def test_a_damaged_zip_file_is_a_format_or_a_content_problem(data: st.DataObject, seed: tuple[bytes, str]) -> None:
    look(damage(data, seed[0]), seed[1])


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(SLOW_SEEDS))
def test_a_damaged_pdf_or_ole_file_is_a_format_or_a_content_problem(
    data: st.DataObject, seed: tuple[bytes, str]
) -> None:
    look(damage(data, seed[0]), seed[1])
