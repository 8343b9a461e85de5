"""PREMIS 2.3: the objects of a file and of its streams, events, and the agent that did them.

Where these sections stand in the METS and what refers to them is known by `mets`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from lxml import etree

from passari_dagster.sip.elements import add, iso
from passari_dagster.sip.formats.facts import Examined, FileFormat, Stream

IDENTIFIER_TYPE = "museumplus"
"""Type of the identifiers of files, as passari wrote them."""

_LOCAL = "UUID"
_LATEST = datetime(9999, 12, 31, tzinfo=timezone.utc).timestamp()


@dataclass(frozen=True)
class Event:
    """One thing that happened to the package or to files of it.

    Arguments:
        identifier: unique in the document.
        event_type: of the PREMIS vocabulary, such as `creation`.
        date: with a time zone.
        detail: what was done.
        note: what came out of it.
        objects: identifiers of the files concerned.
        sources, outcomes: identifiers of those that something was made of, and of what was made.
    """

    identifier: str
    event_type: str
    date: datetime
    detail: str
    note: str
    objects: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()


def premis_object(
    parent: etree._Element,
    identifier: str,
    file: Examined,
    file_format: FileFormat,
    bitstreams: Iterable[str] = (),
) -> None:
    """Add the PREMIS object of a file to `parent`.

    Arguments:
        identifier: value of type `museumplus`, unique in the document.
        file: its digest, size and time of modification (taken for the time of its creation, as the DPS accepts).
        file_format: what it was identified as.
        bitstreams: identifiers of the objects of its streams.
    """
    root = add(parent, "premis:object", None, {"xsi:type": "premis:file"})
    _identifier(root, "object", IDENTIFIER_TYPE, identifier)
    characteristics = add(root, "premis:objectCharacteristics")
    add(characteristics, "premis:compositionLevel", 0)
    fixity = add(characteristics, "premis:fixity")
    add(fixity, "premis:messageDigestAlgorithm", "SHA-256")
    add(fixity, "premis:messageDigest", file.sha256)
    add(characteristics, "premis:size", file.size)
    _format(characteristics, file_format.name, file_format.version)
    creation = add(characteristics, "premis:creatingApplication")
    # Within the years that a date can hold: archives tell any time for their files.
    modified = datetime.fromtimestamp(min(max(file.modified, 0), _LATEST), timezone.utc)
    add(creation, "premis:dateCreatedByApplication", iso(modified))
    related = list(bitstreams)
    if related:
        relationship = add(root, "premis:relationship")
        add(relationship, "premis:relationshipType", "structural")
        add(relationship, "premis:relationshipSubType", "includes")
        for value in related:
            link = add(relationship, "premis:relatedObjectIdentification")
            add(link, "premis:relatedObjectIdentifierType", _LOCAL)
            add(link, "premis:relatedObjectIdentifierValue", value)


def premis_bitstream(parent: etree._Element, identifier: str, stream: Stream) -> None:
    """Add the PREMIS object of a stream in a container to `parent`.

    Arguments:
        identifier: unique in the document; the object of the file refers to it.
        stream: one that has a MIME type.
    """
    root = add(parent, "premis:object", None, {"xsi:type": "premis:bitstream"})
    _identifier(root, "object", _LOCAL, identifier)
    characteristics = add(root, "premis:objectCharacteristics")
    add(characteristics, "premis:compositionLevel", 0)
    _format(characteristics, stream.mimetype, stream.version)


def _identifier(parent: etree._Element, of: str, kind: str, value: str) -> etree._Element:
    """Add the identifier of something, or a link to it, to `parent`."""
    element = add(parent, f"premis:{of}Identifier")
    add(element, f"premis:{of}IdentifierType", kind)
    add(element, f"premis:{of}IdentifierValue", value)
    return element


def _format(characteristics: etree._Element, name: str | None, version: str | None) -> None:
    designation = add(add(characteristics, "premis:format"), "premis:formatDesignation")
    add(designation, "premis:formatName", name)
    if version is not None:
        add(designation, "premis:formatVersion", version)


def premis_event(parent: etree._Element, event: Event, agents: Iterable[str]) -> None:
    """Add an event, which succeeded, to `parent`.

    Arguments:
        agents: identifiers of the agents that did it.
    """
    root = add(parent, "premis:event")
    _identifier(root, "event", _LOCAL, event.identifier)
    add(root, "premis:eventType", event.event_type)
    add(root, "premis:eventDateTime", iso(event.date))
    add(root, "premis:eventDetail", event.detail)
    outcome = add(root, "premis:eventOutcomeInformation")
    add(outcome, "premis:eventOutcome", "success")
    add(add(outcome, "premis:eventOutcomeDetail"), "premis:eventOutcomeDetailNote", event.note)
    for agent in agents:
        link = _identifier(root, "linkingAgent", _LOCAL, agent)
        add(link, "premis:linkingAgentRole", "executing program")
    for role, targets in ((None, event.objects), ("source", event.sources), ("outcome", event.outcomes)):
        for target in targets:
            link = _identifier(root, "linkingObject", IDENTIFIER_TYPE, target)
            if role is not None:
                add(link, "premis:linkingObjectRole", role)


def premis_agent(parent: etree._Element, identifier: str, name: str) -> None:
    """Add a piece of software to `parent`.

    Arguments:
        identifier: unique in the document.
        name: `<name>-v<version>`.
    """
    root = add(parent, "premis:agent")
    _identifier(root, "agent", _LOCAL, identifier)
    add(root, "premis:agentName", name)
    add(root, "premis:agentType", "software")
