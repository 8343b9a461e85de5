"""After the verdict: each part may be repeated, and one package's trouble is its own."""

from __future__ import annotations

import dataclasses
import gzip
import shutil
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pytest

from passari_dagster.catalogue import packages
from passari_dagster.errors import TransientFailure
from passari_dagster.workflow import poll, preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.workflow.stories import (
    JPEG,
    LONG_AGO,
    Killed,
    eligible_object,
    killed_at,
    later,
    name_of,
    old_object,
    package,
    quiet,
)


def judged_object(house: House, env: Environment) -> int:
    """An object that was sent, and of which the verdict is recorded."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    assert poll.record_verdicts(env, quiet) == 1
    return object_id


def archived(house: House, env: Environment, object_id: int) -> dict[str, bytes]:
    return {
        path.name: gzip.decompress(path.read_bytes())
        for path in (house.directory / "archive").rglob("*.gz")
        if path.parent.parent.name == name_of(env, object_id)
    }


def end_well(house: House, env: Environment, object_id: int) -> None:
    assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.PRESERVED
    assert object_row(env, object_id).preserved
    assert package(env, object_id).preserved
    assert package(env, object_id).confirmed_date is not None
    assert len(house.museum.log_field(object_id)) == 1
    assert not any((house.directory / "packages").iterdir())
    kept = archived(house, env, object_id)
    assert {name.partition(".")[0] for name in kept if name.endswith(".log.gz")} == {
        "download-object",
        "create-sip",
        "submit-sip",
        "confirm-sip",
    }
    assert sum(b"accepted" in report for name, report in kept.items() if "ingest-report" in name) == 2


def test_museumplus_fails_after_the_reports_were_fetched(house: House, env: Environment) -> None:
    object_id = judged_object(house, env)
    house.museum.faults.fail_next(3, method="PUT")
    with pytest.raises(TransientFailure, match="HTTP 500"):
        preserve.confirm_sip(env, object_id, quiet)
    assert package(env, object_id).is_open
    assert not object_row(env, object_id).preserved
    end_well(house, env, object_id)


def test_the_answer_of_museumplus_is_lost_and_the_entry_is_there(house: House, env: Environment) -> None:
    object_id = judged_object(house, env)
    hold = house.museum.hold(lambda request: request.method == "PUT", at="answer")
    impatient = {"timeout": 0.5, "retries": 0}
    with house.environment(museumplus=impatient) as hasty, pytest.raises(TransientFailure):
        preserve.confirm_sip(hasty, object_id, quiet)
    hold.release()
    assert len(house.museum.log_field(object_id)) == 1
    end_well(house, env, object_id)


def test_killed_after_the_museum_was_told(house: House, env: Environment) -> None:
    object_id = judged_object(house, env)
    with pytest.raises(Killed):
        preserve.confirm_sip(killed_at(env, "after confirming"), object_id, quiet)
    assert package(env, object_id).is_open
    end_well(house, env, object_id)
    assert archived(house, env, object_id)["confirm-sip.log.gz"].count(b"--- confirm-sip") == 2


def test_a_killed_run_that_is_started_again_after_the_confirmation_has_nothing_left_to_do(
    house: House, env: Environment
) -> None:
    """The rename was carried out at the DPS, which was quicker than the retry; that begins at the step that died."""
    object_id = judged_object(house, env)
    end_well(house, env, object_id)
    for step in (preserve.create_sip, preserve.submit_sip, preserve.confirm_sip):
        result = step(env, object_id, quiet)
        assert result.outcome is Outcome.SKIPPED
    assert "was preserved: nothing is left to do" in preserve.submit_sip(env, object_id, quiet).message
    assert not any((house.directory / "packages").iterdir())


def test_killed_after_the_logs_were_archived(house: House, env: Environment) -> None:
    object_id = judged_object(house, env)

    def die() -> datetime:
        raise Killed

    with pytest.raises(Killed):
        preserve.confirm_sip(dataclasses.replace(env, now=die), object_id, quiet)
    assert archived(house, env, object_id)
    assert package(env, object_id).is_open
    assert not object_row(env, object_id).preserved
    end_well(house, env, object_id)


def test_killed_between_the_commit_and_the_deletion_of_the_package_directory(house: House, env: Environment) -> None:
    object_id = judged_object(house, env)
    directory = house.directory / "packages" / str(object_id)
    shutil.copytree(directory, house.directory / "copy")
    end_well(house, env, object_id)
    kept = archived(house, env, object_id)
    shutil.move(house.directory / "copy", directory)
    result = preserve.confirm_sip(env, object_id, quiet)
    assert result.outcome is Outcome.SKIPPED
    assert "has no verdict that is not confirmed" in result.message
    assert not directory.exists()
    assert archived(house, env, object_id) == kept
    assert len(house.museum.log_field(object_id)) == 1


def test_a_confirmation_needs_no_file_of_the_earlier_steps(house: House, env: Environment) -> None:
    object_id = judged_object(house, env)
    shutil.rmtree(house.directory / "packages")
    assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.PRESERVED
    assert object_row(env, object_id).preserved
    assert sum("ingest-report" in name for name in archived(house, env, object_id)) == 2


def test_a_rejected_package_is_confirmed_again_after_its_content_was_removed(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.damage_next()
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    poll.record_verdicts(env, quiet)
    with pytest.raises(Killed):
        preserve.confirm_sip(killed_at(env, "after confirming"), object_id, quiet)
    assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.REJECTED
    assert package(env, object_id).rejected
    assert [entry["status"] for entry in house.museum.log_field(object_id)] == ["rejected"]


@pytest.mark.parametrize("changed", [False, True], ids=["the latest package", "a new version is on its way"])
def test_what_passari_workflow_had_accepted_and_failed_to_confirm_is_confirmed_here(
    house: House, env: Environment, changed: bool
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    name = name_of(env, object_id)
    house.dps.wait_for(name)
    with env.transaction() as session:  # as the migration leaves it
        row = session.merge(package(env, object_id))
        row.preserved, row.sip_size, row.sip_sha256 = True, None, None
        session.merge(object_row(env, object_id)).preserved = True
    if changed:
        with env.transaction() as session:
            packages.begin(session, object_id, object_modified=None, now=env.now())
    assert poll.record_verdicts(env, quiet) == 1
    assert poll.record_verdicts(env, quiet) == 0
    assert poll.due_confirmations(env) == {row.id: object_id}
    assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.PRESERVED
    confirmed = package_rows(env, object_id)[0]
    assert confirmed.preserved
    assert confirmed.confirmed_date is not None
    assert poll.due_confirmations(env) == {}
    assert len(house.museum.log_field(object_id)) == 1
    assert len(list((house.directory / "archive").rglob(f"{name}/logs/*-ingest-report.*"))) == 2


def test_there_is_nothing_to_confirm_before_a_verdict(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    for _ in range(2):
        result = preserve.confirm_sip(env, object_id, quiet)
        assert result == preserve.StepResult(
            Outcome.SKIPPED, f"object {object_id} has no verdict that is not confirmed"
        )
        house.dps.paused = True
        send(env, object_id)


def launched(env: Environment, but: Collection[int] = ()) -> list[int]:
    """What the sensor does: objects whose confirmation is due are launched, but those that have a run."""
    due = {package_id: id_ for package_id, id_ in poll.due_confirmations(env).items() if id_ not in but}
    poll.confirmations_launched(env, due)
    return list(due.values())


def test_the_trouble_of_one_package_is_its_own_and_it_comes_back_with_growing_waits(
    house: House, env: Environment
) -> None:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(3)]
    without_html, without_museum, well = ids
    synchronise_all(env)
    for object_id in ids:
        send(env, object_id)
    for object_id in ids:
        house.dps.wait_for(name_of(env, object_id))
    (report,) = house.dps.home.glob(f"accepted/*/{name_of(env, without_html)}/*.html")
    hidden = report.rename(house.directory / "hidden.html")
    house.museum.faults.fail_next(3, path_contains=f"/Object/{without_museum}/", method="PUT")
    assert poll.record_verdicts(env, quiet) == 3
    assert poll.record_verdicts(env, quiet) == 0

    assert launched(env, but={well}) == [without_html, without_museum]
    assert launched(env) == [well]
    with pytest.raises(TransientFailure, match=rf"no .*-ingest-report\.html of the accepted .*_{without_html}-"):
        preserve.confirm_sip(env, without_html, quiet)
    with pytest.raises(TransientFailure, match=rf"PUT /module/Object/{without_museum}/"):
        preserve.confirm_sip(env, without_museum, quiet)
    assert preserve.confirm_sip(env, well, quiet).outcome is Outcome.PRESERVED
    assert [object_row(env, object_id).preserved for object_id in ids] == [False, False, True]

    backoff = env.settings.workflow.confirm_backoff
    assert launched(env) == []
    assert launched(later(env, backoff * 1.1), but={without_html}) == [without_museum]
    assert launched(later(env, backoff * 1.2)) == [without_html]
    assert launched(later(env, backoff * 2)) == []
    shutil.move(hidden, report)
    for object_id in (without_html, without_museum):
        assert preserve.confirm_sip(env, object_id, quiet).outcome is Outcome.PRESERVED
    assert launched(later(env, backoff * 1000)) == []
    assert [len(house.museum.log_field(object_id)) for object_id in ids] == [1, 1, 1]


def test_a_dps_that_is_down_has_said_nothing(house: House, env: Environment) -> None:
    assert poll.record_verdicts(env, quiet) == 0, "nothing waits: nobody is asked"
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    house.dps.stop()
    with pytest.raises(TransientFailure, match="cannot connect to sftp://"):
        poll.record_verdicts(env, quiet)
    assert package(env, object_id).verdict is None


def test_a_look_at_a_slow_dps_is_over_in_time(house: House, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """One package that is never answered must not keep the sensor until its tick is cut off."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.paused = True
    send(env, object_id)
    with env.transaction() as session:
        session.merge(package(env, object_id)).created_date = LONG_AGO
    for day in range(1, 29):
        (house.dps.home / "accepted" / f"2019-02-{day:02}").mkdir()
    house.dps.faults.latency = 0.1
    monkeypatch.setattr(poll, "LOOK_SECONDS", 1.0)
    begin = time.monotonic()
    assert poll.record_verdicts(env, quiet) == 0
    assert time.monotonic() - begin < 2.5


def test_over_rest_20_a_look_asks_for_a_few_packages_and_none_waits_for_ever(house: House) -> None:
    """There each is a request of its own, and a look must be over before the next one."""
    with house.environment(dps={"verdicts": "rest-2.0"}, workflow={"max_verdicts": 2}) as env:
        ids = [old_object(house) for _ in range(5)]
        synchronise_all(env)
        for object_id in ids:
            send(env, object_id)
        for object_id in ids:
            house.dps.wait_for(name_of(env, object_id))
        found = [poll.record_verdicts(env, quiet) for _ in range(4)]
        assert found == [2, 2, 1, 0]


@pytest.mark.parametrize("verdicts", ["rest-2.0", "rest-3.0"])
@pytest.mark.parametrize("damaged", [False, True], ids=["accepted", "rejected"])
def test_verdicts_and_reports_come_over_rest_as_well(house: House, verdicts: str, damaged: bool) -> None:
    settings: dict[str, Any] = {"verdicts": verdicts}
    with house.environment(dps=settings) as env:
        # Large enough to be where the damage strikes: REST 2.0 finds a package by what its METS says.
        object_id = eligible_object(house, env, ("luettelo.txt", b"Kirves\n" * 40_000))
        if damaged:
            house.dps.damage_next()
        send(env, object_id)
        house.dps.wait_for(name_of(env, object_id))
        assert confirm(env, object_id).outcome is (Outcome.REJECTED if damaged else Outcome.PRESERVED)
        assert object_row(env, object_id).preserved == (not damaged)
        assert package(env, object_id).rejected == damaged
        assert sum("ingest-report" in name for name in archived(house, env, object_id)) == 2


def test_a_person_looks_at_all_that_waits_back_to_a_day(house: House, env: Environment) -> None:
    object_ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(3)]
    synchronise_all(env)
    house.dps.damage_next()
    for object_id in object_ids[:2]:
        send(env, object_id)
        house.dps.wait_for(name_of(env, object_id))
    in_two_months = later(env, timedelta(days=60))
    assert poll.look_back(in_two_months, quiet, days=31) == poll.Look(2, ()), "both verdicts are older"
    look = poll.look_back(in_two_months, quiet, days=90)
    assert {(found.object_id, found.status, found.news) for found in look.found} == {
        (object_ids[0], "rejected", True),
        (object_ids[1], "accepted", True),
    }
    assert (look.waiting, look.news, look.count("accepted"), look.count("rejected")) == (2, 2, 1, 1)
    assert poll.look_back(env, quiet, days=31) == poll.Look(0, ())
    with house.environment(workflow={"max_verdicts": 1}) as narrow:
        for object_id in object_ids[2:]:
            send(narrow, object_id)
            house.dps.wait_for(name_of(narrow, object_id))
        assert poll.look_back(narrow, quiet, days=1).news == 1
