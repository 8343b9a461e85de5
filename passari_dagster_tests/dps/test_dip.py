"""Whether a DIP is whole: what is found to be damaged, and what is told to be not verified."""

from __future__ import annotations

import io
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from passari_dagster.dps import dip
from passari_dagster.dps.dip import DamagedDipError, verify
from passari_dagster_tests.dps.tiny_sip import mets

Members = dict[str, bytes]
FILES = {"reports/lido.xml": (b"<lido/>", "text/xml"), "a/kuva ä+1.jpg": (b"bytes" * 1000, "image/jpeg")}
both = pytest.mark.parametrize("archive", ["zip", "tar"])


def members(prefix: str = "", **options: str) -> Members:
    document = mets(FILES, objid="Passari_Object_7", **options).encode()
    content = {"mets.xml": document, **{name: data for name, (data, _) in FILES.items()}}
    return {prefix + name: data for name, data in content.items()}


def write(path: Path, archive: str, content: Members) -> Path:
    if archive == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, data in content.items():
                file.writestr(name, data)
    else:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


@both
@pytest.mark.parametrize("prefix", ["", "./", "AIP-1/"])
def test_every_file_is_compared_with_its_digest(tmp_path: Path, archive: str, prefix: str) -> None:
    content = members(prefix) | {f"{prefix}signature.sig": b"x", f"{prefix}fresh.txt": b"of the DPS"}
    found = verify(write(tmp_path / "dip", archive, content), archive, max_bytes=10**6)
    assert (found.members, found.objid, dict(found.digests)) == (5, "Passari_Object_7", {"SHA-256": 2})
    assert [name.removeprefix("AIP-1/") for name in found.not_in_mets] == ["fresh.txt"]
    assert "not verified, since mets.xml does not name them: 1 files" in "\n".join(found.sentences())


@both
def test_a_digest_that_is_not_known_here_is_told_as_not_verified(tmp_path: Path, archive: str) -> None:
    content = members()
    content["mets.xml"] = content["mets.xml"].replace(b">SHA-256<", b">HAVAL<")
    found = verify(write(tmp_path / "dip", archive, content), archive, max_bytes=10**6)
    assert (found.number_without_digest, dict(found.digests)) == (2, {})
    assert "tells no digest: 2 files" in "\n".join(found.sentences())


@both
def test_names_are_those_of_the_mets_wherever_the_package_lies(tmp_path: Path, archive: str) -> None:
    """A hidden file keeps its dot, and what lies beside the package's own directory is not in it."""
    hidden = {**FILES, ".htaccess": (b"deny", "text/plain")}
    document = mets(hidden, objid="Passari_Object_7").encode().replace(b"file://.htaccess", b"file:///.htaccess")
    content = {"AIP-1/mets.xml": document, "readme.txt": b"of the DPS"}
    content |= {f"AIP-1/{name}": data for name, (data, _) in hidden.items()}
    found = verify(write(tmp_path / "dip", archive, content), archive, max_bytes=10**6)
    assert (dict(found.digests), found.not_in_mets) == ({"SHA-256": 3}, ["readme.txt"])


def change_mets(old: bytes, new: bytes) -> Callable[[Members], Members]:
    return lambda content: content | {"mets.xml": re.sub(old, new, content["mets.xml"], flags=re.DOTALL)}


def change(name: str, data: bytes) -> Callable[[Members], Members]:
    return lambda content: content | {name: data}


@both
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (change("reports/lido.xml", b"<lida/>"), "reports/lido.xml has the SHA-256"),
        (lambda c: {n: d for n, d in c.items() if n != "reports/lido.xml"}, "in mets.xml, and not there"),
        (lambda c: {n: d for n, d in c.items() if n != "mets.xml"}, "there is no mets.xml"),
        (change("../outside", b""), "leads out of the package"),
        (change("/etc/passwd", b""), "leads out of the package"),
        (change("a\\b", b""), "leads out of the package"),
        (change("mets.xml", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), "document type"),
        (change("mets.xml", b"<mets"), "mets.xml"),
        (change_mets(b"<mets:fileSec>.*</mets:fileSec>", b"<mets:fileSec/>"), "names no file"),
        (change_mets(b"<mets:file ", b"<mets:file CHECKSUMTYPE='SHA-256' CHECKSUM='00' "), "tells two digests of"),
        (change("large", bytes(2 * 10**6)), "larger than dps.rest.max_dip_bytes"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, archive: str, spoil: Callable[[Members], Members], fault: str) -> None:
    path = write(tmp_path / "dip", archive, spoil(members()))
    with pytest.raises(DamagedDipError, match=fault):
        verify(path, archive, max_bytes=10**6)


@both
def test_a_file_cut_anywhere_is_not_whole(tmp_path: Path, archive: str) -> None:
    path = write(tmp_path / "dip", archive, members())
    data = path.read_bytes()
    # A tar ends with at least two empty blocks; what pads its last record may be missing.
    end = len(data) if archive == "zip" else len(data.rstrip(b"\0")) // 512 * 512 + 512
    for length in {*range(0, end, 997), *range(0, end, 512), end - 1}:
        path.write_bytes(data[:length])
        with pytest.raises(DamagedDipError):
            verify(path, archive, max_bytes=10**6)


def test_a_flipped_bit_of_a_file_without_digest_is_seen_by_the_crc_of_a_zip(tmp_path: Path) -> None:
    path = write(tmp_path / "dip", "zip", members() | {"besides.txt": b"needle"})
    path.write_bytes(path.read_bytes().replace(b"needle", b"noodle", 1))
    with pytest.raises(DamagedDipError, match="CRC"):
        verify(path, "zip", max_bytes=10**6)


def test_twice_the_same_name_and_links_are_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "dip", "zip", members())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as file:
        warnings.simplefilter("ignore")
        file.writestr("./mets.xml", b"<mets/>")
    with pytest.raises(DamagedDipError, match="twice"):
        verify(path, "zip", max_bytes=10**6)
    path = write(tmp_path / "tar", "tar", members())
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DamagedDipError, match="neither a file nor a directory"):
        verify(path, "tar", max_bytes=10**6)
    monkeypatch.setattr(dip, "MAX_MEMBERS", 2)
    with pytest.raises(DamagedDipError, match="more than 2 files"):
        verify(write(tmp_path / "dip", "zip", members()), "zip", max_bytes=10**6)
