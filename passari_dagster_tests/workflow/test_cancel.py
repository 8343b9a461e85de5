"""An administrator takes a package out of the workflow, and cannot do so by mistake with one that the DPS has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from passari_dagster import locks
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure
from passari_dagster.locks import LockBusyError
from passari_dagster.workflow import audit, enqueue, preserve
from passari_dagster.workflow.cancel import cancel_package
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster.workflow.toolkit import Log, Packaged
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send
from passari_dagster_tests.workflow.stories import (
    JPEG,
    Killed,
    KilledAt,
    eligible_object,
    in_transfer,
    killed_at,
    name_of,
    package,
    quiet,
    received,
    wait_until,
    with_toolkit,
)


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
