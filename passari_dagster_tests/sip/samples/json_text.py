"""JSON."""

from __future__ import annotations

from passari_dagster_tests.sip.samples.sample import Broken, Sample

_NAME = "application/json; charset=UTF-8"
_REASON = "JSON file is not valid"

SAMPLES = [
    Sample("esine.json", lambda: '{"nimi": "Äyräpää", "mitat": [1, -2.5e3, null, true]}\n'.encode(), _NAME),
    Sample("luku.json", lambda: b"  42\r\n", _NAME),
    Sample("sama.json", lambda: b'{"a": 1, "a": 2}', _NAME),
    Sample("paikka.geojson", lambda: b'{"type": "Point", "coordinates": [24.9, 60.2]}', _NAME),
    Sample("syva.json", lambda: b"[" * 500 + b"]" * 500, _NAME),
    Sample("suuri.json", lambda: b"[1e400, " + b"9" * 4000 + b"]", _NAME),
]
BROKEN = [
    Broken("a.json", lambda: b'{"a": 1', _REASON, "cut off"),
    Broken("a.json", lambda: b"[1, 2,]", _REASON, "a comma at the end"),
    Broken("a.json", lambda: b'{"a": NaN}', _REASON, "NaN, which is no JSON"),
    Broken("a.json", lambda: b"[Infinity]", _REASON, "Infinity, which is no JSON"),
    Broken("a.json", lambda: b"{'a': 1}", _REASON, "single quotes"),
    Broken("a.json", lambda: b"[01]", _REASON, "a number that begins with 0"),
    Broken("a.json", lambda: b"[1] [2]", _REASON, "two values"),
    Broken("a.json", lambda: b'["a\nb"]', _REASON, "a new line in a string"),
    Broken("a.json", lambda: b"[1,\f2]", _REASON, "a form feed"),
    Broken("a.json", lambda: b"\xef\xbb\xbf[]", _REASON, "a byte order mark"),
    Broken("a.json", lambda: '["ä"]'.encode("latin-1"), _REASON, "Latin 1"),
    Broken("a.json", lambda: "[1]".encode("utf-16"), _REASON, "UTF-16"),
    Broken("a.json", lambda: b"[" * 501 + b"]" * 501, _REASON, "nested 501 deep"),
    Broken("a.json", lambda: b"[" * 5_000_000, _REASON, "nested without an end"),
    Broken("a.json", lambda: b" \n", _REASON, "nothing but white space"),
    Broken(
        "a.json", lambda: b'["' + b"x" * 18_000_000 + b'"]', "Text file too large to be checked", "a string of 18 MB"
    ),
]
