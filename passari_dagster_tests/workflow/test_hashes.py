"""Attachment hashes: those that are stale each night, all of them now and then, whatever comes in between."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from passari_dagster import stopping
from passari_dagster.catalogue.attachment_hashes import mark_stale
from passari_dagster.catalogue.models import MuseumObject, SyncRange
from passari_dagster.workflow import hashes
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.hashes import sync_hashes
from passari_dagster_tests.catalogue.rows import add_object
from passari_dagster_tests.workflow.stories import Killed, quiet

DAY = timedelta(days=1)


@pytest.fixture
def stocked(env: Environment, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Seven objects without attachments, whose hashes were never computed; a batch is of two."""
    monkeypatch.setattr(hashes, "BATCH", 2)
    with env.transaction() as session:
        for object_id in range(1, 8):
            add_object(session, object_id, attachment_metadata_hash=None)
    return env


@pytest.fixture
def ask_to_stop() -> Iterator[Callable[[str], None]]:
    """A log that asks its own process to stop when four are done; what it asked is forgotten at the end."""
    before = signal.getsignal(stopping.SIGNAL)
    stopping.listen()

    def ask(line: str) -> None:
        if ": 4 of" in line:
            signal.raise_signal(stopping.SIGNAL)

    yield ask
    stopping.listen()
    signal.signal(stopping.SIGNAL, before)


def known(env: Environment) -> int:
    with env.transaction() as session:
        return session.scalar(select(func.count(MuseumObject.attachment_metadata_hash))) or 0


def later(env: Environment, time: timedelta) -> Environment:
    now = env.now()
    return dataclasses.replace(env, now=lambda: now + time)


def spoil(env: Environment, *object_ids: int, stale: bool = True) -> None:
    """Wrong hashes; as after a change if `stale`, else as after a slip of somebody's."""
    with env.transaction() as session:
        session.execute(
            update(MuseumObject).where(MuseumObject.id.in_(object_ids)).values(attachment_metadata_hash="wrong")
        )
        if stale:
            mark_stale(session, object_ids)


def test_all_are_counted_the_first_time_then_those_that_changed_and_all_again_each_week(stocked: Environment) -> None:
    lines: list[str] = []
    first = sync_hashes(stocked, lines.append)
    assert (first.full, first.items, first.new, first.stale, first.partial) == (True, 7, 7, 0, False)
    assert lines[0] == "sync_hashes: counts all hashes (never done)"
    assert known(stocked) == 7
    nothing = sync_hashes(stocked, quiet)
    assert (nothing.full, nothing.items, nothing.new) == (False, 0, 0)
    spoil(stocked, 2, 3, 5)
    spoil(stocked, 6, stale=False)
    some = sync_hashes(later(stocked, 6 * DAY), quiet)
    assert (some.full, some.items, some.new) == (False, 3, 3)
    # A run of each night may begin some seconds earlier than that of a week ago.
    week = sync_hashes(later(stocked, 7 * DAY - timedelta(minutes=1)), quiet)
    assert (week.full, week.items, week.new) == (True, 7, 1)
    assert sync_hashes(later(stocked, 8 * DAY), quiet).full is False


def test_all_are_counted_on_demand(stocked: Environment) -> None:
    sync_hashes(stocked, quiet)
    spoil(stocked, 6, stale=False)
    assert sync_hashes(stocked, quiet).new == 0
    demanded = sync_hashes(stocked, quiet, full=True)
    assert (demanded.full, demanded.items, demanded.new) == (True, 7, 1)


def test_a_count_that_is_asked_to_stop_goes_on_in_the_next_run(
    stocked: Environment, ask_to_stop: Callable[[str], None]
) -> None:
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        ask_to_stop(line)

    stopped = sync_hashes(stocked, log)
    assert (stopped.full, stopped.items, stopped.partial) == (True, 4, True)
    assert lines[-1] == "sync_hashes: stops early, as asked, after 4 objects"
    stopping.listen()
    rest = sync_hashes(stocked, lines.append)
    assert (rest.full, rest.items, rest.partial) == (True, 3, False)
    assert "sync_hashes: goes on with the count of all hashes after object 4" in lines
    assert known(stocked) == 7
    assert sync_hashes(stocked, quiet).full is False


def test_a_count_that_is_killed_does_no_more_than_its_last_batch_again(stocked: Environment) -> None:
    def kill(line: str) -> None:
        if ": 4 of" in line:
            raise Killed

    with pytest.raises(Killed):
        sync_hashes(stocked, kill)
    assert sync_hashes(stocked, quiet).items == 3
    assert known(stocked) == 7
    with stocked.transaction() as session:
        assert session.scalar(select(func.count()).select_from(SyncRange)) == 0


def test_stale_hashes_of_a_run_that_is_stopped_are_the_next_one_s(
    stocked: Environment, ask_to_stop: Callable[[str], None]
) -> None:
    sync_hashes(stocked, quiet)
    spoil(stocked, 1, 2, 3, 5, 6, 7)
    stopped = sync_hashes(stocked, ask_to_stop)
    assert (stopped.full, stopped.items, stopped.partial, stopped.stale) == (False, 4, True, 2)
    stopping.listen()
    assert sync_hashes(stocked, quiet).items == 2


def test_a_count_of_all_leaves_what_somebody_has_locked_stale_and_waits_for_nobody(stocked: Environment) -> None:
    with stocked.transaction() as somebody:
        somebody.execute(update(MuseumObject).where(MuseumObject.id == 3).values(frozen=True))
        result = sync_hashes(stocked, quiet)
        assert (result.full, result.new, result.stale) == (True, 6, 1)
    assert known(stocked) == 6
    assert sync_hashes(stocked, quiet).new == 1
    assert known(stocked) == 7
