"""The museum's catalogue comes into the database whole, whatever happens on the way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from passari_dagster import stopping
from passari_dagster.catalogue import eligibility
from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.locks import LockBusyError
from passari_dagster.workflow import scrape, synchronise
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.hashes import sync_hashes
from passari_dagster_tests.house import House, object_row, synchronise_all
from passari_dagster_tests.workflow.stories import JPEG, LONG_AGO, old_object, quiet

SMALL_PAGES = {"page_size": 2}
EMPTY_PAGE = (
    b'<application xmlns="http://www.zetcom.com/ria/ws/module"><modules><module name="Object" totalSize="0"/></modules>'
    b"</application>"
)


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
        assert sync_hashes(env, quiet).new == 7
        assert known(env) == (7, 7, attachments)

        house.museum.edit_object(ids[2], title="Kirves")
        again = synchronise.sync_objects(env, quiet)
        assert (again.items, again.new) == (1, 0)
        assert again.since is not None
        assert object_row(env, ids[2]).title == "Kirves"
        assert synchronise.sync_attachments(env, quiet).items == 0
        assert sync_hashes(env, quiet).new == 0


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


def test_a_sync_that_fails_after_an_earlier_one_still_reads_what_it_missed(house: House, env: Environment) -> None:
    object_id = old_object(house)
    synchronise_all(env)
    house.museum.edit_object(object_id, title="Kirves")
    house.museum.faults.fail_next(3, path_contains="/search")
    with pytest.raises(TransientFailure, match=r"POST /module/Object/search: HTTP 500 \(3 attempts\)"):
        synchronise.sync_objects(env, quiet)
    assert synchronise.sync_objects(env, quiet).items == 1
    assert object_row(env, object_id).title == "Kirves"


def test_a_museumplus_that_is_away_for_minutes_is_waited_for(house: House) -> None:
    old_object(house)
    with house.environment(museumplus={"retries": 0}) as env:
        house.museum.faults.fail_next(3, path_contains="/search")
        lines: list[str] = []
        result = synchronise.sync_objects(env, lines.append, patience=(0.01, 0.01, 0.01))
        assert (result.new, result.partial) == (4, False)
        assert len([line for line in lines if "tried again in 0.01 s" in line]) == 3
        house.museum.faults.fail_next(3, path_contains="/search")
        with pytest.raises(TransientFailure):
            synchronise.sync_objects(env, quiet, patience=(0.01,))


def test_a_scan_that_has_ended_is_not_begun_again_by_a_later_try(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronise_all(env)
    tries = iter([TransientFailure("away"), None])

    def read_unknown(_: object) -> None:
        if error := next(tries):
            raise error

    monkeypatch.setattr(scrape.Scraper, "read_unknown", read_unknown)
    lines: list[str] = []
    synchronise.sync_objects(env, lines.append, synchronise.Options(full=True), patience=(0.01,))
    assert len([line for line in lines if line.startswith("sync_objects: reading everything")]) == 1


@pytest.mark.parametrize("why", ["asked", "window"])
def test_a_sync_that_waits_ends_well_when_it_is_to_stop(
    house: House, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house.environment(museumplus={"retries": 0}) as env:
        house.museum.faults.fail_next(1000, path_contains="/search")
        if why == "asked":
            monkeypatch.setattr(stopping, "is_asked", lambda: True)
        else:
            monkeypatch.setattr(type(env.settings.workflow), "sync_end", lambda _self, now: now - timedelta(seconds=1))
        assert synchronise.sync_objects(env, quiet, patience=(600,)).partial


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


# What could not be read


def forbid(house: House, object_id: int, *, forbidden: bool = True) -> None:
    """The MuseumPlus user may not read an object, or may again; to MuseumPlus that is no change of the object."""
    house.museum.edit_object(object_id, truncated=forbidden, modified=house.museum.object(object_id).modified)


def why_not(env: Environment, object_id: int) -> str | None:
    with env.transaction() as session:
        return eligibility.why_not(session, object_id, now=env.now(), delays=env.delays)


def test_an_object_that_could_not_be_read_is_seen_and_is_read_once_the_permission_is_granted(
    house: House, env: Environment
) -> None:
    object_id = old_object(house, ("kuva.jpg", JPEG))
    forbid(house, object_id)
    lines: list[str] = []
    for new in (4, 0):  # the first time among all objects, afterwards by its id
        lines.clear()
        result = synchronise.sync_objects(env, lines.append)
        assert (result.new, result.unreadable) == (new, 1)
        (line,) = [line for line in lines if "read permission on module Object" in line]
        assert str(object_id) in line
    synchronise_all(env)
    assert why_not(env, object_id) == "metadata hash not known yet (run sync_objects)"

    forbid(house, object_id, forbidden=False)
    result = synchronise.sync_objects(env, quiet)
    assert (result.items, result.unreadable) == (1, 0)
    synchronise_all(env)
    assert why_not(env, object_id) is None
    # The hash is the one that anybody finds who reads all anew: no change is seen where there is none.
    found = object_row(env, object_id).metadata_hash
    house.museum.edit_object(object_id, modified=house.museum.now())
    synchronise_all(env)
    assert object_row(env, object_id).metadata_hash == found is not None


def test_a_user_without_read_permission_does_not_make_all_objects_look_changed(house: House, env: Environment) -> None:
    synchronise_all(env)
    ids = [*(old_object(house) for _ in range(12)), *house.museum.object_ids]
    for object_id in ids:
        forbid(house, object_id)
    with pytest.raises(PermanentFailure, match="read permission"):
        synchronise.sync_objects(env, quiet, synchronise.Options(full=True))
    assert object_row(env, house.museum.object_ids[0]).metadata_hash is not None


def test_a_page_of_objects_that_may_not_be_read_stops_no_sync(house: House, env: Environment) -> None:
    """Restricted ones with neighbouring ids."""
    synchronise_all(env)
    ids = [old_object(house) for _ in range(12)]
    for object_id in ids:
        forbid(house, object_id)
    result = synchronise.sync_objects(env, quiet, synchronise.Options(full=True))
    assert (result.unreadable, result.partial) == (12, False)
    assert object_row(env, ids[0]).metadata_hash is None


def test_an_object_without_attachments_is_eligible_as_soon_as_it_may_be_read(house: House, env: Environment) -> None:
    synchronise_all(env)
    object_id = old_object(house)
    forbid(house, object_id)
    synchronise.sync_objects(env, quiet, synchronise.Options(full=True))
    forbid(house, object_id, forbidden=False)
    synchronise_all(env)
    assert why_not(env, object_id) is None


def test_an_object_that_comes_back_and_may_not_be_read_is_not_removed(house: House, env: Environment) -> None:
    object_id = old_object(house)
    synchronise_all(env)
    facts = house.museum.object(object_id)
    house.museum.delete_object(object_id)
    synchronise.sync_objects(env, quiet, synchronise.Options(full=True))
    assert object_row(env, object_id).removed_date is not None
    house.museum.restore_object(facts)
    forbid(house, object_id)
    synchronise.sync_objects(env, quiet, synchronise.Options(full=True))
    assert object_row(env, object_id).removed_date is None
    forbid(house, object_id, forbidden=False)
    synchronise_all(env)
    assert why_not(env, object_id) is None


def test_a_change_that_could_not_be_read_is_read_later(house: House, env: Environment) -> None:
    object_id = old_object(house)
    synchronise_all(env)
    before = object_row(env, object_id).metadata_hash
    house.museum.edit_object(object_id, title="Kirves", truncated=True)
    synchronise_all(env)
    assert object_row(env, object_id).metadata_hash is None, "the old one is not true any more"
    house.museum.edit_object(object_id, truncated=False, modified=LONG_AGO)
    synchronise_all(env)
    assert object_row(env, object_id).metadata_hash not in (None, before)
    assert object_row(env, object_id).title == "Kirves"


def test_an_old_attachment_that_an_object_names_for_the_first_time_is_read(house: House, env: Environment) -> None:
    synchronise_all(env)
    object_id = old_object(house, ("kuva.jpg", JPEG))
    house.museum.edit_object(object_id)
    synchronise_all(env)
    assert why_not(env, object_id) is None


def test_so_many_unknown_items_are_asked_for_that_a_sync_does_not_take_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [old_object(house) for _ in range(5)]
    for object_id in ids:
        forbid(house, object_id)
    monkeypatch.setattr(scrape, "UNKNOWN_LIMIT", 3)
    with house.environment(museumplus=SMALL_PAGES) as env:
        assert synchronise.sync_objects(env, quiet).unreadable == 5
        for object_id in ids:
            forbid(house, object_id, forbidden=False)
        assert [synchronise.sync_objects(env, quiet).items for _ in range(3)] == [3, 2, 0]
        assert known(env)[0] == 8


# Answers that are not whole


def test_an_empty_answer_of_a_moment_is_not_the_end_of_the_catalogue(house: House) -> None:
    def slip(line: str) -> None:
        if ": 4 of" in line:
            house.museum.faults.replace_body("/module/Object/search", EMPTY_PAGE, times=1)

    with house.environment(museumplus=SMALL_PAGES) as env:
        house.museum.faults.replace_body("/module/Object/search", EMPTY_PAGE, times=1)
        old_object(house)
        old_object(house)
        assert synchronise.sync_objects(env, slip).items == 5


# Stopping early


@pytest.fixture
def ask_to_stop() -> Iterator[Callable[[str], None]]:
    """A log that asks its own process to stop when two are done; what it asked is forgotten at the end."""
    before = signal.getsignal(stopping.SIGNAL)
    stopping.listen()

    def ask(line: str) -> None:
        if ": 2 of" in line:
            signal.raise_signal(stopping.SIGNAL)

    yield ask
    stopping.listen()
    signal.signal(stopping.SIGNAL, before)


def test_a_scrape_that_is_asked_to_stop_leaves_unknown_items_to_the_next_one(
    house: House, ask_to_stop: Callable[[str], None]
) -> None:
    ids = [old_object(house) for _ in range(5)]
    for object_id in ids:
        forbid(house, object_id)
    with house.environment(museumplus=SMALL_PAGES) as env:
        synchronise.sync_objects(env, quiet)
        for object_id in ids:
            forbid(house, object_id, forbidden=False)
        stopped = synchronise.sync_objects(env, ask_to_stop)
        assert (stopped.items, stopped.partial) == (2, True)
        stopping.listen()
        assert synchronise.sync_objects(env, quiet).items == 3
