"""Parsing of XML that came from outside: no entities, no DTD, no network, bounded size.

Only parsing belongs here; what the documents mean is known by the packages that read them.
"""

from __future__ import annotations

from lxml import etree

from passari_dagster.errors import PassariError

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Largest document read into memory: a search page of 500 objects is about 4 MB."""


class UnsafeXmlError(PassariError):
    """The document is not well-formed, declares a DTD, or is too large."""


def parser() -> etree.XMLParser:
    """A parser for untrusted documents. A parser is not shared between threads: make one for each document."""
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )


def parse(data: bytes, *, source: str, limit: int = MAX_DOCUMENT_BYTES) -> etree._Element:
    """The root element of an untrusted document.

    Arguments:
        data: the whole document.
        source: where it came from, for the message: an URL or a file name.
        limit: most bytes accepted.

    Raises:
        UnsafeXmlError: too large, not well-formed, or with a document type declaration (the way in for
            entity bombs and external entities; no MuseumPlus or DPS answer has one).
    """
    if len(data) > limit:
        raise UnsafeXmlError(f"{source}: {len(data)} bytes of XML, the limit is {limit}")
    try:
        root = etree.fromstring(data, parser())
    except etree.XMLSyntaxError as error:
        raise UnsafeXmlError(f"{source}: not well-formed XML: {error}") from error
    if root.getroottree().docinfo.doctype:
        raise UnsafeXmlError(f"{source}: has a document type declaration, which is refused")
    return root
