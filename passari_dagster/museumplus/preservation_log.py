"""The preservation log: a text field of the Object that holds a JSON array, one entry for each verdict.

Reading the field from an Object document and making the document that writes it; sending both is the client's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from lxml import etree

from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus import fields
from passari_dagster.museumplus.items import single_item


@dataclass(frozen=True)
class LogEntry:
    """One verdict of the DPS.

    Arguments:
        filename: name of the package.
        status: the verdict.
        object_modify_date: when the packaged version of the object was modified; None if MuseumPlus had no date.
        date: when the verdict was known.
    """

    filename: str
    status: Literal["accepted", "rejected"]
    object_modify_date: datetime | None
    date: datetime

    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in the field."""
        modified = self.object_modify_date
        return {
            "filename": self.filename,
            "status": self.status,
            "object_modify_date": modified.isoformat() if modified else None,
            "date": self.date.isoformat(),
        }

    def is_in(self, entries: list[dict[str, Any]]) -> bool:
        """Whether this verdict on this package is there already, whatever its dates."""
        return any((e.get("filename"), e.get("status")) == (self.filename, self.status) for e in entries)


def read_entries(document: bytes, field: str) -> list[dict[str, Any]]:
    """The entries in an Object document; none if the field is absent or blank.

    Raises:
        PermanentFailure: the field holds something else; it must not be overwritten.
    """
    item = single_item(document, "Object")
    text = (fields.field_value(item, fields.DATA_FIELD, field) or "").strip()
    if not text:
        return []
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PermanentFailure(
            f"MuseumPlus Object {fields.item_id(item)}: field {field} does not hold a list of log entries in JSON; "
            "it is left as it is: correct it in MuseumPlus, then try again"
        )
    return entries


def field_document(object_id: int, field: str, entries: list[dict[str, Any]]) -> bytes:
    """The document that gives the field these entries."""
    application = etree.Element(f"{{{fields.MODULE_NS}}}application", nsmap={None: fields.MODULE_NS})
    modules = etree.SubElement(application, f"{{{fields.MODULE_NS}}}modules")
    module = etree.SubElement(modules, fields.MODULE, name="Object")
    item = etree.SubElement(module, fields.MODULE_ITEM, id=str(object_id))
    value = etree.SubElement(etree.SubElement(item, fields.DATA_FIELD, name=field), fields.VALUE)
    value.text = json.dumps(entries)
    return etree.tostring(application, xml_declaration=True, encoding="UTF-8")
