"""Legacy Office files in OLE2 containers: doc, xls, ppt; and the wrapping of Office files that have a password.

The container is read in a process of its own, see `ole_process`; here the first bytes of its main stream tell version
and encryption. Not checked: the rest of the streams' content; LibreOffice reads it in the DPS.
Sources: [MS-DOC] 2.5.2, [MS-XLS] 2.4.21 and 2.4.117, [MS-PPT] 2.3.2, [MS-OFFCRYPTO] 2.3.
"""

from __future__ import annotations

import struct

from passari_dagster.sip import problems
from passari_dagster.sip.formats import accepted, guarded
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened

DOC, XLS, PPT = "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"
SUFFIXES = frozenset({".doc", ".xls", ".ppt"})

_PROCESS = "passari_dagster.sip.formats.ole_process"
_NEWER, _EXCEL = "97-2003", "8X"

_WORD, _WORD_95, _WORD_97 = 0xA5EC, 0xA5DC, 0xC0
_WORD_ENCRYPTED, _WORD_SECOND_TABLE = 0x0100, 0x0200
_BOF, _FILEPASS, _WRITEPROTECT, _BIFF8 = 0x0809, 0x002F, 0x0086, 0x0600
_CURRENT_USER, _PPT_PLAIN, _PPT_ENCRYPTED = 0x0FF6, 0xE391C05F, 0xF3D1C4DF

_OTHERS = {"__properties_version1.0": "msg", "visiodocument": "vsd", "quill": "pub"}
"""What else is in such containers, by a name in the root."""


def read(file: Opened) -> FileFormat:
    """The format of a legacy Office file. See `Reader`."""
    facts = guarded.facts(_PROCESS, file.path, problems.OFFICE_DAMAGED)
    if "damaged" in facts:
        raise problems.OFFICE_DAMAGED.found(facts["damaged"])
    heads = {name: bytes.fromhex(head) for name, head in facts["streams"].items()}
    try:
        return _format(heads)
    except struct.error:
        raise problems.OFFICE_DAMAGED.found("a stream is too short") from None


def _format(heads: dict[str, bytes]) -> FileFormat:
    """The format of a file that has streams of these names in its root, in lower case, which begin so."""
    if "encryptedpackage" in heads:
        raise problems.OFFICE_PASSWORD.found()
    if "worddocument" in heads:
        return _word(heads)
    if "workbook" in heads or "book" in heads:
        return _excel(heads.get("workbook") or heads.get("book", b""))
    if "powerpoint document" in heads or "pp40" in heads:
        return _powerpoint(heads)
    name = next((_OTHERS[known] for known in _OTHERS if known in heads), "ole")
    raise problems.UNSUPPORTED.found(format=name)


def _word(heads: dict[str, bytes]) -> FileFormat:
    head = heads["worddocument"]
    identifier, version = struct.unpack_from("<HH", head)
    (flags,) = struct.unpack_from("<H", head, 10)
    if identifier == _WORD_95 or (identifier == _WORD and version < _WORD_97):
        raise problems.VERSION.found("Word 95 or older", format=accepted.name_of(DOC))
    if identifier != _WORD:
        raise problems.OFFICE_DAMAGED.found("the stream 'WordDocument' does not begin as one")
    if flags & _WORD_ENCRYPTED:
        raise problems.OFFICE_PASSWORD.found()
    table = "1table" if flags & _WORD_SECOND_TABLE else "0table"
    if table not in heads:
        raise problems.OFFICE_DAMAGED.found(f"the stream {table!r} is missing")
    return FileFormat(DOC, _NEWER)


def _excel(head: bytes) -> FileFormat:
    record, length, version = struct.unpack_from("<HHH", head)
    if record != _BOF:
        raise problems.OFFICE_DAMAGED.found("the workbook does not begin as one")
    if version != _BIFF8:
        raise problems.VERSION.found("Excel 95 or older", format=accepted.name_of(XLS))
    at = 4 + length
    record, length = struct.unpack_from("<HH", head, at)
    if record == _WRITEPROTECT:
        record, length = struct.unpack_from("<HH", head, at + 4 + length)
    if record == _FILEPASS:
        raise problems.OFFICE_PASSWORD.found()
    return FileFormat(XLS, _EXCEL)


def _powerpoint(heads: dict[str, bytes]) -> FileFormat:
    if "powerpoint document" not in heads:
        raise problems.VERSION.found("PowerPoint 95 or older", format=accepted.name_of(PPT))
    if "current user" not in heads:
        raise problems.OFFICE_DAMAGED.found("the stream 'Current User' is missing")
    record, _, _, token = struct.unpack_from("<HIII", heads["current user"], 2)
    if token == _PPT_ENCRYPTED or "encryptedsummary" in heads:
        raise problems.OFFICE_PASSWORD.found()
    if record != _CURRENT_USER or token != _PPT_PLAIN:
        raise problems.OFFICE_DAMAGED.found("the stream 'Current User' does not begin as one")
    return FileFormat(PPT, _NEWER)
