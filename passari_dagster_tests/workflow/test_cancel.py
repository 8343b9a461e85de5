"""An administrator takes a package out of the workflow, and cannot do so by mistake with one that the DPS has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from passari_dagster import locks
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure
from passari_dagster.locks import LockBusyError
from passari_dagster.workflow import audit, cancel, enqueue, journal, preserve
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.cancel import CANCELLED, cancel_package
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster.workflow.toolkit import Log, Packaged
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.workflow.stories import (
    JPEG,
    Killed,
    KilledAt,
    eligible_object,
    in_transfer,
    killed_at,
    name_of,
    old_object,
    package,
    quiet,
    received,
    wait_until,
    with_toolkit,
)
from passari_dagster_tests.workflow.test_restored_backup import backup

ME = audit.Actor("maija", run_id="run-1")


def do_cancel(env: Environment, *object_ids: int, **options: Any) -> Tally:
    return cancel.cancel(env, ME, object_ids, **{"reason": "a wrong file", "log": quiet, **options})


def told(tally: Tally) -> dict[int, tuple[str, str]]:
    return {entry.object_id: (entry.outcome, entry.detail) for entry in tally.entries}


def audited(env: Environment) -> list[audit.Event]:
    with env.transaction() as session:
        return audit.events(session, limit=100)


def eligible_objects(house: House, env: Environment, number: int) -> list[int]:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(number)]
    synchronise_all(env)
    return ids


def begun_objects(house: House, env: Environment, number: int) -> list[int]:
    """Objects that were downloaded, and no more."""
    ids = eligible_objects(house, env, number)
    for object_id in ids:
        preserve.download_object(env, object_id, quiet)
    return ids


def _candidates(env: Environment) -> list[int]:
    return enqueue.candidates(env, limit=100, in_flight=set())


def test_what_was_begun_is_cancelled_and_may_be_enqueued_again_under_a_new_name(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    cancel_package(env, object_id, quiet, deed=audit.Deed(env.now, audit.Actor("maija"), "cancel", "a wrong file"))
    with env.transaction() as session:
        (event,) = audit.events(session, limit=10)
    assert (event.who, event.action, event.reason, event.object_ids) == (
        "maija",
        "cancel",
        "a wrong file",
        (object_id,),
    )
    assert package(env, object_id).cancelled
    assert not any(env.settings.package_dir.iterdir())
    assert object_id in _candidates(env)
    send(env, object_id)
    first, second = package_rows(env, object_id)
    assert first.sip_filename != second.sip_filename
    house.dps.wait_for(str(second.sip_filename))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved


def test_a_package_that_the_dps_has_is_never_cancelled(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.paused = True
    send(env, object_id)
    for resend in (False, True):
        with pytest.raises(PermanentFailure, match="is with the DPS"):
            cancel_package(env, object_id, quiet, resend=resend)
    house.dps.paused = False
    house.dps.wait_for(name_of(env, object_id))
    with pytest.raises(PermanentFailure, match="accepted"):
        cancel_package(env, object_id, quiet, resend=True)
    confirm(env, object_id)
    with pytest.raises(PermanentFailure, match="no package in the workflow"):
        cancel_package(env, object_id, quiet)


def test_what_may_have_been_sent_and_is_nowhere_is_sent_anew_only_if_a_person_says_so(house: House) -> None:
    with house.environment(dps={"rest": None}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        with pytest.raises(Killed):
            send(killed_at(env, "after the intent"), object_id)
        (house.dps.home / "transfer" / f"{name_of(env, object_id)}.incomplete").unlink()
        send(env, object_id)
        with pytest.raises(PermanentFailure, match="--resend"):
            cancel_package(env, object_id, quiet)
        cancel_package(env, object_id, quiet, resend=True)
        send(env, object_id)
        assert len(received(house)) <= 1
        house.dps.wait_for(str(package_rows(env, object_id)[-1].sip_filename))
        confirm(env, object_id)
        assert object_row(env, object_id).preserved


def test_a_half_sent_file_is_removed_at_the_dps(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, "before the intent"), object_id)
    assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"]
    cancel_package(env, object_id, quiet)
    assert in_transfer(house) == []


@pytest.mark.parametrize(
    ("paused", "told"), [(True, "is with the DPS"), (False, "--resend")], ids=["in transfer", "at work, and nowhere"]
)
def test_a_rename_that_is_carried_out_while_we_cancel_is_seen(
    house: House, monkeypatch: pytest.MonkeyPatch, paused: bool, told: str
) -> None:
    """The answer to the rename never came; the server carries it out between our look and the removal."""
    house.dps.processing, house.dps.paused = 3600, paused
    impatient = {**house.settings().dps.sftp.model_dump(), "timeout": 1}
    with house.environment(dps={"rest": None, "sftp": impatient}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        hold = house.dps.hold("rename-before")
        with pytest.raises(TransientFailure, match="no answer in time"):
            send(env, object_id)
        remove = Dps.remove_incomplete

        def too_late(dps: Dps, name: str) -> object:
            hold.release()
            wait_until(lambda: in_transfer(house) == ([name] if paused else []))
            return remove(dps, name)

        monkeypatch.setattr(Dps, "remove_incomplete", too_late)
        with pytest.raises(PermanentFailure, match=told):
            cancel_package(env, object_id, quiet)
        assert package(env, object_id).is_open


def test_what_was_sent_and_is_nowhere_is_not_given_up_for_a_leftover(house: House) -> None:
    house.dps.processing = 3600
    with house.environment(dps={"rest": None}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        send(env, object_id)
        wait_until(lambda: in_transfer(house) == [])
        (house.dps.home / "transfer" / f"{name_of(env, object_id)}.incomplete").write_bytes(b"late")
        with pytest.raises(PermanentFailure, match="--resend"):
            cancel_package(env, object_id, quiet)


def begun_anew_after_a_part_was_sent(house: House, env: Environment) -> int:
    """An object whose files were lost after an upload that was cut short."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, "before the intent"), object_id)
    shutil.rmtree(house.directory / "packages")
    preserve.download_object(env, object_id, quiet)
    assert not package(env, object_id).packaged
    assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"]
    return object_id


def test_what_was_sent_in_part_and_begun_anew_leaves_nothing_at_the_dps(house: House, env: Environment) -> None:
    object_id = begun_anew_after_a_part_was_sent(house, env)
    cancel_package(env, object_id, quiet)
    assert in_transfer(house) == []


class Refusing(KilledAt):
    """The real toolkit, that finds something in the content."""

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        raise ContentProblem("Unsupported file format: psd")


def test_nor_does_it_if_the_object_is_frozen(house: House, env: Environment) -> None:
    object_id = begun_anew_after_a_part_was_sent(house, env)
    refusing = with_toolkit(env, Refusing(env.toolkit, "before the intent"))
    assert preserve.create_sip(refusing, object_id, quiet).outcome is Outcome.FROZEN
    assert object_row(env, object_id).frozen
    assert in_transfer(house) == []


def test_an_object_with_a_run_is_left_alone(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    with env.lock(locks.object_lock(object_id), wait=1), pytest.raises(LockBusyError):
        cancel_package(env, object_id, quiet)
    assert not package(env, object_id).cancelled


def test_what_was_begun_and_never_sent_can_be_picked_and_enqueued_by_its_id(house: House, env: Environment) -> None:
    """As after the loss of Dagster's database: no run of it is left."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    assert _candidates(env)[0] == object_id
    assert object_id not in enqueue.candidates(env, limit=100, in_flight={object_id})
    chosen = enqueue.choose(env, count=None, object_ids=[object_id], random=False, in_flight=set(), registered=set())
    assert chosen.ids == (object_id,)


def test_those_that_are_refused_do_not_keep_the_others(house: House, env: Environment) -> None:
    first, busy, last, never = eligible_objects(house, env, 4)
    for object_id in (first, busy, last):
        preserve.download_object(env, object_id, quiet)
    ids = (77, never, first, busy, last, first)
    with env.lock(locks.object_lock(busy), wait=1):
        preview = do_cancel(env, *ids, dry_run=True)
        assert all(package(env, object_id).is_open for object_id in (first, busy, last))
        assert audited(env) == []
        tally = do_cancel(env, *ids)
    assert told(preview) == told(tally)
    assert (preview.counts, tally.counts) == ({CANCELLED: 2, REFUSED: 3},) * 2
    assert tally.summary == "3 refused, 2 cancelled"
    details = {object_id: detail for object_id, (_, detail) in told(tally).items()}
    assert details[first] == f"{name_of(env, first)}; its files are deleted"
    assert "object 77 is not in the database" in details[77]
    assert "no package in the workflow" in details[never]
    assert "its lock is held" in details[busy]
    assert package(env, busy).is_open
    assert {first, never, last} <= set(_candidates(env))
    (event,) = audited(env)
    assert (event.who, event.run_id, event.action, event.reason) == ("maija", "run-1", cancel.ACTION, "a wrong file")
    assert event.object_ids == (first, last)


def test_a_preview_asks_the_dps_and_removes_nothing_there(house: House, env: Environment) -> None:
    in_part, sent = eligible_objects(house, env, 2)
    with pytest.raises(Killed):
        send(killed_at(env, "before the intent"), in_part)
    house.dps.paused = True
    send(env, sent)
    there = in_transfer(house)

    preview = do_cancel(env, in_part, sent, dry_run=True)
    assert in_transfer(house) == there
    assert told(preview)[in_part][0] == CANCELLED
    assert "sent of it in part is removed" in told(preview)[in_part][1]
    assert "is with the DPS (transfer)" in told(preview)[sent][1]
    tally = do_cancel(env, in_part, sent)
    assert told(tally) == told(preview)
    assert in_transfer(house) == [name_of(env, sent)]
    assert package(env, sent).is_open


def test_what_may_be_sent_twice_wants_a_reason(house: House) -> None:
    with house.environment(dps={"rest": None}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        with pytest.raises(Killed):
            send(killed_at(env, "after the intent"), object_id)
        (house.dps.home / "transfer" / f"{name_of(env, object_id)}.incomplete").unlink()
        for dry_run in (True, False):
            with pytest.raises(PermanentFailure, match="a reason is needed"):
                do_cancel(env, object_id, resend=True, reason=" ", dry_run=dry_run)
            assert "--resend" in told(do_cancel(env, object_id, dry_run=dry_run))[object_id][1]
        preview = do_cancel(env, object_id, resend=True, dry_run=True)
        assert package(env, object_id).is_open
        tally = do_cancel(env, object_id, resend=True)
        assert told(tally) == told(preview)
        assert "is sent anew" in told(tally)[object_id][1]
        (event,) = audited(env)
        assert (event.details, event.object_ids) == ("with --resend", (object_id,))


def test_what_cannot_be_sent_twice_is_cancelled_without_a_reason(house: House, env: Environment) -> None:
    (object_id,) = begun_objects(house, env, 1)
    assert told(do_cancel(env, object_id, reason=" "))[object_id][0] == CANCELLED
    assert audited(env)[0].reason == ""


def test_what_a_restored_backup_has_lost_is_put_back_and_not_cancelled(house: House, env: Environment) -> None:
    (object_id,) = begun_objects(house, env, 1)
    restore = backup(env)
    house.dps.paused = True
    send(env, object_id)
    restore()
    preview = do_cancel(env, object_id, dry_run=True)
    assert preview.refused == 1
    assert "had lost that" in told(preview)[object_id][1]
    assert package(env, object_id).submission_date is None
    tally = do_cancel(env, object_id)
    assert "that is put back" in told(tally)[object_id][1]
    assert package(env, object_id).submission_date is not None


def test_a_call_that_was_killed_is_done_to_its_end_when_it_is_started_again(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = begun_objects(house, env, 2)
    with monkeypatch.context() as dying:

        def die(*_arguments: object) -> None:
            raise Killed

        dying.setattr(journal, "forget", die)
        with pytest.raises(Killed):
            do_cancel(env, first, last)
    assert (package(env, first).cancelled, (env.settings.package_dir / str(first)).exists()) == (True, True)
    done = cancel.earlier(env, ["run-1"], limit=10)
    assert done == [first]
    tally = do_cancel(env, first, last, before=done)
    assert tally.counts == {CANCELLED: 2}
    assert not any(env.settings.package_dir.iterdir())


def test_what_was_enqueued_since_the_call_was_killed_is_left_alone(house: House, env: Environment) -> None:
    (object_id,) = begun_objects(house, env, 1)
    do_cancel(env, object_id)
    preserve.download_object(env, object_id, quiet)
    assert do_cancel(env, object_id, before=[object_id]).counts == {CANCELLED: 1}
    old, new = package_rows(env, object_id)
    assert (old.cancelled, new.is_open) == (True, True)
    assert (env.settings.package_dir / str(object_id)).exists()
