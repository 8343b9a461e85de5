"""LIDO of both versions is valid in the METS, and what had to be left out is told."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.build import Signer, build_sip
from passari_dagster.sip.lido import embedded
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, mets_of

NAMESPACES = {"lido": "http://www.lido-schema.org", "premis": "info:lc/xmlns/premis-v2"}

CONCEPT = "<lido:conceptID lido:type='uri'>urn:x:{0}</lido:conceptID><lido:term>{0}</lido:term>"
SKOS = (
    "<skos:Concept xmlns:skos='http://www.w3.org/2004/02/skos/core#'"
    " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' rdf:about='urn:x:1'/>"
)

LIDO_1_1 = LIDO.replace(b"v1.0", b"v1.1")
"""Says that it is 1.1 and has nothing that 1.0 has not."""

ONLY_1_1 = f"""<?xml version="1.0" encoding="UTF-8"?>
<lido:lido xmlns:lido="http://www.lido-schema.org" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://www.lido-schema.org http://www.lido-schema.org/schema/v1.1/lido-v1.1.xsd">
  <lido:lidoRecID lido:type="local">Object:50000000</lido:lidoRecID>
  <lido:applicationProfile lido:type="URI">https://example.org/profiili</lido:applicationProfile>
  <lido:descriptiveMetadata xml:lang="fi">
    <lido:objectClassificationWrap><lido:objectWorkTypeWrap>
      <lido:objectWorkType xml:lang="fi" lido:label="laji">{SKOS}<lido:term>kirves</lido:term></lido:objectWorkType>
    </lido:objectWorkTypeWrap></lido:objectClassificationWrap>
    <lido:objectIdentificationWrap>
      <lido:titleWrap><lido:titleSet lido:pref="preferred">
        <lido:appellationValue>Äyräpää &amp; kesä</lido:appellationValue></lido:titleSet></lido:titleWrap>
      <lido:repositoryWrap><lido:repositorySet>
        <lido:displayRepository>Museo</lido:displayRepository></lido:repositorySet></lido:repositoryWrap>
      <lido:objectMeasurementsWrap><lido:objectMeasurementsSet lido:measurementsGroup="1">
        <lido:objectMeasurements><lido:measurementsSet>
          <lido:measurementType>{CONCEPT.format("korkeus")}</lido:measurementType>
          <lido:measurementUnit>cm</lido:measurementUnit>
          <lido:measurementValue>12</lido:measurementValue>
        </lido:measurementsSet></lido:objectMeasurements>
      </lido:objectMeasurementsSet></lido:objectMeasurementsWrap>
      <lido:objectMaterialsTechWrap><lido:objectMaterialsTechSet>
        <lido:displayMaterialsTech>rauta</lido:displayMaterialsTech>
        <lido:materialsTech><lido:termMaterialsTech>{CONCEPT.format("rauta")}</lido:termMaterialsTech>
        </lido:materialsTech></lido:objectMaterialsTechSet></lido:objectMaterialsTechWrap>
    </lido:objectIdentificationWrap>
    <lido:eventWrap lido:mostNotableEvent="1"><lido:eventSet lido:mostNotableEvent="1"><lido:event>
      <lido:eventType>{CONCEPT.format("valmistus")}</lido:eventType>
      <lido:eventActor><lido:actorInRole><lido:actor lido:type="person">
        <lido:nameActorSet><lido:appellationValue>Seppä</lido:appellationValue></lido:nameActorSet>
        <lido:vitalDatesActor lido:type="1"><lido:earliestDate>1850</lido:earliestDate></lido:vitalDatesActor>
        <lido:vitalDatesActor><lido:earliestDate>1851</lido:earliestDate></lido:vitalDatesActor>
        <lido:vitalPlaceActor><lido:namePlaceSet><lido:appellationValue>Viipuri</lido:appellationValue>
        </lido:namePlaceSet></lido:vitalPlaceActor>
        <lido:genderActor>{CONCEPT.format("nainen")}</lido:genderActor>
      </lido:actor></lido:actorInRole></lido:eventActor>
      <lido:eventMaterialsTech>
        <lido:materialsTech><lido:extentMaterialsTech>terä</lido:extentMaterialsTech></lido:materialsTech>
        <lido:materialsTech><lido:extentMaterialsTech>varsi</lido:extentMaterialsTech></lido:materialsTech>
      </lido:eventMaterialsTech>
    </lido:event></lido:eventSet></lido:eventWrap>
  </lido:descriptiveMetadata>
  <lido:administrativeMetadata xml:lang="fi">
    <lido:rightsWorkWrap><lido:rightsWorkSet>
      <lido:rightsType lido:type="1">{CONCEPT.format("CC0")}</lido:rightsType>
    </lido:rightsWorkSet></lido:rightsWorkWrap>
    <lido:recordWrap>
      <lido:recordID lido:type="local">50000000</lido:recordID>
      <lido:recordType><lido:term>esine</lido:term></lido:recordType>
      <lido:recordSource><lido:legalBodyName><lido:appellationValue>Museo</lido:appellationValue></lido:legalBodyName>
      </lido:recordSource>
      <lido:recordInfoSet lido:sortorder="1"><lido:recordInfoID lido:type="local">1</lido:recordInfoID>
      </lido:recordInfoSet>
    </lido:recordWrap>
    <lido:resourceWrap><lido:resourceSet>
      <lido:resourceID lido:type="local">1</lido:resourceID><lido:resourceID lido:type="local">2</lido:resourceID>
    </lido:resourceSet></lido:resourceWrap>
  </lido:administrativeMetadata>
</lido:lido>
""".encode()
"""Something of every kind that is new in 1.1."""

LEFT_OUT = (
    "actor/vitalDatesActor (1), actor/vitalPlaceActor (1), eventMaterialsTech/materialsTech (1),"
    " eventSet/@mostNotableEvent (1), eventWrap/@mostNotableEvent (1), genderActor as a concept (1),"
    " lido/applicationProfile (1), measurementType as a concept (1),"
    " objectIdentificationWrap/objectMaterialsTechWrap (1), objectMeasurementsSet/@measurementsGroup (1),"
    " objectWorkType/@label (1), objectWorkType/@lang (1), objectWorkType/Concept (1),"
    " recordInfoSet/@sortorder (1), repositorySet/displayRepository (1), resourceSet/resourceID (1),"
    " rightsType/@type (1), titleSet/@pref (1), vitalDatesActor/@type (1)"
)


def packaged(sip: Path, tar: Path, signer: Signer, document: bytes) -> tuple[etree._Element, list[str]]:
    """The METS of a package with that LIDO document, and the log."""
    lines: list[str] = []
    files = {"reports/Object.xml": MODULE_XML, "reports/lido.xml": document}
    build_sip(sip, tar, describe(fill(sip, files)), signer, log=lines.append)
    with tarfile.open(tar) as package:
        lido = package.extractfile("reports/lido.xml")
        assert lido is not None
        assert lido.read() == document  # the file is what the catalogue gave
    return mets_of(tar), lines


MEASURED = b"""<lido:objectMeasurementsWrap><lido:objectMeasurementsSet><lido:objectMeasurements><lido:measurementsSet>
<lido:measurementType><!-- mitta -->korkeus<?mitta?></lido:measurementType>
<lido:measurementUnit>cm</lido:measurementUnit>
<lido:measurementValue>12</lido:measurementValue></lido:measurementsSet></lido:objectMeasurements>
</lido:objectMeasurementsSet></lido:objectMeasurementsWrap></lido:objectIdentificationWrap>"""


def test_a_comment_in_a_text_makes_no_concept_of_it(
    sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]]
) -> None:
    """A LIDO 1.0 with a comment is not taken for one that contradicts itself."""
    document = LIDO.replace(b"</lido:objectIdentificationWrap>", MEASURED)
    assert document != LIDO
    tar = tmp_path / "20260301_Object_1.tar"
    mets, _ = packaged(sip, tar, signer, document)
    assert judge(tar) == []
    told = mets.find(".//lido:measurementType", NAMESPACES)
    assert told is not None
    assert "".join(told.xpath("text()")) == "korkeus"
    assert embedded(document, "lido.xml").left_out == ""


def notes(mets: etree._Element) -> list[str]:
    found = mets.findall(".//premis:event", NAMESPACES)
    return [event.findtext(".//premis:eventOutcomeDetailNote", "", NAMESPACES) for event in found]


@pytest.mark.parametrize("document", [LIDO, LIDO_1_1], ids=["1.0", "1.1"])
def test_what_1_0_has_is_embedded_whole(
    sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]], document: bytes
) -> None:
    tar = tmp_path / "x.tar"
    mets, lines = packaged(sip, tar, signer, document)
    assert judge(tar) == []
    assert "LIDO document embedded" in notes(mets)
    assert not any("embedded" in line for line in lines)
    assert embedded(document, "x").left_out == ""


def test_what_is_new_in_1_1_is_left_out_of_the_mets_and_told(
    sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]]
) -> None:
    """The judge validates the file as 1.1 and what is in the METS as 1.0."""
    tar = tmp_path / "x.tar"
    mets, lines = packaged(sip, tar, signer, ONLY_1_1)
    assert judge(tar) == []
    note = f"LIDO document embedded as LIDO 1.0, without what is new in 1.1: {LEFT_OUT}; the file is complete"
    assert note in notes(mets)
    assert f"reports/lido.xml: {note}" in lines
    root = mets.find(".//lido:lido", NAMESPACES)
    assert root is not None
    kept = {name: root.findtext(f".//lido:{name}", None, NAMESPACES) for name in ("measurementType", "genderActor")}
    assert kept == {"measurementType": "korkeus", "genderActor": "nainen"}
    assert [date.findtext("*") for date in root.findall(".//lido:vitalDatesActor", NAMESPACES)] == ["1850"]


def test_a_document_that_contradicts_the_schema_it_names() -> None:
    """As a file it would fail in the DPS."""
    with pytest.raises(ContentProblem, match="names the schema"):
        embedded(ONLY_1_1.replace(b"v1.1", b"v1.0"), "reports/lido.xml")
