"""Documents in ZIP files: OpenDocument, Office Open XML, EPUB; with as few members as they may have."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

from passari_dagster_tests.sip.samples.sample import Broken, Sample

Members = dict[str, bytes]

_BOMB_BYTES = 80 * 1024 * 1024


def pack(members: Mapping[str, bytes], *, stored: tuple[str, ...] = ("mimetype",)) -> bytes:
    """A ZIP file with these members in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            method = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(name, data, compress_type=method)
    return out.getvalue()


def with_method(members: Mapping[str, bytes], method: int) -> bytes:
    """The last member is compressed by another method, and damaged."""
    data = bytearray(pack(members))
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        place = archive.start_dir
        archive.writestr("other.bin", bytes(range(256)) * 100, compress_type=method)
    data = bytearray(out.getvalue())
    data[place + 60 : place + 80] = bytes(20)
    return bytes(data)


def without(members: Members, *names: str) -> Members:
    """All members but these."""
    return {name: data for name, data in members.items() if name not in names}


def bad_crc(data: bytes) -> bytes:
    """The checksum of the last member is wrong."""
    at = data.rindex(b"PK\1\2") + 16
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# OpenDocument

_ODF = "application/vnd.oasis.opendocument."
_ODF_KINDS = {"text": "odt", "spreadsheet": "ods", "presentation": "odp", "graphics": "odg", "formula": "odf"}
_MANIFEST_NS = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"


def odf(kind: str = "text", version: str = "1.3") -> Members:
    """An empty OpenDocument file."""
    office = f'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" office:version="{version}"'
    content = f"<office:document-content {office}><office:body/></office:document-content>"
    if kind == "formula":
        content = '<math xmlns="http://www.w3.org/1998/Math/MathML"><mi>x</mi></math>'
    manifest = f"""<m:manifest xmlns:m="{_MANIFEST_NS}" m:version="{version}">
<m:file-entry m:full-path="/" m:media-type="{_ODF}{kind}"/>
<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/></m:manifest>"""
    return {
        "mimetype": f"{_ODF}{kind}".encode(),
        "content.xml": content.encode(),
        "meta.xml": f"<office:document-meta {office}><office:meta/></office:document-meta>".encode(),
        "META-INF/manifest.xml": manifest.encode(),
    }


def _with_manifest(members: Members, old: bytes, new: bytes) -> Members:
    name = "META-INF/manifest.xml"
    assert old in members[name]
    return {**members, name: members[name].replace(old, new)}


def _old_odf() -> Members:
    """As OpenOffice.org 2 wrote them: the manifest names its DTD."""
    members = odf("text", "1.0")
    doctype = b'<!DOCTYPE manifest:manifest PUBLIC "-//OpenOffice.org//DTD Manifest 1.0//EN" "Manifest.dtd">\n'
    return {**members, "META-INF/manifest.xml": doctype + members["META-INF/manifest.xml"]}


def _encrypted_odf() -> Members:
    return _with_manifest(odf(), b'"text/xml"/>', b'"text/xml"><m:encryption-data/></m:file-entry>')


# Office Open XML

_OOXML = "application/vnd.openxmlformats-officedocument."
_TRANSITIONAL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_STRICT = "http://purl.oclc.org/ooxml/officeDocument/relationships"
_OOXML_KINDS = {
    "docx": ("wordprocessingml.document", "word/document.xml", "document"),
    "xlsx": ("spreadsheetml.sheet", "xl/workbook.xml", "workbook"),
    "pptx": ("presentationml.presentation", "ppt/presentation.xml", "presentation"),
}


def ooxml(kind: str = "docx", *, content_type: str | None = None, strict: bool = False) -> Members:
    """An empty office document, with an image that is none."""
    name, main, root = _OOXML_KINDS[kind]
    content_type = content_type or f"{_OOXML}{name}.main+xml"
    types = f"""<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="png" ContentType="image/png"/>
<Override PartName="/{main}" ContentType="{content_type}"/></Types>"""
    relationships = f"""<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Type="{_STRICT if strict else _TRANSITIONAL}/officeDocument" Target="{main}"/></Relationships>"""
    namespace = "http://purl.oclc.org/ooxml" if strict else "http://schemas.openxmlformats.org"
    family = name.partition(".")[0]
    return {
        "[Content_Types].xml": types.encode(),
        "_rels/.rels": relationships.encode(),
        main: f'<w:{root} xmlns:w="{namespace}/{family}/2006/main"><w:body/></w:{root}>'.encode(),
        "media/image1.png": b"\x89PNG" * 100,
    }


_ENTITIES = b"".join(b"<!ENTITY e%d '%s'>" % (n, b"&e%d;" % (n - 1) * 50) for n in range(1, 12))
_ENTITY_BOMB = b"<!DOCTYPE a [<!ENTITY e0 'x'>" + _ENTITIES + b"]><a>&e11;</a>"


def _zip_encrypted(data: bytes) -> bytes:
    """All members are marked as encrypted in the manner of ZIP."""
    changed = bytearray(data)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(mark)
        while at >= 0:
            changed[at + offset] |= 1
            at = data.find(mark, at + 1)
    return bytes(changed)


def _many_members() -> bytes:
    """The end of the file tells of 65,000 members."""
    data = pack(ooxml())
    at = data.rindex(b"PK\5\6") + 8
    return data[:at] + struct.pack("<HH", 65_000, 65_000) + data[at + 4 :]


# EPUB


def epub(version: str = "3.0") -> Members:
    """A book with one chapter."""
    new = version.startswith("3")
    navigation = '<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    if not new:
        navigation = '<item id="n" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    package = f"""<package xmlns="http://www.idpf.org/2007/opf" version="{version}" unique-identifier="i">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="i">k</dc:identifier>
<dc:title>Kirves</dc:title><dc:language>fi</dc:language></metadata>
<manifest>{navigation}<item id="c" href="kes%C3%A4.xhtml" media-type="application/xhtml+xml"/></manifest>
<spine{"" if new else ' toc="n"'}><itemref idref="c"/></spine></package>"""
    text = b'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Kirves</title></head><body><p/></body></html>'
    doctype = b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">'
    container = b"""<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
    return {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": container,
        "OPS/book.opf": package.encode(),
        "OPS/kesä.xhtml": text if new else doctype + text,
        **({"OPS/nav.xhtml": text} if new else {"OPS/toc.ncx": b'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"/>'}),
    }


def _drm(algorithm: str) -> Members:
    encryption = f"""<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<e:EncryptedData xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptionMethod Algorithm="{algorithm}"/>
</e:EncryptedData></encryption>"""
    return {**epub(), "META-INF/encryption.xml": encryption.encode()}


_OFFICE, _BOOK, _LARGE = "Office file is damaged", "EPUB file is damaged", "Document too large to be checked"
_PASSWORD = "Office file is protected by a password"
_VERSION = "Version of file format not supported"

SAMPLES = [
    *(
        Sample(
            f"kirje {version}.{suffix}",
            lambda kind=kind, version=version: pack(odf(kind, version)),  # type: ignore[misc]
            f"{_ODF}{kind} {version}",
        )
        for kind, suffix in _ODF_KINDS.items()
        for version in ("1.0", "1.1", "1.2", "1.3")
        if (kind, version) != ("formula", "1.1")
    ),
    Sample("vanha.odt", lambda: pack(_old_odf()), f"{_ODF}text 1.0"),
    Sample("kaava.odf", lambda: pack(without(odf("formula"), "meta.xml")), f"{_ODF}formula 1.3"),
    *(
        Sample(
            f"kirje.{suffix}",
            lambda suffix=suffix: pack(ooxml(suffix)),  # type: ignore[misc]
            f"{_OOXML}{name} 2007 onwards",
        )
        for suffix, (name, _, _) in _OOXML_KINDS.items()
    ),
    Sample("tiukka.docx", lambda: pack(ooxml(strict=True)), f"{_OOXML}wordprocessingml.document 2007 onwards"),
    Sample("paate puuttuu.attachment", lambda: pack(ooxml("xlsx")), f"{_OOXML}spreadsheetml.sheet 2007 onwards"),
    Sample("kirja 2.epub", lambda: pack(epub("2.0")), "application/epub+zip 2.0.1"),
    Sample("kirja 3.epub", lambda: pack(epub()), "application/epub+zip 3"),
    Sample("fontit.epub", lambda: pack(_drm("http://www.idpf.org/2008/embedding")), "application/epub+zip 3"),
]
BROKEN = [
    Broken("kirje.odt", lambda: pack(odf())[:-100], _OFFICE, "cut off"),
    Broken("kirje.odt", lambda: b"kirves", _OFFICE, "a text with the wrong extension"),
    Broken("kirje.odt", lambda: bad_crc(pack(odf())), _OFFICE, "a checksum is wrong"),
    Broken("kirje.odt", lambda: pack(without(odf(), "content.xml")), _OFFICE, "no content"),
    Broken("kirje.odt", lambda: pack(without(odf(), "META-INF/manifest.xml")), _OFFICE, "no manifest"),
    Broken("kirje.odt", lambda: pack(without(odf(), "mimetype")), _OFFICE, "no MIME type"),
    Broken("kirje.odt", lambda: pack(odf(), stored=()), _OFFICE, "the MIME type is compressed"),
    Broken("kirje.odt", lambda: pack(dict(reversed(odf().items()))), _OFFICE, "the MIME type comes last"),
    Broken(
        "kirje.odt",
        lambda: pack(_with_manifest(odf(), b"opendocument.text", b"opendocument.graphics")),
        _OFFICE,
        "the manifest tells another MIME type",
    ),
    Broken("kirje.odt", lambda: pack({**odf(), "styles.xml": b"<a>"}), _OFFICE, "a part is not well-formed"),
    Broken("kirje.odt", lambda: pack({**odf(), "styles.xml": _ENTITY_BOMB}), _OFFICE, "an entity bomb"),
    Broken("kirje.odt", lambda: pack(_encrypted_odf()), _PASSWORD, "a password"),
    Broken("kirje.odt", lambda: pack(odf("text", "1.4")), f"{_VERSION}: odt", "ODF 1.4"),
    Broken("kaava.odf", lambda: pack(odf("formula", "1.1")), f"{_VERSION}: odf", "a formula of ODF 1.1"),
    Broken("malli.ott", lambda: pack(odf("text-template")), "Unsupported file format: ott", "a template"),
    Broken("kirje.docx", lambda: pack(ooxml())[:-100], _OFFICE, "cut off"),
    Broken("kirje.docx", lambda: bad_crc(pack(ooxml())), _OFFICE, "a checksum is wrong"),
    Broken("kirje.docx", lambda: pack(without(ooxml(), "word/document.xml")), _OFFICE, "no text"),
    Broken("kirje.docx", lambda: pack(without(ooxml(), "_rels/.rels")), _OFFICE, "no relationships"),
    Broken("kirje.docx", lambda: pack(without(ooxml(), "[Content_Types].xml")), _OFFICE, "no content types"),
    Broken("kirje.docx", lambda: pack({**ooxml(), "word/document.xml": b"<a/>"}), _OFFICE, "the text is none"),
    Broken("kirje.docx", lambda: pack({**ooxml(), "docProps/app.xml": _ENTITY_BOMB}), _OFFICE, "an entity bomb"),
    Broken("kirje.docx", lambda: pack({**ooxml(), "a.xml": b"<a>" * 2000}), _LARGE, "elements without end"),
    Broken("kirje.docx", lambda: with_method(ooxml(), zipfile.ZIP_LZMA), _OFFICE, "a member by LZMA, damaged"),
    Broken("kirje.odt", lambda: with_method(odf(), zipfile.ZIP_BZIP2), _OFFICE, "a member by bzip2, damaged"),
    Broken("kirje.docx", lambda: _zip_encrypted(pack(ooxml())), _PASSWORD, "a password of ZIP"),
    Broken("kirje.docx", lambda: pack({**ooxml(), "a.bin": bytes(_BOMB_BYTES)}), _LARGE, "a bomb"),
    Broken("kirje.docx", _many_members, _LARGE, "too many members"),
    Broken(
        "makro.docx",
        lambda: pack(ooxml(content_type="application/vnd.ms-word.document.macroEnabled.main+xml")),
        "Unsupported file format: docm",
        "macros",
    ),
    Broken(
        "esitys.pptx",
        lambda: pack(ooxml("pptx", content_type=f"{_OOXML}presentationml.slideshow.main+xml")),
        "Unsupported file format: ppsx",
        "a slide show",
    ),
    Broken("kirja.epub", lambda: pack(epub())[:-30], _BOOK, "cut off"),
    Broken("kirja.epub", lambda: b"kirves", _BOOK, "a text with the wrong extension"),
    Broken("kirja.epub", lambda: pack(dict(reversed(epub().items()))), _BOOK, "the MIME type comes last"),
    Broken("kirja.epub", lambda: pack({**epub(), "mimetype": b"application/epub+zip\n"}), _BOOK, "a line too much"),
    Broken("kirja.epub", lambda: pack(without(epub(), "META-INF/container.xml")), _BOOK, "no container"),
    Broken("kirja.epub", lambda: pack(without(epub(), "OPS/kesä.xhtml")), _BOOK, "a chapter is missing"),
    Broken("kirja.epub", lambda: pack({**epub(), "OPS/nav.xhtml": b"<a>"}), _BOOK, "a text is not well-formed"),
    Broken("kirja.epub", lambda: pack(_drm("http://ns.adobe.com/adept/xml")), "EPUB file is protected", "from a shop"),
    Broken("kirja.epub", lambda: pack(epub("3.1")), f"{_VERSION}: epub", "EPUB 3.1"),
    Broken("kuvat.zip", lambda: pack({"kuva.jpg": b"kuva"}), "Unsupported file format: zip", "an archive"),
    Broken("tyhja.zip", lambda: pack({}), "Unsupported file format: zip", "an archive without members"),
    Broken("katkennut.zip", lambda: pack({"a": b"a"})[:-9], "Unsupported file format: zip", "an archive, cut off"),
]
