"""The LIDO document as descriptive metadata of the METS, which is LIDO 1.0, whatever version the document is.

The DPS's schema of METS imports LIDO 1.0 and no other, so that what is new in 1.1 would be an error there; as a file of
the package the same document is validated as 1.1 (dps-sip §2.5). So what 1.0 does not have is left out of the copy in
the METS, which tells of it, and the file stays whole: see "LIDO 1.1" in `docs/architecture.md`.

[Facts: the schemas of LIDO 1.0 and 1.1, compared element by element. All that 1.0 has, 1.1 has in the same order.]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.sip import problems
from passari_dagster.sip.formats.xml_text import SCHEMA_ATTRIBUTES, schemas

_LIDO = "{http://www.lido-schema.org}"
_SCHEMA_1_0 = "http://www.lido-schema.org/schema/v1.0/lido-v1.0.xsd"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEW = _words(
    "applicationProfile collection displayRelatedWork displayRepository eventObjectMeasurements "
    "objectDescriptionRights objectMaterialsTechWrap objectName objectType sourceActorInRole "
    "sourceRelatedWorkSet sourceRepositorySet vitalPlaceActor"
)
"""Elements that 1.0 does not have."""

_FOREIGN = ("{http://www.w3.org/2002/07/owl#}", "{http://www.w3.org/2004/02/skos/core#}")
"""Namespaces whose elements 1.1 allows among its own."""

_ONCE = {("actor", "vitalDatesActor"), ("eventMaterialsTech", "materialsTech"), ("resourceSet", "resourceID")}
"""Elements that may be repeated in 1.1, below which parent; the first is kept."""

_TEXTS = _words(
    "attributionQualifierActor extentActor extentMaterialsTech extentMeasurements extentSubject "
    "formatMeasurements genderActor measurementType measurementUnit qualifierMeasurements scaleMeasurements "
    "shapeMeasurements"
)
"""Elements that are a text in 1.0, and may be a concept in 1.1."""

_CONCEPTS = _words(
    "category classification culture eventMethod eventType nationalityActor objectWorkType periodName "
    "placeClassification recordType relatedEventRelType relatedWorkRelType resourcePerspective resourceRelType "
    "resourceType rightsType roleActor roleInEvent subjectConcept termMaterialsTech"
)
_NEW_ATTRIBUTES = {
    f"{_LIDO}mostNotableEvent": frozenset({"eventWrap", "eventSet"}),
    f"{_LIDO}measurementsGroup": frozenset({"objectMeasurementsSet"}),
    f"{_LIDO}type": frozenset(
        {"nationalityActor", "vitalDatesActor", "genderActor", "rightsType", "objectMeasurementsSet"}
    ),
    f"{_LIDO}pref": frozenset({"titleSet"}),
    f"{_LIDO}sortorder": frozenset({"recordInfoSet"}),
    f"{_LIDO}encodinganalog": _CONCEPTS,
    f"{_LIDO}label": _CONCEPTS,
    "{http://www.w3.org/XML/1998/namespace}lang": _CONCEPTS,
}
"""Attributes that the elements named do not have in 1.0."""


@dataclass(frozen=True)
class Embedded:
    """A LIDO document as it goes into the METS.

    Arguments:
        root: valid as LIDO 1.0 if the document is valid as 1.0 or 1.1.
        left_out: names of what 1.0 does not have, with numbers; empty: the whole document is there.
    """

    root: etree._Element
    left_out: str

    @property
    def note(self) -> str:
        """What became of the document, for the log and for the event."""
        if not self.left_out:
            return "LIDO document embedded"
        return f"LIDO document embedded as LIDO 1.0, without what is new in 1.1: {self.left_out}; the file is complete"


def embedded(document: bytes, name: str) -> Embedded:
    """The document, to be embedded.

    Arguments:
        document: LIDO 1.0 or 1.1.
        name: of the file, for the message.

    Raises:
        ContentProblem: no LIDO document, or one that contradicts the schema it names.
    """
    try:
        root = safe_xml.parse(document, source=name)
    except safe_xml.UnsafeXmlError as error:
        raise problems.LIDO_INVALID.found(str(error)) from error
    if root.tag not in (f"{_LIDO}lidoWrap", f"{_LIDO}lido"):
        raise problems.LIDO_INVALID.found(f"the root element of {name} is {root.tag!r}")
    named = {schema for element in root.iter(etree.Element) for schema in schemas(element)}
    for element in root.iter(etree.Element):
        for attribute in SCHEMA_ATTRIBUTES:  # inside the METS the schemas are those of the METS
            element.attrib.pop(attribute, None)
    counts: Counter[str] = Counter()
    _reduce(root, counts)
    left_out = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    if left_out and _SCHEMA_1_0 in named:
        raise problems.LIDO_INVALID.found(f"{name} names the schema of LIDO 1.0, which does not have {left_out}")
    return Embedded(root, left_out)


def _reduce(element: etree._Element, left_out: Counter[str]) -> None:
    """Leave out of an element what 1.0 does not have there. As deep as the parser allows, which is 256."""
    name = _name(element)
    for attribute, owners in _NEW_ATTRIBUTES.items():
        if name in owners and element.attrib.pop(attribute, None) is not None:
            left_out[f"{name}/@{etree.QName(attribute).localname}"] += 1
    if name in _TEXTS and element.find("*") is not None:  # a comment makes no concept
        _flatten(element)
        left_out[f"{name} as a concept"] += 1
        return
    seen: set[str] = set()
    for child in element.findall("*"):
        below = _name(child)
        repeated = (name, below) in _ONCE and below in seen
        seen.add(below)
        if below in _NEW or repeated or str(child.tag).startswith(_FOREIGN):
            element.remove(child)
            left_out[f"{name}/{below or etree.QName(child).localname}"] += 1
        else:
            _reduce(child, left_out)


def _name(element: etree._Element) -> str:
    """Name of an element of LIDO; empty for another's."""
    tag = str(element.tag)
    return tag.removeprefix(_LIDO) if tag.startswith(_LIDO) else ""


def _flatten(element: etree._Element) -> None:
    """The words of a concept, or else its identifiers, as the text of the element."""
    terms = [child for child in element.findall("*") if _name(child) == "term"] or element.findall("*")
    words = [
        element.text or "",
        *("".join(child.itertext()) for child in terms),
        *(child.tail or "" for child in element),
    ]
    for child in list(element):
        element.remove(child)
    element.text = "; ".join(folded for word in words if (folded := " ".join(word.split())))
