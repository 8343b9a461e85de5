"""PDF of every version and conformance; what else is PostScript."""

from __future__ import annotations

import io
import zlib

import pikepdf
from pikepdf import Dictionary, Name, Stream

from passari_dagster_tests.sip.content import jpeg
from passari_dagster_tests.sip.samples.sample import Broken, Sample

_BOMB_BYTES = 1536 * 1024 * 1024


def pdf(
    version: str = "1.7",
    *,
    conformance: str | None = None,
    catalog: str | None = None,
    content: bytes = b"0 0 m 100 100 l S",
    encryption: pikepdf.Encryption | bool = False,
    as_attributes: bool = False,
    pages: int = 1,
) -> bytes:
    """A drawing.

    Arguments:
        version: in the header.
        conformance: of PDF/A: `2u`.
        catalog: version in the catalog.
        content: of the page, stored as it is.
        encryption: see pikepdf.
        as_attributes: write the XMP's properties as attributes.
        pages: how many.
    """
    out = io.BytesIO()
    with pikepdf.Pdf.new() as document:
        for _ in range(pages):
            page = document.add_blank_page(page_size=(200, 200))
            page.Contents = Stream(document, content)
        if conformance is not None:
            document.Root.Metadata = Stream(
                document, xmp(conformance, as_attributes=as_attributes), Type=Name.Metadata, Subtype=Name.XML
            )
        if catalog is not None:
            document.Root.Version = Name(f"/{catalog}")
        # Other versions than qpdf would choose are not encrypted.
        forced = "" if encryption else version
        document.save(out, force_version=forced, encryption=encryption, fix_metadata_version=False)
    return out.getvalue()


def xmp(conformance: str, *, as_attributes: bool = False) -> bytes:
    """Metadata that claims PDF/A: `2u` is part 2, conformance U."""
    part, level = conformance[0], conformance[1:].upper()
    attributes, elements = "", f"<p:part>{part}</p:part><p:conformance>{level}</p:conformance>"
    if as_attributes:
        attributes, elements = f'p:part="{part}" p:conformance="{level}"', ""
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:p="http://www.aiim.org/pdfa/ns/id/" {attributes}>{elements}</rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def with_compressed_metadata() -> bytes:
    """PDF/A-1b whose XMP is compressed, which part 1 forbids, and which qpdf never writes."""
    out = io.BytesIO()
    with pikepdf.Pdf.open(io.BytesIO(pdf("1.4", conformance="1b"))) as document:
        document.Root.Metadata = Stream(document, zlib.compress(xmp("1b")), Type=Name.Metadata, Subtype=Name.XML)
        document.Root.Metadata["/Filxer"] = Name.FlateDecode
        document.save(out, force_version="1.4", preserve_pdfa=False, fix_metadata_version=False, compress_streams=False)
    return out.getvalue().replace(b"/Filxer", b"/Filter")


def with_image(data: bytes, **entries: object) -> bytes:
    """A page with an image; the data are stored as they are, whatever they decode to."""
    out = io.BytesIO()
    with pikepdf.Pdf.new() as document:
        page = document.add_blank_page(page_size=(200, 200))
        image = Stream(document, data, Type=Name.XObject, Subtype=Name.Image, Width=8, Height=8, BitsPerComponent=8)
        for key, value in {"ColorSpace": Name.DeviceGray, **entries}.items():
            image[f"/{key}"] = value
        page.Resources = Dictionary(XObject=Dictionary(Im=image))
        page.Contents = Stream(document, b"q 100 0 0 100 0 0 cm /Im Do Q")
        document.save(
            out, force_version="1.7", compress_streams=False, stream_decode_level=pikepdf.StreamDecodeLevel.none
        )
    return out.getvalue()


def scan(*, cut: int = 0) -> bytes:
    """A JPEG on a page, without its last bytes."""
    data = jpeg(size=(8, 8))
    return with_image(data[: len(data) - cut], Filter=Name.DCTDecode, ColorSpace=Name.DeviceRGB)


def bomb() -> bytes:
    """An image that grows from a few megabytes to more than the limit."""
    packer = zlib.compressobj(1)
    block = bytes(1024 * 1024)
    data = b"".join(packer.compress(block) for _ in range(_BOMB_BYTES // len(block))) + packer.flush()
    return with_image(data, Filter=Name.FlateDecode, Width=65536, Height=_BOMB_BYTES // 65536)


def encrypted(**passwords: str) -> bytes:
    """With a password for opening it, or for changing it only."""
    return pdf(encryption=pikepdf.Encryption(**{"user": "", "owner": "museo", **passwords}))  # type: ignore[arg-type]


def _damaged_stream() -> bytes:
    data = bytearray(with_image(zlib.compress(bytes(range(64))), Filter=Name.FlateDecode))
    at = data.index(b"\nstream\n", data.index(b"/Image")) + 12
    data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def _wrong_place_of_xref() -> bytes:
    data = pdf()
    at = data.rindex(b"startxref\n") + 10
    return data[:at] + b"1" + data[at:]


_A = ("1a", "1b", "2a", "2b", "2u", "3a", "3b", "3u")
_DAMAGED, _VERSION = "PDF file is damaged", "Version of file format not supported: pdf"

SAMPLES = [
    *(
        Sample(f"raportti {version}.pdf", lambda version=version: pdf(version), f"application/pdf {version}")  # type: ignore[misc]
        for version in ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7")
    ),
    *(
        Sample(
            f"raportti {name}.pdf",
            lambda name=name: pdf("1.4" if name[0] == "1" else "1.7", conformance=name),  # type: ignore[misc]
            f"application/pdf A-{name}",
        )
        for name in _A
    ),
    Sample("vanha otsake.PDF", lambda: pdf("1.4", catalog="1.3"), "application/pdf 1.4"),
    Sample("skannaus.pdf", scan, "application/pdf 1.7"),
    Sample("muutettu.pdf", lambda: pdf("1.4", catalog="1.6", conformance="1a"), "application/pdf A-1a"),
    Sample("attribuutit.attachment", lambda: pdf(conformance="2b", as_attributes=True), "application/pdf A-2b"),
]
BROKEN = [
    Broken("raportti.pdf", lambda: pdf()[:-200], _DAMAGED, "cut off"),
    Broken("raportti.pdf", lambda: pdf()[:9], _DAMAGED, "cut off after the header"),
    Broken("raportti.pdf", _wrong_place_of_xref, _DAMAGED, "the place of the cross-reference table is wrong"),
    Broken("raportti.pdf", _damaged_stream, _DAMAGED, "the data of an image are damaged"),
    Broken("skannaus.pdf", lambda: scan(cut=60), _DAMAGED, "a JPEG in it was cut off"),
    Broken("raportti.pdf", lambda: pdf(pages=0), _DAMAGED, "no pages"),
    Broken("raportti.pdf", lambda: b"%PDF-x" + pdf()[6:], _DAMAGED, "no version in the header"),
    Broken("raportti.pdf", lambda: pdf(catalog="seitsemän"), _DAMAGED, "no number as version in the catalog"),
    Broken("raportti.pdf", lambda: b"kirves\n", _DAMAGED, "a text with the wrong extension"),
    Broken("raportti.pdf", lambda: b"", "File is empty", "empty"),
    Broken("raportti.pdf", bomb, "Document too large to be checked", "an image that is a bomb"),
    Broken("raportti.pdf", lambda: encrypted(user="kirves"), "PDF file is encrypted", "a password to open it"),
    Broken("raportti.pdf", lambda: encrypted(), "PDF file is encrypted", "a password to change it"),
    Broken("raportti.pdf", lambda: pdf("2.0"), _VERSION, "PDF 2.0"),
    Broken("raportti.pdf", lambda: pdf("1.7", catalog="2.0"), _VERSION, "PDF 2.0 in the catalog"),
    Broken("raportti.pdf", lambda: pdf("1.0"), _VERSION, "PDF 1.0"),
    Broken("raportti.pdf", lambda: pdf("1.1"), _VERSION, "PDF 1.1"),
    Broken("raportti.pdf", lambda: pdf("2.0", conformance="4"), _VERSION, "PDF/A-4"),
    Broken("raportti.pdf", lambda: pdf(conformance="1u"), _VERSION, "a PDF/A that does not exist"),
    Broken("raportti.pdf", lambda: pdf("1.4", catalog="1.6"), "PDF file tells two versions", "two versions"),
    Broken("raportti.pdf", with_compressed_metadata, "PDF/A file is not valid", "PDF/A-1 with compressed metadata"),
    Broken("kuva.eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "File format not yet packaged: eps", "EPS"),
    Broken(
        "kuva.eps",
        lambda: b"\xc5\xd0\xd3\xc6\x1e\0\0\0".ljust(30, b"\0") + b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "File format not yet packaged: eps",
        "EPS with a preview",
    ),
    Broken("kuva.ps", lambda: b"%!PS-Adobe-3.0\n", "Unsupported file format: ps", "PostScript"),
]
