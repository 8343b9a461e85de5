"""What single documents say, and what is made of documents that say nonsense."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus import fields
from passari_dagster.museumplus.client import MuseumPlus, NotInMuseumPlus
from passari_dagster.museumplus.items import read_attachment, read_collection_activity, read_object
from passari_dagster.safe_xml import UnsafeXmlError
from passari_dagster.simulation.museum_records import FIRST_ACTIVITY
from passari_dagster.simulation.museumplus import SimulatedMuseum


def document(module: str, content: str, item_id: str = "5") -> bytes:
    return (
        f'<application xmlns="{fields.MODULE_NS}"><modules><module name="{module}" totalSize="1">'
        f'<moduleItem id="{item_id}">{content}</moduleItem></module></modules></application>'
    ).encode()


def system_field(name: str, value: str) -> str:
    return f'<systemField name="{name}"><value>{value}</value></systemField>'


def test_an_object_tells_its_attachments_and_activities(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    object_id = museum.object_ids[4]
    facts = museum.edit_object(object_id, activity_ids=[FIRST_ACTIVITY, FIRST_ACTIVITY + 1], title="Röijy & <liivi>")
    item = read_object(client.item("Object", object_id))
    assert (item.id, item.title, item.created, item.created_user) == (
        object_id,
        "Röijy & <liivi>",
        facts.created,
        facts.created_user,
    )
    assert item.modified == facts.modified
    assert item.attachment_ids == facts.multimedia_ids
    assert item.collection_activity_ids == (FIRST_ACTIVITY, FIRST_ACTIVITY + 1)


def test_an_attachment_and_an_activity_tell_theirs(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    attachment = museum.set_attachment(50_000_000 + 3 * 4, filename="../kuva\n.jpg")
    item = read_attachment(client.item("Multimedia", attachment.id))
    assert (item.id, item.filename, item.modified) == (attachment.id, "../kuva\n.jpg", attachment.modified)
    activity = read_collection_activity(client.item("CollectionActivity", FIRST_ACTIVITY))
    assert activity.id == FIRST_ACTIVITY
    assert activity.created is not None


def test_documents_are_kept_as_they_were_received(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    path = f"/module/Object/{museum.object_ids[0]}"
    raw = b"<?xml version='1.0'?>\n" + document("Object", "<!-- k --><dataField name='A'/>", "1000000") + b"\n"
    museum.faults.replace_body(path, raw)
    assert client.item("Object", museum.object_ids[0]) == raw


def test_an_object_of_the_former_system_is_recognised() -> None:
    def migrated(created: str, user: str) -> bool:
        content = system_field("__created", created) + system_field("__createdUser", user) + '<dataField name="X"/>'
        return read_object(document("Object", content)).migrated_from_musketti

    assert migrated("2018-11-01 00:00:00.000", "ZET_DÜ")
    assert migrated("2018-11-30 23:59:59.999", "ZET_DU\u0308")  # the same letter, written as two characters
    assert not migrated("2018-12-01 00:00:00.000", "ZET_DÜ")
    assert not migrated("2017-11-10 00:00:00.000", "ZET_DÜ")
    assert not migrated("2018-11-10 00:00:00.000", "ZET_DU")
    item = read_attachment(
        document(
            "Multimedia", system_field("__created", "2018-11-02 00:00:00") + system_field("__createdUser", "ZET_DÜ")
        )
    )
    assert item.migrated_from_musketti


def test_an_object_without_dates_is_an_object_too() -> None:
    item = read_object(document("Object", '<virtualField name="ObjObjectVrt"/>'))
    assert (item.title, item.created, item.modified, item.attachment_ids) == (None, None, None, ())
    assert not item.migrated_from_musketti


def test_an_object_that_the_user_may_not_read_says_so_and_names_itself(
    museum: SimulatedMuseum, client: MuseumPlus
) -> None:
    object_id = museum.object_ids[2]
    museum.edit_object(object_id, truncated=True)
    with pytest.raises(PermanentFailure, match=f"Object {object_id} .*lacks read permission on module Object"):
        read_object(client.item("Object", object_id))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019-01-02 02:10:57.171", datetime(2019, 1, 2, 2, 10, 57, 171000, tzinfo=timezone.utc)),
        ("2019-01-02T02:10:57", datetime(2019, 1, 2, 2, 10, 57, tzinfo=timezone.utc)),
        ("2019-01-02 02:10:57.1", datetime(2019, 1, 2, 2, 10, 57, 100000, tzinfo=timezone.utc)),
        (" ", None),
    ],
)
def test_times_are_utc(text: str, expected: datetime | None) -> None:
    item = read_collection_activity(document("CollectionActivity", system_field("__created", text)))
    assert item.created == expected


@pytest.mark.parametrize("text", ["eilen", "2019-13-41 00:00:00", "0000-01-01 00:00:00", "٢٠١٩-01-01 00:00:00"])
def test_a_time_that_is_none_is_named_with_its_item(text: str) -> None:
    with pytest.raises(PermanentFailure, match="item 5: __created"):
        read_collection_activity(document("CollectionActivity", system_field("__created", text)))


@pytest.mark.parametrize("item_id", ["", "x", "-1", "1" * 30])
def test_an_id_that_is_no_number_is_refused(item_id: str) -> None:
    with pytest.raises(PermanentFailure, match="not a number"):
        read_attachment(document("Multimedia", "", item_id))


def test_a_document_of_another_module_is_refused() -> None:
    with pytest.raises(PermanentFailure, match="0 items"):
        read_object(document("Person", ""))


def test_a_document_that_breaks_off_is_refused() -> None:
    with pytest.raises(UnsafeXmlError):
        read_object(document("Object", "")[:-10])


def test_an_entity_bomb_is_refused_at_once(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    object_id = museum.object_ids[0]
    museum.bomb(object_id)
    with pytest.raises(PermanentFailure, match=f"/module/Object/{object_id}: .*document type declaration"):
        client.item("Object", object_id)
    assert museum.count(f"/module/Object/{object_id}") == 1


def test_another_item_than_asked_for_is_refused(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.faults.replace_body("/module/Object/1000000", document("Object", ""))
    with pytest.raises(PermanentFailure, match="asked for item 1000000, got"):
        client.item("Object", 1_000_000)


def test_an_empty_answer_means_that_there_is_no_such_item(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    empty = f'<application xmlns="{fields.MODULE_NS}"/>'.encode()
    museum.faults.replace_body("/module/Object/1000000", empty)
    with pytest.raises(NotInMuseumPlus):
        client.item("Object", 1_000_000)


def test_an_item_that_is_gone_has_a_name_of_its_own(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.delete_object(1_000_000)
    with pytest.raises(NotInMuseumPlus, match="/module/Object/1000000"):
        client.item("Object", 1_000_000)
    with pytest.raises(NotInMuseumPlus):
        client.export_lido(1_000_000)


def test_the_lido_export_is_lido_or_nothing(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    assert b"lidoWrap" in client.export_lido(1_000_000)
    museum.faults.replace_body("/module/Object/1000000/export/45005", b"<html/>")
    with pytest.raises(PermanentFailure, match="lido_report_id"):
        client.export_lido(1_000_000)
