"""Office Open XML: docx, xlsx, pptx, transitional and strict: both have the content types by which the DPS knows them.

Files with macros, templates and slide shows have others, which are not in the DPS's registry. Source: ECMA-376,
parts 1 and 2.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from passari_dagster.sip import problems
from passari_dagster.sip.formats.container import BadContainerError, Container
from passari_dagster.sip.formats.facts import FileFormat

TYPES = "[Content_Types].xml"
SUFFIXES = frozenset({".docx", ".xlsx", ".pptx"})

_VERSION = "2007 onwards"
_RELATIONSHIPS = "_rels/.rels"
_TYPES_NS = "{http://schemas.openxmlformats.org/package/2006/content-types}"
_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_MAIN_PART = frozenset(
    {
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument",
        "http://purl.oclc.org/ooxml/officeDocument/relationships/officeDocument",
    }
)
_XML = (".xml", ".rels")

_FAMILY = "application/vnd.openxmlformats-officedocument."
_ACCEPTED = {
    f"{_FAMILY}wordprocessingml.document.main+xml": (f"{_FAMILY}wordprocessingml.document", "document"),
    f"{_FAMILY}spreadsheetml.sheet.main+xml": (f"{_FAMILY}spreadsheetml.sheet", "workbook"),
    f"{_FAMILY}presentationml.presentation.main+xml": (f"{_FAMILY}presentationml.presentation", "presentation"),
}
"""Content type of the main part: MIME type of the file, root element."""

_NOT_ACCEPTED = {
    "application/vnd.ms-word.document.macroEnabled.main+xml": "docm",
    "application/vnd.ms-word.template.macroEnabledTemplate.main+xml": "dotm",
    f"{_FAMILY}wordprocessingml.template.main+xml": "dotx",
    "application/vnd.ms-excel.sheet.macroEnabled.main+xml": "xlsm",
    "application/vnd.ms-excel.template.macroEnabled.main+xml": "xltm",
    "application/vnd.ms-excel.addin.macroEnabled.main+xml": "xlam",
    "application/vnd.ms-excel.sheet.binary.macroEnabled.main": "xlsb",
    f"{_FAMILY}spreadsheetml.template.main+xml": "xltx",
    "application/vnd.ms-powerpoint.presentation.macroEnabled.main+xml": "pptm",
    "application/vnd.ms-powerpoint.slideshow.macroEnabled.main+xml": "ppsm",
    "application/vnd.ms-powerpoint.template.macroEnabled.main+xml": "potm",
    f"{_FAMILY}presentationml.slideshow.main+xml": "ppsx",
    f"{_FAMILY}presentationml.template.main+xml": "potx",
    "application/vnd.ms-visio.drawing.main+xml": "vsdx",
}


def read(container: Container) -> FileFormat:
    """The format of an Office Open XML file.

    Raises:
        BadContainerError: damaged.
        ContentProblem: of a kind that is not accepted, or no office document at all.
    """
    types = _content_types(container)
    known = set(types.values())
    if known.isdisjoint(_ACCEPTED) and known.isdisjoint(_NOT_ACCEPTED):
        raise problems.UNSUPPORTED.found("an Open Packaging file of another kind", format="zip")
    main = _main_part(container)
    content_type = types.get(f"/{main}".lower()) or types.get(posixpath.splitext(main)[1].removeprefix(".").lower(), "")
    if content_type in _NOT_ACCEPTED:
        raise problems.UNSUPPORTED.found(format=_NOT_ACCEPTED[content_type])
    if content_type not in _ACCEPTED:
        raise BadContainerError(f"the main part {main!r} is of type {content_type!r}")
    mimetype, root = _ACCEPTED[content_type]
    if container.scan(main)[0].rpartition("}")[2] != root:
        raise BadContainerError(f"the main part {main!r} is no {root}")
    container.require_sound(_XML)
    return FileFormat(mimetype, _VERSION)


def _content_types(container: Container) -> dict[str, str]:
    """Content type by name of the part, which begins with a slash, or else by suffix, which does not; lower case."""
    types: dict[str, str] = {}

    def visit(name: str, attributes: dict[str, str]) -> None:
        content_type = attributes.get("ContentType", "")
        if name == f"{_TYPES_NS}Override":
            types[attributes.get("PartName", "/").lower()] = content_type
        elif name == f"{_TYPES_NS}Default":
            types[attributes.get("Extension", "").lower()] = content_type

    container.scan_list(TYPES, visit)
    return types


def _main_part(container: Container) -> str:
    targets: list[str] = []

    def visit(name: str, attributes: dict[str, str]) -> None:
        if name == _RELATIONSHIP and attributes.get("Type") in _MAIN_PART:
            targets.append(attributes.get("Target", ""))

    container.scan_list(_RELATIONSHIPS, visit)
    if len(targets) != 1:
        raise BadContainerError(f"{len(targets)} main parts")
    return posixpath.normpath("/" + unquote(targets[0])).lstrip("/")
