"""Encapsulated PostScript: recognised only. Sources: Adobe technical note 5002 (EPSF 3.0), its DOS header included."""

from __future__ import annotations

import re
import struct

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.opened import Opened

MIMETYPE = "application/postscript"
DOS_HEADER = b"\xc5\xd0\xd3\xc6"

_FIRST_LINE = re.compile(rb"%!PS-Adobe-\d\.\d EPSF-(\d\.\d)")
_LINE_BYTES = 64


def read(file: Opened) -> FileFormat:
    """The format of an EPS file. Any other PostScript is refused. See `Reader`."""
    head = file.head
    if head.startswith(DOS_HEADER) and len(head) >= 8:
        file.stream.seek(struct.unpack_from("<I", head, 4)[0])
        head = file.stream.read(_LINE_BYTES)
    match = _FIRST_LINE.match(head)
    if match is None:
        raise problems.UNSUPPORTED.found(format="ps")
    return FileFormat(MIMETYPE, match[1].decode())
