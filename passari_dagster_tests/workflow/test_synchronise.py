"""The museum's catalogue comes into the database whole, whatever happens on the way."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject
from passari_dagster.errors import TransientFailure
from passari_dagster.locks import LockBusyError
from passari_dagster.workflow import synchronise
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.house import House, object_row, synchronise_all
from passari_dagster_tests.workflow.stories import JPEG, Killed, old_object

SMALL_PAGES = {"page_size": 2}


def quiet(line: str) -> None:
    """A log that nobody reads."""


def known(env: Environment) -> tuple[int, int, int]:
    """Objects, objects read whole with their attachments, attachments read."""
    with env.transaction() as session:
        return (
            session.scalar(select(func.count(MuseumObject.metadata_hash))) or 0,
            session.scalar(select(func.count(MuseumObject.attachment_metadata_hash))) or 0,
            session.scalar(select(func.count(MuseumAttachment.metadata_hash))) or 0,
        )


def test_everything_the_first_time_and_changes_afterwards(house: House) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(4)]
    lines: list[str] = []
    with house.environment(museumplus=SMALL_PAGES) as env:
        first = synchronise.sync_objects(env, lines.append)
        assert (first.items, first.new, first.since) == (7, 7, None)
        assert any("reading everything" in line for line in lines)
        progress = [line for line in lines if "of 7" in line]
        assert [line.split(",")[0] for line in progress] == [f"sync_objects: {done} of 7" for done in (2, 4, 6, 7)]
        assert all("/s" in line and "left" in line for line in progress)
        attachments = synchronise.sync_attachments(env, quiet).items
        assert synchronise.sync_hashes(env, quiet).new == 7
        assert known(env) == (7, 7, attachments)

        house.museum.edit_object(ids[2], title="Kirves")
        again = synchronise.sync_objects(env, quiet)
        assert (again.items, again.new) == (1, 0)
        assert again.since is not None
        assert object_row(env, ids[2]).title == "Kirves"
        assert synchronise.sync_attachments(env, quiet).items == 0
        assert synchronise.sync_hashes(env, quiet).new == 0


@pytest.mark.parametrize("hours", [-5, 5])
def test_changes_are_asked_for_by_the_clock_of_museumplus(house: House, env: Environment, hours: int) -> None:
    house.museum.clock_offset = hours * 3600
    object_id = old_object(house)
    synchronise_all(env)
    house.museum.edit_object(object_id, title="Kirves")
    again = synchronise.sync_objects(env, quiet)
    assert (again.items, again.new) == (1, 0)
    assert again.since is not None
    assert abs(again.since + synchronise.OVERLAP - house.museum.now()) < timedelta(minutes=1)
    assert object_row(env, object_id).title == "Kirves"


def test_passing_failures_are_not_seen(house: House, env: Environment) -> None:
    for fault in ("error", "cut", "drop"):
        house.museum.faults.fail_next(1, path_contains="/Object/search", fault=fault)
        house.museum.faults.fail_next(1, path_contains="/Multimedia/search", fault=fault)
    with house.environment(museumplus={"retries": 3}) as patient:
        synchronise_all(patient)
    assert known(env)[:2] == (3, 3)


@pytest.mark.parametrize("how", ["killed", "museumplus fails"])
def test_a_sync_that_ended_in_the_middle_is_run_again_and_is_whole(house: House, how: str) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(4)]

    def end(line: str) -> None:
        if ": 2 of" in line:
            if how == "killed":
                raise Killed
            house.museum.faults.fail_next(3, path_contains="/search")

    with house.environment(museumplus=SMALL_PAGES) as env:
        for sync in (synchronise.sync_objects, synchronise.sync_attachments):
            with pytest.raises((Killed, TransientFailure)):
                sync(env, end)
        # What changed and what came since must not be lost between the two.
        house.museum.edit_object(1_000_000, title="Kirves")
        house.museum.delete_object(ids[0])
        old_object(house)
        synchronise_all(env)
        assert known(env)[0] == 7
        assert object_row(env, 1_000_000).title == "Kirves"


def test_a_sync_that_fails_after_an_earlier_one_still_reads_what_it_missed(house: House, env: Environment) -> None:
    object_id = old_object(house)
    synchronise_all(env)
    house.museum.edit_object(object_id, title="Kirves")
    house.museum.faults.fail_next(3, path_contains="/search")
    with pytest.raises(TransientFailure, match=r"POST /module/Object/search: HTTP 500 \(3 attempts\)"):
        synchronise.sync_objects(env, quiet)
    assert synchronise.sync_objects(env, quiet).items == 1
    assert object_row(env, object_id).title == "Kirves"


def test_two_scrapes_never_run_at_once(house: House, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = house.museum.hold(lambda request: request.path.endswith("/Object/search"))
    first = threading.Thread(target=synchronise.sync_objects, args=(env, quiet))
    first.start()
    try:
        assert hold.reached.wait(20)
        with monkeypatch.context() as patch:
            patch.setattr(synchronise, "LOCK_WAIT", 0.2)
            with pytest.raises(LockBusyError, match="'museumplus-sync' is held by another process"):
                synchronise.sync_attachments(env, quiet)
        assert house.museum.count("/Multimedia/search") == 0
        second = threading.Thread(target=synchronise.sync_attachments, args=(env, quiet))
        second.start()
    finally:
        hold.release()
        first.join(20)
    second.join(20)
    assert known(env)[0] == 3
    assert known(env)[2] > 0
