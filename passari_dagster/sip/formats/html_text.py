"""HTML and XHTML pages: version by the document type declaration, charset, and what can be checked of their validity.

The DPS asks the Nu HTML Checker (HTML 5) and JHOVE (HTML 4.01, XHTML). Neither is a library. Here html5lib finds what
is wrong in the syntax of HTML, and libxml2 in that of XHTML; which elements there are, and the commonest faults that a
validator finds besides, are a table and a few rules. No DTD is ever loaded.
"""

from __future__ import annotations

import html.entities
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from lxml import etree

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.formats.plain_text import TextScanner
from passari_dagster.sip.formats.xml_text import Identifiers, XmlScanner

MAX_BYTES = 2 * 1024 * 1024
"""Largest HTML page: html5lib makes a tree of it. XHTML is read as a stream."""

MAX_ELEMENTS = 100_000
MAX_DEPTH = 500
MAX_CPU_SECONDS = 60
"""The parser takes ten for a usual page of `MAX_BYTES`, and hours for one that is made for it: it copies what it has of
a text or a comment with each ampersand or hyphen."""
_MAX_ATTRIBUTES = 1000
_PIECE = 2048

_NAMESPACE = "{http://www.w3.org/1999/xhtml}"
_SUFFIXES = frozenset({".html", ".htm", ".xhtml", ".xht"})
_XML_SUFFIXES = frozenset({".xhtml", ".xht"})

# The patterns never match one place in two ways, and none begins inside another's match: they take linear time.
_BEFORE = rb"(?:\xef\xbb\xbf)?\s*(?:<!--(?:(?!-->).)*-->\s*|<\?(?:(?!\?>).)*\?>\s*)*"
_BEGINNING = re.compile(_BEFORE + rb"<(?:!doctype\s+)?html[\s>]", re.S | re.I)
_DOCTYPE = re.compile(
    _BEFORE
    + rb"(?P<declaration><!doctype\s+html(?:\s+public\s*(?:\"(?P<public>[^\"]*)\"|'(?P<single>[^']*)')"
    + rb"(?:\s*(?:\"[^\"]*\"|'[^']*'))?|\s+system\s+[\"']about:legacy-compat[\"'])?\s*>)",
    re.S | re.I,
)
_PUBLIC = re.compile(
    r"-//(?:W3C|IETF)//DTD (X?HTML)(?: Basic)? ?([\d.]*)( Strict| Transitional| Frameset| Final)?//EN.*"
)
_META_CHARSET = re.compile(rb"<meta\s[^<>]*?charset\s*=\s*(?:[\"']\s*)?([\w.:-]+)", re.I)
_META_BYTES = 1024
"""Where the encoding of an HTML 5 page must be told. [HTML Living Standard, 4.2.5.4]"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STRICT = _words(
    "a abbr acronym address area b base bdo big blockquote body br button caption cite code col colgroup dd del "
    "dfn div dl dt em fieldset form h1 h2 h3 h4 h5 h6 head hr html i img input ins kbd label legend li link map "
    "meta noscript object ol optgroup option p param pre q samp script select small span strong style sub sup "
    "table tbody td textarea tfoot th thead title tr tt ul var"
)
_TRANSITIONAL = _STRICT | _words(
    "applet basefont center dir font frame frameset iframe isindex menu noframes s strike u"
)
_RUBY = _words("ruby rb rbc rp rt rtc")
_HTML_5 = _words(
    "a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption cite code "
    "col colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend li link main map "
    "mark math menu meta meter nav noscript object ol optgroup option output p picture pre progress q rp rt "
    "ruby s samp script search section select slot small source span strong style sub summary sup svg table "
    "tbody td template textarea tfoot th thead time title tr track u ul var video wbr"
)
_OBSOLETE_5 = _words(
    "align alink background bgcolor border cellpadding cellspacing char charoff clear compact frame hspace link "
    "noshade nowrap rules valign vlink vspace"
)
"""Attributes that no element of HTML 5 has any more."""

_ENTITIES = "".join(
    f'<!ENTITY {name} "&#{code};">'
    for name, code in sorted(html.entities.name2codepoint.items())
    if name not in ("amp", "lt", "gt", "quot")
).encode()
"""The entities of the XHTML DTDs, which are those of HTML 4. [HTML 4.01, 24]"""


def looks_like_html(head: bytes, suffix: str) -> bool:
    """Whether a file shall be read as HTML or XHTML: it begins so, or its name says so, which is then put to the test.

    Arguments:
        head: the first bytes of the file.
        suffix: lower-case suffix of its name.
    """
    return suffix in _SUFFIXES or _BEGINNING.match(head) is not None


def read(file: Opened) -> FileFormat:
    """The format of an HTML or XHTML page. See `Reader`."""
    if file.head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise problems.HTML_ENCODING.found("UTF-16; save as UTF-8")
    doctype = _DOCTYPE.match(file.head)
    if doctype is None:
        raise problems.HTML_DOCTYPE.found("none in the first 4096 bytes, or one with declarations of its own")
    public = (doctype["public"] or doctype["single"] or b"").decode("latin-1")
    if not public:
        is_xml = file.suffix in _XML_SUFFIXES or doctype[0].lstrip(b"\xef\xbb\xbf").startswith(b"<?xml")
        return FileFormat("application/xhtml+xml", "5") if is_xml else _read_html(file, "5", _HTML_5)
    known = _PUBLIC.fullmatch(public)
    kind, version, variant = known.groups() if known else ("HTML", "", "")
    if kind == "XHTML" and version in ("1.0", "1.1"):
        transitional = version == "1.0" and variant != " Strict"
        elements = _TRANSITIONAL if transitional else _STRICT | (_RUBY if version == "1.1" else frozenset())
        return _read_xhtml(file, version, elements, doctype.span("declaration"))
    if kind == "HTML" and version == "4.01":
        return _read_html(file, version, _TRANSITIONAL if variant else _STRICT)
    # Not accepted: there is no need to read on.
    mimetype = "application/xhtml+xml" if kind == "XHTML" else "text/html"
    return FileFormat(mimetype, version or "unknown")


class _Page:
    """What a validator would find in the elements of a page, one after the other.

    Arguments:
        elements: names of those that the version has.
        obsolete: names of attributes that it has not.
    """

    def __init__(self, elements: frozenset[str], obsolete: frozenset[str] = frozenset()) -> None:
        self._elements, self._obsolete = elements, obsolete
        self._ids = Identifiers(problems.HTML_DAMAGED, "id")
        self._titles = 0

    def element(self, name: str, attributes: Mapping[Any, Any], *, anywhere: bool = True) -> None:
        """The next element.

        Arguments:
            name: without its namespace.
            anywhere: whether its name is enough to know that it is allowed; else it is another language's, as SVG.
        """
        if name not in self._elements and "-" not in name and anywhere:
            raise problems.HTML_DAMAGED.found(f"there is no element {name!r} in this version")
        if anywhere and (obsolete := sorted(self._obsolete & set(attributes))):
            raise problems.HTML_DAMAGED.found(f"there is no attribute {obsolete[0]!r} in this version")
        if name == "img" and ("alt" not in attributes or "src" not in attributes):
            raise problems.HTML_DAMAGED.found("an image without `src`, or without `alt`, its text instead")
        identifier = attributes.get("id")
        if identifier is not None:
            self._ids.add(identifier)
        self._titles += name == "title" and anywhere

    def end(self) -> None:
        """There is no other element."""
        if self._titles != 1:
            raise problems.HTML_DAMAGED.found(f"{self._titles} title elements")


# XHTML


def _read_xhtml(file: Opened, version: str, elements: frozenset[str], doctype: tuple[int, int]) -> FileFormat:
    page = _Page(elements)

    def look(element: etree._Element) -> None:
        name = str(element.tag)
        if not name.startswith(_NAMESPACE):
            raise problems.HTML_DAMAGED.found(f"the element {name!r} is not of XHTML")
        page.element(name.removeprefix(_NAMESPACE), dict(element.attrib))

    scanner = XmlScanner(file.head, look=look, entities=True)
    for chunk in _with_entities(file.chunks, doctype):
        scanner.feed(chunk)
    charset = scanner.charset()
    page.end()
    if scanner.encoding not in (None, charset.lower()):
        # JHOVE compares the two to the letter, so that Latin 1 cannot be told as Latin 9.
        raise problems.HTML_ENCODING.found(f"{scanner.encoding!r}; save as UTF-8")
    return FileFormat("application/xhtml+xml", version, charset)


def _with_entities(chunks: Iterable[bytes], doctype: tuple[int, int]) -> Iterator[bytes]:
    """The page with the entities of XHTML declared in place of its DTD, which is not loaded: so the parser knows which
    there are, and refuses others.
    """
    start, end = doctype
    for chunk in chunks:
        if end:
            lines = b"\n" * chunk[start:end].count(b"\n")
            chunk = chunk[:start] + b"<!DOCTYPE html [" + _ENTITIES + b"]>" + lines + chunk[end:]
            start = end = 0
        yield chunk


# HTML


def _read_html(file: Opened, version: str, elements: frozenset[str]) -> FileFormat:
    data = b"".join(_bounded(file.chunks))
    scanner = TextScanner(data[:4])
    scanner.feed(data)
    charset = scanner.charset()
    marked = data.startswith(b"\xef\xbb\xbf")
    declared = _META_CHARSET.search(data[:_META_BYTES] if version == "5" else data)
    name = declared[1].decode("ascii").lower() if declared else None
    # HTML 5 must be UTF-8 and say so. For 4.01 the DPS takes what is not declared for UTF-8 and refuses all that is
    # declared as another; it looks for an XML declaration, which such a page cannot have.
    if charset != "UTF-8" or name not in ((None, "utf-8") if marked or version == "4.01" else ("utf-8",)):
        raise problems.HTML_ENCODING.found(f"{charset}, and declared as {name or 'nothing'}")
    found = FileFormat("text/html", version, charset)
    try:
        _check_html(data.decode("utf-8-sig"), version, elements)
    except problems.FileProblem as problem:
        if problem.code == problems.HTML_DAMAGED.code:
            problem.identified = found  # as an original beside a copy it may be kept
        raise
    return found


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise problems.TEXT_TOO_LARGE.found(f"HTML of more than {MAX_BYTES} bytes")
        yield chunk


def _check_html(text: str, version: str, elements: frozenset[str]) -> None:
    import html5lib
    from html5lib.constants import E as messages  # noqa: N811 - their name

    class Builder(html5lib.getTreeBuilder("etree")):  # type: ignore[misc]
        """Elements are counted: a page can be written so that each of its tags makes many."""

        made = 0

        def elementClass(self, name: str, namespace: str | None = None) -> Any:  # noqa: N802 - their name
            self.made += 1
            if self.made > MAX_ELEMENTS or len(self.openElements) > MAX_DEPTH:
                raise problems.TEXT_TOO_LARGE.found(f"over {MAX_ELEMENTS} elements, or nested over {MAX_DEPTH} deep")
            return original(name, namespace)

    original = Builder.__mro__[1].elementClass

    class Parser(html5lib.HTMLParser):
        def parseError(self, errorcode: str = "XXX-undefined-error", datavars: Any = None) -> None:  # noqa: N802
            if errorcode == "unknown-doctype" and version == "4.01":
                return  # it knows no other than HTML 5's
            message = messages.get(errorcode, errorcode)
            line, column = self.tokenizer.stream.position()
            raise problems.HTML_DAMAGED.found(f"line {line}, column {column}: {message % (datavars or {})}")

    parser = Parser(Builder, namespaceHTMLElements=False)
    try:
        tree = parser.parse(_Pieces(text, parser))
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        # It has no errors of its own, and was not written for what people make up to break it.
        raise problems.HTML_DAMAGED.found(f"not understood by html5lib: {error!r}") from error
    page = _Page(elements, _OBSOLETE_5 if version == "5" else frozenset())
    for element in tree.iter():
        if isinstance(element.tag, str):
            namespace, _, name = element.tag.rpartition("}")
            page.element(name, element.attrib, anywhere=not namespace)
            if name == "title" and not namespace and not (element.text or "").strip():
                raise problems.HTML_DAMAGED.found("the title is empty")
    page.end()


class _Pieces:
    """The text, as the parser reads it, in pieces: between them the tag that is being read is looked at, and the clock.

    The parser compares each attribute with all others of the tag, which a tag of many thousands would make endless.
    """

    def __init__(self, text: str, parser: Any) -> None:
        self._text, self._parser, self._at = text, parser, 0
        self._until = time.thread_time() + MAX_CPU_SECONDS

    def read(self, size: int = -1) -> str:
        if time.thread_time() > self._until:
            raise problems.TEXT_TOO_LARGE.found(f"html5lib takes more than {MAX_CPU_SECONDS} seconds for it")
        token = getattr(getattr(self._parser, "tokenizer", None), "currentToken", None)
        if token and isinstance(token.get("data"), list) and len(token["data"]) > _MAX_ATTRIBUTES:
            _too_many_attributes()
        size = min(size, _PIECE) if size >= 0 else _PIECE
        piece = self._text[self._at : self._at + size]
        self._at += len(piece)
        return piece


def _too_many_attributes() -> NoReturn:
    raise problems.TEXT_TOO_LARGE.found(f"a tag of more than {_MAX_ATTRIBUTES} attributes")
