"""Archives among the attachments: unpacked once, told of in the package, and refused when they are hostile."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.sip import build
from passari_dagster.sip.archives import unpack
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.manifest import Manifest
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, send
from passari_dagster_tests.sip.packed import tarred, zipped
from passari_dagster_tests.workflow.stories import (
    JPEG,
    TEXT,
    Killed,
    eligible_object,
    name_of,
    package,
    quiet,
    received,
)

Judge = Callable[[Path], list[str]]
ZIP = zipped(("kuvat/", b""), ("kuvat/kuva 1.jpg", JPEG), ("lue.txt", TEXT), ("tyhja/", b""))
PREMIS = {"premis": "info:lc/xmlns/premis-v2", "mets": "http://www.loc.gov/METS/"}


def members(tar: Path) -> dict[str, bytes]:
    """The files of a package."""
    with tarfile.open(tar) as archive:
        found = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: stream.read() for name, stream in found.items() if stream is not None}


def decompressions(tar: Path) -> list[dict[str, Any]]:
    """What the package tells of decompressions."""
    root = etree.fromstring(members(tar)["mets.xml"])
    told = []
    for section in root.iterfind(".//mets:digiprovMD", PREMIS):
        event = section.find(".//premis:event", PREMIS)
        if event is not None and event.findtext("premis:eventType", namespaces=PREMIS) == "decompression":
            (division,) = root.xpath(f".//mets:div[contains(@ADMID, '{section.get('ID')}')]", namespaces=PREMIS)
            told.append(
                {
                    "date": event.findtext("premis:eventDateTime", namespaces=PREMIS),
                    "detail": event.findtext("premis:eventDetail", namespaces=PREMIS),
                    "note": event.findtext(".//premis:eventOutcomeDetailNote", namespaces=PREMIS),
                    "place": division.get("LABEL"),
                    "objects": [link.text for link in event.iterfind(".//premis:linkingObjectIdentifierValue", PREMIS)],
                }
            )
    return told


def workspace(env: Environment, object_id: int) -> Workspace:
    return Workspace(env.settings.package_dir, object_id)


def unpacked_at(env: Environment, object_id: int) -> datetime:
    """The only date of unpacking that the manifest has."""
    (archive,) = Manifest(workspace(env, object_id).root).archives.values()
    return archive.unpacked


def preserve_well(house: House, env: Environment, object_id: int) -> Path:
    assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved, [transfer.reasons for transfer in house.dps.verdicts()]
    return received(house)[-1]


def test_the_files_of_archives_are_preserved_and_the_package_tells_where_they_come_from(
    house: House, env: Environment, judge: Judge
) -> None:
    packed = gzip.compress(tarred(("a/lue.txt", TEXT)))
    object_id = eligible_object(house, env, ("kuvat.zip", ZIP), ("arkisto.tar.gz", packed), ("kuva.jpg", JPEG))
    first, second, third = house.museum.object(object_id).multimedia_ids
    begun, log = env.now().replace(microsecond=0), list[str]()
    preserve.download_object(env, object_id, log.append)
    assert any("kuvat.zip': ZIP, unpacked to 2 files" in line for line in log)
    assert any("empty directories are left out: 'tyhja'" in line for line in log)
    done = env.now()
    tar = preserve_well(house, env, object_id)
    assert judge(tar) == []
    files = members(tar)
    assert {
        name: data for name, data in files.items() if name.startswith("attachments/") and "Multimedia" not in name
    } == {
        f"attachments/{first}/kuvat.zip/kuvat/kuva 1.jpg": JPEG,
        f"attachments/{first}/kuvat.zip/lue.txt": TEXT,
        f"attachments/{second}/arkisto.tar.gz/a/lue.txt": TEXT,
        f"attachments/{third}/kuva.jpg": JPEG,
    }
    of_zip, of_tar = sorted(decompressions(tar), key=lambda event: str(event["place"]), reverse=True)
    assert (of_zip["place"], of_tar["place"]) == ("kuvat.zip", "arkisto.tar.gz")
    assert of_zip["detail"] == "Archive extraction"
    assert of_zip["note"] == (
        f"Extracted from the original archive kuvat.zip (ZIP, {len(ZIP)} bytes, "
        f"SHA-256 {hashlib.sha256(ZIP).hexdigest()}), which is not in the package"
    )
    assert of_zip["objects"] == [
        f"Multimedia:{first}:attachments/{first}/kuvat.zip/kuvat/kuva 1.jpg",
        f"Multimedia:{first}:attachments/{first}/kuvat.zip/lue.txt",
    ]
    assert begun <= datetime.fromisoformat(of_zip["date"]) <= done


def test_a_hostile_archive_freezes_its_object_before_anything_is_packaged(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", zipped(("../../x.txt", TEXT), ("/y.txt", TEXT))))
    result = send(env, object_id)
    assert result.outcome is Outcome.FROZEN
    assert "'../../x.txt' leaves its directory" in result.message
    assert "'/y.txt' is absolute" in result.message
    assert object_row(env, object_id).freeze_reason == "Archive has a path that leads out of it"
    assert package(env, object_id).cancelled
    assert not any((house.directory / "packages").iterdir())
    assert not list(house.directory.rglob("x.txt"))


def test_limits_are_settings(house: House) -> None:
    with house.environment(sip={"archive_max_files": 1}) as env:
        object_id = eligible_object(house, env, ("kuvat.zip", ZIP))
        assert send(env, object_id).outcome is Outcome.FROZEN
        assert object_row(env, object_id).freeze_reason == "Archive has too many files"


MACOS = {f"__MACOSX/kuvat/._{n}.jpg": b"\0\5\x16\7\0\2\0\0Mac OS X" for n in range(120)}


def test_a_zip_of_macos_is_preserved_without_its_leftovers_and_the_package_tells_so(house: House, judge: Judge) -> None:
    packed = zipped(("kuvat/1.jpg", JPEG), ("kuvat/.DS_Store", b"\0\0\0\1Bud1"), *MACOS.items())
    with house.environment(sip={"leave_out_leftovers": True}) as env:
        object_id = eligible_object(house, env, ("kuvat.zip", packed))
        log = list[str]()
        preserve.download_object(env, object_id, log.append)
        (line,) = (line for line in log if "leftovers of operating systems are left out" in line)
        assert all(repr(name) in line for name in MACOS)
        tar = preserve_well(house, env, object_id)
    assert judge(tar) == []
    assert [name for name in members(tar) if ".zip/" in name] == [
        f"attachments/{house.museum.object(object_id).multimedia_ids[0]}/kuvat.zip/kuvat/1.jpg"
    ]
    (event,) = decompressions(tar)
    note = event["note"].partition("which is not in the package; ")[2]
    assert note.startswith(
        "left out were files that operating systems had put there for themselves: __MACOSX/kuvat/._0.jpg, "
    )
    assert note.endswith(" and 21 more")


def test_by_default_the_leftovers_of_macos_freeze_the_object(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", zipped(("kuvat/1.jpg", JPEG), *MACOS.items())))
    assert send(env, object_id).outcome is Outcome.FROZEN


def test_many_archives_do_not_make_more_files_than_the_dps_takes(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is small enough."""
    monkeypatch.setattr(build, "MAX_FILES", 8)
    object_id = eligible_object(house, env, *((f"{number}.zip", ZIP) for number in range(10)))
    assert send(env, object_id).outcome is Outcome.FROZEN
    assert object_row(env, object_id).freeze_reason == "Object has too many files"
    assert house.museum.count("/attachment") == 3, "there is no need to go on"


def test_a_kill_between_the_unpacking_and_the_manifest_starts_clean(
    house: House, env: Environment, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", ZIP), ("kuva.jpg", JPEG))
    with monkeypatch.context() as patch:

        def dying(manifest: Manifest, files: object, archives: object = None) -> None:
            if archives:
                raise Killed
            manifest.digests.update(files)  # type: ignore[call-overload]
            manifest.keep_only(set(manifest.digests))

        patch.setattr(Manifest, "add", dying)
        with pytest.raises(Killed):
            preserve.download_object(env, object_id, quiet)
    (directory,) = workspace(env, object_id).attachments.glob("*/kuvat.zip")
    assert directory.is_dir(), "it was unpacked"
    (directory / "left over.txt").write_bytes(b"x")
    assert preserve.download_object(env, object_id, quiet).proceeds
    date = unpacked_at(env, object_id)
    tar = preserve_well(house, env, object_id)
    assert judge(tar) == []
    assert [event["date"][:19] for event in decompressions(tar)] == [date.isoformat()[:19]]
    assert not any("left over" in name for name in members(tar))


def test_a_kill_in_the_middle_of_the_unpacking_leaves_nothing_in_the_package(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", ZIP))
    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_remove", lambda scratch: None)  # as nobody does after a kill

        def dying(path: Path) -> None:
            raise Killed

        patch.setattr(unpack, "sync_directory", dying)
        with pytest.raises(Killed):
            preserve.download_object(env, object_id, quiet)
    left = workspace(env, object_id).workspace / "unpacked"
    assert list(left.rglob("*.txt"))
    assert preserve.download_object(env, object_id, quiet).proceeds
    assert not left.exists()
    preserve_well(house, env, object_id)


def cut_after_the_first(house: House, env: Environment, object_id: int) -> None:
    """A download that ends when the first attachment is here."""
    second = house.museum.object(object_id).multimedia_ids[1]
    house.museum.faults.fail_next(3, path_contains=f"/{second}/attachment")
    with pytest.raises(TransientFailure):
        preserve.download_object(env, object_id, quiet)


def test_an_archive_that_was_unpacked_in_a_cut_attempt_is_known_again_with_its_date(
    house: House, env: Environment
) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", ZIP), ("kuva.jpg", JPEG))
    cut_after_the_first(house, env, object_id)
    date, fetched, log = unpacked_at(env, object_id), house.museum.count("/attachment"), list[str]()
    preserve.download_object(env, object_id, log.append)
    assert house.museum.count("/attachment") == fetched + 1
    assert any("'kuvat.zip' is here already" in line for line in log)
    assert unpacked_at(env, object_id) == date
    tar = preserve_well(house, env, object_id)
    assert [event["date"][:19] for event in decompressions(tar)] == [date.isoformat()[:19]]


@pytest.mark.parametrize("damage", ["gone", "flipped", "directory"])
def test_an_archive_of_which_the_disk_lost_something_is_fetched_again(
    house: House, env: Environment, damage: str
) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", ZIP), ("kuva.jpg", JPEG))
    cut_after_the_first(house, env, object_id)
    (directory,) = workspace(env, object_id).attachments.glob("*/kuvat.zip")
    if damage == "gone":
        (directory / "lue.txt").unlink()
    elif damage == "flipped":
        (directory / "lue.txt").write_bytes(TEXT[:-1] + b"!")
    else:
        shutil.rmtree(directory)
    fetched = house.museum.count("/attachment")
    preserve.download_object(env, object_id, quiet)
    assert house.museum.count("/attachment") == fetched + 2
    assert (directory / "lue.txt").read_bytes() == TEXT
    preserve_well(house, env, object_id)


def test_what_was_in_an_archive_is_not_packaged_when_it_has_changed(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuvat.zip", ZIP))
    preserve.download_object(env, object_id, quiet)
    (file,) = workspace(env, object_id).attachments.rglob("lue.txt")
    file.write_bytes(TEXT[:-1] + b"!")
    with pytest.raises(PermanentFailure, match=r"lue\.txt is not the file that was downloaded"):
        preserve.create_sip(env, object_id, quiet)
    preserve_well(house, env, object_id)


def test_an_archive_that_became_something_else_between_two_attempts_is_forgotten(
    house: House, env: Environment
) -> None:
    object_id = eligible_object(house, env, ("ainoa", ZIP), ("kuva.jpg", JPEG))
    cut_after_the_first(house, env, object_id)
    first = house.museum.object(object_id).multimedia_ids[0]
    house.museum.set_attachment(first, content=TEXT)
    preserve.download_object(env, object_id, quiet)
    manifest = json.loads((workspace(env, object_id).root / "manifest.json").read_bytes())
    assert manifest["archives"] == {}
    assert [path for path in manifest["files"] if "ainoa" in path] == [f"attachments/{first}/ainoa"]
    tar = preserve_well(house, env, object_id)
    assert decompressions(tar) == []
    assert members(tar)[f"attachments/{first}/ainoa"] == TEXT
