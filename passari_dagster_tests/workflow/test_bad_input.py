"""What museums have in their catalogues, and what goes wrong with keys and disks: said clearly, and never worse."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.workflow import preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, make_signing_key, object_row, send, synchronise_all
from passari_dagster_tests.sip.content import LIDO
from passari_dagster_tests.sip.packed import zipped
from passari_dagster_tests.workflow.stories import (
    ENTITY_BOMB,
    JPEG,
    PSD,
    TEXT,
    eligible_object,
    name_of,
    package,
    quiet,
    received,
)

Judge = Callable[[Path], list[str]]


def files_of(house: House, object_id: int) -> list[Path]:
    """The attachments' files in the package directory."""
    directory = house.directory / "packages" / str(object_id) / "sip" / "attachments"
    return sorted(path for path in directory.glob("*/*") if path.name != "Multimedia.xml")


def preserve_well(house: House, env: Environment, object_id: int) -> Path:
    assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved, [transfer.reasons for transfer in house.dps.verdicts()]
    return received(house)[-1]


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("../../etc/passwd", "Filename not allowed for attachment"),
        ("..", "Filename not allowed for attachment"),
        ("kuva\nuusi.jpg", "Filename not allowed for attachment"),
        ("k" * 296 + ".jpg", "Filename not allowed for attachment"),
        ("Multimedia.xml", "Filename 'Multimedia.xml' not allowed for attachment"),
        ("käsine.jpg", "Filename contains non-ASCII characters"),
    ],
)
def test_an_attachment_of_a_name_that_cannot_be_kept_freezes_its_object(
    house: House, env: Environment, filename: str, reason: str
) -> None:
    object_id = eligible_object(house, env, (filename, JPEG))
    result = send(env, object_id)
    assert result.outcome is Outcome.FROZEN
    assert repr(filename)[1:-1] in result.message
    row = object_row(env, object_id)
    assert (row.frozen, row.freeze_reason) == (True, reason)
    assert package(env, object_id).cancelled
    assert [path.name for path in house.directory.rglob("*asswd*")] == []
    assert received(house) == []


def test_all_that_is_wrong_with_an_object_is_told_when_it_is_frozen(house: House, env: Environment) -> None:
    """Names and archives are seen first; who mends them is not to learn of the files only when that is done."""
    object_id = eligible_object(
        house,
        env,
        ("käsine.jpg", JPEG[:-9]),
        ("kuvat.zip", zipped(("../x.txt", TEXT))),
        ("hyvät.zip", zipped(("kerrokset.psd", PSD))),
        ("kerrokset.psd", PSD),
        ("kuva.jpg", JPEG),
    )
    lido = LIDO.replace(b"</lido:lidoRecID>", b"</lido:lidoRecID><lido:applicationProfile>x</lido:applicationProfile>")
    house.museum.faults.replace_body(f"/module/Object/{object_id}/export/45005", lido)
    result = send(env, object_id)
    assert result.outcome is Outcome.FROZEN
    first, second, third, fourth, _ = house.museum.object(object_id).multimedia_ids
    told = dict(line.split(": ")[:2] for line in result.message.partition(" characters: ")[2].splitlines())
    assert told == {
        f"'attachments/{first}/käsine.jpg'": "Filename contains non-ASCII characters",
        f"'attachments/{second}/kuvat.zip'": "Archive has a path that leads out of it",
        f"'attachments/{third}/hyvät.zip'": "Filename contains non-ASCII characters",
        # Under the names that they have for the time being: their own cannot be kept.
        f"'attachments/{first}/Multimedia_{first}.jpg'": "JPEG file is damaged",
        f"'attachments/{third}/Multimedia_{third}.zip/kerrokset.psd'": "Unsupported file format",
        f"'attachments/{fourth}/kerrokset.psd'": "Unsupported file format",
        "'reports/lido.xml'": "LIDO document not valid",
    }
    assert object_row(env, object_id).freeze_reason == "Filename contains non-ASCII characters"
    assert package(env, object_id).cancelled
    assert not (house.directory / "packages" / str(object_id)).exists()


def test_an_object_that_will_be_frozen_waits_for_a_tool_that_is_missing(house: House) -> None:
    """Nobody knows yet all that is wrong with it."""
    with house.environment(sip={"tools": {"jhove": str(house.directory / "no-jhove")}}) as env:
        object_id = eligible_object(house, env, ("käsine.jpg", JPEG[:-9]), ("kuva.jpg", JPEG))
        with pytest.raises(PermanentFailure, match=r"^JHOVE .* has no verdict"):
            preserve.download_object(env, object_id, quiet)
        assert not object_row(env, object_id).frozen
    with house.environment() as env:
        result = preserve.download_object(env, object_id, quiet)
        assert result.outcome is Outcome.FROZEN
        assert "JPEG file is damaged" in result.message
    assert house.museum.count("/attachment") == 2, "the files were kept"


@pytest.mark.parametrize(
    "filenames",
    [["k" * 246 + ".jpg"], ["kuva.jpg", "kuva.jpg"], ["", "a & b <c> %2F'.jpg"]],
    ids=["long", "two", "odd"],
)
def test_unusual_names_that_work(house: House, env: Environment, judge: Judge, filenames: list[str]) -> None:
    object_id = eligible_object(house, env, *((filename, JPEG) for filename in filenames))
    assert judge(preserve_well(house, env, object_id)) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file of this attachment is empty: only its metadata is packaged"),
        (None, "MuseumPlus has no file for this attachment: only its metadata is packaged"),
    ],
    ids=["empty", "404"],
)
def test_of_an_attachment_without_content_the_metadata_is_preserved_and_the_log_says_so(
    house: House, env: Environment, judge: Judge, content: bytes | None, said: str
) -> None:
    object_id = eligible_object(house, env, ("tyhja.jpg", content), ("kuvaus.txt", TEXT))
    log: list[str] = []
    preserve.download_object(env, object_id, log.append)
    assert [line for line in log if said in line and "tyhja.jpg" in line]
    assert [path.name for path in files_of(house, object_id)] == ["kuvaus.txt"]
    assert judge(preserve_well(house, env, object_id)) == []


def test_a_body_that_is_cut_is_asked_for_again(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.faults.fail_next(2, path_contains="/attachment", fault="cut")
    assert preserve.download_object(env, object_id, quiet).outcome is Outcome.DONE
    assert [path.read_bytes() for path in files_of(house, object_id)] == [JPEG]
    assert house.museum.count("/attachment") == 3


def test_of_a_body_that_is_cut_again_and_again_nothing_is_kept(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("kuvaus.txt", TEXT))
    facts = house.museum.object(object_id)
    house.museum.faults.fail_next(3, path_contains=f"/{facts.multimedia_ids[1]}/attachment", fault="cut")
    with pytest.raises(TransientFailure, match=r"Multimedia/\d+/attachment.*\(3 attempts\)"):
        preserve.download_object(env, object_id, quiet)
    assert [path.name for path in files_of(house, object_id)] == ["kuva.jpg"]
    assert not package(env, object_id).downloaded
    # What came whole is not asked for again.
    before = house.museum.count("/attachment")
    assert preserve.download_object(env, object_id, quiet).outcome is Outcome.DONE
    assert house.museum.count("/attachment") == before + 1
    preserve_well(house, env, object_id)


def test_an_attachment_that_changed_between_two_attempts_is_fetched_anew(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuvaus.txt", b"old\n"), ("kuva.jpg", JPEG))
    first, second = house.museum.object(object_id).multimedia_ids
    house.museum.faults.fail_next(3, path_contains=f"/{second}/attachment")
    with pytest.raises(TransientFailure):
        preserve.download_object(env, object_id, quiet)
    house.museum.set_attachment(first, content=b"new\n")
    house.museum.edit_object(object_id, multimedia_ids=[first])
    preserve.download_object(env, object_id, quiet)
    assert [path.read_bytes() for path in files_of(house, object_id)] == [b"new\n"]
    preserve_well(house, env, object_id)


def test_an_object_document_with_an_entity_bomb_is_refused(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.bomb(object_id)
    with pytest.raises(PermanentFailure, match=rf"/module/Object/{object_id}.*document type declaration"):
        send(env, object_id)
    assert not object_row(env, object_id).frozen
    house.museum.faults.replace_body(f"/module/Object/{object_id}", None)
    preserve_well(house, env, object_id)


def test_an_attached_xml_file_with_an_entity_bomb_freezes_its_object(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("luettelo.xml", ENTITY_BOMB))
    result = send(env, object_id)
    assert result.outcome is Outcome.FROZEN
    assert "luettelo.xml" in result.message
    assert received(house) == []


def test_an_object_that_the_user_may_not_read_names_the_permission(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.edit_object(object_id, truncated=True)
    with pytest.raises(PermanentFailure, match=rf"Object {object_id} .*lacks read permission on module Object"):
        send(env, object_id)
    house.museum.edit_object(object_id, truncated=False)
    preserve_well(house, env, object_id)


def test_an_object_that_is_gone_is_named(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.museum.delete_object(object_id)
    with pytest.raises(PermanentFailure, match=rf"Object/{object_id}: not found"):
        send(env, object_id)


def test_an_object_without_dates_is_preserved(house: House, env: Environment, judge: Judge) -> None:
    object_id = house.museum.add_object(created=None, modified=None, attachments=[("kuva.jpg", JPEG)])
    synchronise_all(env)
    assert judge(preserve_well(house, env, object_id)) == []
    (entry,) = house.museum.log_field(object_id)
    assert entry["object_modify_date"] is None


# Keys


def test_a_key_that_does_not_fit_its_certificate_is_named_and_the_object_is_not_blamed(house: House) -> None:
    (house.directory / "other").mkdir()
    _, certificate = make_signing_key(house.directory / "other")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrong = house.directory / "wrong.pem"
    wrong.write_bytes(key + certificate.read_bytes())
    with house.environment(dps={"sign_key": wrong}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        with pytest.raises(PermanentFailure, match=re.escape(str(wrong))) as raised:
            send(env, object_id)
        assert "does not belong to the certificate" in str(raised.value)
        assert not object_row(env, object_id).frozen
    with house.environment() as env:
        preserve_well(house, env, object_id)


def test_a_certificate_that_the_dps_does_not_know_is_its_affair_and_the_package_is_rejected(house: House) -> None:
    (house.directory / "other").mkdir()
    unknown, _ = make_signing_key(house.directory / "other")
    with house.environment(dps={"sign_key": unknown}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        send(env, object_id)
        transfer = house.dps.wait_for(name_of(env, object_id))
        assert transfer.status == "rejected"
        assert any("signature" in reason for reason in transfer.reasons)
        confirm(env, object_id)
        assert package(env, object_id).rejected


def test_a_wrong_password_is_named_and_not_shown(house: House) -> None:
    with house.environment(museumplus={"password": "kolme-sanaa-salassa"}) as env:
        with pytest.raises(PermanentFailure, match=r"check .*museumplus\.password") as raised:
            synchronise_all(env)
        assert "kolme" not in repr(raised.value)
        assert "kolme" not in repr(env)


# Disks


@pytest.fixture
def small_disk(house: House) -> Iterator[Path]:
    """The package directory, on a file system of its own that is soon full."""
    path = house.directory / "packages"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Leave so many bytes free."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (filler := disk / "filler").write_bytes(b"\0" * (free - left))
    return filler


@pytest.mark.parametrize("step", ["download_object", "create_sip"])
@pytest.mark.parametrize("left", [0, 64 * 1024], ids=["at the beginning", "in the middle"])
def test_a_full_disk_is_told_and_the_object_goes_on_when_there_is_room(
    house: House, env: Environment, small_disk: Path, step: str, left: int
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG), ("luettelo.txt", b"Kirves\n" * 15_000))
    if step == "create_sip":
        preserve.download_object(env, object_id, quiet)
    filler = fill(small_disk, left)
    with pytest.raises(TransientFailure) as raised:
        getattr(preserve, step)(env, object_id, quiet)
    assert f"object {object_id}: no space left for {small_disk / str(object_id)}" in str(raised.value)
    assert f"free space in {small_disk} or {house.directory / 'archive'}" in str(raised.value)
    assert not list(small_disk.rglob("*.download"))
    assert not list(small_disk.rglob("*.part"))
    assert not object_row(env, object_id).frozen
    filler.unlink()
    preserve_well(house, env, object_id)
