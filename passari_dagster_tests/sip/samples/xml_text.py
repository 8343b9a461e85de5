"""XML, and the formats that are written in it."""

from __future__ import annotations

from passari_dagster_tests.sip.samples.sample import Broken, Sample

_XSI = "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"
_DOCTYPE = "XML file has a document type declaration"


def _xml(encoding: str) -> bytes:
    return f"<?xml version='1.0' encoding='{encoding}'?>\n<kirves>ä</kirves>".encode(encoding)


def _root(name: str, namespace: str) -> bytes:
    return f"<?xml version='1.0'?><{name} xmlns='{namespace}'/>".encode()


SAMPLES = [
    Sample("kirves.xml", lambda: b"<kirves/>", "text/xml; charset=UTF-8 1.0"),
    Sample("utf8.xml", lambda: _xml("UTF-8"), "text/xml; charset=UTF-8 1.0"),
    Sample("utf16.xml", lambda: _xml("UTF-16"), "text/xml; charset=UTF-16 1.0"),
    Sample("latin9.xml", lambda: _xml("ISO-8859-15"), "text/xml; charset=ISO-8859-15 1.0"),
    Sample("latin1.xml", lambda: _xml("ISO-8859-1"), "text/xml; charset=ISO-8859-15 1.0"),
]
BROKEN = [
    Broken("kirves.xml", lambda: b"<kirves>", "XML file is not well-formed", "an element that is not closed"),
    Broken("kirves.xml", lambda: b"kirves", "XML file is not well-formed", "a text"),
    Broken("a.xml", lambda: b"<?xml version='1.1'?><a/>", "XML version not supported", "XML 1.1"),
    Broken("a.xml", lambda: _xml("windows-1252"), "XML encoding not supported", "a code page of Windows"),
    Broken("a.xml", lambda: b"<!DOCTYPE a SYSTEM 'a.dtd'><a/>", _DOCTYPE, "a DTD elsewhere"),
    Broken("a.xml", lambda: b"<!DOCTYPE a [<!ELEMENT a ANY>]><a/>", _DOCTYPE, "a DTD inside"),
    Broken(
        "a.xml",
        lambda: f"<a {_XSI} xsi:schemaLocation='urn:a urn:a.xsd'/>".encode(),
        "XML file names a schema that the DPS does not know",
        "a schema of the museum's own",
    ),
    Broken("a.svg", lambda: _root("svg", "http://www.w3.org/2000/svg"), "File format not yet packaged: svg", "SVG"),
    Broken(
        "a.svg",
        lambda: b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'><svg xmlns='http://www.w3.org/2000/svg'/>",
        "File format not yet packaged: svg",
        "SVG with its DTD",
    ),
    Broken(
        "a.gml",
        lambda: _root("FeatureCollection", "http://www.opengis.net/gml/3.2"),
        "File format not yet packaged: gml",
        "GML",
    ),
    Broken("a.kml", lambda: _root("kml", "http://www.opengis.net/kml/2.2"), "File format not yet packaged: kml", "KML"),
]
