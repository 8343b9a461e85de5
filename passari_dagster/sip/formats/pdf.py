"""PDF: version, PDF/A conformance, and whether qpdf can read it without repairs.

What qpdf finds is read in a process of its own, see `pdf_process`. Not checked: fonts, images other than that their
data can be decoded, and what else PDF/A asks for; veraPDF and Ghostscript do that in the DPS.

Sources of the version: FIDO and `file` read the header, JHOVE the catalog's `/Version` where that is later, ExifTool
the XMP of PDF/A. file-scraper 3.0.0 wants them to agree, but for PDF/A, which takes any of the accepted ones.
"""

from __future__ import annotations

import re
from typing import Any

from passari_dagster.sip import problems
from passari_dagster.sip.formats import accepted, guarded
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened

MIMETYPE = "application/pdf"

_PROCESS = "passari_dagster.sip.formats.pdf_process"
_SEEN_BY_GHOSTSCRIPT = ("1.7", "A-2", "A-3")
_HEADER = re.compile(rb"%PDF-(\d\.\d)(?!\d)")
_VERSION = re.compile(r"\d\.\d")


def read(file: Opened) -> FileFormat:
    """The format of a PDF file. See `Reader`."""
    match = _HEADER.match(file.head)
    if match is None:
        raise problems.PDF_DAMAGED.found("the header tells no version")
    header = match[1].decode()
    _require_accepted(header)
    facts = _facts(file)
    catalog = facts["catalog"]
    if catalog is not None and not _VERSION.fullmatch(catalog):
        raise problems.PDF_DAMAGED.found(f"version {catalog[:20]!r} in the catalog")
    latest = max(header, catalog or header)
    _require_accepted(latest)
    version = latest
    if facts["part"] and facts["conformance"]:
        version = f"A-{facts['part']}{facts['conformance'].lower()}"
        if facts["part"] == "1" and facts["xmp_filtered"]:
            raise problems.PDFA_INVALID.found("the XMP metadata is compressed")
    elif latest != header:
        raise problems.PDF_VERSIONS.found(f"{header} in the header, {latest} in the catalog")
    if facts["no_resources"] and version.startswith(_SEEN_BY_GHOSTSCRIPT):
        raise problems.PDF_DAMAGED.found("a page has no resources")
    return FileFormat(MIMETYPE, version)


def _require_accepted(version: str) -> None:
    if (MIMETYPE, version) not in accepted.table():
        raise problems.VERSION.found(f"version {version}", format=accepted.name_of(MIMETYPE))


def _facts(file: Opened) -> dict[str, Any]:
    facts = guarded.facts(_PROCESS, file.path, problems.PDF_DAMAGED)
    for key, kind in (("damaged", problems.PDF_DAMAGED), ("encrypted", problems.PDF_ENCRYPTED)):
        if key in facts:
            raise kind.found(facts[key])
    return facts
