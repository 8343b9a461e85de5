"""The tar is the one that tarfile would write, each byte is read once, and a file that is another one is refused."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pytest

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.sip import archive
from passari_dagster.sip.archive import Member, write_tar
from passari_dagster.sip.build import Signer, build_sip
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, tiff

WHEN = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
BLOCK = archive._CHUNK
SIZES = (0, 1, 511, 512, 513, 10239, 10240, archive._AT_ONCE, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7)


def member(directory: Path, name: str, data: bytes, *, downloaded: bool = True) -> Member:
    path = directory / hashlib.sha256(name.encode()).hexdigest()
    path.write_bytes(data)
    return Member(PurePosixPath(name), path, len(data), hashlib.sha256(data).hexdigest(), downloaded)


def some_bytes(size: int) -> bytes:
    return hashlib.shake_256(b"museum").digest(size)


def of_tarfile(members: list[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in members:
            info = tarfile.TarInfo(str(entry.name))
            info.size, info.mtime, info.mode = entry.size, int(WHEN.timestamp()), 0o644
            data = entry.source if isinstance(entry.source, bytes) else entry.source.read_bytes()
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_it_is_what_tarfile_writes(tmp_path: Path) -> None:
    """Sizes around each border, names that are long and not ASCII, a member from memory."""
    members = [member(tmp_path, f"a/{size}", some_bytes(size)) for size in SIZES]
    members += [
        member(tmp_path, f"{'k' * 120}/{'ä' * 100}/Äyräpää 50%.jpg", b"x"),
        Member(PurePosixPath("mets.xml"), b"<mets/>", 7, hashlib.sha256(b"<mets/>").hexdigest()),
    ]
    tar = tmp_path / "x.tar"
    size, sha256 = write_tar(tar, members, modified=WHEN)
    assert tar.read_bytes() == of_tarfile(members)
    assert (size, sha256) == (tar.stat().st_size, hashlib.sha256(tar.read_bytes()).hexdigest())


@pytest.mark.parametrize("downloaded", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_with_another_byte(tmp_path: Path, size: int, downloaded: bool) -> None:
    """The first, the last, or one more than there should be."""
    good = some_bytes(size)
    changes: list[Callable[[bytes], bytes]] = [lambda data: data + b"x"]
    if size:
        changes += [lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[:-1] + bytes([data[-1] ^ 1])]
        changes += [lambda data: data[:-1]]
    for change in changes:
        entry = member(tmp_path, "a/kuva.tif", good, downloaded=downloaded)
        assert isinstance(entry.source, Path)
        entry.source.write_bytes(change(good))
        expected = PermanentFailure if downloaded else TransientFailure
        told = "kuva.tif is not the file that was downloaded" if downloaded else "kuva.tif changed while it was packed"
        with pytest.raises(expected, match=told):
            write_tar(tmp_path / "x.tar", [member(tmp_path, "first", b"1" * BLOCK), entry], modified=WHEN)
        assert list(tmp_path.glob("x.tar*")) == []


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    """Its size was right when it was opened."""
    entry = member(tmp_path, "a/kuva.tif", some_bytes(3 * BLOCK), downloaded=False)
    assert isinstance(entry.source, Path)

    class Cutting(archive._Digest):
        def update(self, data: bytes) -> None:
            super().update(data)
            Path(str(entry.source)).write_bytes(b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "_Digest", Cutting)
        with pytest.raises(TransientFailure, match=r"kuva\.tif changed"):
            write_tar(tmp_path / "x.tar", [entry], modified=WHEN)
    assert list(tmp_path.glob("x.tar*")) == []


def bytes_read() -> int:
    """By this process so far, through the kernel."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


def test_every_byte_of_an_image_that_needs_no_decoding_is_read_once(sip: Path, tmp_path: Path, signer: Signer) -> None:
    files = fill(
        sip,
        {
            "reports/Object.xml": MODULE_XML,
            "reports/lido.xml": LIDO,
            "attachments/1/kuva.tif": tiff(size=(3000, 2000)),
        },
    )
    files = tuple(replace(file, sha256=hashlib.sha256((sip / file.path).read_bytes()).hexdigest()) for file in files)
    size = (sip / "attachments/1/kuva.tif").stat().st_size
    before = bytes_read()
    build_sip(sip, tmp_path / "x.tar", describe(files), signer)
    assert size <= bytes_read() - before < size + 1_000_000


def test_a_known_digest_is_taken_over_and_another_is_computed(tmp_path: Path) -> None:
    path, known = tmp_path / "kuva.tif", "0" * 64
    path.write_bytes(tiff())
    assert examine(path, Rules(), known).sha256 == known
    assert examine(path, Rules()).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert examine(path, Rules(), known).size == path.stat().st_size


def test_a_problem_is_believed_only_of_the_file_that_was_downloaded(sip: Path, tmp_path: Path, signer: Signer) -> None:
    files = {"reports/lido.xml": LIDO, "attachments/1/kuva.tif": tiff()[:-100]}
    description = fill(sip, files)
    described = describe(tuple(replace(file, sha256="0" * 64) for file in description))
    with pytest.raises(PermanentFailure, match=r"kuva\.tif is not the file that was downloaded"):
        build_sip(sip, tmp_path / "20260301_Object_1.tar", described, signer)
