"""What was downloaded is what is packaged, and what was sent is watched, whoever dies in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import poll, preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, send
from passari_dagster_tests.workflow.stories import (
    JPEG,
    TEXT,
    Killed,
    eligible_object,
    killed_at,
    name_of,
    package,
    quiet,
    received,
)


@pytest.mark.parametrize("damage", ["gone", "flipped", "shorter", "new"])
def test_a_file_that_is_not_what_was_downloaded_is_not_packaged_and_is_downloaded_anew(
    house: House, env: Environment, damage: str
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("kuvaus.txt", TEXT))
    assert preserve.download_object(env, object_id, quiet).proceeds
    (file,) = Workspace(env.settings.package_dir, object_id).attachments.rglob("kuvaus.txt")
    if damage == "gone":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(bytes([TEXT[0] ^ 1]) + TEXT[1:])
    elif damage == "shorter":
        file.write_bytes(TEXT[:-1])
    else:
        file.with_name("muu.txt").write_bytes(b"Kuka minut teki?\n")
    with pytest.raises(PermanentFailure, match=r"download|not described"):
        preserve.create_sip(env, object_id, quiet)
    assert not object_row(env, object_id).frozen

    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1


@pytest.mark.parametrize("damage", ["gone", "emptied"])
@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("sip/attachments/*/Multimedia.xml", r"attachments/\d+/Multimedia\.xml"),
        ("sip/reports/Object.xml", r"reports/Object\.xml"),
        ("sip/reports/lido.xml", r"reports/lido\.xml"),
        ("manifest.json", r"manifest\.json"),
    ],
)
def test_a_document_that_is_lost_or_damaged_is_named_and_the_next_launch_downloads_anew(
    house: House, env: Environment, lost: str, named: str, damage: str
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    (file,) = Workspace(env.settings.package_dir, object_id).root.glob(lost)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"")
    with pytest.raises(PermanentFailure, match=rf"object {object_id}.*{named}"):
        preserve.create_sip(env, object_id, quiet)
    assert not object_row(env, object_id).frozen

    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1


def test_a_tool_that_is_missing_costs_no_new_download(house: House) -> None:
    """The files are what they were; when the tool is there, they are packaged."""
    tools = {"tools": {"jhove": str(house.directory / "no-jhove")}}
    with house.environment(sip=tools) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        preserve.download_object(env, object_id, quiet)
        with pytest.raises(PermanentFailure, match=r"^JHOVE .* has no verdict"):
            preserve.create_sip(env, object_id, quiet)
    with house.environment() as env:
        assert "was downloaded already" in preserve.download_object(env, object_id, quiet).message
        assert preserve.create_sip(env, object_id, quiet).proceeds
    assert house.museum.count("/attachment") == 1


def test_a_file_kept_from_a_cut_attempt_is_fetched_again_if_the_disk_changed_it(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("kuvaus.txt", TEXT))
    preserve.download_object(env, object_id, quiet)
    workspace = Workspace(env.settings.package_dir, object_id)
    (file,) = workspace.attachments.rglob("kuvaus.txt")
    file.write_bytes(TEXT[:-1])
    (workspace.reports / "Object.xml").unlink()  # the download was not complete
    fetched = house.museum.count("/attachment")
    assert preserve.download_object(env, object_id, quiet).proceeds
    assert file.read_bytes() == TEXT
    assert house.museum.count("/attachment") == fetched + 1, "the other file was kept"


def test_an_object_that_is_edited_while_it_is_downloaded_is_downloaded_again(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    hold = house.museum.hold(lambda request: request.path.endswith("/attachment"))
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(preserve.download_object, env, object_id, quiet)
        assert hold.reached.wait(20)
        house.museum.edit_object(object_id, title="Kirves, korjattu")
        hold.release()
        with pytest.raises(TransientFailure, match=f"object {object_id} was changed in MuseumPlus"):
            download.result()
    assert preserve.download_object(env, object_id, quiet).proceeds
    document = Workspace(env.settings.package_dir, object_id).reports / "Object.xml"
    assert "korjattu" in document.read_text(encoding="utf-8")


def test_a_package_that_may_have_been_sent_is_watched_even_if_nobody_launches_it_again(
    house: House, env: Environment
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, "after the rename"), object_id)
    house.dps.wait_for(name_of(env, object_id))
    assert not package(env, object_id).uploaded
    assert poll.record_verdicts(env, quiet) == 1
    assert poll.due_confirmations(env) == {package(env, object_id).id: object_id}
    assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.PRESERVED
    assert object_row(env, object_id).preserved
    assert package(env, object_id).uploaded


def test_an_object_that_left_museumplus_meanwhile_is_confirmed_all_the_same(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    house.museum.delete_object(object_id)
    log: list[str] = []
    assert confirm(env, object_id, log).outcome is Outcome.PRESERVED
    assert object_row(env, object_id).preserved
    assert any("no such object any more" in line for line in log)
