"""CSV."""

from __future__ import annotations

from passari_dagster_tests.sip.samples.sample import Broken, Sample

_TABLE = 'numero;nimi;vuosi\r\n1;"kirves; iso";1890\r\n2;"Äyräpään ""uusi"" vasara";1920\r\n\r\n'
_REASON = "CSV file is not a table"

SAMPLES = [
    Sample("luettelo.csv", _TABLE.encode, "text/csv; charset=UTF-8"),
    Sample("excel.csv", lambda: _TABLE.encode("utf-8-sig"), "text/csv; charset=UTF-8"),
    Sample("vanha.csv", lambda: _TABLE.encode("iso-8859-15"), "text/csv; charset=ISO-8859-15"),
    Sample("utf16.csv", lambda: _TABLE.encode("utf-16"), "text/csv; charset=UTF-16"),
    Sample("utf32.csv", lambda: _TABLE.encode("utf-32"), "text/csv; charset=UTF-32"),
    Sample("pilkku.csv", lambda: b'a,b\n"1,5",2\n"x\ny",3\n', "text/csv; charset=UTF-8"),
    Sample("sarkain.tsv", lambda: b"a\tb\r1\t2\r", "text/csv; charset=UTF-8"),
    Sample("pysty.csv", lambda: b"a|b|c\n1|2|3", "text/csv; charset=UTF-8"),
    Sample("luvut.csv", lambda: b"1;2,5\n3;4,5\n", "text/csv; charset=UTF-8"),
    Sample("nimet.csv", lambda: b"nimi\nkirves\nvasara\n", "text/csv; charset=UTF-8"),
]
BROKEN = [
    Broken("a.csv", lambda: b"a;b\n1;2;3\n", _REASON, "a row with one field more"),
    Broken("a.csv", lambda: b"a;b\n" + b"1;2\n" * 2000 + b"1\n", _REASON, "the last of many rows has one field less"),
    Broken("a.csv", lambda: b'a;b\n"1;2\n', _REASON, "a quote that is not closed"),
    Broken("a.csv", lambda: b'a;b\n"1"x;2\n', _REASON, "a letter after the closing quote"),
    Broken("a.csv", lambda: b"\na;b\n1;2\n", _REASON, "the first line is empty"),
    Broken("a.csv", lambda: b"Hyva lukija, olen teksti.\nEn ole taulukko.\n", _REASON, "a text"),
    Broken("a.csv", lambda: b'a;b\n"' + b"x" * 1_100_000 + b'";2\n', _REASON, "a field of more than a mebibyte"),
    Broken("a.csv", lambda: b"a;b\0\n", "Text file has control characters", "a NUL"),
    Broken("a.csv", lambda: "a;€\n".encode("cp1252"), "Text encoding not supported", "a code page of Windows"),
    Broken("a.csv", lambda: b";" * 20_000 + b"\n", "Text file too large to be checked", "20,001 columns"),
    Broken("a.csv", lambda: b";".join([b"x" * 999] * 5000), "Text file too large to be checked", "one line of 5 MB"),
]
