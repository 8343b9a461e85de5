"""The simulated museum speaks as the real one: by its schemas, with sessions, searches, writes and faults."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import tifffile
from lxml import etree
from PIL import Image

from passari_dagster import safe_xml
from passari_dagster.simulation import museum_files
from passari_dagster.simulation.museum_faults import Faults
from passari_dagster.simulation.museum_records import FIRST_ACTIVITY, MUSKETTI_USER, Museum
from passari_dagster.simulation.museumplus import LIDO_TEMPLATE, LOG_FIELD, SimulatedMuseum
from passari_dagster_tests.conftest import shared

OBJECT = 1_000_000
SEARCH = """<application xmlns="http://www.zetcom.com/ria/ws/module/search"><modules><module name="{module}">
<search limit="{limit}" offset="{offset}"><sort><field fieldPath="__id" direction="{direction}"/></sort>{expert}
</search></module></modules></application>"""


class Visitor:
    """Somebody with a session."""

    def __init__(self, museum: SimulatedMuseum) -> None:
        self.museum = museum
        self.http = httpx.Client(timeout=10)
        self.log_in()

    def log_in(self) -> httpx.Response:
        answer = self.http.get(
            f"{self.museum.url}/session",
            auth=(f"user[{self.museum.username}]", f"password[{self.museum.password}]"),
        )
        key = safe_xml.parse(answer.content, source="session").findtext(".//{*}key")
        self.http.auth = httpx.BasicAuth(f"user[{self.museum.username}]", f"session[{key}]")
        return answer

    def get(self, path: str) -> httpx.Response:
        return self.http.get(self.museum.url + path)

    def put(self, path: str, body: bytes) -> httpx.Response:
        return self.http.put(self.museum.url + path, content=body)

    def search(
        self,
        expert: str = "",
        *,
        module: str = "Object",
        limit: int = -1,
        offset: int = 0,
        direction: str = "Ascending",
    ) -> tuple[list[int], int]:
        body = SEARCH.format(module=module, expert=expert, limit=limit, offset=offset, direction=direction)
        answer = self.http.post(f"{self.museum.url}/module/{module}/search", content=body)
        answer.raise_for_status()
        root = safe_xml.parse(answer.content, source="search")
        total = root.find(".//{*}module")
        assert total is not None
        return [int(i.get("id", "")) for i in root.iter("{*}moduleItem")], int(total.get("totalSize", ""))


def field_document(object_id: int, name: str, value: str) -> bytes:
    return (
        '<application xmlns="http://www.zetcom.com/ria/ws/module"><modules><module name="Object">'
        f'<moduleItem id="{object_id}"><dataField name="{name}"><value>{value}</value></dataField></moduleItem>'
        "</module></modules></application>"
    ).encode()


@pytest.fixture
def museum() -> Iterator[SimulatedMuseum]:
    with SimulatedMuseum(objects=120) as running:
        yield running


@pytest.fixture
def visitor(museum: SimulatedMuseum) -> Iterator[Visitor]:
    found = Visitor(museum)
    with closing(found.http):
        yield found


# What it holds


def test_among_twenty_consecutive_objects_one_is_unsupported_and_one_not_valid() -> None:
    museum = Museum(200, seed=7)
    kinds = [
        Counter(museum.attachment(m).kind for m in museum.object(OBJECT + i).multimedia_ids) for i in range(museum.size)
    ]
    for start in range(museum.size - 20):
        window = kinds[start : start + 20]
        assert sum(k["psd"] for k in window) == 1
        assert sum(k["damaged_jpeg"] for k in window) == 1
        assert {sum(k.values()) for k in window} == {0, 1, 2, 3}


def test_the_same_seed_is_the_same_museum_and_another_is_not() -> None:
    def content(seed: int) -> list[object]:
        return [Museum(50, seed).object(OBJECT + i) for i in range(50)]

    assert content(3) == content(3)
    assert content(3) != content(4)


def test_some_objects_lack_dates_and_some_come_from_the_former_system() -> None:
    objects = [Museum(200, 1).object(OBJECT + i) for i in range(200)]
    assert 2 <= sum(o.created is None and o.modified is None for o in objects) <= 3
    old = [o for o in objects if o.created_user == MUSKETTI_USER and o.created]
    assert len(old) >= 3
    assert {(o.created.year, o.created.month) for o in old if o.created} == {(2018, 11)}
    assert {o.created.year for o in objects if o.created and o not in old} == {2019}
    assert any(o.activity_ids for o in objects)
    assert any(not o.title.isascii() for o in objects)


def test_a_million_objects_cost_nothing_until_asked_for() -> None:
    museum = Museum(1_000_000, 1)
    assert museum.objects_above(OBJECT + 9) == 999_990
    some = range(50_000_000, 50_000_000 + 300)
    assert museum.attachments_above(0) - museum.attachments_above(some[-1]) == sum(map(museum.has_attachment, some))


@pytest.mark.parametrize("kind", ["jpeg", "exif", "tiff", "damaged_jpeg", "psd"])
def test_pictures_open_and_no_two_files_are_alike(kind: museum_files.Kind) -> None:
    data = museum_files.content(kind, 50_000_001)
    assert data == museum_files.content(kind, 50_000_001) != museum_files.content(kind, 50_000_002)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (64, 48)


def test_photographs_are_jfif_and_some_exif() -> None:
    plain, exif = museum_files.content("jpeg", 1), museum_files.content("exif", 1)
    assert plain[:4] == exif[:4] == b"\xff\xd8\xff\xe0"
    assert plain[6:11] == exif[6:11] == b"JFIF\0"
    with Image.open(io.BytesIO(exif)) as image:
        assert image.getexif().get_ifd(0x8769)[0x9000] == b"0220"
    with Image.open(io.BytesIO(plain)) as image:
        assert not image.getexif()


def test_the_tiff_is_baseline_with_its_tags_in_order() -> None:
    data = museum_files.content("tiff", 1)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        assert page.tags["ImageWidth"].value == 64
        assert all(tag.valueoffset % 2 == 0 for tag in page.tags)
    codes = [int.from_bytes(data[10 + 12 * i : 12 + 12 * i], "little") for i in range(data[8])]
    assert codes == sorted(codes)


def test_only_one_restart_marker_is_wrong_in_the_damaged_photograph() -> None:
    data = museum_files.content("damaged_jpeg", 1)
    assert re.findall(rb"\xff([\xd0-\xd7])", data) == [b"\xd0", b"\xd4"]
    whole = data.replace(b"\xff\xd4", b"\xff\xd1")
    with Image.open(io.BytesIO(whole)) as image:
        image.load()


def test_text_and_xml_are_utf_8_without_dtd_and_schema_location() -> None:
    museum_files.content("text", 1).decode("utf-8")
    root = safe_xml.parse(museum_files.content("xml", 1), source="attachment")
    assert not any("schemaLocation" in str(name) for e in root.iter() for name in e.attrib)


# How it answers


def test_its_answers_follow_the_schemas(museum: SimulatedMuseum, visitor: Visitor) -> None:
    module = etree.XMLSchema(etree.parse(shared("museumplus-schemas/module_1_6.xsd")))
    session = etree.XMLSchema(etree.parse(shared("museumplus-schemas/session_1_0.xsd")))
    session.assertValid(safe_xml.parse(visitor.log_in().content, source="session"))
    museum.edit_object(OBJECT, fields={LOG_FIELD: "[]"}, activity_ids=[FIRST_ACTIVITY])
    museum.edit_object(OBJECT + 1, truncated=True)
    attachments = [m for o in museum.object_ids[:10] for m in museum.object(o).multimedia_ids]
    museum.set_attachment(attachments[0], filename="")
    paths = [
        *(f"/module/Object/{o}" for o in museum.object_ids),
        *(f"/module/Multimedia/{m}" for m in attachments),
        f"/module/CollectionActivity/{FIRST_ACTIVITY}",
    ]
    for path in paths:
        module.assertValid(safe_xml.parse(visitor.get(path).raise_for_status().content, source=path))
    body = SEARCH.format(module="Object", expert="", limit=-1, offset=0, direction="Ascending")
    answer = visitor.http.post(f"{museum.url}/module/Object/search", content=body)
    module.assertValid(safe_xml.parse(answer.content, source="search"))


def test_its_lido_is_valid_in_the_services_catalogue(museum: SimulatedMuseum, visitor: Visitor) -> None:
    catalog = shared("dps-schemas/schema_catalogs/schemas_external/lido/1.0/lido-v1.0.xsd")
    main = shared("dps-schemas/schema_catalogs/catalog_main.xml")
    answer = visitor.get(f"/module/Object/{OBJECT}/export/{LIDO_TEMPLATE}").content
    # The catalogue is read when libxml2 starts: a process of its own, so that no other test feels it.
    check = (
        "import sys; from lxml import etree; "
        "etree.XMLSchema(etree.parse(sys.argv[1])).assertValid(etree.fromstring(sys.stdin.buffer.read()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, str(catalog)],
        input=answer,
        env={**os.environ, "XML_CATALOG_FILES": main.as_uri()},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_an_object_is_about_seven_kilobytes(museum: SimulatedMuseum, visitor: Visitor) -> None:
    assert 6_000 < len(visitor.get(f"/module/Object/{OBJECT}").content) < 8_000


def test_without_a_good_session_nothing_is_told(museum: SimulatedMuseum, visitor: Visitor) -> None:
    museum.expire_sessions()
    assert visitor.get(f"/module/Object/{OBJECT}").status_code == 401
    visitor.http.auth = httpx.BasicAuth("user[passari]", "password[salasana]")
    assert visitor.get(f"/module/Object/{OBJECT}").status_code == 401
    assert httpx.get(f"{museum.url}/session", auth=("user[passari]", "password[arvaus]")).status_code == 401
    assert httpx.get(f"{museum.url}/session").status_code == 401


def test_a_session_is_over_when_idle() -> None:
    with SimulatedMuseum(objects=1) as museum:
        visitor = Visitor(museum)
        with closing(visitor.http):
            assert visitor.get(f"/module/Object/{OBJECT}").status_code == 200
            museum.session_idle = 0
            assert visitor.get(f"/module/Object/{OBJECT}").status_code == 401


def test_what_is_not_there_is_404(museum: SimulatedMuseum, visitor: Visitor) -> None:
    for path in (
        "/module/Object/1",
        f"/module/Object/{museum.object_ids[-1] + 1}",
        "/module/Multimedia/1/attachment",
        "/module/CollectionActivity/1",
        "/module/Person/1",
        f"/module/Object/{OBJECT}/export/1",
    ):
        assert visitor.get(path).status_code == 404, path


# Searches


def test_a_search_pages_by_key_and_by_offset(museum: SimulatedMuseum, visitor: Visitor) -> None:
    everything = list(museum.object_ids)
    assert visitor.search() == (everything, 120)
    assert visitor.search(limit=10, offset=30) == (everything[30:40], 120)
    assert visitor.search(limit=3, direction="Descending") == (everything[:-4:-1], 120)
    greater = f'<expert module="Object"><greater fieldPath="__id" operand="{everything[99]}"/></expert>'
    assert visitor.search(greater, limit=5) == (everything[100:105], 20)


def test_a_search_by_date_has_the_museums_present_state(museum: SimulatedMuseum, visitor: Visitor) -> None:
    undated = [o for o in museum.object_ids if museum.object(o).modified is None]
    assert undated
    # Without a namespace, as the original writes them.
    since = (
        '<expert xmlns="" module="Object"><or><greaterEquals fieldPath="__lastModified" operand="2020-01-01"/>'
        '<isNull fieldPath="__lastModified"/></or></expert>'
    )
    assert visitor.search(since) == (undated, len(undated))
    museum.edit_object(undated[0])
    museum.edit_object(OBJECT + 7)
    museum.delete_object(OBJECT + 8)
    added = museum.add_object(attachments=[("a.txt", b"a")])
    expected = sorted({*undated, OBJECT + 7, added})
    assert visitor.search(since) == (expected, len(expected))
    keyed = since.replace("<or>", f'<and><greater fieldPath="__id" operand="{OBJECT + 7}"/><or>').replace(
        "</or>", "</or></and>"
    )
    later = [o for o in expected if o > OBJECT + 7]
    assert visitor.search(keyed) == (later, len(later))
    assert visitor.search() == ([*(o for o in museum.object_ids if o != OBJECT + 8), added], 120)


def test_attachments_are_searched_too(museum: SimulatedMuseum, visitor: Visitor) -> None:
    expected = [m for o in museum.object_ids for m in museum.object(o).multimedia_ids]
    added = museum.object(museum.add_object(attachments=[("a.txt", b"a")])).multimedia_ids
    assert visitor.search(module="Multimedia") == ([*expected, *added], len(expected) + 1)


@pytest.mark.parametrize(
    "body", ["", "<a/>", SEARCH, "<!DOCTYPE a []><a/>", SEARCH.replace("{expert}", "<expert><contains/></expert>")]
)
def test_a_search_that_makes_no_sense_is_400(museum: SimulatedMuseum, visitor: Visitor, body: str) -> None:
    body = body.replace("{module}", "Object").replace("{limit}", "5").replace("{direction}", "Ascending")
    answer = visitor.http.post(f"{museum.url}/module/Object/search", content=body)
    assert answer.status_code == 400


# Changes


def test_a_written_field_is_kept_and_the_object_modified(museum: SimulatedMuseum, visitor: Visitor) -> None:
    before = museum.now()
    assert (
        visitor.put(f"/module/Object/{OBJECT}/{LOG_FIELD}", field_document(OBJECT, LOG_FIELD, "[]")).status_code == 204
    )
    assert museum.field(OBJECT, LOG_FIELD) == "[]"
    modified = museum.object(OBJECT).modified
    assert modified is not None
    assert modified >= before
    assert b">[]</value>" in visitor.get(f"/module/Object/{OBJECT}").content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a/>",
        field_document(OBJECT + 1, LOG_FIELD, "x"),
        field_document(OBJECT, "OtherClb", "x"),
        field_document(OBJECT, LOG_FIELD, "x")[:-3],
        b"<!DOCTYPE a []>" + field_document(OBJECT, LOG_FIELD, "x"),
    ],
)
def test_a_malformed_write_is_refused(museum: SimulatedMuseum, visitor: Visitor, body: bytes) -> None:
    assert visitor.put(f"/module/Object/{OBJECT}/{LOG_FIELD}", body).status_code == 400
    assert museum.field(OBJECT, LOG_FIELD) is None


def test_the_demo_edits_an_object(museum: SimulatedMuseum, visitor: Visitor) -> None:
    edit = museum.url.replace("/ria-ws/application", f"/simulation/objects/{OBJECT}/edit")
    assert httpx.post(edit, json={"title": "Uusi nimi"}).json() == {"id": OBJECT, "title": "Uusi nimi"}
    assert "Uusi nimi" in visitor.get(f"/module/Object/{OBJECT}").text
    assert httpx.post(edit).json()["title"].startswith("Muokattu")
    assert httpx.post(edit, content=b"[]").status_code == 400
    assert httpx.post(edit.replace(str(OBJECT), "1")).status_code == 404


def test_changes_outlive_a_restart(tmp_path: Path) -> None:
    with SimulatedMuseum(objects=20, data_dir=tmp_path / "new") as museum:
        museum.edit_object(OBJECT, title="Säilyy", fields={LOG_FIELD: "[]"})
        added = museum.add_object(attachments=[("a.bin", b"\0\1")])
        facts = museum.object(OBJECT), museum.object(added)
        before = [museum.attachment(m) for m in facts[1].multimedia_ids]
    with SimulatedMuseum(objects=20, data_dir=tmp_path / "new") as museum:
        assert (museum.object(OBJECT), museum.object(added)) == facts
        assert [museum.attachment(m) for m in facts[1].multimedia_ids] == before
        assert museum.attachment_content(before[0].id) == b"\0\1"
        assert museum.add_object() == added + 1
    with pytest.raises(ValueError, match="20 objects"):
        SimulatedMuseum(objects=21, data_dir=tmp_path / "new")


# Faults


def test_random_faults_are_the_same_with_the_same_seed(museum: SimulatedMuseum, visitor: Visitor) -> None:
    def statuses(seed: int) -> list[int]:
        museum.faults = Faults(error_rate=0.5, seed=seed)
        return [visitor.get(f"/module/Object/{OBJECT}").status_code for _ in range(30)]

    assert statuses(1) == statuses(1) != statuses(2)
    assert set(statuses(1)) == {200, 500}


def test_answers_are_cut_short_or_dropped(museum: SimulatedMuseum, visitor: Visitor) -> None:
    path = f"/module/Object/{OBJECT}"
    whole = visitor.get(path).content
    museum.faults.fail_next(path_contains=path, fault="short")
    assert visitor.get(path).content == whole[: len(whole) // 2]
    museum.faults.fail_next(path_contains=path, fault="cut")
    with pytest.raises(httpx.RemoteProtocolError, match=f"received {len(whole) // 2} bytes"):
        visitor.get(path)
    museum.faults.fail_next(path_contains=path, fault="drop")
    with pytest.raises(httpx.TransportError):
        visitor.get(path)
    museum.faults.fail_next(path_contains=path, status=418)
    assert visitor.get(path).status_code == 418
    museum.faults.slow_body = 0.1
    assert visitor.get(path).content == whole


@pytest.mark.parametrize("at", ["request", "answer"])
def test_a_request_is_held_before_or_after_it_is_done(museum: SimulatedMuseum, visitor: Visitor, at: str) -> None:
    hold = museum.hold(lambda r: r.method == "PUT", at="request" if at == "request" else "answer")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            visitor.put, f"/module/Object/{OBJECT}/{LOG_FIELD}", field_document(OBJECT, LOG_FIELD, "x")
        )
        assert hold.reached.wait(10)
        assert museum.field(OBJECT, LOG_FIELD) == (None if at == "request" else "x")
        assert not answer.done()
        hold.release()
        assert answer.result(10).status_code == 204


def test_as_a_process_it_says_where_it_is_and_ends_at_sigterm(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s4l4inen\n")
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "passari_dagster.simulation.museumplus",
            *("--objects", "5", "--username", "kissa", "--password-file", str(tmp_path / "password")),
            *("--data-dir", str(tmp_path), "--latency", "0.01", "--error-rate", "0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().strip()
            answer = httpx.get(f"{url}/session", auth=("user[kissa]", "password[s4l4inen]"), timeout=30)
            assert answer.status_code == 200
            child.send_signal(signal.SIGTERM)
            assert child.wait(20) == 0
        finally:
            child.kill()
