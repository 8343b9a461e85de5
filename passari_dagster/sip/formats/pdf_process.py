"""Looks through one PDF file with qpdf, in a process that `guarded` starts. What the facts mean is known by `pdf`.

qpdf keeps the objects of a file in memory, some hundred bytes each, and a stream while it decodes it, in twice its
decoded size.
"""

from __future__ import annotations

import errno
import io

import pikepdf

from passari_dagster import safe_xml
from passari_dagster.sip.formats import guarded

_MAX_XMP = 16 * 1024 * 1024
_PDFA = "http://www.aiim.org/pdfa/ns/id/"
_NO_RESOURCES = "Resources is missing or invalid"
_NO_MEMORY = "bad_alloc"
"""How qpdf tells of it where it goes on without."""

_MAX_TOLD = 5
_MAX_WORD = 300


def examine(path: str) -> dict[str, object]:
    """Facts of a PDF file.

    Returns:
        `{"damaged": detail}`, or `{"encrypted": detail}`, or: `catalog`, the version that the catalog tells, `part` and
        `conformance` of the XMP, each None where there is none; `xmp_filtered`, whether the XMP is compressed; and
        `no_resources`, whether a page has none, which only Ghostscript minds.

    Raises:
        MemoryError: the file needs more than there is.
        OSError: a fault of the file system.
    """
    try:
        # Without recovery: what qpdf has to repair, JHOVE and Ghostscript report as an error.
        with pikepdf.Pdf.open(path, attempt_recovery=False, access_mode=pikepdf.AccessMode.stream) as pdf:
            if pdf.is_encrypted:
                return {"encrypted": "it can be read without a password, but not in every way"}
            told = _problems(pdf)
            faults = [line.replace(path, "PDF")[:_MAX_WORD] for line in told if _NO_RESOURCES not in line]
            if faults:
                return {"damaged": "; ".join(faults[:_MAX_TOLD])}
            return {**_facts(pdf), "no_resources": len(told) > len(faults)}
    except pikepdf.PasswordError:
        return {"encrypted": "a password is needed to read it"}
    except MemoryError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # which is a place before the beginning of the file
            raise
        return {"damaged": "an offset leads nowhere"}
    except Exception as error:  # hostile bytes find every way to fail
        if _NO_MEMORY in str(error):
            raise MemoryError from error
        return {"damaged": str(error).replace(path, "PDF")[:_MAX_WORD] or type(error).__name__}


def _problems(pdf: pikepdf.Pdf) -> list[str]:
    """What `qpdf --check` says, but for the hints of linearization, which only readers over a network use."""
    told = [*pdf.get_warnings()]
    hints: set[str] = set()
    if pdf.is_linearized:
        pdf.check_linearization(io.StringIO())
        hints = {f"WARNING: {warning}" for warning in pdf.get_warnings()}
    told += [line for line in pdf.check_pdf_syntax() if line not in hints]
    if any(_NO_MEMORY in line for line in told):
        raise MemoryError
    return told


def _facts(pdf: pikepdf.Pdf) -> dict[str, object]:
    version = pdf.Root.get("/Version")
    metadata = pdf.Root.get("/Metadata")
    part = conformance = None
    filtered = False
    if isinstance(metadata, pikepdf.Stream):
        filtered = "/Filter" in metadata.stream_dict
        part, conformance = _pdfa(metadata.read_bytes())
    return {
        "catalog": None if version is None else str(version).lstrip("/"),
        "part": part,
        "conformance": conformance,
        "xmp_filtered": filtered,
    }


def _pdfa(xmp: bytes) -> tuple[str | None, str | None]:
    """Part and conformance of PDF/A, each an attribute or an element of the XMP. [Source: ISO 19005-2, 6.6.4.]"""
    try:
        root = safe_xml.parse(xmp.strip(b"\0 \t\r\n"), source="XMP", limit=_MAX_XMP)
    except safe_xml.UnsafeXmlError:
        if _PDFA.encode() in xmp:
            raise
        return None, None  # no PDF/A; other metadata need not be readable
    found: dict[str, str] = {}
    for element in root.iter("*"):
        for name, value in (*element.attrib.items(), (element.tag, element.text or "")):
            namespace, _, word = str(name).removeprefix("{").rpartition("}")
            if namespace == _PDFA:
                found.setdefault(word, str(value).strip()[:16])
    return found.get("part"), found.get("conformance")


if __name__ == "__main__":
    guarded.serve(examine)
