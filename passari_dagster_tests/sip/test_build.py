"""A museum's object becomes a package, and the independent judge finds nothing to object to."""

from __future__ import annotations

import os
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure
from passari_dagster.sip import archive, build, mets
from passari_dagster.sip.build import PackageEvent, Signer, SourceFile, build_sip, load_signer
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip.content import (
    ACCEPTED_IMAGES,
    LIDO,
    MODULE_XML,
    NOW,
    certificate,
    describe,
    fill,
    jpeg,
    mets_of,
    mpo,
    private_pem,
    tiff,
)

NS = {"mets": "http://www.loc.gov/METS/", "premis": "info:lc/xmlns/premis-v2"}

SMALL = {
    "reports/Object.xml": MODULE_XML,
    "reports/lido.xml": LIDO,
    "attachments/1/Multimedia.xml": MODULE_XML,
    "attachments/1/kuva.jpg": jpeg(),
    "attachments/2/Multimedia.xml": MODULE_XML,
    "attachments/2/kuva.tif": tiff(),
}


def test_every_accepted_format_passes_the_judge(
    sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]]
) -> None:
    """One object with an attachment of every kind."""
    files = {**SMALL, "collection_activities/9/CollectionActivity.xml": MODULE_XML}
    files |= {f"attachments/{n}/{name}": data for n, (name, data) in enumerate(ACCEPTED_IMAGES.items(), 10)}
    files |= {
        "attachments/80/muistio.txt": "Äyräpään kesä\r\n\tja talvi\n".encode(),
        "attachments/80/vanha.txt": "Äyräpään kesä, 5 €".encode("iso-8859-15"),
        "attachments/81/Multimedia_81.attachment": jpeg(),
        "attachments/82/latin.xml": "<?xml version='1.0' encoding='ISO-8859-1'?><a>ä</a>".encode("latin-1"),
        "attachments/82/utf16.xml": "<?xml version='1.0' encoding='UTF-16'?><a>ä</a>".encode("utf-16"),
    }
    tar = tmp_path / "20260301_Object_50000000.tar"
    lines: list[str] = []
    built = build_sip(sip, tar, describe(fill(sip, files)), signer, log=lines.append)
    assert judge(tar) == []
    assert built.files == len(files)
    assert built.size == tar.stat().st_size
    assert len(lines) == len(files) + 1


def test_an_update_with_its_history_and_odd_names_passes_the_judge(
    sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]]
) -> None:
    """The object changed after it was preserved; its files have names as people give them."""
    files = SMALL | {
        "attachments/3/Multimedia.xml": MODULE_XML,
        "attachments/3/kuvat & muut.zip/kuva 1+ä.jpg": jpeg(),
        "attachments/3/kuvat & muut.zip/.piilo/100% 'valmis'#1?.txt": b"teksti\n",
    }
    history = (
        PackageEvent("creation", NOW, "Object database entry creation", "Luotu järjestelmään", None),
        PackageEvent("creation", NOW, "Multimedia creation", "Luotu", PurePosixPath("attachments/1/Multimedia.xml")),
        PackageEvent(
            "decompression", NOW, "Archive extraction", "\0 & <", PurePosixPath("attachments/3/kuvat & muut.zip")
        ),
    )
    described = describe(
        fill(sip, files), modified=NOW + timedelta(days=90), events=history, rules=Rules(non_ascii_filenames=True)
    )
    tar = tmp_path / "update.tar"
    build_sip(sip, tar, described, signer)
    assert judge(tar) == []
    header = mets_of(tar).find("mets:metsHdr", NS)
    assert header is not None
    assert header.get("RECORDSTATUS") == "update"
    assert header.get("CREATEDATE") == "2026-03-01T12:00:00+00:00"
    assert header.get("LASTMODDATE") == "2026-05-30T12:00:00+00:00"


def test_the_judge_sees_damage(
    sip: Path,
    tmp_path: Path,
    signer: Signer,
    judge: Callable[[Path], list[str]],
) -> None:
    """Controls: a judge that never objects would prove nothing."""
    tar = tmp_path / "x.tar"
    build_sip(sip, tar, describe(fill(sip, SMALL)), signer)
    good = tar.read_bytes()

    at = good.index(jpeg()) + 300
    tar.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    assert any("FILE-FIXITY" in line for line in judge(tar))

    tar.write_bytes(good.replace(b"Passari_Object_50000000", b"Passari_Object_50000001", 1))
    assert any("SIG-DIGEST" in line for line in judge(tar))


def test_a_package_signed_with_another_key_is_refused(
    sip: Path, tmp_path: Path, judge: Callable[[Path], list[str]]
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = tmp_path / "other.pem"
    pem.write_bytes(private_pem(key) + certificate(key))
    tar = tmp_path / "x.tar"
    build_sip(sip, tar, describe(fill(sip, SMALL)), load_signer(pem))
    violations = judge(tar)
    assert violations
    assert all("SIG-" in line for line in violations)


def test_what_the_tar_looks_like(sip: Path, tmp_path: Path, signer: Signer) -> None:
    tar = tmp_path / "x.tar"
    build_sip(sip, tar, describe(fill(sip, SMALL)), signer, now=NOW)
    with tarfile.open(tar, "r:") as package:
        members = package.getmembers()
    assert [member.name for member in members] == ["mets.xml", "signature.sig", *sorted(SMALL)]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, "", "", 0o644)}
    assert {member.mtime for member in members} == {int(NOW.timestamp())}


def test_the_same_object_packed_again_is_the_same_package(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """So that a repeated step makes nothing new."""
    described = describe(fill(sip, SMALL))
    packages = [build_sip(sip, tmp_path / "x.tar", described, signer, now=NOW) for _ in range(2)]
    first, second = (package.size for package in packages)
    assert first == second
    ids = [node.get("ID") for node in mets_of(tmp_path / "x.tar").iter() if node.get("ID")]
    assert len(ids) == len(set(ids))


def test_only_images_have_metadata_extraction_without_images_none(
    sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]]
) -> None:
    """An object without attachments is preserved too."""
    files = {name: data for name, data in SMALL.items() if name.startswith("reports/")}
    tar = tmp_path / "x.tar"
    build_sip(sip, tar, describe(fill(sip, files)), signer)
    assert judge(tar) == []
    details = [node.text or "" for node in mets_of(tar).iterfind(".//premis:eventDetail", NS)]
    assert not any("MIX" in detail for detail in details)


def test_all_problems_of_an_object_are_told_at_once(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """The museum should not have to come back for each file."""
    files = SMALL | {
        "attachments/1/a.psd": b"8BPS",
        "attachments/1/kesä.jpg": jpeg(),
        "attachments/2/b.jpg": mpo(),
        "attachments/2/c.jpg": jpeg()[:-200],
    }
    with pytest.raises(ContentProblem) as caught:
        build_sip(sip, tmp_path / "x.tar", describe(fill(sip, files)), signer)
    assert caught.value.reason == "Unsupported file format: psd"
    assert len(caught.value.detail.splitlines()) == 4
    for text in ("a.psd", "non-ASCII", "MPO JPEG files not supported", "truncated"):
        assert text in caught.value.detail
    assert list(tmp_path.glob("x.tar*")) == []


def test_a_damaged_disk_is_not_the_objects_fault(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """A file that is not what was downloaded must not freeze the object."""
    files = fill(sip, SMALL | {"attachments/1/kuva.jpg": b"rubbish"})
    files = tuple(replace(file, sha256="0" * 64) if "kuva.jpg" in str(file.path) else file for file in files)
    with pytest.raises(PermanentFailure, match="download the object again"):
        build_sip(sip, tmp_path / "x.tar", describe(files), signer)


def test_nothing_is_left_out_in_silence(sip: Path, tmp_path: Path, signer: Signer) -> None:
    files = fill(sip, SMALL)
    with pytest.raises(PermanentFailure, match=r"not described: 'attachments/1/kuva\.jpg'"):
        build_sip(sip, tmp_path / "x.tar", describe(tuple(f for f in files if f.path.name != "kuva.jpg")), signer)
    (sip / "attachments/1/kuva.jpg").unlink()
    with pytest.raises(PermanentFailure, match="missing from"):
        build_sip(sip, tmp_path / "x.tar", describe(files), signer)


def test_a_link_out_of_the_workspace_is_refused(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """As a hostile archive could unpack it."""
    (tmp_path / "secret.txt").write_text("secret")
    files = fill(sip, SMALL)
    (sip / "attachments/1/link.txt").symlink_to(tmp_path / "secret.txt")
    link = SourceFile(PurePosixPath("attachments/1/link.txt"), "x")
    with pytest.raises(ContentProblem, match="Symbolic links"):
        build_sip(sip, tmp_path / "x.tar", describe((*files, link)), signer)


def test_a_file_that_changes_while_it_is_packed(
    sip: Path, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The METS would tell a digest that the file does not have."""
    files = fill(sip, SMALL)
    victim = sip / "attachments/2/kuva.tif"
    for change in (victim.read_bytes()[:-1], b"\0" * victim.stat().st_size):
        original = victim.read_bytes()

        def sign(self: Signer, digest: str, change: bytes = change) -> bytes:
            victim.write_bytes(change)
            return b"signature"

        monkeypatch.setattr(Signer, "sign", sign)
        with pytest.raises(TransientFailure, match=r"kuva.tif changed"):
            build_sip(sip, tmp_path / "x.tar", describe(files), signer)
        assert list(tmp_path.glob("x.tar*")) == []
        victim.write_bytes(original)


def test_the_disk_is_full(sip: Path, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is reported as such, and no half package can be taken for a whole one."""
    files = fill(sip, SMALL)
    open_file = os.open

    def full(path: os.PathLike[str] | str, flags: int, *args: int, **named: int) -> int:
        if str(path).endswith(".part"):
            os.close(open_file(path, flags))
            return open_file("/dev/full", os.O_WRONLY)
        return open_file(path, flags, *args, **named)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left on device"):
        build_sip(sip, tmp_path / "x.tar", describe(files), signer)
    assert list(tmp_path.glob("x.tar*")) == []


def test_a_killed_packaging_is_begun_anew(sip: Path, tmp_path: Path, signer: Signer) -> None:
    tar = tmp_path / "x.tar"
    tar.write_bytes(b"an older package")
    (tmp_path / "x.tar.part").write_bytes(b"half of it" * 100_000)
    with pytest.raises(ContentProblem):
        build_sip(sip, tar, describe(fill(sip, SMALL | {"reports/lido.xml": b"<x/>"})), signer)
    assert list(tmp_path.glob("x.tar*")) == []
    build_sip(sip, tar, describe(fill(sip, SMALL)), signer)
    assert tarfile.is_tarfile(tar)
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize(
    "document",
    [b"<x/>", b"not xml", LIDO.replace(b"<lido:lidoWrap", b"<!DOCTYPE a []><lido:lidoWrap", 1)],
)
def test_a_lido_that_is_none(sip: Path, tmp_path: Path, signer: Signer, document: bytes) -> None:
    with pytest.raises(ContentProblem):
        build_sip(sip, tmp_path / "x.tar", describe(fill(sip, SMALL | {"reports/lido.xml": document})), signer)


def test_names_that_the_dps_takes_for_one_are_told_with_all_else(sip: Path, tmp_path: Path, signer: Signer) -> None:
    names = ["attachments/7/a b.txt", "attachments/7/a  b.txt"]
    files = SMALL | {
        names[0]: b"hei\n",
        names[1]: b"hei\n",
        "reports/lido.xml": b"<x/>",
        "attachments/7/a.psd": b"8BPS",
    }
    with pytest.raises(ContentProblem) as raised:
        build_sip(sip, tmp_path / "x.tar", describe(fill(sip, files)), signer)
    assert {(path, problem.code) for path, problem in raised.value.problems} == {
        *((name, "same-names") for name in names),
        ("attachments/7/a.psd", "unsupported-format"),
        ("reports/lido.xml", "lido"),
    }


def test_the_lido_is_embedded_without_its_schema_location(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """The file itself stays as the catalogue gave it."""
    tar = tmp_path / "x.tar"
    build_sip(sip, tar, describe(fill(sip, SMALL)), signer)
    embedded = mets_of(tar).find(".//{http://www.lido-schema.org}lidoWrap")
    assert embedded is not None
    assert dict(embedded.attrib) == {}
    with tarfile.open(tar) as package:
        member = package.extractfile("reports/lido.xml")
        assert member is not None
        assert member.read() == LIDO


def test_a_contradictory_description_is_a_bug_of_ours(sip: Path, tmp_path: Path, signer: Signer) -> None:
    files = fill(sip, SMALL)
    tar = tmp_path / "x.tar"
    naive = NOW.replace(tzinfo=None)
    elsewhere = PackageEvent("creation", NOW, "x", "y", PurePosixPath("attachments/77"))
    for described in (
        describe(files, objid="ä"),
        describe(files, content_id=""),
        describe(files, lido=PurePosixPath("reports/none.xml")),
        describe((*files, files[0])),
        describe(tuple(replace(file, identifier="same") for file in files)),
        describe(files, created=naive),
        describe(files, events=(elsewhere,)),
        describe(files, events=(replace(elsewhere, target=None, date=naive),)),
    ):
        with pytest.raises(ValueError):
            build_sip(sip, tar, described, signer)
    assert list(tmp_path.glob("x.tar*")) == []


def test_names_that_differ_in_white_space_only(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """The DPS could not tell their identifiers apart."""
    files = fill(sip, SMALL | {"attachments/1/a b.txt": b"x", "attachments/1/a  b.txt": b"y"})
    with pytest.raises(ContentProblem, match="white space") as caught:
        build_sip(sip, tmp_path / "x.tar", describe(files), signer)
    assert [line.rpartition("/")[2] for line in caught.value.detail.splitlines()] == ["a  b.txt'", "a b.txt'"]


def test_a_name_of_the_package_itself(sip: Path, tmp_path: Path, signer: Signer) -> None:
    for name in ("mets.xml", "signature.sig", ".piilo"):
        (sip / name).unlink(missing_ok=True)
        files = fill(sip, SMALL | {name: MODULE_XML})
        with pytest.raises(ContentProblem, match="Filename not allowed"):
            build_sip(sip, tmp_path / "x.tar", describe(files), signer)
        (sip / name).unlink()


def test_memory_does_not_grow_with_the_file(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """A text and a document of 24 MB each, in far less memory."""
    size = 24_000_000
    large = b"<a>" + (b"<b>" + b"tekstia " * 200 + b"</b>\n") * (size // 1608) + b"</a>"
    files = fill(sip, SMALL | {"attachments/1/a.txt": b"rivi\n" * (size // 5), "attachments/1/b.xml": large})
    tracemalloc.start()
    try:
        build_sip(sip, tmp_path / "x.tar", describe(files), signer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


def test_two_small_images_take_little_time(sip: Path, tmp_path: Path, signer: Signer) -> None:
    """passari takes 17.8 CPU seconds for such an object."""
    described = describe(fill(sip, SMALL))
    build_sip(sip, tmp_path / "x.tar", described, signer)
    start = time.process_time()
    build_sip(sip, tmp_path / "x.tar", described, signer)
    assert time.process_time() - start < 0.3


def test_names_of_the_entry_point() -> None:
    """The workflow imports them from here."""
    assert set(build.__all__) >= {"build_sip", "load_signer", "BuiltSip", "SipDescription", "SourceFile"}
    assert mets.AGENT.startswith("passari_dagster-v")
    assert archive.PART_SUFFIX == ".part"
