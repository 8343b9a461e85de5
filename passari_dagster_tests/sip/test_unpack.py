"""Archives: what is in them comes out whole, and hostile ones do no harm and have their reason."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import itertools
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passari_dagster import durable
from passari_dagster.errors import ContentProblem, TransientFailure
from passari_dagster.sip.archives import seven_table, sevenzips, tars, zips
from passari_dagster.sip.archives.member import MembersOf
from passari_dagster.sip.archives.unpack import Limits, Unpacked, kind_of, unpack_in_place
from passari_dagster_tests.sip.packed import (
    COPY,
    GOOD,
    GOOD_TAR,
    HOSTILE,
    Hostile,
    header,
    seven,
    tar_of_headers,
    tarred,
    with_wrong_checksum,
    zip_info,
    zip_with_raw_name,
    zipped,
)

PLACE = PurePosixPath("attachments/7")
LIMITS = Limits(files=50, size=30 * 1024 * 1024, ratio=100)
CONTENT = {"kuva/a.txt": b"tervetuloa", "b.txt": b"hei" * 1000}


def unpacked(
    path: Path,
    *,
    allow_non_ascii: bool = False,
    limits: Limits = LIMITS,
    sha256: str | None = None,
    leave_out_leftovers: bool = False,
) -> Unpacked:
    """As right after its download, unless a digest says otherwise."""
    sha256 = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    scratch = path.with_name("scratch")
    return unpack_in_place(
        path,
        scratch,
        PLACE / path.name,
        limits,
        sha256=sha256,
        allow_non_ascii=allow_non_ascii,
        leave_out_leftovers=leave_out_leftovers,
    )


def put(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def tree(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: f"{hostile.filename}: {hostile.fault}")
def test_a_hostile_archive_has_its_reason_and_leaves_nothing_behind(hostile: Hostile, tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    directory.mkdir(parents=True)
    archive = put(directory, hostile.filename, data := hostile.make())
    assert kind_of(archive, LIMITS) is not None
    with pytest.raises(ContentProblem) as raised:
        unpacked(archive)
    assert raised.value.code == hostile.code, raised.value
    assert tree(tmp_path) == {f"a/b/{hostile.filename}": data}


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.zip", GOOD, "ZIP"),
        ("A.ZIP", zipped(*CONTENT.items(), method=zipfile.ZIP_STORED), "ZIP"),
        ("Multimedia_7.attachment", GOOD, "ZIP"),
        ("ilman", GOOD_TAR, "TAR"),
        ("a.tar", tarred(*CONTENT.items(), form=tarfile.GNU_FORMAT), "TAR"),
        ("a.tar", tarred(*((f"./{name}", data) for name, data in CONTENT.items())), "TAR"),
        ("a.tar.gz", gzip.compress(GOOD_TAR), "TAR"),
        ("a.tgz", gzip.compress(GOOD_TAR[:700]) + gzip.compress(GOOD_TAR[700:]) + bytes(512), "TAR"),
        ("a.7z", seven(*CONTENT.items()), "7z"),
        ("a.7z", seven(*CONTENT.items(), filters=COPY), "7z"),
    ],
    ids=itertools.count(),
)
def test_an_archive_becomes_a_directory_of_the_same_name(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    archive = put(tmp_path, name, data)
    (tmp_path / "scratch" / "b.txt").mkdir(parents=True)  # of an attempt that was killed
    assert kind_of(archive, LIMITS) == kind
    done = unpacked(archive)
    assert tree(archive) == CONTENT
    assert done.kind == kind
    assert done.empty == ()
    assert done.leftovers == ()
    assert {str(path): digest for path, digest in done.files.items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("mode", ["w:bz2", "w:xz"])
def test_tars_of_all_compressions(tmp_path: Path, mode: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("a.txt")
        info.size, info.mtime = 3, 1_500_000_000
        archive.addfile(info, io.BytesIO(b"hei"))
    path = put(tmp_path, f"a.tar.{mode[2:]}", out.getvalue())
    unpacked(path)
    assert tree(path) == {"a.txt": b"hei"}
    assert (path / "a.txt").stat().st_mtime == 1_500_000_000, "the time that the archive tells"


def document(*members: tuple[str, bytes]) -> bytes:
    return zipped(*members, ("word/document.xml", b"<a/>"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("kirje.docx", document(("[Content_Types].xml", b"<Types/>"))),
        ("kirje.zip", document(("[Content_Types].xml", b"<Types/>"))),
        ("kirje.zip", document(("_rels/.rels", b"<a/>"), ("[Content_Types].xml", b"<Types/>"))),
        ("kirje.odt", document(("mimetype", b"application/vnd.oasis.opendocument.text"))),
        ("kirje.zip", document(("mimetype", b"application/vnd.oasis.opendocument.text"))),
        ("kirja.zip", document(("mimetype", b"application/epub+zip"))),
        ("kirje.docx", document(("_rels/.rels", b"<a/>"))[:-30]),
        ("kartta.kmz", GOOD),
        ("kuva.zip", b"\xff\xd8\xff\xe0 no archive"),
        ("kuva.zip", b""),
        ("tyhja.tar", bytes(10240)),
        ("kuva.gz", gzip.compress(b"no archive, but compressed")),
        ("kuva.gz", b"\x1f\x8b\x08\x00 damaged"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_archive_or_a_document_is_left_as_it_is(tmp_path: Path, name: str, data: bytes) -> None:
    assert kind_of(put(tmp_path, name, data), LIMITS) is None


def test_a_document_in_an_archive_stays_whole(tmp_path: Path) -> None:
    data = document(("[Content_Types].xml", b"<Types/>"))
    archive = put(tmp_path, "a.zip", zipped(("kirje.docx", data)))
    unpacked(archive)
    assert tree(archive) == {"kirje.docx": data}


def test_all_faults_of_an_archive_are_told_together(tmp_path: Path) -> None:
    link = zip_info("linkki", mode=0o120777)
    archive = put(tmp_path, "a.zip", zipped(("../x", b""), ("/y", b""), (link, b"x"), ("good.txt", b""), ("ä", b"")))
    with pytest.raises(ContentProblem) as raised:
        unpacked(archive)
    assert raised.value.code == "archive-path"
    assert [line.partition(": ")[0] for line in raised.value.detail.splitlines()] == [
        "Archive has a path that leads out of it",
        "Archive has a path that leads out of it",
        "Symbolic links are not allowed",
        "Filename contains non-ASCII characters",
    ]


def test_all_damaged_members_of_a_zip_are_told_together(tmp_path: Path) -> None:
    data = zipped(("a.txt", b"tervetuloa"), ("b.txt", b"hyvaa"), ("c.txt", b"paivaa"), method=zipfile.ZIP_STORED)
    archive = put(tmp_path, "a.zip", data.replace(b"terve", b"Terve").replace(b"pai", b"Pai"))
    with pytest.raises(ContentProblem, match=r"a\.txt.*\n.*c\.txt"):
        unpacked(archive)


UNICODE_PATH = b"\1" + struct.pack("<I", zlib.crc32(b"kes_.txt")) + "kesä.txt".encode()


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        (zipped(("kesä.txt", b"hei")), "kesä.txt"),
        (zipped(("kesa\u0308.txt", b"hei")), "kesä.txt"),
        (zip_with_raw_name("kesä.txt".encode()), "kesä.txt"),
        (zip_with_raw_name("Äyräpää é.txt".encode("cp437")), "Äyräpää é.txt"),
        (zip_with_raw_name("Äyräpää é.txt".encode("cp850")), "Äyräpää é.txt"),
        (
            zip_with_raw_name(b"kes_.txt", extra=struct.pack("<HH", 0x7075, len(UNICODE_PATH)) + UNICODE_PATH),
            "kesä.txt",
        ),
        (tarred(("kesä.txt", b"hei")), "kesä.txt"),
        (tarred(("kesä.txt", b"hei"), form=tarfile.GNU_FORMAT), "kesä.txt"),
        (seven(("kesä.txt", b"hei")), "kesä.txt"),
    ],
    ids=["UTF-8", "NFD", "UTF-8 without flag", "437", "850", "Unicode path", "pax", "gnu", "7z"],
)
def test_names_that_are_not_ascii(tmp_path: Path, archive: bytes, name: str) -> None:
    path = put(tmp_path, "a.7z", archive)
    unpacked(path, allow_non_ascii=True)
    assert tree(path) == {name: b"hei"}
    path = put(tmp_path, "b.7z", archive)
    with pytest.raises(ContentProblem) as raised:
        unpacked(path)
    assert raised.value.code == "non-ascii-name"


def test_a_zip_with_a_directory_beyond_measure_has_too_many_files(tmp_path: Path) -> None:
    archive = put(tmp_path, "Multimedia_7.attachment", zipped(*((f"{n}", b"") for n in range(25_000))))
    assert kind_of(archive, LIMITS) == "ZIP"
    with pytest.raises(ContentProblem) as raised:
        unpacked(archive)
    assert raised.value.code == "archive-too-many-files"


def test_names_that_are_one_when_composed(tmp_path: Path) -> None:
    archive = put(tmp_path, "a.zip", zipped(("kesä", b"1"), ("kesa\u0308", b"2")))
    with pytest.raises(ContentProblem) as raised:
        unpacked(archive, allow_non_ascii=True)
    assert raised.value.code == "archive-same-names"


def test_empty_directories_are_told(tmp_path: Path) -> None:
    archive = put(tmp_path, "a.zip", zipped(("a/b/", b""), ("c/", b""), ("c/d.txt", b"hei"), ("./", b"")))
    assert unpacked(archive).empty == (PurePosixPath("a"), PurePosixPath("a/b"))
    assert [path.name for path in archive.rglob("*")] == ["c", "d.txt"]


LEFTOVERS = {
    "__MACOSX/kuva/._a.txt": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "kuva/.DS_Store": b"\0\0\0\1Bud1\0\0",
    "kuva/Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(8),
}
NAMED_LIKE_THEM = {"kuva/._b.txt": b"hei", ".DS_Store": b"hei", "thumbs.db": b"hei", "__MACOSX/c.txt": b"hei"}


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
def test_leftovers_of_operating_systems_are_left_out_if_one_wants_it(
    tmp_path: Path, pack: Callable[..., bytes]
) -> None:
    """By name and content both: what is only called so stays."""
    archive = put(tmp_path, "a.zip", pack(*(CONTENT | LEFTOVERS | NAMED_LIKE_THEM).items()))
    done = unpacked(archive, leave_out_leftovers=True)
    assert tree(archive) == CONTENT | NAMED_LIKE_THEM
    assert {str(path) for path in done.files} == {*CONTENT, *NAMED_LIKE_THEM}
    assert [str(path) for path in done.leftovers] == sorted(LEFTOVERS)
    assert done.empty == ()
    assert sorted(path.name for path in archive.rglob("*") if path.is_dir()) == ["__MACOSX", "kuva"]


def test_leftovers_stay_where_nobody_has_asked_for_anything_else(tmp_path: Path) -> None:
    archive = put(tmp_path, "a.zip", zipped(*(CONTENT | LEFTOVERS).items()))
    assert unpacked(archive).leftovers == ()
    assert tree(archive) == CONTENT | LEFTOVERS


def test_an_archive_of_nothing_but_leftovers_is_empty(tmp_path: Path) -> None:
    archive = put(tmp_path, "a.zip", data := zipped(*LEFTOVERS.items()))
    with pytest.raises(ContentProblem) as raised:
        unpacked(archive, leave_out_leftovers=True)
    assert raised.value.code == "archive-empty"
    assert tree(tmp_path) == {"a.zip": data}


@pytest.mark.parametrize(
    ("extra", "time"),
    [(b"", None), (struct.pack("<HHBi", 0x5455, 5, 1, 1_400_000_000), 1_400_000_000)],
    ids=["local", "UTC"],
)
def test_files_keep_the_time_of_a_zip(tmp_path: Path, extra: bytes, time: float | None) -> None:
    archive = put(tmp_path, "a.zip", zipped((zip_info("a.txt", extra=extra), b"hei")))
    unpacked(archive)
    found = (archive / "a.txt").stat().st_mtime
    # Without a zone: somewhere within a day of 2019-05-04 03:02:02.
    assert found == time if time is not None else abs(found - 1_556_938_922) < 86400


@pytest.mark.parametrize("modified", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777"])
def test_a_time_that_no_clock_shows_does_no_harm(tmp_path: Path, modified: bytes) -> None:
    archive = put(tmp_path, "a.tar", tar_of_headers(header(mtime=(136, modified)), b"hei"))
    unpacked(archive)
    assert tree(archive) == {"a": b"hei"}


def told(archive: Path) -> Unpacked | str:
    """What became of an archive, or the code of its problem."""
    try:
        return unpacked(archive, allow_non_ascii=True)
    except ContentProblem as problem:
        return problem.code


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("good", [GOOD, GOOD_TAR, gzip.compress(GOOD_TAR)], ids=["zip", "tar", "tgz"])
def test_whatever_the_bytes_are_it_is_unpacked_or_a_content_problem(
    tmp_path: Path, good: bytes, data: st.DataObject
) -> None:
    packed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    archive = put(tmp_path, f"{os.urandom(8).hex()}.zip", bytes(packed))
    if kind_of(archive, LIMITS) is not None:
        outcome = told(archive)
        assert isinstance(outcome, str) or {str(path) for path in outcome.files} == set(tree(archive))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(6, 150), value=st.integers(0, 255))
def test_whatever_the_bytes_of_a_7z_are(tmp_path: Path, at: int, value: int) -> None:
    packed = bytearray(seven(*CONTENT.items()))
    packed[at] = value
    archive = put(tmp_path, f"{os.urandom(8).hex()}.7z", bytes(packed))
    outcome = told(archive)
    assert outcome if isinstance(outcome, str) else tree(archive) == CONTENT


STORED_ZIP = zipped(*CONTENT.items(), method=zipfile.ZIP_STORED)


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.7z"])
def test_a_fault_of_our_disk_is_neither_packaged_nor_the_archives(tmp_path: Path, name: str) -> None:
    """A TAR has no checksum of what is in it, and is unpacked well; of the others it looks like damage."""
    good = {"a.tar": GOOD_TAR, "a.zip": STORED_ZIP, "a.7z": seven(*CONTENT.items(), filters=COPY)}[name]
    flipped = with_wrong_checksum(good)
    archive = put(tmp_path, name, flipped)
    with pytest.raises(TransientFailure, match=rf"^{PLACE / name} is no longer the file that was downloaded"):
        unpacked(archive, sha256=hashlib.sha256(good).hexdigest())
    assert tree(tmp_path) == {name: flipped}


class BadDisk(io.BytesIO):
    """A file of which some reading fails, as of a disk with a bad sector."""

    def __init__(self, data: bytes, good: int) -> None:
        super().__init__(data)
        self._good = good

    def read(self, size: int | None = -1, /) -> bytes:
        self._good -= 1
        if self._good < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def read_whole(stream: BinaryIO, members: MembersOf) -> None:
    for member in members(stream, 50):
        for _ in member.read():
            pass


@pytest.mark.parametrize(
    ("data", "members"),
    [
        (STORED_ZIP, zips.members),
        (GOOD, zips.members),
        (GOOD_TAR, tars.members),
        (gzip.compress(GOOD_TAR), tars.members),
        (bz2.compress(GOOD_TAR), tars.members),
        (lzma.compress(GOOD_TAR), tars.members),
        (seven(*CONTENT.items()), lambda stream, most: seven_table.table(stream, most) and iter(())),
    ],
    ids=["stored zip", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "table of 7z"],
)
def test_a_disk_that_cannot_be_read_is_no_fault_of_the_archive(data: bytes, members: MembersOf) -> None:
    told = set()
    for good in range(1000):
        try:
            read_whole(BadDisk(data, good), members)
        except OSError as error:
            told.add(error.errno)
        else:
            break
    assert good > 1, "it was tried"
    assert told == {errno.EIO}


def test_a_disk_that_fails_under_the_process_that_reads_a_7z_is_tried_again() -> None:
    """Of that file the kernel says the same as of a bad disk."""
    with Path("/proc/self/mem").open("rb") as stream, pytest.raises(TransientFailure, match="Input/output error"):
        next(sevenzips.members(stream, 50))


KILLED = """
import os, signal, sys
from pathlib import Path, PurePosixPath
from passari_dagster.sip.archives.unpack import Limits, unpack_in_place
left = int(sys.argv[2])
def count(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.utime", "os.rmdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
root = Path(sys.argv[1])
sys.addaudithook(count)
unpack_in_place(root / "a.zip", root / "scratch", PurePosixPath("attachments/7/a.zip"), Limits(), sha256=sys.argv[3])
"""


def test_a_kill_at_any_point_leaves_the_archive_or_nothing_or_all(tmp_path: Path) -> None:
    states = set()
    for point in range(100):
        root = tmp_path / str(point)
        root.mkdir()
        archive = put(root, "a.zip", GOOD)
        command = [sys.executable, "-c", KILLED, str(root), str(point), hashlib.sha256(GOOD).hexdigest()]
        code = subprocess.run(command, check=False).returncode
        if not archive.exists():
            states.add("nothing")
        elif archive.is_file():
            assert archive.read_bytes() == GOOD
            states.add("archive")
        else:
            assert tree(archive) == CONTENT
            states.add("all")
        if code == 0:
            break
        # The next attempt downloads it again.
        if not archive.exists():
            put(root, "a.zip", GOOD)
        if archive.is_file():
            unpacked(archive)
        assert tree(archive) == CONTENT
        assert [path.name for path in root.iterdir()] == ["a.zip"]
    assert code == 0
    assert point > 5
    assert states == {"archive", "nothing", "all"}


PEAK = """
import re, sys
from pathlib import Path, PurePosixPath
from passari_dagster.sip.archives.unpack import Limits, unpack_in_place
path, place = Path(sys.argv[1]), PurePosixPath("attachments/7/a.zip")
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
unpack_in_place(path, path.with_name("scratch"), place, Limits(), sha256=sys.argv[2])
print(peak() - before)
"""


def large_zip(path: Path, block: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("a", "w") as member:
        for _ in range(200):
            member.write(block)


def large_tar(path: Path, block: bytes) -> None:
    with path.with_suffix(".content").open("wb") as content:
        for _ in range(200):
            content.write(block)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(content.name, "a")


@pytest.mark.parametrize("make", [large_zip, large_tar])
def test_memory_does_not_grow_with_a_member_of_200_mb(tmp_path: Path, make: Callable[[Path, bytes], None]) -> None:
    path = tmp_path / "a.zip"
    make(path, os.urandom(64 * 1024) + bytes(960 * 1024))
    command = [sys.executable, "-c", PEAK, str(path), str(durable.sha256_of(path))]
    result = subprocess.run(command, capture_output=True, check=True)
    assert (path / "a").stat().st_size == 200 * 1024 * 1024
    assert int(result.stdout) < 16 * 1024, "kilobytes over what it was before"
