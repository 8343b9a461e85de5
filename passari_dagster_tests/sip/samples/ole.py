"""Legacy Office files, in OLE2 containers that are written here: nothing that Python has writes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from passari_dagster_tests.sip.samples.sample import Broken, Sample

Streams = Mapping[str, bytes]

_SECTOR, _SMALL_SECTOR, _CUTOFF = 512, 64, 4096
_END, _FREE, _FAT, _NONE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD, 0xFFFFFFFF
_STREAM, _ROOT = 2, 5


def ole(streams: Streams) -> bytes:
    """An OLE2 container of version 3 with these streams in its root. [Source: MS-CFB.]"""
    sectors: list[bytes] = []
    table: list[int] = []
    small, small_table = bytearray(), list[int]()

    def add(data: bytes) -> int:
        first = len(sectors)
        count = -(-len(data) // _SECTOR)
        padded = data.ljust(count * _SECTOR, b"\0")
        sectors.extend(padded[n * _SECTOR : (n + 1) * _SECTOR] for n in range(count))
        table.extend([*range(first + 1, first + count), _END][:count])
        return first if count else _END

    def add_small(data: bytes) -> int:
        first = len(small_table)
        count = -(-len(data) // _SMALL_SECTOR)
        small.extend(data.ljust(count * _SMALL_SECTOR, b"\0"))
        small_table.extend([*range(first + 1, first + count), _END])
        return first

    # The tree of names is a chain: each entry is smaller than its right child.
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    entries = []
    for number, name in enumerate(names, start=1):
        data = streams[name]
        start = add(data) if len(data) >= _CUTOFF else add_small(data)
        right = number + 1 if number < len(names) else _NONE
        entries.append(_entry(name, _STREAM, start, len(data), right=right))
    root = _entry("Root Entry", _ROOT, add(bytes(small)), len(small), child=1 if names else _NONE)
    directory = add(b"".join([root, *entries]))
    small_fat = add(struct.pack(f"<{len(small_table)}I", *small_table))
    fat_count = next(n for n in range(1, 110) if n * _SECTOR // 4 >= len(table) + n)
    places = range(len(sectors), len(sectors) + fat_count)
    table += [_FAT] * fat_count
    table += [_FREE] * (fat_count * _SECTOR // 4 - len(table))
    fat = struct.pack(f"<{len(table)}I", *table)
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(24, b"\0")
    header += struct.pack("<HHHHH6xII", 0x3E, 3, 0xFFFE, 9, 6, 0, fat_count)
    small_sectors = -(-len(small_table) * 4 // _SECTOR)
    header += struct.pack("<IIIIIII", directory, 0, _CUTOFF, small_fat, small_sectors, _END, 0)
    header += struct.pack("<109I", *places, *[_FREE] * (109 - fat_count))
    return header + b"".join(sectors) + fat


def _entry(name: str, kind: int, start: int, size: int, *, right: int = _NONE, child: int = _NONE) -> bytes:
    raw = name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBBIII16sIQQIII",
        raw.ljust(64, b"\0"),
        len(raw),
        kind,
        1,
        _NONE,
        right,
        child,
        b"",
        0,
        0,
        0,
        start,
        size,
        0,
    )


def doc(*, identifier: int = 0xA5EC, version: int = 0xC1, flags: int = 0x0200) -> Streams:
    """A text of Word 97."""
    head = struct.pack("<HH6xH", identifier, version, flags)
    return {"WordDocument": head.ljust(8192, b"\0"), "1Table": bytes(5000), "\1CompObj": bytes(114)}


def xls(*, version: int = 0x0600, second: int = 0x00E1, stream: str = "Workbook") -> Streams:
    """A workbook of Excel 97; small."""
    begin = struct.pack("<HHHH12x", 0x0809, 16, version, 5)
    return {stream: begin + struct.pack("<HHH", second, 2, 1200) + struct.pack("<HH", 0x000A, 0)}


def ppt(*, token: int = 0xE391C05F) -> Streams:
    """A presentation of PowerPoint 97."""
    user = struct.pack("<HHIII", 0, 0x0FF6, 20, 20, token).ljust(60, b"\0")
    return {"PowerPoint Document": bytes(9000), "Current User": user}


def _write_protected_xls() -> Streams:
    begin = struct.pack("<HHHH12x", 0x0809, 16, 0x0600, 5)
    return {"Workbook": begin + struct.pack("<HHHH", 0x0086, 0, 0x002F, 2)}


def _without(streams: Streams, name: str) -> Streams:
    return {key: data for key, data in streams.items() if key != name}


def _circle() -> bytes:
    """The first stream leads back to its first sector."""
    data = bytearray(ole(doc()))
    fat = struct.unpack_from("<I", data, 76)[0]
    struct.pack_into("<I", data, (fat + 1) * _SECTOR + 4, 0)
    return bytes(data)


def _endless_fat() -> bytes:
    """The header tells of four thousand million sectors of the table."""
    data = bytearray(ole(doc()))
    struct.pack_into("<I", data, 44, 0xFFFFFFFF)
    struct.pack_into("<II", data, 68, 0, 33_818_640)
    return bytes(data)


_DAMAGED, _PASSWORD = "Office file is damaged", "Office file is protected by a password"
_VERSION = "Version of file format not supported"

SAMPLES = [
    Sample("kirje.doc", lambda: ole(doc()), "application/msword 97-2003"),
    Sample("uudempi.doc", lambda: ole(doc(version=0x0112)), "application/msword 97-2003"),
    Sample("luettelo.XLS", lambda: ole(xls()), "application/vnd.ms-excel 8X"),
    Sample("esitys.ppt", lambda: ole(ppt()), "application/vnd.ms-powerpoint 97-2003"),
    Sample("paate puuttuu.attachment", lambda: ole(ppt()), "application/vnd.ms-powerpoint 97-2003"),
]
BROKEN = [
    Broken("kirje.doc", lambda: ole(doc())[:-1000], _DAMAGED, "cut off"),
    Broken("kirje.doc", lambda: ole(doc())[:700], _DAMAGED, "cut off in the first sector"),
    Broken("kirje.doc", lambda: ole(doc())[:100], _DAMAGED, "cut off in the header"),
    Broken("kirje.doc", _circle, _DAMAGED, "a stream goes in a circle"),
    Broken("kirje.doc", _endless_fat, _DAMAGED, "a table that does not end"),
    Broken("kirje.doc", lambda: b"kirves", _DAMAGED, "a text with the wrong extension"),
    Broken("kirje.doc", lambda: ole(_without(doc(), "1Table")), _DAMAGED, "no table stream"),
    Broken("kirje.doc", lambda: ole(doc(identifier=0)), _DAMAGED, "the text does not begin as one"),
    Broken("kirje.doc", lambda: ole(doc(flags=0x0300)), _PASSWORD, "a text with a password"),
    Broken("kirje.doc", lambda: ole(doc(version=101)), f"{_VERSION}: doc", "Word 6"),
    Broken("kirje.doc", lambda: b"{\\rtf1 kirves}", "Unsupported file format: rtf", "RTF with the wrong extension"),
    Broken("luettelo.xls", lambda: ole(xls(second=0x002F)), _PASSWORD, "a workbook with a password"),
    Broken("luettelo.xls", lambda: ole(_write_protected_xls()), _PASSWORD, "a workbook with two passwords"),
    Broken("luettelo.xls", lambda: ole(xls(version=0x0500, stream="Book")), f"{_VERSION}: xls", "Excel 95"),
    Broken("luettelo.xls", lambda: ole({"Workbook": b"\x09\x08"}), _DAMAGED, "a workbook of two bytes"),
    Broken("esitys.ppt", lambda: ole(ppt(token=0xF3D1C4DF)), _PASSWORD, "a presentation with a password"),
    Broken("esitys.ppt", lambda: ole(_without(ppt(), "Current User")), _DAMAGED, "no current user"),
    Broken("esitys.ppt", lambda: ole({"PP40": bytes(5000)}), f"{_VERSION}: ppt", "PowerPoint 95"),
    Broken(
        "kirje.docx",
        lambda: ole({"EncryptedPackage": bytes(5000), "EncryptionInfo": bytes(500)}),
        _PASSWORD,
        "a docx with a password",
    ),
    Broken(
        "viesti.msg",
        lambda: ole({"__properties_version1.0": bytes(100)}),
        "Unsupported file format: msg",
        "a message of Outlook",
    ),
    Broken("Thumbs.db", lambda: ole({"Catalog": bytes(100)}), "Unsupported file format: ole", "another container"),
]
