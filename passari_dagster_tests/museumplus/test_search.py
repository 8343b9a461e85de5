"""The museum's catalogue is read page by page, whole, and each item's hash tells whether it changed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Literal

import pytest
from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus import fields, search
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.hashing import attachment_hash, object_hash
from passari_dagster.simulation.museumplus import LOG_FIELD, SimulatedMuseum
from passari_dagster_tests.conftest import shared
from passari_dagster_tests.museumplus.conftest import settings_for

SINCE = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=3)))


def all_objects(client: MuseumPlus, limit: int = 7) -> list[search.ObjectRecord]:
    return [record for page in all_pages(client, limit) for record in page.records]


def all_pages(client: MuseumPlus, limit: int) -> list[search.SearchPage[search.ObjectRecord]]:
    pages = [client.search("Object", limit=limit)]
    while (last_id := pages[-1].last_id) is not None:
        pages.append(client.search("Object", after_id=last_id, limit=limit))
    return pages


@pytest.mark.parametrize("module", ["Object", "Multimedia"])
@pytest.mark.parametrize("since", [None, SINCE])
@pytest.mark.parametrize("ids", [(), (7,), (7, 8, 9)])
def test_a_request_follows_the_search_schema(
    module: search.SearchModule, since: datetime | None, ids: tuple[int, ...]
) -> None:
    schema = etree.XMLSchema(etree.parse(shared("museumplus-schemas/search_1_8.xsd")))
    document = search.request_document(module, after_id=12, modified_since=since, ids=ids, limit=50)
    schema.assertValid(safe_xml.parse(document, source="request"))


def test_a_request_asks_for_changes_in_utc_and_for_items_without_a_date() -> None:
    text = search.request_document("Object", modified_since=SINCE, limit=5).decode()
    assert '<greaterEquals fieldPath="__lastModified" operand="2024-05-06T04:08:09.123"/>' in text
    assert '<isNull fieldPath="__lastModified"/>' in text


def test_a_time_without_zone_is_a_slip_of_the_pen() -> None:
    with pytest.raises(ValueError, match="aware"):
        search.request_document("Object", modified_since=datetime(2024, 1, 1), limit=5)  # noqa: DTZ001


@pytest.mark.parametrize("page", ["object-search-page.xml", "object-search-page-xsi.xml", "multimedia-search-page.xml"])
def test_hashes_are_those_of_the_original_toolkit(page: str) -> None:
    expected = json.loads(shared("hashes/expected.json").read_text())[page]
    root = safe_xml.parse(shared(f"hashes/{page}").read_bytes(), source=page)
    objects = page.startswith("object")
    items = fields.module_items(root, "Object" if objects else "Multimedia")
    found = {i.get("id"): object_hash(i, LOG_FIELD) if objects else attachment_hash(i) for i in items}
    assert found == expected


def test_records_of_a_page_have_the_hashes_too() -> None:
    expected = json.loads(shared("hashes/expected.json").read_text())["object-search-page.xml"]
    page = search.object_page(
        [shared("hashes/object-search-page.xml").read_bytes()], after_id=0, log_field=LOG_FIELD, server_time=None
    )
    assert {str(r.id): r.metadata_hash for r in page.records} == expected
    assert page.total == 40
    assert page.records[0].created_date == datetime(2019, 1, 1, tzinfo=timezone.utc)
    assert page.records[0].multimedia_ids == (50000000, 50000001)
    assert page.records[3].modified_date is None


def test_every_object_is_found_once(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    records = all_objects(client)
    assert [r.id for r in records] == list(museum.object_ids)
    for record in records:
        facts = museum.object(record.id)
        assert (record.title, record.modified_date, record.created_date, record.multimedia_ids) == (
            facts.title,
            facts.modified,
            facts.created,
            facts.multimedia_ids,
        )


def test_every_attachment_is_found_with_its_object(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    expected = [m for o in museum.object_ids for m in museum.object(o).multimedia_ids]
    page = client.search("Multimedia", limit=1000)
    assert [r.id for r in page.records] == expected
    assert page.total == len(expected)
    for record in page.records:
        assert record.filename == museum.attachment(record.id).filename
        assert record.id in museum.object(record.object_ids[0]).multimedia_ids


def test_an_object_that_goes_away_while_paging_hides_no_other(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    first = client.search("Object", limit=10).records
    museum.delete_object(first[0].id)
    second = client.search("Object", after_id=first[-1].id, limit=10).records
    assert second[0].id == first[-1].id + 1


def test_a_search_for_changes_finds_them_and_undated_items(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    since = client.search("Object", limit=1).server_time
    assert since is not None
    edited = museum.object_ids[17]
    museum.edit_object(edited, title="Muutettu")
    undated = museum.object_ids[3]
    museum.edit_object(undated, modified=None)
    page = client.search("Object", modified_since=since, limit=100)
    found = {r.id for r in page.records}
    assert {edited, undated} <= found
    assert found - {edited, undated} == {o for o in museum.object_ids if museum.object(o).modified is None} - {undated}
    assert page.total == len(found)


def test_single_items_are_found_by_their_ids_with_the_same_hash(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    everything = {record.id: record for record in all_objects(client)}
    edited, gone = museum.object_ids[5], museum.object_ids[6]
    museum.edit_object(edited, title="Muutettu")
    museum.delete_object(gone)
    for ids in ([museum.object_ids[2]], [museum.object_ids[30], edited, gone, museum.object_ids[0], 7]):
        page = client.search("Object", ids=ids, limit=len(ids))
        expected = sorted(set(ids) - {gone, 7})
        assert [record.id for record in page.records] == expected
        assert page.total == len(expected)
        assert all(record == everything[record.id] for record in page.records if record.id != edited)
    attachments = client.search("Multimedia", limit=3).records
    assert client.search("Multimedia", ids=[a.id for a in attachments[1:]], limit=9).records == attachments[1:]


def test_changes_are_asked_for_by_the_clock_of_museumplus() -> None:
    with SimulatedMuseum(objects=3, clock_offset=-7200) as museum, MuseumPlus(settings_for(museum)) as client:
        since = client.search("Object", limit=1).server_time
        assert since is not None
        assert timedelta(seconds=-2) < since - museum.now() <= timedelta(0)
        museum.edit_object(museum.object_ids[1])
        assert museum.object_ids[1] in [r.id for r in client.search("Object", modified_since=since, limit=9).records]


def test_server_time_is_not_after_the_search_began(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    client.search("Object", limit=1)
    museum.faults.latency = 1.1
    began = museum.now()
    time = client.search("Object", limit=1).server_time
    assert time is not None
    assert time <= began


def test_the_hash_changes_with_the_object_but_not_with_our_log(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    def the_hash() -> str:
        return client.search("Object", limit=1).records[0].metadata_hash

    before = the_hash()
    museum.edit_object(museum.object_ids[0], fields={LOG_FIELD: "[]"})
    assert the_hash() == before
    museum.edit_object(museum.object_ids[0], title="Toinen")
    assert the_hash() != before


@pytest.mark.parametrize("name", ["../../etc/passwd", "rivi\nvaihto.tif", "x" * 300 + ".jpg", "käännös & <b>.xml"])
def test_file_names_are_told_as_they_are(museum: SimulatedMuseum, client: MuseumPlus, name: str) -> None:
    attachment = client.search("Multimedia", limit=1).records[0].id
    museum.set_attachment(attachment, filename=name)
    assert client.search("Multimedia", limit=1).records[0].filename == name


def test_an_attachment_without_a_name_gets_one(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    attachment = client.search("Multimedia", limit=1).records[0].id
    museum.set_attachment(attachment, filename="")
    assert client.search("Multimedia", limit=1).records[0].filename == f"Multimedia_{attachment}.attachment"


def test_unreadable_objects_are_told_apart_and_hide_no_other(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    # Alone on a page, at the end of one, and among others.
    unreadable = (museum.object_ids[2], museum.object_ids[20], museum.object_ids[34], museum.object_ids[-1])
    before = {record.id: record for record in all_objects(client)}
    for object_id in unreadable:
        museum.edit_object(object_id, truncated=True)
    for limit in (1, 7, 100):
        pages = all_pages(client, limit)
        assert tuple(i for page in pages for i in page.unreadable) == unreadable
        readable = [record for page in pages for record in page.records]
        assert [record.id for record in readable] == [i for i in museum.object_ids if i not in unreadable]
        assert all(record.metadata_hash == before[record.id].metadata_hash for record in readable)


@pytest.mark.parametrize("module", ["Object", "Multimedia"])
def test_a_page_tells_its_last_id_and_an_empty_one_has_none(
    museum: SimulatedMuseum, client: MuseumPlus, module: Literal["Object", "Multimedia"]
) -> None:
    def last_id(after_id: int, limit: int) -> int | None:
        if module == "Object":
            return client.search("Object", after_id=after_id, limit=limit).last_id
        return client.search("Multimedia", after_id=after_id, limit=limit).last_id

    first = last_id(0, 1)
    end = last_id(0, 1000)
    assert first is not None
    assert end is not None
    assert first < end
    assert last_id(end, 1) is None


def page_of(*ids: int) -> bytes:
    items = "".join(f'<moduleItem id="{i}"><dataField name="X"/></moduleItem>' for i in ids)
    return (
        f'<application xmlns="{fields.MODULE_NS}"><modules><module name="Object">{items}'
        "</module></modules></application>"
    ).encode()


@pytest.mark.parametrize("ids", [(5,), (4, 9), (9, 8), (9, 9)])
def test_ids_out_of_order_end_the_search_instead_of_skipping_or_looping(ids: tuple[int, ...]) -> None:
    with pytest.raises(PermanentFailure, match="ascending"):
        search.object_page([page_of(*ids)], after_id=5, log_field=None, server_time=None)


def test_a_page_without_total_or_dates_is_fine() -> None:
    page = search.object_page([page_of(6, 7)], after_id=5, log_field=None, server_time=None)
    assert page.total is None
    assert [(r.id, r.title, r.modified_date, r.multimedia_ids) for r in page.records] == [
        (6, None, None, ()),
        (7, None, None, ()),
    ]
