"""Parsing of XML that came from outside: no entities, no DTD, no network, bounded size.

Only parsing belongs here; what the documents mean is known by the packages that read them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from xml.parsers import expat

from lxml import etree

from passari_dagster.errors import PassariError

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Largest document read into memory: a search page of 500 objects is about 4 MB."""

MAX_DEPTH = 1000
"""Deepest nesting of elements in `scan`."""

MAX_TOKEN_BYTES = 16 * 1024 * 1024
"""Longest tag, comment or piece of text without markup in `scan`: the parser keeps one of them whole."""

Visitor = Callable[[str, dict[str, str]], None]
"""Gets the name and the attributes of an element, names with their namespace: `{urn:a}b`."""


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
        UnsafeXmlError: not well-formed, declares entities, or exceeds `MAX_DEPTH` or `MAX_TOKEN_BYTES`.
    """
    parser = expat.ParserCreate(namespace_separator="}")
    roots: list[tuple[str, dict[str, str]]] = []
    depth = fed = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        deeper(name, attributes)
        named = _braced(name), {_braced(key): value for key, value in attributes.items()}
        if not roots:
            roots.append(named)
        if visit is None:
            parser.StartElementHandler = deeper
        else:
            visit(*named)

    def deeper(_name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise UnsafeXmlError(f"{source}: more than {MAX_DEPTH} elements inside each other")

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_declaration: object) -> None:
        raise UnsafeXmlError(f"{source}: declares an entity, which is refused")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = entity
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            fed += len(chunk)
            if fed - parser.CurrentByteIndex > MAX_TOKEN_BYTES:
                raise UnsafeXmlError(f"{source}: more than {MAX_TOKEN_BYTES} bytes without an end")
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: of an unknown encoding
        raise UnsafeXmlError(f"{source}: not well-formed XML: {error}") from error
    return roots[0]


def _braced(name: str) -> str:
    return "{" + name if "}" in name else name
