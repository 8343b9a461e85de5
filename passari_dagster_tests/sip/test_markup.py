"""Documents of the catalogue lose the schema location that would make them fail, and nothing else."""

from __future__ import annotations

import pytest
from lxml import etree

from passari_dagster.safe_xml import UnsafeXmlError
from passari_dagster.sip.formats.markup import strip_schema_location
from passari_dagster_tests.sip.content import LIDO, MODULE_XML

XSI = "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"


def canonical(document: bytes) -> bytes:
    return etree.tostring(etree.fromstring(document), method="c14n")


def test_a_document_without_one_is_untouched() -> None:
    odd = b"<?xml version='1.0'?>\r\n<!-- a --><a  b = '1'\n/>  "
    assert strip_schema_location(odd) == odd
    assert strip_schema_location(MODULE_XML) == MODULE_XML


def test_only_the_schema_location_goes() -> None:
    before = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- edellä --><a {XSI} xsi:schemaLocation="urn:a a.xsd" b="1&#13;&amp;">
 <c xsi:noNamespaceSchemaLocation='c.xsd' xsi:nil="true"><![CDATA[x]]>ä</c><?pi d?></a>
<!-- jälkeen -->""".encode("latin-1")
    after = strip_schema_location(before)
    expected = before.replace(b' xsi:schemaLocation="urn:a a.xsd"', b"")
    expected = expected.replace(b" xsi:noNamespaceSchemaLocation='c.xsd'", b"")
    assert canonical(after) == canonical(expected)
    for kept in ("edellä", "jälkeen", "<?pi d?>", "ISO-8859-1"):
        assert kept.encode("latin-1") in after
    assert b"schemaLocation" not in strip_schema_location(LIDO)
    assert strip_schema_location(after) == after


@pytest.mark.parametrize("document", [b"<a>", b"<!DOCTYPE a><a/>", b""])
def test_documents_that_are_refused(document: bytes) -> None:
    with pytest.raises(UnsafeXmlError):
        strip_schema_location(document)
