"""The ingest reports of the simulated DPS: PREMIS for machines, HTML for people.

Names and texts come from packages; everything is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime

from lxml import etree

_PREMIS = "info:lc/xmlns/premis-v2"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


def premis(transfer_id: str, objid: str, status: str, reasons: Sequence[str], when: datetime) -> bytes:
    """The XML report: the package as an object, and an event for each check that failed, or one that all passed."""
    root = etree.Element(f"{{{_PREMIS}}}premis", {"version": "2.3"}, nsmap={"premis": _PREMIS, "xsi": _XSI})
    package = _add(root, "object")
    package.set(f"{{{_XSI}}}type", "premis:representation")
    for kind, value in (("preservation-transfer-id", transfer_id), ("preservation-object-id", objid or "unknown")):
        identifier = _add(package, "objectIdentifier")
        _add(identifier, "objectIdentifierType", kind)
        _add(identifier, "objectIdentifierValue", value)
    for number, reason in enumerate(reasons or ("",), 1):
        event = _add(root, "event")
        identifier = _add(event, "eventIdentifier")
        _add(identifier, "eventIdentifierType", "preservation-event-id")
        _add(identifier, "eventIdentifierValue", f"{transfer_id}-{number}")
        _add(event, "eventType", "validation")
        _add(event, "eventDateTime", when.isoformat())
        _add(event, "eventDetail", "Validation of the submission information package")
        outcome = _add(event, "eventOutcomeInformation")
        _add(outcome, "eventOutcome", "success" if status == "accepted" else "failure")
        _add(_add(outcome, "eventOutcomeDetail"), "eventOutcomeDetailNote", reason or "The package was accepted")
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def page(transfer_id: str, objid: str, status: str, reasons: Sequence[str], when: datetime) -> bytes:
    """The HTML report."""
    items = "".join(f"<li>{html.escape(_printable(reason))}</li>" for reason in reasons)
    title = html.escape(_printable(f"Ingest report: {transfer_id}"))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n<p>{html.escape(_printable(objid or 'unknown'))}: <strong>{status}</strong>, "
        f"{when.isoformat()}</p>\n<ul>{items}</ul></body></html>\n"
    ).encode()


def _add(parent: etree._Element, name: str, text: str = "") -> etree._Element:
    element = etree.SubElement(parent, f"{{{_PREMIS}}}{name}")
    if text:
        element.text = _printable(text)
    return element


def _printable(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
