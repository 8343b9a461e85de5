"""Archives made by code: good ones, and those that somebody made in order to do harm, or by mistake."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import py7zr

ZEROS = bytes(20 * 1024 * 1024)
COPY = [{"id": py7zr.FILTER_COPY}]
PPMD = [{"id": py7zr.FILTER_PPMD, "order": 6, "mem": 24}]


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP; of a `ZipInfo` the attributes are kept."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, method)
    return out.getvalue()


def zip_info(name: str, *, mode: int = 0, extra: bytes = b"") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (2019, 5, 4, 3, 2, 2))
    info.external_attr, info.extra = mode << 16, extra
    return info


def zip_with_raw_name(name: bytes, data: bytes = b"hei", *, flags: int = 0, extra: bytes = b"") -> bytes:
    """The name as it is, under the flags given."""
    packed = zipped((zip_info("N" * len(name), extra=extra), data), method=zipfile.ZIP_STORED)
    packed = packed.replace(b"N" * len(name), name)
    return with_flags(packed, flags)


def with_flags(packed: bytes, flags: int) -> bytes:
    """The flags in both headers of each member."""
    data = bytearray(packed)
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = 0
        while (start := packed.find(magic, start)) >= 0:
            data[start + at : start + at + 2] = struct.pack("<H", flags)
            start += 4
    return bytes(data)


def zip_without_name() -> bytes:
    """The only member has a name of no bytes."""
    packed = zipped(("N", b"hei"), method=zipfile.ZIP_STORED)
    entry = packed.index(b"PK\1\2")
    end = packed.index(b"PK\5\6")
    local = packed[:26] + bytes(2) + packed[28:30] + packed[31:entry]
    central = packed[entry : entry + 28] + bytes(2) + packed[entry + 30 : entry + 46]
    return local + central + packed[end : end + 12] + struct.pack("<IIH", len(central), len(local), 0)


def zip_that_lies(told: int, data: bytes) -> bytes:
    """The directory tells of another size than the content has."""
    packed = bytearray(zipped(("kuva.txt", data)))
    at = packed.rindex(b"PK\1\2") + 24
    packed[at : at + 4] = struct.pack("<I", told)
    return bytes(packed)


def zip_that_overlaps() -> bytes:
    """Two entries of the directory for one content: many of them are a bomb without any nesting."""
    packed = zipped(("a.txt", b"hei" * 100), ("b.txt", b"hei" * 100))
    entries = packed.index(b"PK\1\2")
    second = packed.index(b"PK\1\2", entries + 4)
    return packed[: second + 42] + bytes(4) + packed[second + 46 :]


def with_wrong_checksum(packed: bytes, what: bytes = b"tervetuloa") -> bytes:
    """A bit of a stored content is another one."""
    at = packed.index(what)
    return packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


def tar_info(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, link, size, 1_500_000_000
    return info


def tarred(*members: tuple[str | tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A TAR."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=form) as archive:
        for member, data in members:
            info = tar_info(member, size=len(data)) if isinstance(member, str) else member
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def header(**fields: tuple[int, bytes]) -> bytes:
    """A bare TAR header of a file called `a`; fields: place and bytes. Its checksum is right."""
    block = bytearray(tar_info("a", size=3).tobuf(tarfile.USTAR_FORMAT))
    for at, value in fields.values():
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tar_of_headers(*blocks: bytes) -> bytes:
    """Headers and contents as they come, and the end."""
    return b"".join(block.ljust(-(-len(block) // 512) * 512, b"\0") for block in blocks) + bytes(1024)


def pax(text: bytes, kind: bytes = b"x") -> tuple[bytes, bytes]:
    """A header of attributes, for the member that follows (x) or for all (g)."""
    return header(kind=(156, kind), size=(124, b"%011o" % len(text))), text


def seven(*members: tuple[str, bytes], **options: Any) -> bytes:
    """A 7z."""
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w", **options) as archive:
        for name, data in members:
            archive.writestr(data, name)
    return out.getvalue()


def seven_with_name(name: str) -> bytes:
    """The name as it is: py7zr writes none that leads out."""
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w") as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(b"hei", "N" * len(name))
    data = bytearray(out.getvalue().replace(("N" * len(name)).encode("utf-16-le"), name.encode("utf-16-le")))
    start, size = struct.unpack("<QQ", data[12:28])
    data[28:32] = struct.pack("<I", zlib.crc32(data[32 + start : 32 + start + size]))
    data[8:12] = struct.pack("<I", zlib.crc32(data[12:32]))
    return bytes(data)


def tar_of_large_headers() -> bytes:
    """Attributes for all members, each time others: nothing of it counts as content."""
    blocks = []
    for number in range(40):
        text = b"100000 a%02d=" % number
        blocks += [
            *pax(text + b"x" * (99_999 - len(text)) + b"\n", kind=b"g"),
            header(name=(0, b"a%02d" % number)),
            b"hei",
        ]
    return gzip.compress(tar_of_headers(*blocks))


@dataclass(frozen=True)
class Hostile:
    """An archive that must not be unpacked.

    Arguments:
        filename: as the museum has it.
        make: its content.
        code: of the content problem.
        fault: what is wrong with it, in a few words.
    """

    filename: str
    make: Callable[[], bytes]
    code: str
    fault: str


def _names(*names: str) -> Callable[[], bytes]:
    return lambda: zipped(*((name, b"hei") for name in names))


GOOD = zipped(("kuva/a.txt", b"tervetuloa"), ("b.txt", b"hei" * 1000))
GOOD_TAR = tarred(("kuva/a.txt", b"tervetuloa"), ("b.txt", b"hei" * 1000))

HOSTILE = [
    # Paths
    Hostile("a.zip", _names("../../etc/passwd"), "archive-path", "parent directory"),
    Hostile("a.zip", _names("kuvat/../../x.txt"), "archive-path", "parent directory further down"),
    Hostile("a.zip", _names("..\\..\\x.txt"), "archive-path", "parent directory of Windows"),
    Hostile("a.zip", _names("/etc/passwd"), "archive-path", "absolute"),
    Hostile("a.zip", _names("C:\\autoexec.bat"), "archive-path", "drive of Windows"),
    Hostile("a.zip", _names("kuvat\\x.txt"), "name-not-allowed", "backslash"),
    Hostile("a.zip", zip_without_name, "name-not-allowed", "no name"),
    Hostile("a.zip", _names("kuvat//x.txt"), "name-not-allowed", "empty part"),
    Hostile("a.zip", _names("x\ny.txt"), "name-not-allowed", "new line in a name"),
    Hostile("a.zip", _names("x" * 256), "name-not-allowed", "long name"),
    Hostile("a.zip", _names("x/" * 40 + "x"), "name-not-allowed", "forty directories deep"),
    Hostile("a.zip", _names("kesä.txt"), "non-ascii-name", "name that is not ASCII"),
    Hostile("a.zip", lambda: zip_with_raw_name(b"x\0y.txt"), "name-not-allowed", "NUL in a name"),
    Hostile("a.zip", lambda: zip_with_raw_name("мир.txt".encode("cp1251")), "archive-name-encoding", "code page 1251"),
    Hostile("a.zip", lambda: zip_with_raw_name("höyry".encode("latin-1")), "archive-name-encoding", "Latin-1"),
    Hostile("a.zip", lambda: zip_with_raw_name(b"\xff\xfe.txt", flags=0x800), "archive-name-encoding", "no UTF-8"),
    # Names that are not kept apart
    Hostile("a.zip", lambda: zip_with_two_names("a.txt", "a.txt"), "archive-same-names", "a name twice"),
    Hostile("a.zip", _names("kuva.txt", "Kuva.TXT"), "archive-same-names", "differ in case"),
    Hostile("a.zip", _names("Kuvat/a.txt", "kuvat/b.txt"), "archive-same-names", "directories differ in case"),
    Hostile("a.zip", _names("kuva", "kuva/a.txt"), "archive-same-names", "a file and a directory"),
    # Members that are no files
    Hostile("a.zip", lambda: zipped((zip_info("l", mode=stat.S_IFLNK), b"/etc/passwd")), "symbolic-link", "link"),
    Hostile("a.zip", lambda: zipped((zip_info("d", mode=stat.S_IFCHR), b"")), "archive-special-file", "device"),
    Hostile("a.zip", lambda: zipped((zip_info("p", mode=stat.S_IFIFO), b"")), "archive-special-file", "pipe"),
    # Bombs
    Hostile("a.zip", lambda: zipped(("a.txt", ZEROS)), "archive-ratio", "zeros"),
    Hostile("a.zip", lambda: zip_that_lies(5, ZEROS), "archive-damaged", "zeros, called five bytes"),
    Hostile(
        "a.zip", lambda: zip_that_lies(2**32 - 2, b"hei"), "archive-too-large", "three bytes, called four gigabytes"
    ),
    Hostile("a.zip", zip_that_overlaps, "archive-damaged", "members overlap"),
    Hostile("a.zip", _names(*map(str, range(60))), "archive-too-many-files", "many files"),
    Hostile(
        "a.zip", _names("x/" * 25 + "a", "y/" * 25 + "a"), "archive-too-many-files", "two files in fifty directories"
    ),
    Hostile("a.zip", lambda: zipped(("a.txt", ZEROS * 2), method=0), "archive-too-large", "too large"),
    Hostile("a.zip", lambda: zipped(("b.zip", GOOD)), "archive-nested", "ZIP in a ZIP"),
    Hostile("a.zip", lambda: zipped(("b.tar.gz", gzip.compress(GOOD_TAR))), "archive-nested", "TAR in a ZIP"),
    # What cannot be read
    Hostile("a.zip", lambda: with_flags(GOOD, 1), "archive-encrypted", "encrypted"),
    Hostile("a.zip", lambda: GOOD[:-30], "archive-damaged", "cut off"),
    Hostile("a.zip", lambda: with_wrong_checksum(zipped(("a.txt", b"tervetuloa"), method=0)), "archive-damaged", "CRC"),
    Hostile("a.zip", lambda: GOOD + GOOD, "archive-damaged", "two in one"),
    Hostile("a.zip", lambda: zip_that_lies(5, b"tervetuloa"), "archive-damaged", "more than it tells"),
    Hostile("a.zip", lambda: zipped(("a.txt", b"hei"), method=zipfile.ZIP_LZMA), "archive-variant", "other method"),
    Hostile("a.zip", zipped, "archive-empty", "empty"),
    Hostile("a.zip", lambda: zipped(("kuvat/", b"")), "archive-empty", "directories alone"),
    # TAR
    Hostile("a.tar", lambda: tarred(("../x", b"hei")), "archive-path", "parent directory"),
    Hostile("a.tar", lambda: tarred(("/x", b"hei")), "archive-path", "absolute"),
    Hostile("a.tar", lambda: tarred((tar_info("l", kind=b"2", link="/etc/passwd"), b"")), "symbolic-link", "link"),
    Hostile("a.tar", lambda: tarred((tar_info("l", kind=b"1", link="x"), b"")), "archive-special-file", "hard link"),
    Hostile("a.tar", lambda: tarred((tar_info("d", kind=b"3"), b"")), "archive-special-file", "device"),
    Hostile("a.tar", lambda: tarred((tar_info("p", kind=b"6"), b"")), "archive-special-file", "pipe"),
    Hostile("a.tar", lambda: tarred((tar_info("v", kind=b"V"), b"")), "archive-special-file", "label of a volume"),
    Hostile("a.tar", lambda: tarred((tar_info("s", kind=b"S"), b"")), "archive-variant", "sparse file"),
    Hostile("a.tar", lambda: tarred(("a", b"1"), ("a", b"2")), "archive-same-names", "a name twice"),
    Hostile("a.tar", lambda: tar_of_headers(header(name=(0, b"\xe4")), b"hei"), "archive-name-encoding", "Latin-1"),
    Hostile("a.tar", lambda: tar_of_headers(header(size=(124, b"\xff" * 12)), b"hei"), "archive-damaged", "size of -1"),
    Hostile("a.tar", lambda: tar_of_headers(*pax(b"13 size=-512\n"), header()), "archive-damaged", "size of -512"),
    Hostile("a.tar", lambda: tar_of_headers(*pax(b"1" * 200_000), header()), "archive-damaged", "a long number"),
    Hostile("a.tar", lambda: tar_of_headers(*pax(b" " * 10**6), header()), "archive-damaged", "a header of a megabyte"),
    Hostile("a.tar", lambda: tar_of_headers(*pax(b"9 a=bcde\n") * 2000, header()), "archive-damaged", "2,000 headers"),
    Hostile("a.tar.gz", tar_of_large_headers, "archive-damaged", "headers of many megabytes"),
    Hostile("a.tar", lambda: GOOD_TAR[:1100], "archive-damaged", "cut off in a content"),
    Hostile("a.tar", lambda: GOOD_TAR[:1024], "archive-damaged", "cut off between members"),
    Hostile("a.tar", lambda: GOOD_TAR[:1024] + b"x" * 512 + GOOD_TAR[1024:], "archive-damaged", "a damaged header"),
    Hostile("a.tar", lambda: GOOD_TAR + GOOD_TAR, "archive-damaged", "two in one"),
    Hostile("a.tar.gz", lambda: gzip.compress(tarred(("a.txt", ZEROS))), "archive-ratio", "zeros"),
    Hostile("a.tgz", lambda: gzip.compress(GOOD_TAR + ZEROS), "archive-damaged", "zeros after the end"),
    Hostile("a.tgz", lambda: gzip.compress(GOOD_TAR)[:-3], "archive-damaged", "cut off"),
    Hostile("a.tgz", lambda: gzip.compress(GOOD_TAR)[:-8] + bytes(8), "archive-damaged", "wrong checksum"),
    Hostile("a.tgz", lambda: gzip.compress(GOOD_TAR) + b"x", "archive-damaged", "something after the end"),
    Hostile("a.tar.bz2", lambda: bz2.compress(tarred(("a.txt", ZEROS))), "archive-ratio", "zeros"),
    Hostile("a.tar.bz2", lambda: bz2.compress(GOOD_TAR)[:-3], "archive-damaged", "cut off"),
    Hostile("a.tar.xz", lambda: lzma.compress(tarred(("a.txt", ZEROS))), "archive-ratio", "zeros"),
    Hostile("a.tar.xz", lambda: lzma.compress(GOOD_TAR)[:-3], "archive-damaged", "cut off"),
    Hostile("a.tar", lambda: tarred(*((str(n), b"") for n in range(60))), "archive-too-many-files", "many files"),
    Hostile(
        "a.tgz",
        lambda: gzip.compress(tarred(("x/" * 25 + "a", b""), ("y/" * 25 + "b", b""))),
        "archive-too-many-files",
        "two files in fifty directories",
    ),
    Hostile("a.tar", lambda: tarred(("b.zip", GOOD)), "archive-nested", "ZIP in a TAR"),
    # 7z
    Hostile("a.7z", lambda: seven(("a", b"hei"), password="x"), "archive-encrypted", "encrypted"),
    Hostile(
        "a.7z", lambda: seven(("a", b"hei"), password="x", header_encryption=True), "archive-encrypted", "names too"
    ),
    Hostile("a.7z", lambda: seven(("a.txt", ZEROS)), "archive-ratio", "zeros"),
    Hostile("a.7z", lambda: seven(("a.txt", b"hei"))[:-5], "archive-damaged", "cut off"),
    Hostile("a.7z", lambda: with_wrong_checksum(seven(("a", b"tervetuloa"), filters=COPY)), "archive-damaged", "CRC"),
    Hostile("a.7z", lambda: seven(("a", b"hei"), filters=PPMD), "archive-variant", "PPMd"),
    Hostile("a.7z", lambda: seven_with_name("../etc/passwd"), "archive-path", "parent directory"),
    Hostile("a.7z", lambda: seven_with_name("/etc/passwd"), "archive-path", "absolute"),
    Hostile("a.7z", lambda: seven(("b.zip", GOOD)), "archive-nested", "ZIP in a 7z"),
    Hostile("a.7z", lambda: seven(), "archive-empty", "empty"),
]


def zip_with_two_names(first: str, second: str) -> bytes:
    """As `zipped`, which warns of a name that is there twice."""
    return (
        zipped(("1" * len(first), b"hei"), ("2" * len(second), b"hei"))
        .replace(b"1" * len(first), first.encode())
        .replace(b"2" * len(second), second.encode())
    )
