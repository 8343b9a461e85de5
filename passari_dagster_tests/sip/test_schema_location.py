"""Documents of the catalogue lose the schema location that would make them fail, and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from lxml import etree

from passari_dagster.safe_xml import UnsafeXmlError
from passari_dagster.sip.schema_location import Stripped, strip_schema_location
from passari_dagster_tests.sip.content import LIDO, MODULE_XML

XSI = "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"


def canonical(document: bytes) -> bytes:
    return etree.tostring(etree.fromstring(document), method="c14n")


def test_a_document_without_one_is_untouched() -> None:
    odd = b"<?xml version='1.0'?>\r\n<!-- a --><a  b = '1'\n/>  "
    for document in (odd, MODULE_XML):
        stripped = strip_schema_location(document)
        assert (stripped.data, stripped.note) == (document, None)


def test_the_schemas_of_the_dps_are_no_reason_to_change_a_document() -> None:
    stripped = strip_schema_location(LIDO)
    assert (stripped.data, stripped.note) == (LIDO, None)


def test_only_the_schema_location_goes() -> None:
    before = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- edellä --><a {XSI} xsi:schemaLocation="urn:a a.xsd" b="1&#13;&amp;">
 <c xsi:noNamespaceSchemaLocation='c.xsd' xsi:nil="true"><![CDATA[x]]>ä</c><?pi d?></a>
<!-- jälkeen -->""".encode("latin-1")
    stripped = strip_schema_location(before)
    after = stripped.data
    expected = before.replace(b' xsi:schemaLocation="urn:a a.xsd"', b"")
    expected = expected.replace(b" xsi:noNamespaceSchemaLocation='c.xsd'", b"")
    assert canonical(after) == canonical(expected)
    for kept in ("edellä", "jälkeen", "<?pi d?>", "ISO-8859-1"):
        assert kept.encode("latin-1") in after
    digest = hashlib.sha256(before).hexdigest()
    assert stripped.note == (
        'Removed xsi:schemaLocation="urn:a a.xsd", xsi:noNamespaceSchemaLocation="c.xsd"; '
        f"SHA-256 of the document before: {digest}"
    )
    assert strip_schema_location(after) == Stripped(after, None)


@pytest.mark.parametrize("document", [b"<a>", b"<!DOCTYPE a><a/>", b""])
def test_documents_that_are_refused(document: bytes) -> None:
    with pytest.raises(UnsafeXmlError):
        strip_schema_location(document)
