"""Module item documents: what a single Object, Multimedia or CollectionActivity says of itself.

Documents come as the bytes that are preserved, so nothing here changes them. Search answers are read in `search`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus import fields

MUSKETTI_USER = "ZET_DÜ"
MUSKETTI_MONTH = (2018, 11)
"""By this user, in this month, the records of the former system Musketti were moved into MuseumPlus."""


@dataclass(frozen=True)
class ObjectItem:
    """A museum object. Times are aware, in UTC; None where MuseumPlus has none."""

    id: int
    title: str | None
    created: datetime | None
    created_user: str | None
    modified: datetime | None
    attachment_ids: tuple[int, ...]
    collection_activity_ids: tuple[int, ...]
    migrated_from_musketti: bool


@dataclass(frozen=True)
class AttachmentItem:
    """A Multimedia item. The file name is what MuseumPlus says: not yet fit for a file system."""

    id: int
    filename: str
    created: datetime | None
    created_user: str | None
    modified: datetime | None
    migrated_from_musketti: bool


@dataclass(frozen=True)
class CollectionActivityItem:
    """A collection activity, such as an exhibition or an acquisition."""

    id: int
    created: datetime | None


def read_object(document: bytes) -> ObjectItem:
    """Read an Object document.

    Raises:
        PermanentFailure: the user may not read the module, or the document is no Object.
        safe_xml.UnsafeXmlError: the document is not safe XML.
    """
    item = single_item(document, "Object")
    if fields.is_truncated(item):
        raise PermanentFailure(truncated_message(fields.item_id(item)))
    created, created_user = _creation(item)
    return ObjectItem(
        id=fields.item_id(item),
        title=object_title(item),
        created=created,
        created_user=created_user,
        modified=fields.timestamp(item, "__lastModified"),
        attachment_ids=fields.referenced_ids(item, "ObjMultimediaRef"),
        collection_activity_ids=fields.referenced_ids(item, "ObjCollectionActivityRef"),
        migrated_from_musketti=_from_musketti(created, created_user),
    )


def read_attachment(document: bytes) -> AttachmentItem:
    """Read a Multimedia document; raises as `read_object` does, except for truncation."""
    item = single_item(document, "Multimedia")
    created, created_user = _creation(item)
    return AttachmentItem(
        id=fields.item_id(item),
        filename=attachment_filename(item),
        created=created,
        created_user=created_user,
        modified=fields.timestamp(item, "__lastModified"),
        migrated_from_musketti=_from_musketti(created, created_user),
    )


def read_collection_activity(document: bytes) -> CollectionActivityItem:
    """Read a CollectionActivity document; raises as `read_attachment` does."""
    item = single_item(document, "CollectionActivity")
    return CollectionActivityItem(id=fields.item_id(item), created=fields.timestamp(item, "__created"))


def single_item(document: bytes, module: str) -> etree._Element:
    """The one item of a module in a document.

    Raises:
        PermanentFailure: there is none, or more than one.
    """
    found = list(fields.module_items(safe_xml.parse(document, source=f"MuseumPlus {module} document"), module))
    if len(found) != 1:
        raise PermanentFailure(f"MuseumPlus {module} document: {len(found)} items of the module, expected one")
    return found[0]


def object_title(item: etree._Element) -> str | None:
    """The title MuseumPlus composes for an object."""
    return fields.field_value(item, fields.VIRTUAL_FIELD, "ObjObjectVrt")


def attachment_filename(item: etree._Element) -> str:
    """The original file name as MuseumPlus has it, or one made of the id where it has none."""
    name = fields.field_value(item, fields.DATA_FIELD, "MulOriginalFileTxt")
    return name if name and name.strip() else f"Multimedia_{fields.item_id(item)}.attachment"


def truncated_message(object_id: int) -> str:
    """What to tell an administrator of an object that came without its fields."""
    return (
        f"MuseumPlus Object {object_id} came with system fields only: the MuseumPlus user lacks read permission "
        "on module Object; grant it, then try again"
    )


def _creation(item: etree._Element) -> tuple[datetime | None, str | None]:
    return (
        fields.timestamp(item, "__created"),
        fields.field_value(item, fields.SYSTEM_FIELD, "__createdUser"),
    )


def _from_musketti(created: datetime | None, user: str | None) -> bool:
    return (
        created is not None
        and (created.year, created.month) == MUSKETTI_MONTH
        and unicodedata.normalize("NFC", user or "") == MUSKETTI_USER
    )
