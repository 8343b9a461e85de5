"""JHOVE, veraPDF and file-scraper are asked where an administrator has them.

None of the three is to be had for these tests: commands of ours take their arguments and speak in their words.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure, UnforeseenContent
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.tools import Tools

TIFF = FileFormat("image/tiff", "6.0")
PDF = FileFormat("application/pdf", "1.7")
PDF_A = FileFormat("application/pdf", "A-2b")

JHOVE = """<?xml version="1.0" encoding="UTF-8"?>
<jhove xmlns="http://schema.openpreservation.org/ois/xml/ns/jhove" name="Jhove" release="1.32.1">
 <repInfo uri="kuva"><reportingModule release="1.9.5">{module}</reportingModule>
  <format>{format}</format><version>{version}</version><status>{status}</status>
  <messages><message severity="error" id="TIFF-HUL-4">Value offset not word-aligned: 17</message></messages>
 </repInfo>
</jhove>"""
VERAPDF = """<?xml version="1.0" encoding="utf-8"?>
<report><jobs><job><validationReport jobEndStatus="normal" profileName="PDF/A-2B validation profile"
 isCompliant="{compliant}"><details><rule specification="ISO 19005-2:2011" clause="6.2.11.4.1" status="failed"/>
 </details></validationReport></job></jobs><batchSummary totalJobs="1" failedToParse="{unread}"/></report>"""


@pytest.fixture
def heard() -> list[str]:
    """Lines of the log."""
    return []


def tool(directory: Path, script: str) -> Path:
    """A command that does what the script says."""
    path = directory / "tool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def saying(directory: Path, report: str, code: int = 0) -> Path:
    """A command that gives this report, and notes its arguments."""
    (directory / "report").write_text(report)
    return tool(directory, f'echo "$@" > {directory}/arguments; cat {directory}/report; exit {code}')


def runs(pid: int) -> bool:
    """Whether a process lives; one that is killed is waited for by whoever adopts it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def asked(directory: Path) -> str:
    return (directory / "arguments").read_text().strip()


def problems(tools: Tools, found: FileFormat, log: list[str] | None = None) -> list[ContentProblem]:
    """What the tools say of a file."""
    lines: list[str] = [] if log is None else log
    return list(tools.check(Path("/sip/kuva"), found, lines.append))


def reasons(tools: Tools, found: FileFormat, log: list[str] | None = None) -> list[str]:
    return [problem.reason for problem in problems(tools, found, log)]


def test_without_tools_nothing_is_found() -> None:
    assert reasons(Tools(), TIFF) == []


def test_a_tiff_that_jhove_finds_invalid_has_the_reason_of_old(tmp_path: Path, heard: list[str]) -> None:
    report = JHOVE.format(module="TIFF-hul", format="TIFF", version="6.0", status="Well-Formed, but not valid")
    (problem,) = problems(Tools(jhove=saying(tmp_path, report)), TIFF, heard)
    assert asked(tmp_path) == "-h XML -m TIFF-hul /sip/kuva"
    assert problem.reason == "TIFF file failed JHOVE validation"
    assert problem.detail == "Well-Formed, but not valid; Value offset not word-aligned: 17"
    assert any("Value offset not word-aligned" in line and line.startswith("JHOVE: ") for line in heard)


def test_a_file_that_jhove_finds_valid_is_let_pass(tmp_path: Path) -> None:
    report = JHOVE.format(module="TIFF-hul", format="TIFF", version="6.0", status="Well-Formed and valid")
    assert reasons(Tools(jhove=saying(tmp_path, report)), TIFF) == []


def test_a_long_report_is_read_to_its_end(tmp_path: Path, heard: list[str]) -> None:
    """JHOVE tells of every strip of a TIFF; the verdict comes after megabytes, and the log gets the beginning."""
    report = JHOVE.format(module="TIFF-hul", format="TIFF", version="6.0", status="Well-Formed and valid")
    strips = "<property><name>StripOffsets</name><value>1234567890</value></property>\n" * 80_000
    tools = Tools(jhove=saying(tmp_path, report.replace("<messages>", f"<properties>{strips}</properties><messages>")))
    assert reasons(tools, TIFF, heard) == []
    assert sum(map(len, heard)) < 100_000


def test_jhoves_word_on_a_pdf_1_7_does_not_count(tmp_path: Path) -> None:
    newer = JHOVE.format(module="PDF-hul", format="PDF", version="1.7", status="Not well-formed")
    assert reasons(Tools(jhove=saying(tmp_path, newer)), PDF) == []
    older = JHOVE.format(module="PDF-hul", format="PDF", version="1.4", status="Not well-formed")
    assert reasons(Tools(jhove=saying(tmp_path, older)), PDF) == ["File failed validation by JHOVE"]


def test_a_text_in_utf8_is_put_to_jhove_and_another_is_not(tmp_path: Path) -> None:
    report = JHOVE.format(module="UTF8-hul", format="UTF-8", version="", status="Not well-formed")
    tools = Tools(jhove=saying(tmp_path, report))
    assert reasons(tools, FileFormat("text/plain", charset="UTF-8")) == ["File failed validation by JHOVE"]
    assert reasons(tools, FileFormat("text/plain", charset="ISO-8859-15")) == []


def test_verapdf_decides_whether_a_pdf_a_is_one(tmp_path: Path) -> None:
    tools = Tools(verapdf=saying(tmp_path, VERAPDF.format(compliant="false", unread=0), code=1))
    (problem,) = problems(tools, PDF_A)
    assert problem.reason == "File failed validation by veraPDF"
    assert problem.detail == "PDF/A-2B validation profile; clause 6.2.11.4.1"
    assert reasons(tools, PDF) == [], "a PDF that claims nothing is not asked about"
    assert reasons(Tools(verapdf=saying(tmp_path, VERAPDF.format(compliant="true", unread=0))), PDF_A) == []
    assert len(reasons(Tools(verapdf=saying(tmp_path, VERAPDF.format(compliant="true", unread=1), 7)), PDF_A)) == 1


def test_file_scraper_is_told_what_the_mets_will_tell(tmp_path: Path) -> None:
    report = json.dumps({"well-formed": False, "errors": {"MagickExtractor": ["cannot  read\nthe image"]}})
    tools = Tools(scraper=saying(tmp_path, report))
    (problem,) = problems(tools, TIFF)
    assert asked(tmp_path) == "scrape-file --mimetype=image/tiff --version=6.0 /sip/kuva"
    assert (problem.reason, problem.detail) == ("File failed validation by file-scraper", "cannot read the image")
    assert reasons(Tools(scraper=saying(tmp_path, json.dumps({"well-formed": True}))), TIFF) == []


def test_a_tool_that_does_not_end_is_the_worlds_fault_and_leaves_nothing_running(tmp_path: Path) -> None:
    endless = tool(tmp_path, f"sleep 300 & echo $! > {tmp_path}/pid; wait")
    begun = time.monotonic()
    with pytest.raises(TransientFailure, match=r"JHOVE did not end within 0\.5 seconds: /sip/kuva"):
        reasons(Tools(jhove=endless, timeout=0.5), TIFF)
    assert time.monotonic() - begun < 10
    left = int((tmp_path / "pid").read_text())
    while runs(left):  # it was told to end, and a busy machine takes a moment for that
        assert time.monotonic() - begun < 20
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "about_the_file"),
    [
        ("exit 3", True),
        ("echo 'Exception in thread main' >&2; exit 1", True),
        ("echo '<jhove/>'", True),
        ("echo nonsense", True),
        ("exec /no/such/java", False),
    ],
)
def test_a_tool_without_a_verdict_freezes_nothing(tmp_path: Path, script: str, *, about_the_file: bool) -> None:
    with pytest.raises(PermanentFailure, match="JHOVE") as failure:
        reasons(Tools(jhove=tool(tmp_path, script)), TIFF)
    assert isinstance(failure.value, UnforeseenContent) is about_the_file


def test_a_tool_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="/no/such/jhove"):
        reasons(Tools(jhove=Path("/no/such/jhove")), TIFF)


def test_a_talkative_tool_does_not_fill_the_log(tmp_path: Path, heard: list[str]) -> None:
    report = JHOVE.format(module="TIFF-hul", format="TIFF", version="6.0", status="Well-Formed and valid")
    talkative = report.replace("<messages>", "<messages>" + "<message>odd</message>\n" * 50_000)
    assert reasons(Tools(jhove=saying(tmp_path, talkative)), TIFF, heard) == []
    assert sum(map(len, heard)) < 40_000
