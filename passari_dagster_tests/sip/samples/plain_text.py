"""Plain text."""

from __future__ import annotations

import codecs

from passari_dagster_tests.sip.samples.sample import Broken, Sample

_TEXT = "Äyräpään kesä\r\n\tja talvi\n"
_CONTROL, _ENCODING = "Text file has control characters", "Text encoding not supported"

SAMPLES = [
    Sample("muistio.txt", _TEXT.encode, "text/plain; charset=UTF-8"),
    Sample("merkitty.txt", lambda: _TEXT.encode("utf-8-sig"), "text/plain; charset=UTF-8"),
    Sample("vanha.txt", lambda: "Äyräpään kesä, 5 €".encode("iso-8859-15"), "text/plain; charset=ISO-8859-15"),
    Sample("utf16.txt", lambda: codecs.BOM_UTF16_LE + _TEXT.encode("utf-16-le"), "text/plain; charset=UTF-16"),
    Sample("utf16be.txt", lambda: codecs.BOM_UTF16_BE + _TEXT.encode("utf-16-be"), "text/plain; charset=UTF-16"),
    Sample("utf32.txt", lambda: codecs.BOM_UTF32_LE + _TEXT.encode("utf-32-le"), "text/plain; charset=UTF-32"),
    Sample("utf32be.txt", lambda: codecs.BOM_UTF32_BE + _TEXT.encode("utf-32-be"), "text/plain; charset=UTF-32"),
]
BROKEN = [
    Broken("muistio.txt", lambda: b"kirves\x01", _CONTROL, "a control character"),
    Broken("vanha.txt", lambda: b"sivu 1\fsivu 2", _CONTROL, "a form feed"),
    Broken("windows.txt", lambda: "5 € – ä".encode("cp1252"), _ENCODING, "a code page of Windows"),
    Broken("utf16.txt", lambda: "ä".encode("utf-16")[:-1], _ENCODING, "UTF-16 that was cut off"),
    Broken("utf16.txt", lambda: "a\0".encode("utf-16"), _CONTROL, "UTF-16 with a NUL"),
    Broken("utf16.txt", lambda: "kirves".encode("utf-16-le"), _CONTROL, "UTF-16 without its mark"),
    Broken("tyhja.txt", lambda: b"", "File is empty", "empty"),
]
