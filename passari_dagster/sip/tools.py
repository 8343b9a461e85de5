"""Outside tools that look at files as the DPS does, where an administrator has installed them: JHOVE, veraPDF, and
`scraper` of file-scraper. None is needed.

A tool is a command with a time limit. Its words go to the package's log; its verdict is read from its report. An object
is never frozen because a tool has none to give: a person has to look at the installation, or at the file.

[Sources: JHOVE's XML handler; veraPDF's machine-readable report; file-scraper 3.0, `scraper scrape-file`. Which JHOVE
module is for which format, and that its word on PDF 1.7 does not count, is what file-scraper does.]
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from passari_dagster import safe_xml
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure, UnforeseenContent
from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat

LOGGED_BYTES = 16 * 1024
"""Of what a tool says about one file, so much is kept in the log."""
_MAX_JSON_BYTES = 64 * 1024 * 1024
_KILL_AFTER = 5
_TIMED_OUT = (124, 137)
_NOT_BEGUN = (125, 126, 127)
"""Exit codes of `timeout`, and of shells: there is no such program, or it may not be run."""
_MESSAGES = 3

_JHOVE_MODULES: Mapping[str, str] = {
    "image/tiff": "TIFF-hul",
    "image/x-adobe-dng": "TIFF-hul",
    "image/jpeg": "JPEG-hul",
    "image/gif": "GIF-hul",
    "application/pdf": "PDF-hul",
    "application/epub+zip": "EPUB-ptc",
    "audio/x-wav": "WAVE-hul",
    "audio/x-aiff": "AIFF-hul",
}


@dataclass(frozen=True)
class Tools:
    """What is installed.

    Arguments:
        jhove, verapdf, scraper: the executables; None: not installed.
        timeout: seconds that a tool may take for one file.
    """

    jhove: Path | None = None
    verapdf: Path | None = None
    scraper: Path | None = None
    timeout: float = 300.0

    def check(self, file: Path, found: FileFormat, log: Callable[[str], None]) -> Iterator[ContentProblem]:
        """What the tools find wrong with a file.

        Arguments:
            file: an absolute path.
            found: what the file was identified as.
            log: gets the tools' words.

        Raises:
            PermanentFailure: a tool is not there, or has no verdict to give.
            TransientFailure: a tool did not end in time.
        """
        utf8 = "UTF8-hul" if found.charset == "UTF-8" else None
        module = _JHOVE_MODULES.get(found.mimetype, utf8)
        if self.jhove and module:
            fault = self._fault("JHOVE", self.jhove, ["-h", "XML", "-m", module, str(file)], _jhove, log)
            if fault is not None:
                yield problems.TIFF_DAMAGED.found(fault) if module == "TIFF-hul" else _rejected("JHOVE", fault)
        if self.verapdf and found.mimetype == "application/pdf" and (found.version or "").startswith("A-"):
            fault = self._fault("veraPDF", self.verapdf, ["--nonpdfext", str(file)], _verapdf, log)
            if fault is not None:
                yield _rejected("veraPDF", fault)
        if self.scraper:
            told = [f"--mimetype={found.mimetype}"]
            if found.version is not None:
                told.append(f"--version={found.version}")
            if found.charset is not None:
                told.append(f"--charset={found.charset}")
            fault = self._fault("file-scraper", self.scraper, ["scrape-file", *told, str(file)], _scraper, log)
            if fault is not None:
                yield _rejected("file-scraper", fault)

    def _fault(
        self,
        name: str,
        executable: Path,
        arguments: list[str],
        reader: Callable[[BinaryIO], str | None],
        log: Callable[[str], None],
    ) -> str | None:
        """What the tool finds wrong, by the report on its standard output; None: nothing."""
        # `timeout` ends the tool also when we are killed, and whatever the tool has started as well.
        limit = ["timeout", f"--kill-after={_KILL_AFTER}", str(self.timeout)]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = subprocess.run(  # noqa: S603 - no shell, and the administrator names the executable
                [*limit, str(executable), *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False
            ).returncode
            said, complaint = _beginning(out), _beginning(err)
            for line in (said + b"\n" + complaint).decode(errors="replace").splitlines():
                if line.strip():
                    log(f"{name}: {line.rstrip()}")
            if code in _TIMED_OUT:
                raise TransientFailure(f"{name} did not end within {self.timeout:g} seconds: {arguments[-1]}")
            if not said.strip():
                failure = PermanentFailure if code in _NOT_BEGUN else UnforeseenContent
                raise failure(
                    f"{name} ({executable}) has no verdict on {arguments[-1]}; it ended with exit code {code}: "
                    f"{complaint.decode(errors='replace').strip()[:200]}"
                )
            out.seek(0)
            try:
                return reader(out)
            except (safe_xml.UnsafeXmlError, ValueError, LookupError) as error:
                raise UnforeseenContent(f"the report of {name} on {arguments[-1]} cannot be read: {error}") from error


def _beginning(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read(LOGGED_BYTES)


def _rejected(tool: str, fault: str) -> ContentProblem:
    return problems.TOOL.found(fault, tool=tool)


def _jhove(report: BinaryIO) -> str | None:
    told: dict[str, str] = {}
    messages: list[str] = []
    for name, _, text in safe_xml.elements(report, source="report"):
        if name in ("status", "format", "version"):
            told.setdefault(name, text)
        elif name == "message" and text and len(messages) < _MESSAGES:
            messages.append(text)
    status = told["status"]
    if "Well-Formed and valid" in status:
        return None
    if (told.get("format"), told.get("version")) == ("PDF", "1.7"):
        return None  # JHOVE does not know it, and the DPS passes over what it says
    return "; ".join([status, *messages])


def _verapdf(report: BinaryIO) -> str | None:
    told: dict[str, dict[str, str]] = {}
    clauses: list[str] = []
    for name, attributes, _ in safe_xml.elements(report, source="report"):
        if name in ("batchSummary", "validationReport"):
            told.setdefault(name, attributes)
        elif name == "rule" and len(clauses) < _MESSAGES:
            clauses.append(f"clause {attributes.get('clause')}")
    if told["batchSummary"].get("failedToParse") != "0":
        return "not readable as PDF"
    validation = told["validationReport"]
    if validation.get("isCompliant") == "true":
        return None
    return "; ".join([str(validation.get("profileName")), *clauses])


def _scraper(report: BinaryIO) -> str | None:
    result = json.loads(report.read(_MAX_JSON_BYTES))
    if result["well-formed"] is True:
        return None
    errors = [message for messages in result.get("errors", {}).values() for message in messages]
    return "; ".join(" ".join(str(message).split())[:200] for message in errors[:_MESSAGES]) or "not well-formed"
