"""A catalogue that takes many nights to read is read whole: stopped anywhere, it goes on there; what goes is seen."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select

from passari_dagster import stopping
from passari_dagster.catalogue import eligibility, scrapes
from passari_dagster.catalogue.models import (
    MuseumAttachment,
    MuseumObject,
    StaleAttachmentHash,
    SyncStatus,
    object_attachments,
)
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.workflow import synchronise
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.hashes import sync_hashes
from passari_dagster.workflow.pages import cut
from passari_dagster.workflow.scrape import Options
from passari_dagster_tests.house import House, object_row, synchronise_all
from passari_dagster_tests.workflow.stories import JPEG, Killed, later, old_object, quiet

ONE_BY_ONE = {"page_size": 2, "max_connections": 1}
EMPTY_PAGE = (
    b'<application xmlns="http://www.zetcom.com/ria/ws/module"><modules><module name="Object" totalSize="0"/></modules>'
    b"</application>"
)
NIGHT = datetime(2030, 1, 15, 22, 30, tzinfo=timezone.utc)
"""Half past midnight in Helsinki."""


@contextlib.contextmanager
def at_search(house: House, number: int, do: Callable[[], object], module: str = "Object") -> Iterator[None]:
    """Do something when the search of that number, from now on, has come to MuseumPlus, before it is answered."""
    count = itertools.count(1)
    hold = house.museum.hold(lambda request: request.path.endswith(f"/{module}/search") and next(count) >= number)
    errors: list[BaseException] = []

    def act() -> None:
        try:
            assert hold.reached.wait(30), "that many searches were not made"
            do()
        except BaseException as error:
            errors.append(error)
        finally:
            hold.release()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join(40)
    assert not errors, errors


def after(items: int, do: Callable[[], object], lines: list[str] | None = None) -> Callable[[str], None]:
    """A log that does something when so many items, or more, have been written, and keeps its lines."""

    def log(line: str) -> None:
        if lines is not None:
            lines.append(line)
        found = re.match(r"sync_objects: (\d+) of ", line)
        if found and int(found[1]) >= items:
            do()

    return log


def killed() -> None:
    raise Killed


@pytest.fixture
def stoppable() -> Iterator[None]:
    """This process may be asked to stop; what it was asked is forgotten at the end."""
    before = signal.getsignal(stopping.SIGNAL)
    stopping.listen()
    yield
    stopping.listen()
    signal.signal(stopping.SIGNAL, before)


def read(env: Environment) -> set[int]:
    """The objects that the database has read."""
    with env.transaction() as session:
        return set(session.scalars(select(MuseumObject.id).where(MuseumObject.metadata_hash.is_not(None))))


def links(env: Environment) -> int:
    with env.transaction() as session:
        return session.scalar(select(func.count()).select_from(object_attachments)) or 0


def why_not(env: Environment, object_id: int) -> str | None:
    with env.transaction() as session:
        return eligibility.why_not(session, object_id, now=env.now(), delays=env.delays)


def in_museumplus(house: House) -> set[int]:
    return {*house.museum.object_ids}


# Stopping, and going on


def fail(house: House) -> None:
    house.museum.faults.fail_next(3, path_contains="/search")


@pytest.mark.parametrize("how", ["asked to stop", "killed", "MuseumPlus is down"])
def test_a_sync_that_ended_in_the_middle_goes_on_there(house: House, stoppable: None, how: str) -> None:
    ids = {*house.museum.object_ids, *(old_object(house, ("kuva.jpg", JPEG)) for _ in range(17))}

    with house.environment(museumplus=ONE_BY_ONE) as env:
        if how == "asked to stop":
            stopped = synchronise.sync_objects(env, after(8, lambda: signal.raise_signal(stopping.SIGNAL)))
            assert (stopped.partial, stopped.total, stopped.done) == (True, 20, stopped.items)
            stopping.listen()
        elif how == "killed":
            with pytest.raises(Killed):
                synchronise.sync_objects(env, after(8, killed))
        else:
            with at_search(house, 6, lambda: fail(house)), pytest.raises(TransientFailure):
                synchronise.sync_objects(env, quiet)
        before = read(env)
        assert 4 <= len(before) < 20
        lines: list[str] = []
        rest = synchronise.sync_objects(env, lines.append)
        assert read(env) == ids
        assert (rest.partial, rest.new) == (False, 20 - len(before)), "no page was read twice"
        assert lines[0] == f"sync_objects: reading everything, after {len(before)} items"


def test_what_happens_between_two_nights_is_not_lost(house: House) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(12)]
    with house.environment(museumplus=ONE_BY_ONE) as env:
        with pytest.raises(Killed):
            synchronise.sync_objects(env, after(8, killed))
        house.museum.edit_object(1_000_000, title="Kirves")
        house.museum.delete_object(ids[-1])
        new = old_object(house)
        synchronise_all(env)
        assert read(env) == {*house.museum.object_ids, *ids[:-1], new}
        assert object_row(env, 1_000_000).title == "Kirves"


def test_thirty_objects_deleted_between_stop_and_resume_hide_no_other(house: House) -> None:
    ids = [old_object(house) for _ in range(60)]
    with house.environment(museumplus={"page_size": 10, "max_connections": 1}) as env:
        with pytest.raises(Killed):
            synchronise.sync_objects(env, after(40, killed))
        for object_id in ids[:30]:
            house.museum.delete_object(object_id)
        synchronise.sync_objects(env, quiet)
        assert set(ids[30:]) <= read(env)


def test_at_the_end_of_the_nightly_window_a_sync_ends_well_and_goes_on_the_next_night(house: House) -> None:
    for _ in range(17):
        old_object(house)
    clock = [NIGHT]

    def morning() -> None:
        clock[0] = NIGHT + timedelta(hours=3, minutes=30)

    with house.environment(museumplus=ONE_BY_ONE) as env:
        env = dataclasses.replace(env, now=lambda: clock[0])
        lines: list[str] = []
        night = synchronise.sync_objects(env, after(6, morning, lines))
        assert (night.partial, night.total) == (True, 20)
        assert 6 <= night.done < 20
        assert night.nights_left == 1
        (told,) = [line for line in lines if "stops early" in line]
        assert "at the end of the nightly window (04:00)" in told
        clock[0] = NIGHT + timedelta(days=1)
        again = synchronise.sync_objects(env, quiet)
        assert (again.partial, again.items) == (False, 20 - night.items)


def test_without_a_window_a_sync_reads_to_its_end(house: House, env: Environment) -> None:
    late = dataclasses.replace(env, now=lambda: NIGHT.replace(hour=2))
    assert synchronise.sync_objects(late, quiet, Options(window=False)).partial is False
    with house.environment(workflow={"sync_window": ""}) as env:
        assert synchronise.sync_attachments(env, quiet).partial is False


# What a person may want


def test_a_limit_reads_so_many_goes_on_later_and_empties_nothing(house: House) -> None:
    for _ in range(7):
        old_object(house, ("kuva.jpg", JPEG), ("toinen.jpg", JPEG))
    with house.environment(museumplus={"page_size": 4}) as env:
        first = synchronise.sync_objects(env, quiet, Options(limit=5))
        assert (first.items, first.partial, len(read(env))) == (5, True, 5)
        assert synchronise.sync_objects(env, quiet, Options(limit=5)).items == 5
        synchronise_all(env)
        assert len(read(env)) == 10
        before = links(env)
        again = synchronise.sync_objects(env, quiet, Options(limit=3, full=True))
        assert (again.items, again.partial, links(env)) == (3, True, before)


def test_an_offset_leaves_items_out_and_saves_no_progress(house: House, env: Environment) -> None:
    ids = sorted({*house.museum.object_ids, *(old_object(house) for _ in range(4))})
    result = synchronise.sync_objects(env, quiet, Options(offset=2, limit=3, save_progress=False))
    assert (result.items, read(env)) == (3, set(ids[2:5]))
    with env.transaction() as session:
        assert session.get(SyncStatus, "sync_objects") is None
    assert synchronise.sync_objects(env, quiet).items == 7
    with pytest.raises(ValueError, match="save_progress should be false"):
        Options(offset=2)


# Side by side


def test_parts_are_read_side_by_side_with_no_more_connections_than_allowed(house: House) -> None:
    ids = {*house.museum.object_ids, *(old_object(house, ("kuva.jpg", JPEG)) for _ in range(40))}
    house.museum.faults.latency = 0.05
    with house.environment(museumplus={"page_size": 4, "max_connections": 3}) as env:
        result = synchronise.sync_objects(env, quiet)
        assert (result.items, result.new, read(env)) == (43, 43, ids)
        assert house.museum.peak_requests == 3
        synchronise.sync_attachments(env, quiet)
        sync_hashes(env, quiet)
        assert all(object_row(env, object_id).attachment_metadata_hash is not None for object_id in ids)


def test_parts_cover_all_ids_once() -> None:
    for lowest, greatest, number in ((1, 10, 3), (5, 5, 4), (1_000_000, 1_000_042, 7), (1, 868_000, 999)):
        parts = cut(lowest, greatest, number)
        assert len(parts) <= min(number, 64)
        assert parts[0].first_id == 1
        assert parts[-1].last_id is None
        for part, following in itertools.pairwise(parts):
            assert part.last_id is not None
            assert part.last_id + 1 == following.first_id
            assert part.first_id <= part.last_id


# Answers that are not whole


def test_a_catalogue_of_which_less_comes_than_was_said_is_read_again(house: House) -> None:
    for _ in range(17):
        old_object(house)
    with house.environment(museumplus=ONE_BY_ONE) as env:
        empty = house.museum.faults.replace_body
        with (
            at_search(house, 6, lambda: empty("/module/Object/search", EMPTY_PAGE)),
            pytest.raises(TransientFailure, match=r"MuseumPlus (has nothing more after id|gave [0-9]+ items)"),
        ):
            synchronise.sync_objects(env, quiet)
        empty("/module/Object/search", None)
        synchronise.sync_objects(env, quiet)
        assert len(read(env)) == 20


def test_what_is_deleted_while_the_catalogue_is_read_is_not_missed(house: House) -> None:
    ids = [old_object(house) for _ in range(20)]

    def delete() -> None:
        for object_id in ids[-6:]:
            house.museum.delete_object(object_id)

    with house.environment(museumplus=ONE_BY_ONE) as env:
        with at_search(house, 5, delete):
            assert synchronise.sync_objects(env, quiet).items == 17
        assert synchronise.sync_objects(env, quiet).since is not None


# What MuseumPlus does not have any more


def scan(env: Environment, *, accept_removals: bool = False) -> synchronise.SyncResult:
    result = synchronise.sync_objects(env, quiet, Options(full=True, accept_removals=accept_removals))
    synchronise.sync_attachments(env, quiet, Options(full=True, accept_removals=accept_removals))
    sync_hashes(env, quiet)
    return result


def test_an_object_that_is_gone_is_marked_and_the_mark_goes_when_it_comes_back(house: House, env: Environment) -> None:
    object_id = old_object(house, ("kuva.jpg", JPEG))
    synchronise_all(env)
    facts = house.museum.object(object_id)
    house.museum.delete_object(object_id)
    assert synchronise.sync_objects(env, quiet).removed == 0, "changes alone do not show it"
    assert scan(env).removed == 1
    row = object_row(env, object_id)
    assert row.removed_date is not None
    assert row.title == facts.title, "nothing is deleted"
    assert why_not(env, object_id) is not None
    assert scan(env).removed == 0
    with env.transaction() as session:
        assert scrapes.removed_since(session, MuseumObject, row.removed_date, 20) == (1, [object_id])

    house.museum.restore_object(facts)
    scan(env)
    assert object_row(env, object_id).removed_date is None
    assert why_not(env, object_id) is None


def attachments_of(env: Environment, object_id: int) -> list[int]:
    """The attachments that an object has."""
    of = object_attachments.c
    with env.transaction() as session:
        found = session.scalars(select(of.museum_attachment_id).where(of.museum_object_id == object_id))
        return sorted(found)


def test_an_attachment_that_is_gone_leaves_its_object(house: House, env: Environment) -> None:
    object_id = old_object(house, ("kuva.jpg", JPEG), ("toinen.jpg", JPEG))
    synchronise_all(env)
    before = object_row(env, object_id).attachment_metadata_hash
    gone = house.museum.object(object_id).multimedia_ids[0]
    owner = house.museum.object(object_id)
    house.museum.delete_attachment(gone)
    # MuseumPlus does not tell of the object that it has changed.
    house.museum.edit_object(object_id, multimedia_ids=owner.multimedia_ids[1:], modified=owner.modified)
    scan(env)
    with env.transaction() as session:
        assert session.get_one(MuseumAttachment, gone).removed_date is not None
    assert attachments_of(env, object_id) == list(owner.multimedia_ids[1:])
    assert object_row(env, object_id).attachment_metadata_hash not in (None, before)


def test_an_empty_page_by_mistake_marks_nothing(house: House) -> None:
    ids = [old_object(house) for _ in range(30)]
    with house.environment(museumplus=ONE_BY_ONE, workflow={"sync_most_removed": 1.0}) as env:
        synchronise_all(env)
        empty = house.museum.faults.replace_body
        with at_search(house, 20, lambda: empty("/module/Object/search", EMPTY_PAGE)), pytest.raises(TransientFailure):
            synchronise.sync_objects(env, quiet, Options(full=True))
        with pytest.raises(TransientFailure):
            synchronise.sync_objects(env, quiet, Options(full=True))
        assert [object_id for object_id in ids if object_row(env, object_id).removed_date] == []


def test_what_a_page_left_out_is_asked_for_before_it_is_called_removed(house: House, env: Environment) -> None:
    """An answer in good order, in which an object is missing that MuseumPlus has."""
    object_id = old_object(house)
    synchronise_all(env)
    facts = house.museum.object(object_id)
    house.museum.delete_object(object_id)
    # Seven searches: one for changes, one to begin the scan, one page of it, and then the one by id.
    with at_search(house, 4, lambda: house.museum.restore_object(facts)):
        assert synchronise.sync_objects(env, quiet, Options(full=True)).removed == 0
    assert object_row(env, object_id).removed_date is None


def test_a_catalogue_of_which_much_is_gone_is_looked_at_by_a_person_first(house: House, env: Environment) -> None:
    ids = [old_object(house) for _ in range(20)]
    synchronise_all(env)
    for object_id in ids[:8]:
        house.museum.delete_object(object_id)
    with pytest.raises(PermanentFailure, match=r"shows 8 items or more no more, .* accept_removals: true"):
        scan(env)
    assert object_row(env, ids[0]).removed_date is None
    assert scan(env, accept_removals=True).removed == 8
    assert object_row(env, ids[0]).removed_date is not None


def test_what_was_not_seen_and_is_given_again_is_not_removed(house: House, env: Environment) -> None:
    """A permission was taken, and is granted again after a scan has complained: no item's change tells of it."""
    ids = [old_object(house) for _ in range(20)]
    synchronise_all(env)
    facts = [house.museum.object(object_id) for object_id in ids[:8]]
    for object_id in ids[:8]:
        house.museum.delete_object(object_id)
    for _ in range(2):
        with pytest.raises(PermanentFailure, match="granted again"):
            scan(env)
    for each in facts[1:]:
        house.museum.restore_object(each)
    assert scan(env).removed == 1
    assert [object_id for object_id in ids if object_row(env, object_id).removed_date] == ids[:1]


def test_removals_are_counted_though_our_clock_is_behind_museumpluss(house: House, env: Environment) -> None:
    object_id = old_object(house)
    synchronise_all(env)
    house.museum.delete_object(object_id)
    house.museum.clock_offset = 7200
    scan(env)
    assert synchronise.removed_by_last_scan(env, synchronise.OBJECTS, 20) == (1, [object_id])


def test_an_object_that_names_a_removed_attachment_still_is_not_linked_to_it(house: House, env: Environment) -> None:
    object_id = old_object(house, ("kuva.jpg", JPEG), ("toinen.jpg", JPEG))
    synchronise_all(env)
    owner = house.museum.object(object_id)
    gone, kept = owner.multimedia_ids
    house.museum.delete_attachment(gone)
    house.museum.edit_object(object_id, multimedia_ids=owner.multimedia_ids, modified=owner.modified)
    scan(env)
    house.museum.edit_object(object_id, title="Uusi nimi", modified=house.museum.now())
    synchronise_all(env)
    assert attachments_of(env, object_id) == [kept]
    assert object_row(env, object_id).attachment_metadata_hash is not None


def test_everything_is_read_again_when_a_month_is_over(house: House, env: Environment) -> None:
    old_object(house)
    assert synchronise.sync_objects(env, quiet).items == 4
    assert synchronise.sync_objects(env, quiet).items == 0
    assert synchronise.sync_objects(later(env, timedelta(days=29)), quiet).items == 0
    assert synchronise.sync_objects(later(env, timedelta(days=31)), quiet).items == 4


# What passari-workflow had begun


def interrupted(env: Environment, *, offset: int, finished_before: bool = False) -> None:
    """A row of passari-workflow, in the middle of its run."""
    begun = datetime(2026, 8, 3, 20, tzinfo=timezone.utc)
    with env.transaction() as session:
        before = begun - timedelta(days=2) if finished_before else None
        session.add(SyncStatus(name="sync_objects", start_sync_date=begun, prev_start_sync_date=before, offset=offset))


def test_a_first_scrape_of_passari_workflow_goes_on_where_it_was_interrupted(house: House, env: Environment) -> None:
    ids = sorted({*house.museum.object_ids, *(old_object(house) for _ in range(7))})
    with env.transaction() as session:
        session.add_all(MuseumObject(id=object_id, title="Esine", metadata_hash="a" * 64) for object_id in ids[:6])
    interrupted(env, offset=6)
    lines: list[str] = []
    synchronise.sync_objects(env, lines.append, Options(limit=4))
    assert lines[0] == "sync_objects: going on where passari-workflow was interrupted, after 6 items"
    assert read(env) == set(ids)
    assert object_row(env, ids[0]).metadata_hash == "a" * 64, "not read again yet"
    # It skipped objects and saw no removals: so all is read once.
    assert synchronise.sync_objects(env, quiet).items >= 10
    assert object_row(env, ids[0]).metadata_hash != "a" * 64


def test_a_scrape_of_changes_of_passari_workflow_is_read_again_from_its_date(house: House, env: Environment) -> None:
    interrupted(env, offset=1500, finished_before=True)
    result = synchronise.sync_objects(env, quiet, Options(limit=1))
    assert result.since == datetime(2026, 8, 1, 19, tzinfo=timezone.utc)
    synchronise.sync_objects(env, quiet)
    assert read(env) == in_museumplus(house)


# Whose hash is stale


def test_only_those_are_stale_whose_attachments_changed(house: House, env: Environment) -> None:
    first, second = old_object(house, ("kuva.jpg", JPEG)), old_object(house, ("kuva.jpg", JPEG))
    synchronise_all(env)
    with env.transaction() as session:
        session.execute(StaleAttachmentHash.__table__.delete())  # type: ignore[attr-defined]

    def stale() -> set[int]:
        with env.transaction() as session:
            return set(session.scalars(select(StaleAttachmentHash.museum_object_id)))

    house.museum.edit_object(first, title="Kirves")
    synchronise.sync_objects(env, quiet)
    assert stale() == set()
    house.museum.set_attachment(house.museum.object(first).multimedia_ids[0], filename="uusi.jpg")
    synchronise.sync_attachments(env, quiet)
    assert stale() == {first}
    house.museum.edit_object(second, multimedia_ids=[])
    synchronise.sync_objects(env, quiet)
    assert stale() == {first, second}
