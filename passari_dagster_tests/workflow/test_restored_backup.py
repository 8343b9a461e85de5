"""An older backup of the museum database is restored: what was sent meanwhile is remembered, and not sent again.

The backup is a real one of the tables' rows: taken at a point of the story, put back at another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from passari_dagster.catalogue.models import Base
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.workflow import audit, journal, poll, preserve, recover
from passari_dagster.workflow.bulk import REFUSED
from passari_dagster.workflow.cancel import cancel_package
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.workflow.stories import (
    JPEG,
    Killed,
    eligible_object,
    killed_at,
    later,
    name_of,
    old_object,
    package,
    quiet,
    received,
    wait_until,
)

Restore = Callable[[], None]


def deed(env: Environment) -> audit.Deed:
    """Maija restores a backup."""
    return audit.Deed(env.now, audit.Actor("maija"), "recover")


def backup(env: Environment) -> Restore:
    """Take a backup; what is returned puts it back."""
    with env.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS backup"))
        for table in Base.metadata.sorted_tables:
            connection.execute(text(f"DROP TABLE IF EXISTS backup.{table.name}"))
            connection.execute(text(f"CREATE TABLE backup.{table.name} AS SELECT * FROM public.{table.name}"))

    def restore() -> None:
        with env.engine.begin() as connection:
            # Objects and packages refer to each other: no order of the tables would do.
            connection.execute(text("SET session_replication_role = replica"))
            for table in Base.metadata.tables:
                connection.execute(text(f"TRUNCATE public.{table} CASCADE"))
            for table in Base.metadata.tables:
                connection.execute(text(f"INSERT INTO public.{table} SELECT * FROM backup.{table}"))
            connection.execute(text("SET session_replication_role = origin"))

    return restore


def send_and_confirm(house: House, env: Environment, object_id: int) -> None:
    """Both runs of an object."""
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)


def test_a_package_that_was_begun_and_sent_after_the_backup_is_not_sent_again(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    restore = backup(env)
    house.dps.processing = 2  # for a while the DPS shows it nowhere
    send(env, object_id)
    name = name_of(env, object_id)
    before = package(env, object_id)
    wait_until(lambda: not any((house.dps.home / "transfer").iterdir()))

    restore()
    assert package_rows(env, object_id) == []
    lines: list[str] = []
    assert preserve.download_object(env, object_id, lines.append).outcome is Outcome.DONE
    assert any("put back from the archive" in line for line in lines)
    assert send(env, object_id).outcome in (Outcome.WAITING, Outcome.DONE)
    house.dps.wait_for(name)
    assert confirm(env, object_id).outcome is Outcome.PRESERVED
    assert [path.name.partition("-")[2] for path in received(house)] == [name]
    after = package(env, object_id)
    assert after.preserved
    assert object_row(env, object_id).preserved
    for column in ("sip_filename", "sip_id", "created_date", "metadata_hash", "attachment_metadata_hash", "sip_sha256"):
        assert getattr(after, column) == getattr(before, column)


def test_a_package_that_was_confirmed_after_the_backup_is_preserved_without_asking_the_dps(
    house: House, env: Environment
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    restore = backup(env)
    send_and_confirm(house, env, object_id)
    before = package(env, object_id)

    restore()
    asked = len(house.dps.requests)
    result = send(env, object_id)
    assert result.outcome is Outcome.SKIPPED
    assert "not changed" in result.message or "preserved" in result.message
    assert len(house.dps.requests) == asked
    after = package(env, object_id)
    assert after.preserved
    assert after.confirmed_date == before.confirmed_date
    assert after.transfer_id == before.transfer_id
    assert poll.record_verdicts(env, quiet) == 0


def test_an_object_that_changed_meanwhile_is_an_update_of_what_was_sent(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    restore = backup(env)
    send_and_confirm(house, env, object_id)
    first = name_of(env, object_id)

    restore()
    house.museum.edit_object(object_id, title="Uusi nimi")
    synchronise_all(env)
    much_later = later(env, timedelta(days=400))
    lines: list[str] = []
    preserve.download_object(much_later, object_id, lines.append)
    preserve.create_sip(much_later, object_id, lines.append)
    preserve.submit_sip(much_later, object_id, lines.append)
    assert any("update SIP" in line for line in lines), lines
    wait_until(lambda: len(received(house)) == 2)
    assert {row.sip_filename for row in package_rows(env, object_id)} > {first}


@pytest.mark.parametrize("launched", ["the whole job", "submit_sip alone"])
def test_a_package_that_the_backup_takes_for_not_sent_is_not_sent_again(
    house: House, env: Environment, launched: str
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    tar = house.directory / "packages" / str(object_id) / name_of(env, object_id)
    kept = house.directory / "kept.tar"
    shutil.copyfile(tar, kept)
    restore = backup(env)
    house.dps.processing = 2
    preserve.submit_sip(env, object_id, quiet)
    wait_until(lambda: not any((house.dps.home / "transfer").iterdir()))

    restore()
    shutil.copyfile(kept, tar)  # the files were in the backup, too
    assert package(env, object_id).submission_date is None
    if launched == "submit_sip alone":
        preserve.submit_sip(env, object_id, quiet)
    else:
        send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    assert confirm(env, object_id).outcome is Outcome.PRESERVED
    assert len(received(house)) == 1


def test_the_package_that_the_backup_knows_as_begun_makes_room_for_the_one_that_was_sent(
    house: House, env: Environment
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    begun = name_of(env, object_id)
    restore = backup(env)
    cancel_package(env, object_id, quiet)
    send(env, object_id)
    sent = next(row.sip_filename for row in package_rows(env, object_id) if row.sip_filename != begun)
    assert sent is not None

    restore()
    (preview,) = recover.recover(env, audit.Actor("maija"), log=quiet, dry_run=True).tally.entries
    assert preview.detail == f"{sent}; cancelled, since begun and not sent: {begun}"
    send(env, object_id)
    rows = {row.sip_filename: row for row in package_rows(env, object_id)}
    assert rows[begun].cancelled
    assert not rows[begun].is_open
    assert object_row(env, object_id).latest_package_id == rows[sent].id
    house.dps.wait_for(sent)
    assert confirm(env, object_id).outcome is Outcome.PRESERVED
    assert [path.name.partition("-")[2] for path in received(house)] == [sent]


def test_cancelling_with_an_old_backup_does_not_give_up_what_the_dps_works_on(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    restore = backup(env)
    house.dps.processing = 3
    preserve.submit_sip(env, object_id, quiet)
    wait_until(lambda: not any((house.dps.home / "transfer").iterdir()))
    restore()
    with pytest.raises(PermanentFailure, match="that is put back"):
        cancel_package(env, object_id, quiet, resend=True)
    with pytest.raises(PermanentFailure, match=r"the DPS may be at work on it|is with the DPS"):
        cancel_package(env, object_id, quiet)


def test_what_a_person_gave_up_stays_given_up(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    restore = backup(env)
    with pytest.raises(Killed):
        send(killed_at(env, "after the intent"), object_id)
    cancel_package(env, object_id, quiet)
    restore()
    send(env, object_id)
    assert len(package_rows(env, object_id)) == 1
    wait_until(lambda: len(received(house)) == 1)


def test_an_archive_that_cannot_be_read_is_not_taken_for_an_empty_one(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    restore = backup(env)
    send(env, object_id)
    wait_until(lambda: len(received(house)) == 1)
    restore()
    archive = env.settings.archive_dir
    archive.rename(archive.with_name("elsewhere"))
    with pytest.raises(TransientFailure, match="is not there: mount"):
        send(env, object_id)
    with pytest.raises(TransientFailure, match="is not there: mount"):
        journal.recover_all(env, quiet, deed(env))
    archive.with_name("elsewhere").rename(archive)
    send(env, object_id)
    assert len(received(house)) == 1


def test_killed_between_the_confirmation_and_its_record_the_record_is_made_up_for(
    house: House, env: Environment
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send_and_confirm(house, env, object_id)
    record = next((house.directory / "archive").rglob(journal.FILE))
    whole = record.read_text()
    record.unlink()
    preserve.confirm_sip(env, object_id, quiet)
    assert record.read_text() == whole


def test_killed_between_the_intent_and_its_record_the_record_is_made_up_for(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, "after the intent"), object_id)
    record = next((house.directory / "archive").rglob(journal.FILE))
    record.unlink()
    send(env, object_id)
    assert record.is_file()


def test_all_that_was_lost_is_put_back_at_once_and_followed_without_a_launch(house: House, env: Environment) -> None:
    object_ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(3)]
    synchronise_all(env)
    restore = backup(env)
    for object_id in object_ids:
        send(env, object_id)
        house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_ids[0])
    restore()
    lines: list[str] = []
    assert journal.recover_all(env, lines.append, deed(env)) == 3
    assert len([line for line in lines if "put back from the archive" in line]) == 3
    assert package(env, object_ids[0]).preserved
    assert poll.record_verdicts(env, quiet) == 2
    lines.clear()
    assert journal.recover_all(env, lines.append, deed(env)) == 3
    assert lines == []
    with env.transaction() as session:
        (event,) = audit.events(session, limit=10)
    assert (event.who, event.action, event.object_ids) == ("maija", "recover", tuple(sorted(object_ids)))


def test_a_damaged_record_does_not_keep_others_from_being_put_back(house: House, env: Environment) -> None:
    object_ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(2)]
    synchronise_all(env)
    restore = backup(env)
    for object_id in object_ids:
        send(env, object_id)
    restore()
    record = next((house.directory / "archive").rglob(f"*Object_{object_ids[0]}-*/{journal.FILE}"))
    record.write_text("")
    lines: list[str] = []
    with pytest.raises(PermanentFailure, match="1 of 2 objects"):
        journal.recover_all(env, lines.append, deed(env))
    assert any(str(record) in line for line in lines)
    assert package(env, object_ids[1]).submission_date is not None


def test_what_would_be_put_back_is_told_object_by_object_as_what_is(house: House, env: Environment) -> None:
    damaged, *object_ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(3)]
    synchronise_all(env)
    restore = backup(env)
    for object_id in (damaged, *object_ids):
        send(env, object_id)
    names = {object_id: name_of(env, object_id) for object_id in object_ids}
    restore()
    record = next((house.directory / "archive").rglob(f"*Object_{damaged}-*/{journal.FILE}"))
    record.write_text("")

    who = audit.Actor("maija", run_id="run-1")
    preview = recover.recover(env, who, log=quiet, dry_run=True)
    assert [package_rows(env, object_id) for object_id in object_ids] == [[], []]
    with env.transaction() as session:
        assert audit.events(session, limit=10) == []
    done = recover.recover(env, who, log=quiet, reason="the disk died")
    assert preview.tally.entries == done.tally.entries
    assert preview.archived == done.archived == 3
    assert done.summary == "1 refused, 2 put back from the archive; 3 objects are in the archive"
    assert preview.summary == f"dry run, nothing is done: {done.summary}"
    assert done.tally.counts == {REFUSED: 1, recover.RECOVERED: 2}
    assert str(record) in done.tally.refusals[0].detail
    assert {entry.object_id: entry.detail for entry in done.tally.entries if entry.outcome != REFUSED} == names
    assert all(package(env, object_id).submission_date is not None for object_id in object_ids)
    with env.transaction() as session:
        (event,) = audit.events(session, limit=10)
    assert (event.who, event.run_id, event.action, event.reason) == ("maija", "run-1", "recover", "the disk died")
    assert recover.recover(env, who, log=quiet, dry_run=True).tally.counts == {REFUSED: 1}
    shutil.rmtree(record.parent)
    assert recover.recover(env, who, log=quiet).summary.startswith("the database knows all packages of the ")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda record: record.write_text('{"package": '), "is damaged"),
        (lambda record: record.write_text(record.read_text().replace("_Object_", "_object_")), "is of another package"),
    ],
)
def test_a_damaged_record_is_named_and_nothing_is_sent(
    house: House, env: Environment, damage: Callable[[Path], object], message: str
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    restore = backup(env)
    send(env, object_id)
    restore()
    record = next((house.directory / "archive").rglob(journal.FILE))
    damage(record)
    with pytest.raises(PermanentFailure, match=message) as caught:
        send(env, object_id)
    assert str(object_id) in str(caught.value)
    assert str(record) in str(caught.value)
    wait_until(lambda: len(received(house)) == 1)
