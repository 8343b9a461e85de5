"""Plain text and XML."""

from __future__ import annotations

from passari_dagster_tests.sip.samples.sample import Broken, Sample

SAMPLES = [
    Sample("muistio.txt", lambda: "Äyräpään kesä\r\n\tja talvi\n".encode(), "text/plain; charset=UTF-8"),
    Sample("vanha.txt", lambda: "Äyräpään kesä, 5 €".encode("iso-8859-15"), "text/plain; charset=ISO-8859-15"),
    Sample("kirves.xml", lambda: b"<kirves/>", "text/xml; charset=UTF-8 1.0"),
]
BROKEN = [
    Broken("muistio.txt", lambda: b"kirves\x01", "Text file has control characters", "a control character"),
    Broken("kirves.xml", lambda: b"<kirves>", "XML file is not well-formed", "an element that is not closed"),
    Broken("tyhja.txt", lambda: b"", "File is empty", "empty"),
]
