"""Which document a ZIP file is. What is none is an archive, and refused as `zip`."""

from __future__ import annotations

from passari_dagster.sip import problems
from passari_dagster.sip.formats import epub, odf, ooxml
from passari_dagster.sip.formats.container import BadContainerError, Container
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.problems import Kind

_TYPE = "mimetype"
_MAX_TYPE_BYTES = 100

_BEGINS = (
    (b"mimetype" + epub.MIMETYPE.encode(), problems.EPUB_DAMAGED),
    (b"mimetype" + odf.FAMILY, problems.OFFICE_DAMAGED),
)
_PROTECTED = {
    problems.EPUB_DAMAGED: problems.EPUB_PROTECTED,
    problems.OFFICE_DAMAGED: problems.OFFICE_PASSWORD,
}
_OFFICE_MEMBERS = (b"[Content_Types].xml", b"_rels/.rels")
_NAME_AT = 30
"""Where in a ZIP file the name of the first member is."""


def read(file: Opened) -> FileFormat:
    """The format of a document in a ZIP file. See `Reader`."""
    kind = _promised(file)
    try:
        container = Container(file.stream)
        if kind is not None and container.is_encrypted():
            raise _PROTECTED[kind].found("members of the ZIP file are encrypted")
        if _TYPE in container.names:
            told = container.small(_TYPE)[:_MAX_TYPE_BYTES]
            if told.strip().startswith(odf.FAMILY):
                kind = problems.OFFICE_DAMAGED
                return odf.read(container, told)
            if told.strip() == epub.MIMETYPE.encode():
                kind = problems.EPUB_DAMAGED
                return epub.read(container, told)
        if ooxml.TYPES in container.names:
            kind = problems.OFFICE_DAMAGED
            return ooxml.read(container)
    except BadContainerError as error:
        if kind is not None:
            raise kind.found(str(error)) from error
    if kind is not None:
        raise kind.found("what makes it a document is missing")
    raise problems.UNSUPPORTED.found(format="zip")


def _promised(file: Opened) -> Kind | None:
    """What is damaged if the file turns out to be no document: its beginning or its name promises one."""
    begin = file.head[_NAME_AT:]
    for pattern, kind in _BEGINS:
        if begin.startswith(pattern):
            return kind
    if file.suffix == ".epub":
        return problems.EPUB_DAMAGED
    if begin.startswith(_OFFICE_MEMBERS) or file.suffix in {*odf.SUFFIXES, *ooxml.SUFFIXES}:
        return problems.OFFICE_DAMAGED
    return None
