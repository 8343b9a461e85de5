"""Parsing of XML that came from outside: no entities, no DTD, no network, bounded size.

Only parsing belongs here; what the documents mean is known by the packages that read them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import BinaryIO
from xml.parsers import expat

from lxml import etree

from passari_dagster.errors import PassariError

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Largest document read into memory: a search page of 500 objects is about 4 MB."""

MAX_DEPTH = 1000
"""Deepest nesting of elements in `scan`."""

MAX_TOKEN_BYTES = 4 * 1024 * 1024
"""About the longest tag or comment in `scan`: the parser keeps one of them whole. A drawing in a tag, as Word writes it
for older versions of itself, may have a megabyte or two."""

MAX_NAMES, MAX_NAME_LENGTH, MAX_NAMES_LENGTH = 10_000, 4096, 1_000_000
"""Most different names of a document, most characters of one, and of all together; a book has some hundreds."""

MAX_ATTRIBUTES = 100_000
"""Most attributes of one tag: the parser makes an object of each before anybody is asked."""

_MOST_AT_ONCE = 256 * 1024

Visitor = Callable[[str, dict[str, str]], None]
"""Gets the name and the attributes of an element, names with their namespace: `{urn:a}b`."""


class UnsafeXmlError(PassariError):
    """The document is not well-formed, declares a DTD, or is too large."""


class TooMuchXmlError(UnsafeXmlError):
    """The document would need more memory than it may have, whether it is well-formed or not."""


class Limits:
    """Bounds what a parser keeps of a document that it reads as a stream: the names in it, and one tag.

    Arguments:
        source: what the document is, for the message.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._names: set[str] = set()
        self._length = self._equal_signs = 0

    def data(self, piece: bytes | bytearray) -> None:
        """What the parser gets next. Each attribute has an equals sign, so that they can be counted beforehand.

        Raises:
            TooMuchXmlError: more than `MAX_ATTRIBUTES` since the last element began.
        """
        self._equal_signs += piece.count(b"=")
        if self._equal_signs > MAX_ATTRIBUTES:
            raise TooMuchXmlError(f"{self._source}: more than {MAX_ATTRIBUTES} attributes or equals signs in one place")

    def element(self, name: str, attributes: Collection[str]) -> None:
        """An element that begins, with the names of its attributes. See `name`."""
        self._equal_signs = 0
        if name not in self._names or not self._names.issuperset(attributes):
            for one in (name, *attributes):
                self.name(one)

    def name(self, name: str) -> None:
        """A name: of an element, an attribute or a namespace, or the target of a processing instruction.

        Raises:
            TooMuchXmlError: more than `MAX_NAMES`, `MAX_NAME_LENGTH` or `MAX_NAMES_LENGTH`.
        """
        if name in self._names:
            return
        self._names.add(name)
        self._length += len(name)
        if len(self._names) > MAX_NAMES or len(name) > MAX_NAME_LENGTH or self._length > MAX_NAMES_LENGTH:
            raise TooMuchXmlError(f"{self._source}: too many different names, or too long ones")


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


def stream(chunks: Iterable[bytes], tags: Collection[str], *, source: str) -> Iterator[etree._Element]:
    """Elements of an untrusted document, each when it is complete; the document is never whole in memory.

    An element is where it stands, with its ancestors; it has lost its content when the next one comes.

    Arguments:
        chunks: the whole document, in pieces.
        tags: the elements' names, with their namespaces.
        source: as in `parse`.

    Raises:
        UnsafeXmlError: not well-formed, or with a document type declaration: what came before does not count.
    """
    reader = etree.XMLPullParser(
        events=("end",),
        tag=tags,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
    )
    try:
        for chunk in chunks:
            reader.feed(chunk)
            for _, element in reader.read_events():
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]  # type: ignore[union-attr]
        root = reader.close()
    except etree.XMLSyntaxError as error:
        raise UnsafeXmlError(f"{source}: not well-formed XML: {error}") from error
    if root.getroottree().docinfo.doctype:
        raise UnsafeXmlError(f"{source}: has a document type declaration, which is refused")


def elements(stream: BinaryIO, *, source: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """The elements of an untrusted document of any size, each as it ends; nothing of them is kept.

    Arguments:
        stream: the whole document.
        source: what it is, for the message.

    Returns:
        of each element its name without namespace, its attributes, and the text before its first child.

    Raises:
        UnsafeXmlError: not well-formed.
    """
    events = etree.iterparse(
        stream,
        events=("end", "comment", "pi"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    try:
        for event, element in events:
            if event == "end":
                yield etree.QName(element).localname, dict(element.attrib), (element.text or "").strip()
                element.clear(keep_tail=True)
            parent = element.getparent()
            while parent is not None and (previous := element.getprevious()) is not None:
                parent.remove(previous)
    except etree.XMLSyntaxError as error:
        raise UnsafeXmlError(f"{source}: not well-formed XML: {error}") from error


def scan(chunks: Iterable[bytes], *, source: str, visit: Visitor | None = None) -> tuple[str, dict[str, str]]:
    """Whether an untrusted document of any size is well-formed, namespaces included; nothing of it is kept.

    A document type declaration is passed over, never fetched; entities may not be declared.

    Arguments:
        chunks: the whole document, in pieces.
        source: what it is, for the message: a file name.
        visit: gets every element, in the order of the start tags.

    Returns:
        name and attributes of the root element, as `Visitor` has them.

    Raises:
        UnsafeXmlError: not well-formed, or with declarations of its own.
        TooMuchXmlError: it exceeds `MAX_DEPTH`, `MAX_TOKEN_BYTES`, or what `Limits` allow.
    """
    parser = expat.ParserCreate(namespace_separator="}")
    roots: list[tuple[str, dict[str, str]]] = []
    limits = Limits(source)
    depth = fed = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise TooMuchXmlError(f"{source}: more than {MAX_DEPTH} elements inside each other")
        limits.element(name, attributes)
        if visit is not None or not roots:
            named = _braced(name), {_braced(key): value for key, value in attributes.items()}
            if not roots:
                roots.append(named)
            if visit is not None:
                visit(*named)

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def namespace(prefix: str | None, uri: str | None) -> None:
        limits.name(prefix or "")
        limits.name(uri or "")

    def declaration(*_declared: object) -> None:
        # The parser would keep them all, and the defaults of attributes multiply.
        raise UnsafeXmlError(f"{source}: declares an entity, an element or an attribute, which is refused")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartNamespaceDeclHandler = namespace
    parser.EntityDeclHandler = parser.ElementDeclHandler = parser.AttlistDeclHandler = declaration
    pending = bytearray()
    try:
        for chunk in chunks:
            pending += chunk
            # The parser begins anew with what had no end: it gets more at a time then, or the work would be endless.
            if len(pending) < min(fed - parser.CurrentByteIndex, _MOST_AT_ONCE):
                continue
            limits.data(pending)
            parser.Parse(bytes(pending), False)
            fed += len(pending)
            pending.clear()
            if fed - parser.CurrentByteIndex > MAX_TOKEN_BYTES:
                raise TooMuchXmlError(f"{source}: more than {MAX_TOKEN_BYTES} bytes without an end")
        limits.data(pending)
        parser.Parse(bytes(pending), True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: of an unknown encoding
        raise UnsafeXmlError(f"{source}: not well-formed XML: {error}") from error
    return roots[0]


def _braced(name: str) -> str:
    return "{" + name if "}" in name else name
