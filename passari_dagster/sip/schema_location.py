"""The one change that is made to a document of MuseumPlus: the schemas that it names, and the DPS has not, go.

The DPS validates an XML file against every schema that its xsi:schemaLocation names, and refuses it for one that is not
in its catalogue (dps-sip §3.3). What was removed is told, with the digest of the document as it came: see "Documents
that are changed" in `docs/architecture.md`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.sip.formats.xml_text import KNOWN_SCHEMAS, SCHEMA_ATTRIBUTES, schemas


@dataclass(frozen=True)
class Stripped:
    """A document as it is packaged.

    Arguments:
        data: the whole document.
        note: what was removed, and the SHA-256 of the original; None: nothing, it is the original byte for byte.
    """

    data: bytes
    note: str | None


def strip_schema_location(document: bytes) -> Stripped:
    """The document without `xsi:schemaLocation` and `xsi:noNamespaceSchemaLocation` on any element.

    All else stays as it is. Where all schemas are of the DPS's catalogue, or none is named, nothing is changed.

    Arguments:
        document: a whole XML document.

    Raises:
        UnsafeXmlError: not well-formed, with a document type declaration, or too large.
    """
    root = safe_xml.parse(document, source="document")
    if all(schema in KNOWN_SCHEMAS for element in root.iter(etree.Element) for schema in schemas(element)):
        return Stripped(document, None)
    removed: dict[str, None] = {}
    for element in root.iter(etree.Element):
        for name in SCHEMA_ATTRIBUTES:
            value = element.attrib.pop(name, None)
            if value is not None:
                removed[f'xsi:{etree.QName(name).localname}="{" ".join(value.split())}"'] = None
    tree = root.getroottree()
    data = etree.tostring(
        tree,
        encoding=tree.docinfo.encoding or "UTF-8",
        xml_declaration=True,
        standalone=tree.docinfo.standalone,
    )
    digest = hashlib.sha256(document).hexdigest()
    return Stripped(data, f"Removed {', '.join(removed)}; SHA-256 of the document before: {digest}")
