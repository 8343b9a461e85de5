"""A package's life, and the transitions that are refused."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, select

from passari_dagster.catalogue import database, freezing, packages
from passari_dagster.catalogue.models import FreezeSource, MuseumObject, MuseumPackage, Verdict
from passari_dagster.catalogue.packages import TransitionRefusedError
from passari_dagster.catalogue.statistics import objects_by_stage
from passari_dagster.errors import PermanentFailure
from passari_dagster_tests.catalogue.rows import LONG_AGO, NOW, add_object, add_package


def _stage(engine: Engine) -> str:
    with database.transaction(engine) as session:
        return next(name for name, count in objects_by_stage(session).items() if count)


def _package(engine: Engine) -> MuseumPackage:
    with database.transaction(engine) as session:
        return session.scalars(select(MuseumPackage)).one()


def test_an_object_goes_from_the_catalogue_to_preserved(engine: Engine) -> None:
    with database.transaction(engine) as session:
        add_object(session)
    assert _stage(engine) == "other"
    with database.transaction(engine) as session:
        package = packages.begin(session, 1, object_modified=LONG_AGO, now=NOW)
    assert package.sip_filename == f"20190101_Object_1-20260301-120000-{package.package_id}.tar"
    assert _stage(engine) == "downloading"
    id_ = package.package_id
    with database.transaction(engine) as session:
        packages.mark_downloaded(session, id_, object_modified=NOW, attachment_ids=[5, 6, 5])
    assert _stage(engine) == "downloaded"
    with database.transaction(engine) as session:
        packages.mark_packaged(session, id_, size=1024, sha256="d" * 64)
    assert _stage(engine) == "packaged"
    with database.transaction(engine) as session:
        packages.mark_submitting(session, id_, now=NOW)
    assert _stage(engine) == "packaged"
    with database.transaction(engine) as session:
        packages.mark_uploaded(session, id_, now=NOW + timedelta(seconds=1))
    assert _package(engine).submission_date == NOW
    assert _stage(engine) == "submitted"
    with database.transaction(engine) as session:
        assert [waiting.object_id for waiting in packages.awaiting_verdict(session)] == [1]
        said = {"verdict": Verdict.ACCEPTED, "reported": NOW, "day": date(2026, 3, 1), "transfer_id": "t-1"}
        assert packages.record_verdict(session, id_, **said)  # type: ignore[arg-type]
        assert not packages.record_verdict(session, id_, **{**said, "verdict": Verdict.REJECTED})  # type: ignore[arg-type]
        assert packages.awaiting_verdict(session) == []
    assert _stage(engine) == "confirming"
    with database.transaction(engine) as session:
        packages.close(session, id_)
        packages.mark_confirmed(session, id_, now=NOW)
    assert _stage(engine) == "preserved"
    with database.transaction(engine) as session:
        assert session.get_one(MuseumObject, 1).preserved


def test_an_update_knows_when_the_first_accepted_package_was_begun(engine: Engine) -> None:
    with database.transaction(engine) as session:
        row = add_object(session)
        first = add_package(session, row, created_date=LONG_AGO)
        add_package(session, row, created_date=LONG_AGO + timedelta(days=9))
        add_package(session, row, created_date=LONG_AGO - timedelta(days=9), preserved=False, rejected=True)
        update = packages.begin(session, 1, object_modified=NOW, now=NOW)
        assert update.first_preserved == first.created_date
        assert update.created == NOW


def test_a_download_that_was_cut_goes_on_with_the_same_package(engine: Engine) -> None:
    with database.transaction(engine) as session:
        add_object(session)
        first = packages.begin(session, 1, object_modified=LONG_AGO, now=NOW)
    with database.transaction(engine) as session:
        again = packages.begin(session, 1, object_modified=NOW, now=NOW + timedelta(hours=1))
    assert (again.package_id, again.sip_id) == (first.package_id, first.sip_id)
    assert again.sip_filename.startswith("20260301_")


def test_no_step_can_be_taken_out_of_order(engine: Engine) -> None:
    with database.transaction(engine) as session:
        add_object(session)
        id_ = packages.begin(session, 1, object_modified=LONG_AGO, now=NOW).package_id
    with database.transaction(engine) as session, pytest.raises(TransitionRefusedError, match="not downloaded"):
        packages.mark_packaged(session, id_, size=1, sha256="")
    with database.transaction(engine) as session, pytest.raises(TransitionRefusedError, match="not made"):
        packages.mark_submitting(session, id_, now=NOW)
    with database.transaction(engine) as session, pytest.raises(TransitionRefusedError, match="no verdict"):
        packages.close(session, id_)
    with database.transaction(engine) as session, pytest.raises(TransitionRefusedError, match="not closed"):
        packages.mark_confirmed(session, id_, now=NOW)
    with database.transaction(engine) as session:
        packages.mark_downloaded(session, id_, object_modified=NOW, attachment_ids=[])
        packages.mark_packaged(session, id_, size=1, sha256="")
        packages.mark_uploaded(session, id_, now=NOW)
        with pytest.raises(TransitionRefusedError, match="sent already"):
            packages.mark_submitting(session, id_, now=NOW)
        with pytest.raises(TransitionRefusedError, match="cannot begin"):
            packages.begin(session, 1, object_modified=NOW, now=NOW)


def test_an_object_that_the_database_does_not_know_is_named(engine: Engine) -> None:
    with database.transaction(engine) as session, pytest.raises(PermanentFailure, match=r"object 77 .* sync_objects"):
        packages.begin(session, 77, object_modified=None, now=NOW)


def test_freezing_cancels_a_package_that_was_not_sent_and_keeps_watching_one_that_was(engine: Engine) -> None:
    with database.transaction(engine) as session:
        for object_id in (1, 2):
            add_object(session, object_id)
        begun = packages.begin(session, 1, object_modified=LONG_AGO, now=NOW)
        sent = add_package(session, session.get_one(MuseumObject, 2), preserved=False)
        for object_id in (1, 2):
            freezing.freeze(session, object_id, reason="Unsupported file format: psd", source=FreezeSource.AUTOMATIC)
        assert session.get_one(MuseumPackage, begun.package_id).cancelled
        assert not sent.cancelled
        assert [package.object_id for package in packages.awaiting_verdict(session)] == [2]
        with pytest.raises(TransitionRefusedError, match="no longer in the workflow"):
            packages.mark_downloaded(session, begun.package_id, object_modified=None, attachment_ids=[])


def test_a_confirmation_that_failed_comes_back_with_growing_waits(engine: Engine) -> None:
    minute = timedelta(minutes=1)

    def due(now_after: timedelta) -> list[int]:
        with database.transaction(engine) as session:
            now = NOW + now_after
            found = packages.confirmations_due(session, now=now, backoff=minute, limit=10)
            packages.mark_confirm_requested(session, found, now=now)
            return list(found.values())

    with database.transaction(engine) as session:
        add_package(session, add_object(session), preserved=False, verdict=Verdict.ACCEPTED, verdict_date=NOW)
        add_package(session, add_object(session, 2))  # passari-workflow's: closed without a verdict of ours
    assert due(timedelta(0)) == [1]
    assert due(minute / 2) == []
    assert due(minute) == [1]
    assert due(2 * minute) == []
    assert due(3 * minute) == [1]
    with database.transaction(engine) as session:
        assert session.scalars(select(MuseumPackage.confirm_attempts).order_by(MuseumPackage.id)).all() == [3, 0]
