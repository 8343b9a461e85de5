"""EPUB 2.0.1 and 3: the version is that of the package document, and its files are there.

Not checked: what else EPUBCheck finds in the texts; the DPS runs it as a module of JHOVE. Sources: OPF and OCF
2.0.1, EPUB 3.3.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from passari_dagster.sip import problems
from passari_dagster.sip.formats.container import BadContainerError, Container, require_first
from passari_dagster.sip.formats.facts import FileFormat

MIMETYPE = "application/epub+zip"

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_ROOTFILE = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"
_OPF = "{http://www.idpf.org/2007/opf}"
_OPF_TYPE = "application/oebps-package+xml"
_METHOD = "{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod"
_FONTS = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})
"""Methods that hide fonts only."""

_XML = (".xml", ".opf", ".ncx", ".xhtml", ".smil")
_TEXT, _HTML, _TITLE = ".xhtml", "{http://www.w3.org/1999/xhtml}html", "{http://www.w3.org/1999/xhtml}title"
_VERSIONS = {"2.0": "2.0.1", "3.0": "3"}
"""As file-scraper's `EpubDetector` has them."""


@dataclass
class _Book:
    files: list[str] = field(default_factory=list)
    texts: int = 0
    navigation: bool = False


def read(container: Container, told: bytes) -> FileFormat:
    """The format of an EPUB file.

    Arguments:
        container: the file.
        told: its member `mimetype`.

    Raises:
        BadContainerError: damaged.
        ContentProblem: protected.
    """
    require_first(container, problems.EPUB_DAMAGED)
    if told != MIMETYPE.encode():
        raise BadContainerError("there is something besides the MIME type in 'mimetype'")
    _require_open(container)
    package = _package_document(container)
    book = _Book()

    def visit(name: str, attributes: dict[str, str]) -> None:
        if name == f"{_OPF}item":
            book.files.append(attributes.get("href", ""))
            book.navigation = book.navigation or "nav" in attributes.get("properties", "").split()
        elif name == f"{_OPF}itemref":
            book.texts += 1
        elif name == f"{_OPF}spine" and "toc" in attributes:
            book.navigation = True

    tag, attributes = container.scan_list(package, visit)
    if tag != f"{_OPF}package":
        raise BadContainerError(f"{package!r} is no package document")
    version = attributes.get("version")
    if version in _VERSIONS:
        _require_whole(container, package, book)
    _require_titles(container)
    container.require_sound(_XML)
    return FileFormat(MIMETYPE, _VERSIONS.get(version or "", version))


def _require_open(container: Container) -> None:
    methods: set[str] = set()

    def visit(name: str, attributes: dict[str, str]) -> None:
        if name == _METHOD:
            methods.add(attributes.get("Algorithm", ""))

    if _ENCRYPTION in container.names:
        container.scan_list(_ENCRYPTION, visit)
    if methods - _FONTS:
        raise problems.EPUB_PROTECTED.found()


def _package_document(container: Container) -> str:
    paths: list[str] = []

    def visit(name: str, attributes: dict[str, str]) -> None:
        if name == _ROOTFILE and attributes.get("media-type") == _OPF_TYPE:
            paths.append(attributes.get("full-path", ""))

    container.scan_list(_CONTAINER, visit)
    if not paths:
        raise BadContainerError(f"{_CONTAINER!r} names no package document")
    return paths[0]


def _require_whole(container: Container, package: str, book: _Book) -> None:
    if not book.texts:
        raise BadContainerError("the book has no texts")
    if not book.navigation:
        raise BadContainerError("the book has no table of contents")
    folder = posixpath.dirname(package)
    for href in book.files:
        url = urlsplit(href)
        if not url.scheme and posixpath.normpath(posixpath.join(folder, unquote(url.path))) not in container.names:
            raise BadContainerError(f"{href!r} is missing")


def _require_titles(container: Container) -> None:
    """Each text has a title, says EPUBCheck; LibreOffice forgets it."""
    for name in container.names:
        if name.lower().endswith(_TEXT):
            seen: set[str] = set()
            root, _ = container.scan(name, lambda tag, _, seen=seen: seen.add(tag))  # type: ignore[misc]
            if root == _HTML and _TITLE not in seen:
                raise BadContainerError(f"{name!r} has no title")
