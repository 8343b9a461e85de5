"""The workflow is reset after an older backup was restored: what was not sent is given up, nothing is sent twice."""

from __future__ import annotations

from typing import Any

import pytest

from passari_dagster import locks
from passari_dagster.catalogue import packages
from passari_dagster.errors import PermanentFailure
from passari_dagster.workflow import journal, poll, preserve, reset
from passari_dagster.workflow.audit import Actor, events
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.workflow.stories import (
    JPEG,
    Killed,
    in_transfer,
    killed_at,
    name_of,
    old_object,
    package,
    quiet,
    received,
    wait_until,
)
from passari_dagster_tests.workflow.test_restored_backup import backup

ME = Actor("maija", run_id="run-1")


def do_reset(env: Environment, **options: Any) -> Tally:
    return reset.reset(env, ME, **{"reason": "the backup of Monday", "log": quiet, "perform": True, **options})


def told(tally: Tally) -> dict[int, tuple[str, str]]:
    return {entry.object_id: (entry.outcome, entry.detail) for entry in tally.entries}


def objects(house: House, env: Environment, number: int) -> list[int]:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(number)]
    synchronise_all(env)
    return ids


def make(env: Environment, object_id: int) -> None:
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)


def has_files(env: Environment, object_id: int) -> bool:
    return (env.settings.package_dir / str(object_id)).exists()


def test_what_was_not_sent_is_given_up_and_what_the_dps_has_is_followed(house: House, env: Environment) -> None:
    begun, made, by_dps, by_archive, lost, untouched = objects(house, env, 6)
    preserve.download_object(env, begun, quiet)
    make(env, made)
    make(env, by_dps)
    restore = backup(env)
    for object_id in (by_dps, by_archive):
        send(env, object_id)
        house.dps.wait_for(name_of(env, object_id))
    preserve.download_object(env, lost, quiet)
    sent = name_of(env, by_archive)
    restore()
    # Of this one the archive has lost its record, too: only the DPS knows.
    next((house.directory / "archive").rglob(f"*Object_{by_dps}-*/{journal.FILE}")).unlink()

    lines: list[str] = []
    preview = do_reset(env, perform=False, log=lines.append)
    for object_id, (outcome, _) in told(preview).items():
        assert [line for line in lines if line.startswith(f"object {object_id}: would be: {outcome}")]
    assert (package(env, begun).is_open, package(env, made).is_open) == (True, True)
    assert package(env, by_dps).submission_date is None
    assert package_rows(env, by_archive) == []
    assert has_files(env, lost)
    done = do_reset(env)
    assert told(done) == told(preview)
    assert {object_id: outcome for object_id, (outcome, _) in told(done).items()} == {
        begun: "cancelled",
        made: "cancelled",
        by_dps: "with the DPS, kept",
        by_archive: "put back from the archive",
        lost: "files deleted",
    }
    assert told(done)[made][1].endswith("eligible again")
    assert "accepted" in told(done)[by_dps][1]
    assert [package(env, id_).cancelled for id_ in (begun, made)] == [True, True]
    assert not any(has_files(env, id_) for id_ in (begun, made, lost))
    assert len(list(env.settings.archive_dir.rglob("download-object.log.gz"))) >= 3
    with env.transaction() as session:
        (event,) = events(session, limit=10)
    assert (event.who, event.action, event.reason) == ("maija", "reset_workflow", "the backup of Monday")
    assert event.object_ids == (begun, made, by_dps, by_archive, lost)

    assert set(do_reset(env).counts) <= {"with the DPS, kept"}, "nothing is left to be given up"
    assert poll.record_verdicts(env, quiet) == 2
    for object_id in (by_dps, by_archive):
        preserve.confirm_sip(env, object_id, quiet)
        assert object_row(env, object_id).preserved
    assert name_of(env, by_archive) == sent
    assert len(received(house)) == 2
    send(env, made)
    assert [row.cancelled for row in package_rows(env, made)] == [True, False]
    house.dps.wait_for(package_rows(env, made)[-1].sip_filename or "")
    confirm(env, made)
    assert object_row(env, made).preserved
    assert package_rows(env, untouched) == []


def test_a_part_of_a_send_is_removed_and_what_the_dps_may_have_is_kept(house: House, env: Environment) -> None:
    part, perhaps = objects(house, env, 2)
    with pytest.raises(Killed):
        send(killed_at(env, "after the intent"), part)
    house.dps.processing = 30
    with pytest.raises(Killed):
        send(killed_at(env, "after the rename"), perhaps)
    wait_until(lambda: not [name for name in in_transfer(house) if str(perhaps) in name])
    with house.environment(dps={"rest": None, "verdicts": "sftp"}) as blind:
        preview = do_reset(blind, perform=False)
        assert [name for name in in_transfer(house) if str(part) in name], "a preview removes nothing"
        done = do_reset(blind)
        assert told(done) == told(preview)
    assert told(done)[part][0] == "cancelled"
    assert told(done)[perhaps][0] == "perhaps with the DPS, kept"
    assert f"cancel --resend {perhaps}" in told(done)[perhaps][1]
    assert package(env, perhaps).is_open
    assert not [name for name in in_transfer(house) if str(part) in name]


def test_killed_after_its_commit_it_ends_its_work_when_it_is_called_again(house: House, env: Environment) -> None:
    (object_id,) = objects(house, env, 1)
    preserve.download_object(env, object_id, quiet)
    with env.transaction() as session:
        packages.cancel(session, package(env, object_id).id)
    done = do_reset(env)
    assert told(done)[object_id][0] == "files deleted"
    assert not has_files(env, object_id)
    with env.transaction() as session:
        (event,) = events(session, limit=10)
    assert (event.action, event.object_ids) == ("reset_workflow", (object_id,))
    assert list(env.settings.archive_dir.rglob("download-object.log.gz"))


def test_one_that_is_worked_on_is_refused_and_the_others_go_on(house: House) -> None:
    with house.environment(workflow={"lock_expiry": 5}) as env:
        locked, other = objects(house, env, 2)
        for object_id in (locked, other):
            preserve.download_object(env, object_id, quiet)
        with house.environment() as elsewhere, elsewhere.lock(locks.object_lock(locked), wait=1):
            done = do_reset(env)
    assert (done.counts[REFUSED], told(done)[locked][0], told(done)[other][0]) == (1, REFUSED, "cancelled")
    assert "lock" in told(done)[locked][1]
    assert package(env, locked).is_open


def test_nothing_is_given_up_while_the_archive_cannot_be_asked_or_runs_are_there(
    house: House, env: Environment
) -> None:
    begun, sent = objects(house, env, 2)
    preserve.download_object(env, begun, quiet)
    send(env, sent)
    record = next((house.directory / "archive").rglob(journal.FILE))
    whole = record.read_text()
    record.write_text("")
    for perform in (False, True):
        with pytest.raises(PermanentFailure, match=r"damaged|not recovered"):
            do_reset(env, perform=perform)
    record.write_text(whole)
    with pytest.raises(PermanentFailure, match="reason"):
        do_reset(env, reason=" ")
    assert package(env, begun).is_open
    with pytest.raises(PermanentFailure, match="3 runs of preserve_object are queued or live: a, b, and 1 more"):
        reset.refuse_while_busy(3, ["a", "b"], 0)
    with pytest.raises(PermanentFailure, match="about to launch 2 objects"):
        reset.refuse_while_busy(0, [], 2)
    reset.refuse_while_busy(0, [], 0)
