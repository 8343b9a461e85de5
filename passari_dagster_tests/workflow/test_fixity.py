"""One byte that changes on our disk, anywhere between download and DPS: found, named, never sent, nobody's fault."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from passari_dagster import durable
from passari_dagster.dps import sftp
from passari_dagster.errors import PermanentFailure, TransientFailure, UnforeseenContent
from passari_dagster.sip.archives.unpack import Limits, kind_of
from passari_dagster.sip.files import FilesChanged
from passari_dagster.sip.formats import identify
from passari_dagster.sip.formats.facts import Examined
from passari_dagster.sip.signature import Signer
from passari_dagster.workflow import museum_toolkit, preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, send
from passari_dagster_tests.sip.content import tiff
from passari_dagster_tests.sip.packed import tarred, zipped
from passari_dagster_tests.workflow.stories import (
    JPEG,
    TEXT,
    eligible_object,
    in_transfer,
    name_of,
    package,
    quiet,
    received,
)

FILES = {
    "the LIDO document": "reports/lido.xml",
    "the object": "reports/Object.xml",
    "an attachment's document": "attachments/*/Multimedia.xml",
    "an image that is decoded": "attachments/*/kuva.jpg",
    "an image that is measured": "attachments/*/kuva.tif",
    "a text": "attachments/*/kuvaus.txt",
}


def flip(path: Path, place: float) -> None:
    """Change one bit of a file; neither its size nor its dates tell.

    Arguments:
        place: how far into the file, from 0 to 1.
    """
    status = path.stat()
    with path.open("r+b") as stream:
        at = min(int(place * status.st_size), status.st_size - 1)
        stream.seek(at)
        (byte,) = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def object_with_everything(house: House, env: Environment) -> int:
    return eligible_object(house, env, ("kuva.jpg", JPEG), ("kuva.tif", tiff()), ("kuvaus.txt", TEXT))


def sip_file(house: House, object_id: int, pattern: str) -> Path:
    return sorted((house.directory / "packages" / str(object_id) / "sip").glob(pattern))[0]


def tar_of(house: House, env: Environment, object_id: int) -> Path:
    return house.directory / "packages" / str(object_id) / name_of(env, object_id)


def nothing_was_made_of_it(house: House, env: Environment, object_id: int) -> None:
    assert not list((house.directory / "packages").rglob("*.tar*"))
    assert not package(env, object_id).packaged
    assert not object_row(env, object_id).frozen
    assert not received(house)
    assert not in_transfer(house)


def all_is_well_when_it_is_launched_again(house: House, env: Environment, object_id: int) -> None:
    assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.wait_for(name_of(env, object_id))
    assert confirm(env, object_id).outcome is Outcome.PRESERVED
    assert object_row(env, object_id).preserved
    assert len(received(house)) == 1


@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_between_download_and_packing(house: House, env: Environment, pattern: str) -> None:
    """At the beginning a file is no longer what it was, in the middle and at the end it may still look so."""
    object_id = object_with_everything(house, env)
    for place in (0.0, 0.5, 1.0):
        assert preserve.download_object(env, object_id, quiet).proceeds
        file = sip_file(house, object_id, pattern)
        flip(file, place)
        named = file.relative_to(house.directory / "packages" / str(object_id) / "sip").as_posix()
        with pytest.raises(PermanentFailure, match=rf"object {object_id}, which is downloaded anew.* {named} is"):
            preserve.create_sip(env, object_id, quiet)
        nothing_was_made_of_it(house, env, object_id)
    all_is_well_when_it_is_launched_again(house, env, object_id)


@pytest.mark.parametrize("filename", ["kuvat.tar", "kuvat.zip"])
def test_between_the_download_of_an_archive_and_its_unpacking(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch, filename: str
) -> None:
    """A TAR would be unpacked as if nothing were, and a ZIP freeze its object: neither has a checksum that is ours."""
    packed = {"kuvat.tar": tarred(("lue.txt", TEXT)), "kuvat.zip": zipped(("lue.txt", TEXT), method=0)}[filename]
    object_id = eligible_object(house, env, (filename, packed))

    def flipping(path: Path, limits: Limits) -> str | None:
        flip(path, (packed.index(TEXT) + len(TEXT) / 2) / len(packed))
        return kind_of(path, limits)

    with monkeypatch.context() as patch:
        patch.setattr(museum_toolkit, "kind_of", flipping)
        with pytest.raises(TransientFailure, match=rf"{filename} is no longer the file that was downloaded"):
            preserve.download_object(env, object_id, quiet)
    assert not object_row(env, object_id).frozen
    assert preserve.download_object(env, object_id, quiet).proceeds
    assert sip_file(house, object_id, f"attachments/*/{filename}/lue.txt").read_bytes() == TEXT
    all_is_well_when_it_is_launched_again(house, env, object_id)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"8BPS" + file.read_bytes()[4:]),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: (file.unlink(), file.symlink_to("Multimedia.xml")),
    ],
    ids=["empty", "another format", "cut", "a link"],
)
def test_a_fault_of_our_disk_is_never_taken_for_one_of_the_object(
    house: House, env: Environment, damage: Callable[[Path], object]
) -> None:
    """Each of them is a content problem where the museum's file is like that."""
    object_id = object_with_everything(house, env)
    preserve.download_object(env, object_id, quiet)
    damage(sip_file(house, object_id, "attachments/*/kuva.jpg"))
    with pytest.raises(PermanentFailure, match=r"kuva\.jpg is not the file that was downloaded"):
        preserve.create_sip(env, object_id, quiet)
    nothing_was_made_of_it(house, env, object_id)
    all_is_well_when_it_is_launched_again(house, env, object_id)


@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_while_it_is_packed(house: House, env: Environment, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """The file was examined, and the METS that tells of it is being signed."""
    object_id = object_with_everything(house, env)
    preserve.download_object(env, object_id, quiet)
    file = sip_file(house, object_id, pattern)
    sign = Signer.sign

    def flipping(self: Signer, mets_sha256: str) -> bytes:
        flip(file, 0.5)
        return sign(self, mets_sha256)

    with monkeypatch.context() as patch:
        patch.setattr(Signer, "sign", flipping)
        with pytest.raises(PermanentFailure, match=rf"{file.name} is not the file that was downloaded"):
            preserve.create_sip(env, object_id, quiet)
    nothing_was_made_of_it(house, env, object_id)
    all_is_well_when_it_is_launched_again(house, env, object_id)


def test_between_packing_and_upload(house: House, env: Environment) -> None:
    """In the name of the first file, its content, the middle, and the padding at the end."""
    object_id = object_with_everything(house, env)
    for place in (0.0, 0.05, 0.5, 1.0):
        preserve.download_object(env, object_id, quiet)
        preserve.create_sip(env, object_id, quiet)
        tar = tar_of(house, env, object_id)
        flip(tar, place)
        with pytest.raises(PermanentFailure, match=rf"{tar} is gone, or not the file that was made"):
            preserve.submit_sip(env, object_id, quiet)
        assert package(env, object_id).submission_date is None
        assert not received(house)
        assert not in_transfer(house)
        assert not tar.exists()
    all_is_well_when_it_is_launched_again(house, env, object_id)


def test_after_the_last_look_and_before_the_first_byte_is_sent(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_id = object_with_everything(house, env)
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    tar = tar_of(house, env, object_id)
    looked = durable.sha256_of

    def looks_and_flips(path: Path) -> str | None:
        digest = looked(path)
        flip(path, 0.5)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sha256_of", looks_and_flips)
        with pytest.raises(TransientFailure, match=rf"{tar} changed while it was sent"):
            preserve.submit_sip(env, object_id, quiet)
    is_refused_and_made_anew(house, env, object_id)


def test_while_it_is_sent(house: House, env: Environment) -> None:
    """The beginning of the package is with the DPS when a byte of its end flips."""
    image = tiff(size=(2100, 2100))
    assert len(image) > 3 * sftp.CHUNK_BYTES
    object_id = eligible_object(house, env, ("kuva.tif", image))
    preserve.download_object(env, object_id, quiet)
    preserve.create_sip(env, object_id, quiet)
    tar = tar_of(house, env, object_id)
    hold = house.dps.hold("write", after_bytes=1_000_000)
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(preserve.submit_sip, env, object_id, quiet)
        assert hold.reached.wait(20)
        flip(tar, 0.95)
        hold.release()
        with pytest.raises(TransientFailure, match=rf"{tar} changed while it was sent"):
            sending.result()
    is_refused_and_made_anew(house, env, object_id)


def is_refused_and_made_anew(house: House, env: Environment, object_id: int) -> None:
    """What lies at the DPS keeps the name that the DPS does not take, until the right package overwrites it."""
    assert package(env, object_id).submission_date is None
    assert received(house) == []
    assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"]
    with pytest.raises(PermanentFailure, match="not the file that was made: launch"):
        preserve.submit_sip(env, object_id, quiet)
    all_is_well_when_it_is_launched_again(house, env, object_id)
    assert in_transfer(house) == []


def test_a_byte_that_changes_at_the_dps_is_found_there(house: House, env: Environment) -> None:
    """What we cannot see any more the DPS finds by the digests in the METS: the package is rejected."""
    object_id = eligible_object(house, env, ("kuva.tif", tiff(size=(400, 400))))
    house.dps.damage_next()  # in the largest file
    send(env, object_id)
    transfer = house.dps.wait_for(name_of(env, object_id))
    assert transfer.status == "rejected"
    assert any("the SHA-256 is" in reason for reason in transfer.reasons)


def test_a_file_that_fails_what_reads_it_is_named_and_freezes_nobody(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours that nobody knows of; as there is none to be had, one is made."""
    object_id = object_with_everything(house, env)
    preserve.download_object(env, object_id, quiet)

    def examine(path: Path, *arguments: object) -> Examined:
        return [][1] if path.suffix == ".txt" else identify.examine(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("passari_dagster.sip.build.examine", examine)
    with pytest.raises(UnforeseenContent, match=r"kuvaus\.txt' cannot be read.* IndexError"):
        preserve.create_sip(env, object_id, quiet)
    assert not object_row(env, object_id).frozen
    flip(sip_file(house, object_id, FILES["a text"]), 0.5)
    with pytest.raises(FilesChanged, match=r"kuvaus\.txt"):
        preserve.create_sip(env, object_id, quiet)
    monkeypatch.undo()
    assert send(env, object_id).outcome is Outcome.WAITING
