"""Namespaces of a METS document, and the shorthand by which its elements are made."""

from __future__ import annotations

import re
from datetime import datetime

from lxml import etree

NAMESPACES: dict[str, str] = {
    "mets": "http://www.loc.gov/METS/",
    "fi": "http://digitalpreservation.fi/schemas/mets/fi-extensions",
    "premis": "info:lc/xmlns/premis-v2",
    "mix": "http://www.loc.gov/mix/v20",
    "audiomd": "http://www.loc.gov/audioMD/",
    "videomd": "http://www.loc.gov/videoMD/",
    "addml": "http://www.arkivverket.no/standarder/addml",
    "xlink": "http://www.w3.org/1999/xlink",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def qname(name: str) -> str:
    """`mets:file` as lxml writes it; a name without a prefix stays."""
    prefix, separator, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}" if separator else name


def add(
    parent: etree._Element, name: str, text: object = None, attributes: dict[str, str] | None = None
) -> etree._Element:
    """A new last child of `parent`.

    Arguments:
        name: with its prefix, `premis:size`.
        text: its text; what XML cannot hold is replaced.
        attributes: names with or without a prefix.
    """
    element = etree.SubElement(
        parent, qname(name), {qname(key): xml_text(value) for key, value in (attributes or {}).items()}
    )
    if text is not None:
        element.text = xml_text(str(text))
    return element


def xml_text(text: str) -> str:
    """The text with U+FFFD for every character that XML 1.0 cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def iso(moment: datetime) -> str:
    """A time as xsd:dateTime and EDTF, in seconds, with its offset.

    Raises:
        ValueError: the time has no zone, and so is no moment.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.isoformat(timespec="seconds")
