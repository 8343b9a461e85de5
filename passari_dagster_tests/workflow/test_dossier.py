"""The dossier of an object tells all that is known of it, and obeys nothing that comes from outside."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from passari_dagster.catalogue import audit
from passari_dagster.catalogue.audit import Actor
from passari_dagster.errors import PermanentFailure
from passari_dagster.simulation.museum_files import content
from passari_dagster.sip.workspace import archive_path
from passari_dagster.workflow import dossier_words, step_times
from passari_dagster.workflow.dossier import Dossier, as_json, dossier
from passari_dagster.workflow.dossier_html import html
from passari_dagster.workflow.dossier_markdown import MAX_CHARACTERS, markdown
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, package_rows, send, synchronise_all
from passari_dagster_tests.screenshots import CHROMIUM, DRIVER, chromium
from passari_dagster_tests.workflow.stories import JPEG, PSD, TEXT, eligible_object, old_object

SCRIPT = "<script>document.title='owned'</script>"


@pytest.fixture
def env(house: House) -> Iterator[Environment]:
    with house.environment(workflow={"update_delay": timedelta(0)}) as env:
        yield env


def preserve_it(house: House, env: Environment, object_id: int) -> str:
    assert send(env, object_id).outcome is Outcome.WAITING
    name = str(package_rows(env, object_id)[-1].sip_filename)
    status = house.dps.wait_for(name).status
    assert confirm(env, object_id).outcome is (Outcome.REJECTED if status == "rejected" else Outcome.PRESERVED)
    return status


def parsed(page: str) -> etree._Element:
    root = etree.fromstring(page.encode(), etree.HTMLParser())
    assert root is not None
    return root


def rows(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    return dict(pairs)


def test_two_packages_their_steps_reports_and_what_changed(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("old.txt", TEXT))
    house.dps.damage_next()
    assert preserve_it(house, env, object_id) == "rejected"
    first, second = house.museum.object(object_id).multimedia_ids
    house.museum.edit_object(object_id, title=f"Kirves {SCRIPT}|`*")
    synchronise_all(env)
    assert preserve_it(house, env, object_id) == "accepted"
    with env.transaction() as session:
        audit.record(session, Actor("maija"), "freeze_objects", now=env.now(), reason="lent", object_ids=[object_id])

    made = dossier(env, object_id)
    one, two = made.packages
    assert (one.facts.state, two.facts.state) == ("rejected", "preserved")
    assert made.history.attachments.first == ((first, "kuva.jpg"), (second, "old.txt"))
    assert one.facts.changes is None
    assert one.changed_files is None
    changes = two.facts.changes
    assert changes is not None
    assert (changes.metadata, changes.attachment_metadata) == (True, False)
    assert (changes.came.number, changes.went.number, changes.changed.number) == (0, 0, 0)
    assert two.changed_files == ()
    assert two.downloaded_size == len(JPEG) + len(TEXT)
    assert [step.step for step in two.steps] == list(step_times.STEPS)
    assert all(step.attempts == 1 and step.last_attempts[0].took >= timedelta() for step in two.steps)
    assert two.steps[0].last_attempts[0].last == "downloaded, 2 attachments"
    assert [report.path.name.split("-ingest-report.")[1] for report in two.reports] == ["html.gz", "xml.gz"]
    assert one.reports[1].events[0].outcome == "failure"
    assert two.reports[1].events[0].outcome == "success"
    assert two.facts.transfer_id is not None
    (event,) = made.events
    assert (event.who, event.reason) == ("maija", "lent")

    page = markdown(made)
    assert f"(/runs?view=runs&q%5B0%5D=tag%3Adagster%2Fpartition%3D{object_id})" in page
    assert "<script" not in page.replace("\\<script", "")
    assert "| create\\_sip | 1 of 1 |" in page
    assert "maija" in page
    root = parsed(html(made, "http://ui"))
    assert not root.xpath("//script")
    frames = root.xpath("//iframe")
    assert isinstance(frames, list)
    assert [frame.get("sandbox") for frame in frames] == [""] * 2
    assert "accepted" in str(frames[0].get("srcdoc"))
    assert root.xpath(f"//a[@href='http://ui{made.runs_page}']")
    assert json.loads(json.dumps(as_json(made), default=str))["packages"][1]["steps"][0]["attempts"] == 1


def test_attachments_that_came_went_and_changed(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("a.jpg", JPEG), ("b.txt", TEXT))
    preserve_it(house, env, object_id)
    first, second = house.museum.object(object_id).multimedia_ids
    (third,) = house.museum.object(old_object(house, ("c.txt", TEXT))).multimedia_ids
    house.museum.edit_object(object_id, multimedia_ids=[first, third])
    house.museum.set_attachment(first, content=content("jpeg", 2))
    synchronise_all(env)
    preserve_it(house, env, object_id)
    package = dossier(env, object_id).packages[1]
    changes = package.facts.changes
    assert changes is not None
    assert package.changed_files == (first,)
    assert changes.came.first == ((third, "c.txt"),)
    assert changes.went.first == ((second, "b.txt"),)
    assert changes.changed.first == ((first, "a.jpg"),)


def test_a_frozen_object_that_was_never_packaged_whole(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.psd", PSD))
    assert send(env, object_id).outcome is Outcome.FROZEN
    made = dossier(env, object_id)
    (package,) = made.packages
    assert package.facts.state == "cancelled"
    download, step = dossier_words.steps(package, made.time_zone)
    assert download.ended == "downloaded, 1 attachments"
    assert step.step == "create_sip"
    assert "Unsupported file format" in step.ended
    assert "frozen" in rows(dossier_words.facts(made))
    assert "Unsupported file format" in markdown(made)
    assert parsed(html(made)).xpath("//span[@class='state frozen']")


def test_attempts_are_told_each_and_of_this_package_only(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.faults.fail_next(3, path_contains=f"/Object/{object_id}")
    with pytest.raises(Exception, match="attempts"):
        send(env, object_id)
    log = env.settings.package_dir / str(object_id) / "logs" / "download-object.log"
    told = log.read_text()
    send(env, object_id)
    log.write_text("2020-01-01T00:00:00.000+00:00 --- download-object 20200101_Object_1-x.tar\n" + log.read_text())
    (package,) = dossier(env, object_id).packages
    first, second = package.steps[0].last_attempts
    assert (first.number, second.number) == (1, 2)
    assert "attempts" in first.failure
    assert second.failure == ""
    assert told in log.read_text()


def test_reports_from_outside_are_text_and_broken_ones_are_told(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve_it(house, env, object_id)
    name = str(package_rows(env, object_id)[0].sip_filename)
    logs = archive_path(env.settings.archive_dir, object_id, name) / "logs"
    page, report = sorted(logs.glob("*-ingest-report.*"))
    page.write_bytes(gzip.compress(f'"></iframe>{SCRIPT}<p>&amp; rejected'.encode()))
    report.write_bytes(gzip.compress(b"<!DOCTYPE a><a>"))
    (logs / "create-sip.log.gz").write_bytes(gzip.compress(f"no time: {SCRIPT} ``` ![x](http://x) \x1b[31m\n".encode()))
    (logs / "odd.log.gz").write_bytes(gzip.compress(b"```` \n</pre>" + SCRIPT.encode()))
    made = dossier(env, object_id)
    (package,) = made.packages
    assert "not well-formed" in package.reports[1].fault or "document type" in package.reports[1].fault
    root = parsed(html(made))
    assert not root.xpath("//script")
    (frame,) = root.xpath("//iframe")
    assert SCRIPT in str(frame.get("srcdoc"))
    text = markdown(made)
    assert "\x1b" not in text
    assert "`````text" in text
    create = next(step for step in package.steps if step.step == "create-sip")
    assert create.attempts == 0
    assert dossier_words.NOT_KNOWN in [step.took for step in dossier_words.steps(package, "UTC")]

    page.write_bytes(b"no gzip")
    assert "cannot be read" in dossier(env, object_id).packages[0].reports[0].fault
    (logs / "odd.log.gz").write_bytes(b"no gzip")
    assert "odd" not in dossier(env, object_id).packages[0].fault
    assert "logs cannot be read" in dossier(env, object_id).packages[0].fault

    whole = gzip.compress(b"kirves on l\xc3\xb6ytynyt\n" * 40)
    for path, place in ((page, 12), (logs / "odd.log.gz", 12)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    (package,) = dossier(env, object_id).packages
    assert "logs cannot be read" in package.fault
    (logs / "odd.log.gz").unlink()
    assert "cannot be read" in dossier(env, object_id).packages[0].reports[0].fault


def test_the_page_has_an_end_whatever_there_is(house: House, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve_it(house, env, object_id)
    monkeypatch.setattr("passari_dagster.workflow.dossier.MAX_REPORT", 10)
    made = dossier(env, object_id)
    assert {report.fault for report in made.packages[0].reports} == {"it is too large to be shown here"}
    many = [*made.packages] * 500
    text = markdown(Dossier(**{**vars(made), "packages": tuple(many)}))
    assert len(text) < MAX_CHARACTERS + 1000
    assert "older packages are not shown here" in text


def test_an_object_that_is_not_known_is_named(env: Environment) -> None:
    with pytest.raises(PermanentFailure, match="object 404 is not in the database"):
        dossier(env, 404)


@pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason="no Chromium installed")
def test_a_hostile_report_does_nothing_in_a_browser(house: House, env: Environment, tmp_path: Path) -> None:
    """No script runs, nothing is asked of anybody, and the frame stays what it is."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve_it(house, env, object_id)
    name = str(package_rows(env, object_id)[0].sip_filename)
    logs = archive_path(env.settings.archive_dir, object_id, name) / "logs"
    (page,) = logs.glob("*-ingest-report.html.gz")
    spy = f"{house.museum.url}/spy"
    page.write_bytes(
        gzip.compress(
            f'<meta http-equiv="refresh" content="0; url={spy}-refresh"><base target="_top">'
            f'<link rel="stylesheet" href="{spy}-style">{SCRIPT}<script>top.document.title="owned"</script>'
            f'<img src="{spy}-image" onerror="top.document.title=\'owned\'"><iframe src="{spy}-frame"></iframe>'
            f"<body onload=\"parent.document.title='owned'\">rejected by the judge".encode()
        )
    )
    path = tmp_path / "dossier.html"
    path.write_text(html(dossier(env, object_id)), encoding="utf-8")
    with chromium() as driver:
        driver.get(path.as_uri())
        frame = driver.find_element("tag name", "iframe")
        driver.execute_script("arguments[0].scrollIntoView()", frame)
        time.sleep(2)
        assert driver.title == f"Object {object_id} Lisätty esine"
        driver.switch_to.frame(0)
        assert "rejected by the judge" in driver.find_element("tag name", "body").text
    assert not [seen for seen in house.museum.requests if "spy" in seen.path]
