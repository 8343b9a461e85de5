"""XML: which encoding it is in, and whether the DPS will take it. Read as a stream, chunk by chunk.

The formats that are written in XML are known here by their root element; XHTML is read by `html_text`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.sip import problems
from passari_dagster.sip.formats import accepted
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.problems import Kind

KNOWN_SCHEMAS = frozenset(
    {
        "http://www.lido-schema.org/schema/v1.0/lido-v1.0.xsd",
        "http://www.lido-schema.org/schema/v1.1/lido-v1.1.xsd",
    }
)
"""Schemas a document of a museum may name: those of the DPS's own schema catalogue."""

_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
SCHEMA_ATTRIBUTES = _SCHEMA_LOCATION, _NO_NAMESPACE = f"{_XSI}schemaLocation", f"{_XSI}noNamespaceSchemaLocation"

# Encoding as a document declares it: codec, and charset in the METS. Latin 1 is Latin 9 to the DPS.
_CHARSETS = {
    "utf-8": ("utf-8", "UTF-8"),
    "us-ascii": ("ascii", "UTF-8"),
    "iso-8859-15": ("iso-8859-15", "ISO-8859-15"),
    "iso-8859-1": ("iso-8859-1", "ISO-8859-15"),
    "utf-16": ("utf-16", "UTF-16"),
}
_DECLARATION = re.compile(
    r"""<\?xml\s+version\s*=\s*["']([^"']*)["'](?:\s+encoding\s*=\s*["']([A-Za-z][\w.-]*)["'])?"""
)
_MAX_DECLARATION = 256
_MAX_OUTSIDE = 16 * 1024 * 1024
_MAX_IDS, _MAX_IDS_LENGTH = 200_000, 5_000_000
_PIECE = 64 * 1024  # of which the parser makes a tree before it is looked at

_OTHER_FORMATS = {
    "http://www.w3.org/2000/svg": "image/svg+xml",
    "http://www.opengis.net/gml": "application/gml+xml",
    "http://www.opengis.net/gml/3.2": "application/gml+xml",
    "http://www.opengis.net/kml/2.2": "application/vnd.google-earth.kml+xml",
}
"""Namespaces of a root element that make a file another format than `text/xml`, which we do not package."""

_SUFFIXES = frozenset({".xml", ".svg", ".gml", ".kml"})


def read_xml(file: Opened) -> FileFormat:
    """The format of an XML file. See `Reader`."""
    scanner = XmlScanner(file.head)
    for chunk in file.chunks:
        scanner.feed(chunk)
    return FileFormat("text/xml", "1.0", scanner.charset())


class Identifiers:
    """Those of a document: none may be used twice.

    Arguments:
        damaged: what it is if one is.
        name: of the attribute.
    """

    def __init__(self, damaged: Kind, name: str) -> None:
        self._damaged, self._name = damaged, name
        self._seen: set[str] = set()
        self._length = 0

    def add(self, identifier: str) -> None:
        """The next one.

        Raises:
            ContentProblem: it was there before, or there are too many to be kept.
        """
        if identifier in self._seen:
            raise self._damaged.found(f"the {self._name} {identifier[:100]!r} is used twice")
        self._seen.add(identifier)
        self._length += len(identifier)
        if len(self._seen) > _MAX_IDS or self._length > _MAX_IDS_LENGTH:
            raise problems.TEXT_TOO_LARGE.found(f"more than {_MAX_IDS} attributes {self._name}, or too long ones")


class XmlScanner:
    """Reads an XML file without keeping it. Feed it all chunks, then ask `charset`."""

    def __init__(
        self, head: bytes, *, look: Callable[[etree._Element], None] | None = None, entities: bool = False
    ) -> None:
        """
        Arguments:
            head: the beginning of the file, with the XML declaration.
            look: is given each element as it begins, with its attributes, and may raise a ContentProblem; None: it is
                looked at as a document that is packaged as `text/xml`.
            entities: whether a document type declaration may be there, with entities to resolve: only for one that
                was written by ourselves.

        Raises:
            ContentProblem: a version or an encoding that is not accepted.
        """
        codec, self._charset, self.encoding = _declared(head)
        self._look, self._entities = look or self._plain, entities
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._parser = etree.XMLPullParser(
            events=("start", "end", "comment", "pi", "start-ns"),
            resolve_entities="internal" if entities else False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
        )
        self._root_seen = False
        self._depth = 0
        self._outside = 0
        self._ids = Identifiers(problems.XML_DAMAGED, "xml:id")
        self._limits = safe_xml.Limits("the document")

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the file.

        Raises:
            ContentProblem: not well-formed, a document type declaration (the way in for entity bombs; the DPS
                would look for the DTD and not find it), a schema that is not in the DPS's catalogue, or more names
                and identifiers than can be kept.
        """
        self._decode(chunk, final=False)
        for at in range(0, len(chunk), _PIECE):
            self._parse(chunk[at : at + _PIECE])

    def _parse(self, piece: bytes | None) -> None:
        """The next bytes for the parser; None: there are no more."""
        try:
            if piece is None:
                self._parser.close()
            else:
                self._limits.data(piece)
                self._parser.feed(piece)
            elements = self._read_events()
        except etree.XMLSyntaxError as error:
            raise problems.XML_DAMAGED.found(str(error)) from error
        except safe_xml.TooMuchXmlError as error:
            raise problems.TEXT_TOO_LARGE.found(str(error)) from error
        if self._depth == 0 and not elements and piece is not None:
            self._outside += len(piece)
        if self._outside > _MAX_OUTSIDE:
            # What is outside the root element cannot be dropped while it is parsed.
            raise problems.XML_DAMAGED.found(f"more than {_MAX_OUTSIDE} bytes outside the root element")

    def charset(self) -> str:
        """The charset, now that the file has ended.

        Raises:
            ContentProblem: see `feed`.
        """
        self._decode(b"", final=True)
        self._parse(None)
        return self._charset

    def _read_events(self) -> bool:
        """Look at what was parsed, and drop it: only the path to the present place is kept.

        Returns:
            whether an element began or ended.
        """
        elements = False
        for event, node in self._parser.read_events():
            elements = elements or event in ("start", "end")
            if event == "start-ns":
                for name in node:  # a prefix and its namespace
                    self._limits.name(str(name))
                continue
            if event == "start":
                self._depth += 1
                self._start(node)
                continue
            if event == "end":
                self._depth -= 1
                node.clear(keep_tail=True)
            elif event == "pi":
                self._limits.name(str(getattr(node, "target", None)))
            parent = node.getparent()
            if parent is not None:
                while (previous := node.getprevious()) is not None:
                    parent.remove(previous)
        return elements

    def _start(self, element: etree._Element) -> None:
        if not self._root_seen:
            self._root_seen = True
            self._root(element)
        self._limits.element(str(element.tag), element.keys())
        self._look(element)
        identifier = element.get(_XML_ID)
        if identifier is not None:
            # The parser forgets those of the elements that were dropped.
            self._ids.add(identifier)

    def _root(self, element: etree._Element) -> None:
        namespace, _, name = str(element.tag).removeprefix("{").rpartition("}")
        if namespace in _OTHER_FORMATS:
            raise problems.NOT_PACKAGED.found(
                f"root element {name!r}", format=accepted.name_of(_OTHER_FORMATS[namespace])
            )
        if not self._entities and element.getroottree().docinfo.doctype:
            raise problems.XML_DOCTYPE.found("the document can do without")
        if not self._entities and name.lower() == "html" and namespace in ("", "http://www.w3.org/1999/xhtml"):
            raise problems.HTML_DOCTYPE.found("none in the first 4096 bytes")

    @staticmethod
    def _plain(element: etree._Element) -> None:
        for schema in schemas(element):
            if schema not in KNOWN_SCHEMAS:
                raise problems.XML_SCHEMA.found(
                    f"{schema!r} in xsi:schemaLocation: the DPS validates an XML file against the schemas it names"
                    " and fails when it does not have one; remove the attribute",
                )

    def _decode(self, chunk: bytes, *, final: bool) -> None:
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise problems.XML_DAMAGED.found(f"not {self._charset}: {error.reason}") from error


def looks_like_xml(head: bytes, suffix: str) -> bool:
    """Whether a file shall be read as XML: it says so itself, or its name does, which is then put to the test.

    Arguments:
        head: the first bytes of the file.
        suffix: lower-case suffix of its name.
    """
    return suffix in _SUFFIXES or _head_text(head).startswith("<?xml")


def _head_text(head: bytes) -> str:
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return head[: 2 * _MAX_DECLARATION].decode("utf-16", "replace")
    return head[:_MAX_DECLARATION].removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _declared(head: bytes) -> tuple[str, str, str | None]:
    """Codec, charset in the METS, and encoding as declared, in lower case, of an XML file."""
    utf16 = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    match = _DECLARATION.match(_head_text(head))
    version, encoding = match.groups() if match else ("1.0", None)
    if version != "1.0":
        raise problems.XML_VERSION.found(f"version {version!r}")
    name = (encoding or ("utf-16" if utf16 else "utf-8")).lower()
    if name not in _CHARSETS or utf16 != (name == "utf-16"):
        raise problems.XML_ENCODING.found(f"{encoding!r}; save as UTF-8")
    return (*_CHARSETS[name], encoding and name)


def schemas(element: etree._Element) -> list[str]:
    """The places of all schemas that an element names."""
    words = element.get(_SCHEMA_LOCATION, "").split()
    # Pairs of namespace and place; an odd word at the end is no pair and cannot be known either.
    places = words[1::2] + (words[-1:] if len(words) % 2 else [])
    other = element.get(_NO_NAMESPACE)
    return places if other is None else [*places, other]
