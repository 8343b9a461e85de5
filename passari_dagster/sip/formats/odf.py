"""OpenDocument: text, spreadsheet, presentation, graphics, formula.

The version is that of `meta.xml`, where the DPS looks for it (file-scraper 3.0.0, `ODFDetector`); without that part
the content's, and for a formula, whose content is MathML, the manifest's. Source: OASIS OpenDocument 1.3, part 2.
"""

from __future__ import annotations

from passari_dagster.sip import problems
from passari_dagster.sip.formats import accepted
from passari_dagster.sip.formats.container import BadContainerError, Container, require_first
from passari_dagster.sip.formats.facts import FileFormat

FAMILY = b"application/vnd.oasis.opendocument."
SUFFIXES = frozenset({".odt", ".ods", ".odp", ".odg", ".odf"})

_MANIFEST, _META, _CONTENT = "META-INF/manifest.xml", "meta.xml", "content.xml"
_MANIFEST_NS = "{urn:oasis:names:tc:opendocument:xmlns:manifest:1.0}"
_OFFICE_VERSION = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}version"
_ROOT = "/"
_XML = (".xml", ".rdf")

_NOT_ACCEPTED = {
    "text-template": "ott",
    "text-master": "odm",
    "text-web": "oth",
    "spreadsheet-template": "ots",
    "presentation-template": "otp",
    "graphics-template": "otg",
    "formula-template": "otf",
    "chart": "odc",
    "image": "odi",
    "base": "odb",
    "database": "odb",
}
"""Other members of the family, as files of that kind are called."""


def read(container: Container, told: bytes) -> FileFormat:
    """The format of an OpenDocument file.

    Arguments:
        container: the file.
        told: its member `mimetype`.

    Raises:
        BadContainerError: damaged.
        ContentProblem: protected by a password, or of a kind that is not accepted.
    """
    mimetype = told.decode("latin-1").strip()
    if accepted.name_of(mimetype) == mimetype:
        name = _NOT_ACCEPTED.get(mimetype.removeprefix(FAMILY.decode()), "opendocument")
        raise problems.UNSUPPORTED.found(format=name)
    require_first(container, problems.OFFICE_DAMAGED)
    manifest_version = _read_manifest(container, mimetype)
    if _META in container.names:
        version = container.scan(_META)[1].get(_OFFICE_VERSION)
    else:
        version = container.scan(_CONTENT)[1].get(_OFFICE_VERSION) or manifest_version
    if _CONTENT not in container.names:
        raise BadContainerError(f"{_CONTENT!r} is missing")
    container.require_sound(_XML)
    return FileFormat(mimetype, version)


def _read_manifest(container: Container, mimetype: str) -> str | None:
    """The version that the manifest tells."""
    encrypted = False
    types: dict[str, str] = {}

    def visit(name: str, attributes: dict[str, str]) -> None:
        nonlocal encrypted
        if name == f"{_MANIFEST_NS}file-entry" and attributes.get(f"{_MANIFEST_NS}full-path") == _ROOT:
            types[_ROOT] = attributes.get(f"{_MANIFEST_NS}media-type", "")
        encrypted = encrypted or name == f"{_MANIFEST_NS}encryption-data"

    tag, attributes = container.scan(_MANIFEST, visit)
    if tag != f"{_MANIFEST_NS}manifest":
        raise BadContainerError(f"{_MANIFEST!r} is no manifest")
    if encrypted:
        raise problems.OFFICE_PASSWORD.found()
    if types.get(_ROOT, mimetype) != mimetype:
        raise BadContainerError("'mimetype' and the manifest disagree")
    return attributes.get(f"{_MANIFEST_NS}version")
