"""Whatever happens to us while we send, the DPS gets a package once; and what we lost here is made anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.workflow import preserve
from passari_dagster.workflow.cancel import cancel_package
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send
from passari_dagster_tests.workflow.stories import (
    JPEG,
    POINTS_OF_SUBMIT,
    Killed,
    Point,
    eligible_object,
    in_transfer,
    killed_at,
    name_of,
    package,
    quiet,
    received,
    wait_until,
)


def renames(house: House) -> int:
    return sum(request.startswith("rename") for request in house.dps.requests)


def end_well(house: House, env: Environment, object_id: int) -> None:
    """Launch the object again, and see that all is as if nothing had happened."""
    assert send(env, object_id).outcome in (Outcome.WAITING, Outcome.DONE)
    assert package(env, object_id).uploaded
    house.dps.paused = False
    house.dps.wait_for(name_of(env, object_id))
    assert confirm(env, object_id).outcome is Outcome.PRESERVED
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1
    assert in_transfer(house) == []
    assert renames(house) == 1
    assert len(house.museum.log_field(object_id)) == 1
    assert not any((house.directory / "packages").iterdir())


@pytest.mark.parametrize("paused", [False, True], ids=["picked up at once", "picked up late"])
@pytest.mark.parametrize("point", POINTS_OF_SUBMIT)
def test_killed_while_sending(house: House, env: Environment, point: Point, paused: bool) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.paused = paused
    with pytest.raises(Killed):
        send(killed_at(env, point), object_id)
    assert not package(env, object_id).uploaded
    assert (package(env, object_id).submission_date is not None) == (point in ("after the intent", "after the rename"))
    if point == "after the rename" and not paused:
        house.dps.wait_for(name_of(env, object_id))
    end_well(house, env, object_id)


@pytest.mark.parametrize("settings", [{}, {"rest": None}], ids=["REST tells that it is there", "nobody can tell"])
def test_killed_after_the_rename_while_the_dps_works_on_the_package_and_shows_it_nowhere(
    house: House, settings: dict[str, Any]
) -> None:
    house.dps.processing = 2
    with house.environment(dps=settings) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        with pytest.raises(Killed):
            send(killed_at(env, "after the rename"), object_id)
        wait_until(lambda: in_transfer(house) == [])
        assert house.dps.verdicts() == []
        end_well(house, env, object_id)


def test_the_line_breaks_in_the_middle_of_the_upload(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.faults.drop_after_bytes, house.dps.faults.drops = 16_000, 1
    with pytest.raises(TransientFailure, match=r"lost the connection to sftp://museum@127\.0\.0\.1"):
        send(env, object_id)
    assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"]
    end_well(house, env, object_id)


@pytest.mark.parametrize("reached", [False, True], ids=["rename lost", "rename done"])
def test_the_line_breaks_around_the_rename(house: House, env: Environment, reached: bool) -> None:
    """The answer to the rename never comes: we cannot know whether it was done."""
    house.dps.paused = True
    with house.environment(dps={"sftp": {**house.settings().dps.sftp.model_dump(), "timeout": 1}}) as impatient:
        object_id = eligible_object(house, impatient, ("kuva.jpg", JPEG))
        hold = house.dps.hold("rename-after" if reached else "rename-before")
        with pytest.raises(TransientFailure, match="no answer in time"):
            send(impatient, object_id)
    assert hold.reached.is_set()
    assert in_transfer(house) == [name_of(env, object_id) + ("" if reached else ".incomplete")]
    hold.release()  # a rename that was not done may still be done, behind our back
    assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.paused = False
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1
    assert in_transfer(house) == []


def test_what_may_have_been_sent_and_is_nowhere_is_never_sent_again(house: House) -> None:
    with house.environment(dps={"rest": None}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        with pytest.raises(Killed):
            send(killed_at(env, "after the intent"), object_id)
        (house.dps.home / "transfer" / f"{name_of(env, object_id)}.incomplete").unlink()
        log: list[str] = []
        assert send(env, object_id, log).outcome is Outcome.WAITING
        assert any("is nowhere: it counts as sent" in line for line in log)
        assert package(env, object_id).uploaded
        assert send(env, object_id).outcome is Outcome.WAITING
        assert received(house) == []
        assert in_transfer(house) == []


def test_an_object_frozen_after_its_intent_is_watched_all_the_same(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, "after the rename"), object_id)
    with env.transaction() as session:
        row = session.merge(object_row(env, object_id))
        row.frozen, row.freeze_reason = True, "In restoration"
    end_well(house, env, object_id)


def test_a_tar_that_was_changed_on_disk_is_not_sent_and_is_made_anew(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    tar = house.directory / "packages" / str(object_id) / name_of(env, object_id)
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 0xFF
    tar.write_bytes(data)
    with pytest.raises(PermanentFailure, match=rf"not the file that was made: launch object {object_id} again"):
        preserve.submit_sip(env, object_id, quiet)
    assert received(house) == []
    assert in_transfer(house) == []
    end_well(house, env, object_id)


@pytest.mark.parametrize("lost", ["everything", "the tar", "what was downloaded"])
@pytest.mark.parametrize("steps", [1, 2])
def test_files_that_are_lost_between_two_steps_are_made_anew(
    house: House, env: Environment, lost: str, steps: int
) -> None:
    """As when the run goes on on a host that does not have them."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    for step in (preserve.download_object, preserve.create_sip)[:steps]:
        step(env, object_id, quiet)
    directory = house.directory / "packages" / str(object_id)
    lose(directory, lost, name_of(env, object_id))
    end_well(house, env, object_id)


@pytest.mark.parametrize("point", POINTS_OF_SUBMIT)
def test_files_that_are_lost_while_sending_are_made_anew_or_not_needed(
    house: House, env: Environment, point: Point
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, point), object_id)
    lose(house.directory / "packages" / str(object_id), "everything", "")
    # The museum goes on meanwhile; the package keeps its name, of which a part may lie at the DPS.
    if point in ("before the upload", "before the intent"):
        house.museum.edit_object(object_id, title="Kirves")
    end_well(house, env, object_id)


def lose(directory: Path, what: str, tar: str) -> None:
    if what == "everything":
        shutil.rmtree(directory)
    elif what == "the tar":
        (directory / tar).unlink(missing_ok=True)
    else:
        shutil.rmtree(directory / "sip")


def test_submit_alone_on_a_host_without_the_tar_says_what_to_do(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    shutil.rmtree(house.directory / "packages")
    with pytest.raises(PermanentFailure, match=rf"is gone, .* launch object {object_id} again"):
        preserve.submit_sip(env, object_id, quiet)
    end_well(house, env, object_id)


def test_steps_launched_again_do_nothing_twice(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.paused = True
    for step in (preserve.download_object, preserve.create_sip, preserve.submit_sip):
        first = step(env, object_id, quiet)
        seen = len(house.museum.requests)
        assert step(env, object_id, quiet).outcome is first.outcome
        assert len(house.museum.requests) == seen
    assert package(env, object_id).confirm_attempts == 0
    end_well(house, env, object_id)


# What lies at the DPS is a part only


def damage_what_was_sent(house: House, env: Environment, object_id: int) -> Path:
    """The intent is recorded, and of the package no more than a part is left at the DPS."""
    with pytest.raises(Killed):
        send(killed_at(env, "after the intent"), object_id)
    part = house.dps.home / "transfer" / f"{name_of(env, object_id)}.incomplete"
    part.write_bytes(part.read_bytes()[:1000])
    return part


def test_a_part_left_after_the_intent_is_sent_again(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    damage_what_was_sent(house, env, object_id)
    end_well(house, env, object_id)


@pytest.mark.parametrize("lost", ["the tar", "everything"])
def test_if_the_tar_is_gone_as_well_a_person_is_told_the_way_out_and_it_is_one(
    house: House, env: Environment, lost: str
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    part = damage_what_was_sent(house, env, object_id)
    lose(house.directory / "packages" / str(object_id), lost, name_of(env, object_id))
    for _ in range(2):
        with pytest.raises(PermanentFailure, match=f"`passari-dagster cancel {object_id}`"):
            send(env, object_id)
    cancel_package(env, object_id, quiet)
    assert not part.exists()
    preserve_under_a_new_name(house, env, object_id)


def preserve_under_a_new_name(house: House, env: Environment, object_id: int) -> None:
    send(env, object_id)
    first, second = package_rows(env, object_id)
    assert first.sip_filename != second.sip_filename
    house.dps.wait_for(str(second.sip_filename))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1
    assert in_transfer(house) == []


def made_by_passari_workflow(house: House, env: Environment, object_id: int) -> Path:
    """A package as the migration finds and leaves it: made, not said to have been sent, its size not known."""
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    with env.transaction() as session:
        row = session.merge(package(env, object_id))
        row.submission_date, row.sip_size, row.sip_sha256 = row.created_date, None, None
    return house.directory / "packages" / str(object_id) / name_of(env, object_id)


@pytest.mark.parametrize("tar_is_there", [True, False])
def test_what_passari_workflow_sent_in_part_is_left_to_a_person_and_its_tar_is_left_alone(
    house: House, env: Environment, tar_is_there: bool
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    tar = made_by_passari_workflow(house, env, object_id)
    (house.dps.home / "transfer" / f"{tar.name}.incomplete").write_bytes(tar.read_bytes()[:1000])
    if not tar_is_there:
        tar.unlink()
    for _ in range(2):
        with pytest.raises(PermanentFailure, match=f"`passari-dagster cancel {object_id}`"):
            send(env, object_id)
    assert tar.exists() == tar_is_there
    cancel_package(env, object_id, quiet)
    preserve_under_a_new_name(house, env, object_id)


def test_the_tar_that_passari_workflow_made_stays_while_its_package_is_watched(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    tar = made_by_passari_workflow(house, env, object_id)
    assert send(env, object_id).outcome is Outcome.WAITING
    assert tar.exists(), "it is nowhere at the DPS: this may be all that there is"
