"""How the simulated museum's facts look as documents: module items, LIDO, sessions. Only writing of XML."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from datetime import datetime
from xml.sax.saxutils import escape, quoteattr  # writing only; parsing is safe_xml's

from passari_dagster.simulation.museum_records import USER, AttachmentFacts, ObjectFacts

MODULE_NS = "http://www.zetcom.com/ria/ws/module"
_WORDS = [
    "negatiivi",
    "kokoelma",
    "paikka",
    "museo",
    "äänite",
    "esine",
    "kuva",
    "näyttely",
    "lahjoitus",
    "työväline",
    "säilytys",
    "häät",
    "pöytäkirja",
    "sahti",
    "venevalkama",
    "rautatie",
]
_PADDING_GROUPS = 18
_PHRASES = [
    " ".join(_WORDS[(start * 7 + step * (start % 5 + 1)) % len(_WORDS)] for step in range(14)) for start in range(64)
]
ENTITY_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "museo"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">'
    b'<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">]><application xmlns="' + MODULE_NS.encode() + b'">&e;</application>'
)


def session(key: str) -> bytes:
    """The answer to a login."""
    return _document(
        '<application xmlns="http://www.zetcom.com/ria/ws/session"><session pending="false"><key>'
        f"{escape(key)}</key></session></application>"
    )


def module(name: str, items: Iterable[str], total: int) -> bytes:
    """Module items as an answer."""
    return _document(
        f'<application xmlns="{MODULE_NS}"><modules><module name="{name}" totalSize="{total}">'
        f"{''.join(items)}</module></modules></application>"
    )


def object_item(facts: ObjectFacts) -> str:
    """An Object, about seven kilobytes."""
    files = "true" if facts.multimedia_ids else "false"
    head = _head(facts.id, files, facts.created, facts.created_user, facts.modified)
    if facts.truncated:
        return f"{head}</moduleItem>"
    title = escape(facts.title)
    return "".join(
        (
            head,
            f'<dataField dataType="Varchar" name="ObjObjectTitleTxt"><value>{title}</value></dataField>',
            *(
                f'<dataField dataType="Clob" name={quoteattr(name)}><value>{escape(value)}</value></dataField>'
                for name, value in facts.fields.items()
            ),
            f'<virtualField name="ObjObjectVrt"><value>{title}</value></virtualField>',
            *(_padding(facts.id, number) for number in range(_PADDING_GROUPS)),
            _reference("ObjMultimediaRef", "Multimedia", facts.multimedia_ids),
            _reference("ObjCollectionActivityRef", "CollectionActivity", facts.activity_ids),
            "</moduleItem>",
        )
    )


def attachment_item(facts: AttachmentFacts, *, has_file: bool) -> str:
    """A Multimedia item; without file name if that is empty."""
    name = (
        f'<dataField dataType="Varchar" name="MulOriginalFileTxt"><value>{escape(facts.filename)}</value></dataField>'
        if facts.filename
        else ""
    )
    head = _head(facts.id, str(has_file).lower(), facts.created, facts.created_user, facts.modified)
    return (
        f'{head}{name}<virtualField name="MulMultimediaVrt"><value>{facts.id}</value></virtualField>'
        '<composite name="MulReferencesCre"><compositeItem seqNo="0">'
        f"{_reference('MulObjectRef', 'Object', (facts.object_id,))}</compositeItem></composite></moduleItem>"
    )


def activity_item(activity_id: int, created: datetime) -> str:
    """A CollectionActivity."""
    return (
        f"{_head(activity_id, 'false', created, USER, created)}"
        '<dataField dataType="Varchar" name="CalNameTxt"><value>'
        f"Näyttely {activity_id}</value></dataField></moduleItem>"
    )


def lido(facts: ObjectFacts) -> bytes:
    """The LIDO 1.0 export of an object."""
    return _document(
        '<lido:lidoWrap xmlns:lido="http://www.lido-schema.org"><lido:lido>'
        f'<lido:lidoRecID lido:type="local">SIM:{facts.id}</lido:lidoRecID>'
        '<lido:descriptiveMetadata xml:lang="fi"><lido:objectClassificationWrap><lido:objectWorkTypeWrap>'
        "<lido:objectWorkType><lido:term>museoesine</lido:term></lido:objectWorkType></lido:objectWorkTypeWrap>"
        "</lido:objectClassificationWrap><lido:objectIdentificationWrap><lido:titleWrap><lido:titleSet>"
        f"<lido:appellationValue>{escape(facts.title)}</lido:appellationValue></lido:titleSet></lido:titleWrap>"
        "</lido:objectIdentificationWrap></lido:descriptiveMetadata>"
        '<lido:administrativeMetadata xml:lang="fi"><lido:recordWrap>'
        f'<lido:recordID lido:type="local">{facts.id}</lido:recordID>'
        "<lido:recordType><lido:term>esine</lido:term></lido:recordType>"
        "<lido:recordSource><lido:legalBodyName><lido:appellationValue>Simuloitu museo</lido:appellationValue>"
        "</lido:legalBodyName></lido:recordSource></lido:recordWrap></lido:administrativeMetadata>"
        "</lido:lido></lido:lidoWrap>"
    )


def _document(root: str) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + root.encode()


def _head(item_id: int, files: str, created: datetime | None, user: str, modified: datetime | None) -> str:
    identity = uuid.UUID(bytes=hashlib.blake2b(str(item_id).encode(), digest_size=16).digest())
    fields = (
        ("Long", "__id", str(item_id)),
        ("Varchar", "__lastModifiedUser", user),
        ("Timestamp", "__lastModified", _time(modified)),
        ("Varchar", "__createdUser", user),
        ("Timestamp", "__created", _time(created)),
        ("Varchar", "__uuid", str(identity)),
    )
    return f'<moduleItem hasAttachments="{files}" id="{item_id}" uuid="{identity}">' + "".join(
        f'<systemField dataType="{kind}" name="{name}"><value>{escape(value)}</value></systemField>'
        for kind, name, value in fields
        if value
    )


def _time(time: datetime | None) -> str:
    return time.replace(tzinfo=None).isoformat(" ", "milliseconds") if time else ""


def _reference(name: str, target: str, ids: tuple[int, ...]) -> str:
    items = "".join(f'<moduleReferenceItem moduleItemId="{item}" seqNo="{number}"/>' for number, item in enumerate(ids))
    return (
        f'<moduleReference name="{name}" targetModule="{target}" multiplicity="M:N" size="{len(ids)}">'
        f"{items}</moduleReference>"
    )


def _padding(item_id: int, number: int) -> str:
    phrase = _PHRASES[(item_id * 31 + number * 17) % len(_PHRASES)]
    return (
        f'<repeatableGroup name="ObjPadding{number:03}Grp" size="1"><repeatableGroupItem '
        f'id="{item_id % 1_000_000 * 100 + number}"><dataField dataType="Clob" name="TextClb"><value>{phrase}'
        "</value></dataField></repeatableGroupItem></repeatableGroup>"
    )
