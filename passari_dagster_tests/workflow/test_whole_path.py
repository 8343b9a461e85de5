"""One object from the museum's catalogue to preserved, rejected, frozen or skipped."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from passari_dagster.catalogue import eligibility
from passari_dagster.catalogue.models import FreezeSource, Verdict
from passari_dagster.workflow import preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.sip.content import mets_of
from passari_dagster_tests.workflow.stories import (
    JPEG,
    LONG_AGO,
    PSD,
    TEXT,
    eligible_object,
    in_transfer,
    later,
    name_of,
    package,
    received,
)

Judge = Callable[[Path], list[str]]
METS = "{http://www.loc.gov/METS/}"


def why_not(env: Environment, object_id: int) -> str | None:
    with env.transaction() as session:
        return eligibility.why_not(session, object_id, now=env.now(), delays=env.delays)


def archive(house: House, object_id: int, name: str) -> dict[str, str]:
    """What the archive holds of a package, by file name."""
    digits = str(object_id)
    directory = house.directory / "archive" / digits[:3] / digits[3:6] / digits[6:] / f"Object_{digits}" / name / "logs"
    return {path.name: gzip.decompress(path.read_bytes()).decode() for path in directory.iterdir()}


def mets_header(tar: Path) -> dict[str, str | None]:
    root = mets_of(tar)
    header = root.find(f"{METS}metsHdr")
    assert header is not None
    return {"OBJID": root.get("OBJID")} | {
        name: header.get(name) for name in ("CREATEDATE", "LASTMODDATE", "RECORDSTATUS")
    }


def test_an_object_is_preserved(house: House, env: Environment, judge: Judge) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("kuvaus.txt", TEXT))
    begun = env.now()
    result = send(env, object_id)
    assert result.outcome is Outcome.WAITING
    name = name_of(env, object_id)
    assert name.startswith(f"20190101_Object_{object_id}-")
    assert not list((house.directory / "packages").rglob("*.tar")), "the DPS has it now"
    assert not (house.directory / "packages" / str(object_id) / "workspace").exists()
    house.dps.wait_for(name)
    assert why_not(env, object_id) == "in the workflow"

    assert confirm(env, object_id).outcome is Outcome.PRESERVED
    row, sip = object_row(env, object_id), package(env, object_id)
    (tar,) = received(house)
    assert row.preserved
    assert not row.frozen
    assert row.latest_package_id == sip.id
    assert (sip.preserved, sip.rejected, sip.cancelled, sip.uploaded) == (True, False, False, True)
    assert sip.verdict is Verdict.ACCEPTED
    assert (sip.sip_size, sip.sip_sha256) == (tar.stat().st_size, hashlib.sha256(tar.read_bytes()).hexdigest())
    assert sip.object_modified_date == LONG_AGO
    assert (sip.metadata_hash, sip.attachment_metadata_hash) == (row.metadata_hash, row.attachment_metadata_hash)
    assert sip.created_date is not None
    assert sip.submission_date is not None
    assert sip.verdict_date is not None
    assert sip.confirmed_date is not None
    assert begun <= sip.created_date <= sip.submission_date <= sip.confirmed_date <= env.now()

    kept = archive(house, object_id, name)
    assert {"download-object.log.gz", "create-sip.log.gz", "submit-sip.log.gz", "confirm-sip.log.gz"} < set(kept)
    assert {file.rpartition("ingest-report")[2] for file in kept if "ingest-report" in file} == {".xml.gz", ".html.gz"}
    assert "kuva.jpg" in kept["download-object.log.gz"]
    assert f"SHA-256 {sip.sip_sha256}" in kept["submit-sip.log.gz"]
    assert not any((house.directory / "packages").iterdir())

    (entry,) = house.museum.log_field(object_id)
    assert (entry["filename"], entry["status"]) == (name, "accepted")
    assert entry["object_modify_date"] == LONG_AGO.isoformat()
    assert in_transfer(house) == []
    assert judge(tar) == []
    header = mets_header(tar)
    assert (header["OBJID"], header["RECORDSTATUS"]) == (f"Passari_Object_{object_id}", "submission")


def test_our_own_entry_in_the_museum_does_not_make_the_object_eligible_again_and_a_change_does(
    house: House, env: Environment, judge: Judge
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    synchronise_all(env)
    assert (object_row(env, object_id).modified_date or LONG_AGO) > LONG_AGO, "MuseumPlus dates our own write"
    assert why_not(env, object_id) == "not changed since the last package"
    assert send(env, object_id).outcome is Outcome.SKIPPED

    house.museum.edit_object(object_id, title="Kirves, jonka terä on taottu uudelleen")
    synchronise_all(env)
    assert why_not(env, object_id) is None
    assert send(env, object_id).outcome is Outcome.WAITING
    first, second = package_rows(env, object_id)
    assert first.sip_filename is not None
    assert second.sip_filename is not None
    house.dps.wait_for(second.sip_filename)
    confirm(env, object_id)
    assert [transfer.status for transfer in house.dps.verdicts()] == ["accepted", "accepted"]
    tars = received(house)
    old, new = map(mets_header, tars)
    assert (old["RECORDSTATUS"], new["RECORDSTATUS"]) == ("submission", "update")
    assert old["LASTMODDATE"] is None
    assert new["LASTMODDATE"] is not None
    assert (new["OBJID"], new["CREATEDATE"]) == (old["OBJID"], old["CREATEDATE"])
    assert new["LASTMODDATE"] > (old["CREATEDATE"] or "")
    assert [judge(tar) for tar in tars] == [[], []]
    entries = house.museum.log_field(object_id)
    assert [entry["filename"] for entry in entries] == [first.sip_filename, second.sip_filename]

    # A version just packaged waits for the update delay before the next one.
    house.museum.edit_object(object_id, title="Kirves")
    synchronise_all(env)
    assert why_not(env, object_id) == "packaged too recently (update_delay)"
    assert why_not(later(env, timedelta(days=31)), object_id) is None


def test_a_package_that_arrives_damaged_is_rejected(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.damage_next()
    send(env, object_id)
    name = name_of(env, object_id)
    house.dps.wait_for(name)
    (content,) = house.dps.home.glob(f"rejected/*/{name}/{name}")
    confirm(env, object_id)
    sip = package(env, object_id)
    assert (sip.rejected, sip.preserved, sip.verdict) == (True, False, Verdict.REJECTED)
    assert not object_row(env, object_id).preserved
    assert [entry["status"] for entry in house.museum.log_field(object_id)] == ["rejected"]
    assert sum("ingest-report" in file for file in archive(house, object_id, name)) == 2
    assert not content.exists(), "it would be stored at the DPS for nothing"
    assert {path.suffix for path in content.parent.iterdir()} == {".xml", ".html"}
    assert why_not(env, object_id) == "not changed since the last package"
    assert send(env, object_id).outcome is Outcome.SKIPPED
    assert len(received(house)) == 1


def test_an_object_with_a_format_that_no_archive_takes_is_frozen(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("muokattu.psd", PSD))
    result = send(env, object_id)
    assert result.outcome is Outcome.FROZEN
    row, sip = object_row(env, object_id), package(env, object_id)
    assert row.frozen
    assert row.freeze_source is FreezeSource.AUTOMATIC
    assert row.freeze_reason is not None
    assert row.freeze_reason in result.message
    assert "muokattu.psd" not in row.freeze_reason, "objects are frozen and unfrozen by reason"
    assert "muokattu.psd" in result.message
    assert sip.cancelled
    assert sip.sip_filename is not None
    kept = archive(house, object_id, sip.sip_filename)
    assert set(kept) == {"download-object.log.gz", "create-sip.log.gz"}
    assert "muokattu.psd" in kept["create-sip.log.gz"]
    assert row.freeze_reason in kept["create-sip.log.gz"]
    assert not any((house.directory / "packages").iterdir())
    assert received(house) == []

    again = send(env, object_id)
    assert again.outcome is Outcome.SKIPPED
    assert again.message == f"object {object_id} is skipped: frozen: {row.freeze_reason}"
    assert len(package_rows(env, object_id)) == 1
    assert archive(house, object_id, sip.sip_filename) == kept


def test_an_object_that_is_not_eligible_is_skipped_and_nothing_is_downloaded(house: House, env: Environment) -> None:
    object_id = house.museum.add_object(attachments=[("kuva.jpg", JPEG)])  # of today
    synchronise_all(env)
    seen = len(house.museum.requests)
    result = preserve.download_object(env, object_id, lambda _: None)
    assert result.outcome is Outcome.SKIPPED
    assert result.message == f"object {object_id} is skipped: created too recently (preservation_delay)"
    assert len(house.museum.requests) == seen
    assert package_rows(env, object_id) == []
    assert not (house.directory / "packages").exists()
