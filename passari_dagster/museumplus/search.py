"""Searching a module: the request, and the page of records that is its answer.

Pages go by key (the items after the last id seen), never by offset: an offset skips an item whenever one before
it leaves the result while we page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Generic, Literal, TypeVar

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus import fields, items
from passari_dagster.museumplus.hashing import attachment_hash, object_hash

SEARCH_NS = "http://www.zetcom.com/ria/ws/module/search"
SearchModule = Literal["Object", "Multimedia"]


@dataclass(frozen=True)
class ObjectRecord:
    """What a search tells of an object. Dates are aware, in UTC; None where MuseumPlus has none."""

    id: int
    title: str | None
    modified_date: datetime | None
    created_date: datetime | None
    multimedia_ids: tuple[int, ...]
    metadata_hash: str


@dataclass(frozen=True)
class AttachmentRecord:
    """What a search tells of an attachment; the file name is not yet fit for a file system."""

    id: int
    filename: str
    modified_date: datetime | None
    created_date: datetime | None
    object_ids: tuple[int, ...]
    metadata_hash: str


Record = TypeVar("Record", ObjectRecord, AttachmentRecord)


@dataclass(frozen=True)
class SearchPage(Generic[Record]):
    """One page: its records by ascending id.

    Arguments:
        records: what could be read.
        unreadable: ids of the items that came without their fields, since the MuseumPlus user may not read them.
        last_id: the greatest id on the page, readable or not: the next page begins after it. None means that the
            page is empty, and that there are no more.
        total: how many items matched, those on this page included, if MuseumPlus says.
        server_time: a time at which, by MuseumPlus's own clock, this search had not begun yet: what changes later
            is found by a search that asks for changes since then. None if MuseumPlus does not tell the time.
    """

    records: tuple[Record, ...]
    unreadable: tuple[int, ...]
    last_id: int | None
    total: int | None
    server_time: datetime | None


def request_document(
    module: SearchModule,
    *,
    after_id: int = 0,
    upto_id: int | None = None,
    modified_since: datetime | None = None,
    ids: Collection[int] = (),
    limit: int,
    offset: int = 0,
    descending: bool = False,
) -> bytes:
    """The body of a search request (ria-ws search schema 1.8).

    Arguments:
        after_id: only items whose id is greater.
        upto_id: only items whose id is not greater.
        modified_since: only items modified at that time (aware) or later, and those without a date.
        ids: only these items; none named: any.
        limit: most items in the answer.
        offset: so many of the items that match are left out.
        descending: the greatest id first.
    """
    application = etree.Element(f"{{{SEARCH_NS}}}application", nsmap={None: SEARCH_NS})
    search = _add(
        _add(_add(application, "modules"), "module", {"name": module}),
        "search",
        {"limit": str(limit), "offset": str(offset)},
    )
    direction = "Descending" if descending else "Ascending"
    _add(_add(search, "sort"), "field", {"fieldPath": "__id", "direction": direction})
    condition = _add(search, "expert", {"module": module})
    if upto_id is not None or modified_since is not None or ids:
        condition = _add(condition, "and")
    _add(condition, "greater", {"fieldPath": "__id", "operand": str(after_id)})
    if upto_id is not None:
        _add(condition, "lessEquals", {"fieldPath": "__id", "operand": str(upto_id)})
    if modified_since is not None:
        either = _add(condition, "or")
        _add(either, "greaterEquals", {"fieldPath": "__lastModified", "operand": _operand(modified_since)})
        _add(either, "isNull", {"fieldPath": "__lastModified"})
    # The schema wants two conditions at least in <or>.
    either = _add(condition, "or") if len(ids) > 1 else condition
    for item_id in ids:
        _add(either, "equalsField", {"fieldPath": "__id", "operand": str(item_id)})
    return etree.tostring(application, xml_declaration=True, encoding="UTF-8")


def object_page(
    chunks: Iterable[bytes],
    *,
    after_id: int,
    log_field: str | None,
    server_time: datetime | None,
) -> SearchPage[ObjectRecord]:
    """Read an answer about module Object.

    Arguments:
        chunks: the document, in pieces; it is never whole in memory.
        after_id: what was asked for; ids must be greater, and ascend.
        log_field: the preservation log field, which does not count in the metadata hash.
        server_time: see `SearchPage`.

    Raises:
        PermanentFailure: the answer is not in the order asked for.
        safe_xml.UnsafeXmlError: the document is not safe XML.
    """
    records: list[ObjectRecord] = []
    unreadable: list[int] = []
    items_of = _Items("Object", after_id)
    for item_id, item in items_of.read(chunks):
        if fields.is_truncated(item):
            # No record: its links would look gone, and its hash changed.
            unreadable.append(item_id)
            continue
        records.append(
            ObjectRecord(
                id=item_id,
                title=items.object_title(item),
                modified_date=fields.timestamp(item, "__lastModified"),
                created_date=fields.timestamp(item, "__created"),
                multimedia_ids=fields.referenced_ids(item, "ObjMultimediaRef"),
                metadata_hash=object_hash(item, log_field),
            )
        )
    return SearchPage(tuple(records), tuple(unreadable), items_of.last_id, items_of.total, server_time)


def attachment_page(
    chunks: Iterable[bytes], *, after_id: int, server_time: datetime | None
) -> SearchPage[AttachmentRecord]:
    """Read an answer about module Multimedia: all items are records. Otherwise as `object_page`."""
    items_of = _Items("Multimedia", after_id)
    records = tuple(
        AttachmentRecord(
            id=item_id,
            filename=items.attachment_filename(item),
            modified_date=fields.timestamp(item, "__lastModified"),
            created_date=fields.timestamp(item, "__created"),
            object_ids=fields.referenced_ids(item, "MulObjectRef"),
            metadata_hash=attachment_hash(item),
        )
        for item_id, item in items_of.read(chunks)
    )
    return SearchPage(records, (), items_of.last_id, items_of.total, server_time)


class _Items:
    """The items of a module in an answer, one after another; then the last id, and how many there are in all."""

    def __init__(self, module: str, after_id: int) -> None:
        self._module, self._after_id = module, after_id
        self.last_id: int | None = None
        self.total: int | None = None

    def read(self, chunks: Iterable[bytes]) -> Iterator[tuple[int, etree._Element]]:
        source = f"MuseumPlus search of module {self._module}"
        last = self._after_id
        for element in safe_xml.stream(chunks, (fields.MODULE_ITEM, fields.MODULE), source=source):
            of_module = element if element.tag == fields.MODULE else element.getparent()
            if of_module is None or of_module.tag != fields.MODULE or of_module.get("name") != self._module:
                continue
            if element is of_module:
                size = element.get("totalSize", "")
                if self.total is None and size.isdecimal() and len(size) < 19:
                    self.total = int(size)
                continue
            found = fields.item_id(element)
            if found <= last:
                # Going on would skip items, or page for ever.
                raise PermanentFailure(
                    f"{source}: item {found} came after {last}, though ids were asked for in ascending order"
                )
            self.last_id = last = found
            yield found, element


def _add(parent: etree._Element, name: str, attributes: dict[str, str] | None = None) -> etree._Element:
    return etree.SubElement(parent, f"{{{SEARCH_NS}}}{name}", attributes)


def _operand(time: datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("modified_since should be an aware time")
    return time.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="milliseconds")
