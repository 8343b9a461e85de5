"""The museum's files, made up: images of every kind that is accepted, documents, a key to sign with."""

from __future__ import annotations

import io
import struct
import tarfile
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from PIL import Image

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.build import SipDescription, SourceFile
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.rules import Rules


def look(data: bytes, suffix: str = "", rules: Rules | None = None) -> FileFormat | ContentProblem:
    """What the packager says of a file with this content."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"kuva{suffix}")
        path.write_bytes(data)
        return examine(path, rules or Rules()).format


def mets_of(tar: Path) -> etree._Element:
    """The METS of a package."""
    with tarfile.open(tar) as package:
        member = package.extractfile("mets.xml")
        assert member is not None
        return etree.fromstring(member.read())


NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
CONTRACT = "urn:uuid:11111111-2222-3333-4444-555555555555"
LIDO_PATH = PurePosixPath("reports/lido.xml")

LIDO = """<?xml version="1.0" encoding="UTF-8"?>
<lido:lidoWrap xmlns:lido="http://www.lido-schema.org"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://www.lido-schema.org http://www.lido-schema.org/schema/v1.0/lido-v1.0.xsd">
  <lido:lido>
    <lido:lidoRecID lido:type="local">Object:50000000</lido:lidoRecID>
    <lido:descriptiveMetadata xml:lang="fi">
      <lido:objectClassificationWrap>
        <lido:objectWorkTypeWrap>
          <lido:objectWorkType><lido:term>valokuva</lido:term></lido:objectWorkType>
        </lido:objectWorkTypeWrap>
      </lido:objectClassificationWrap>
      <lido:objectIdentificationWrap>
        <lido:titleWrap><lido:titleSet><lido:appellationValue>Äyräpää & kesä</lido:appellationValue></lido:titleSet>
        </lido:titleWrap>
      </lido:objectIdentificationWrap>
    </lido:descriptiveMetadata>
    <lido:administrativeMetadata xml:lang="fi">
      <lido:recordWrap>
        <lido:recordID lido:type="local">50000000</lido:recordID>
        <lido:recordType><lido:term>esine</lido:term></lido:recordType>
        <lido:recordSource><lido:legalBodyName>
          <lido:appellationValue>Museo</lido:appellationValue></lido:legalBodyName></lido:recordSource>
      </lido:recordWrap>
    </lido:administrativeMetadata>
  </lido:lido>
</lido:lidoWrap>
""".replace(" & ", " &amp; ").encode()

MODULE_XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<application xmlns="http://www.zetcom.com/ria/ws/module"><modules><module name="Object" totalSize="1">
<moduleItem id="50000000"><systemField dataType="Long" name="__id"><value>50000000</value></systemField></moduleItem>
</module></modules></application>
"""


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A gradient, so that compression has something to do."""
    gray = Image.linear_gradient("L").resize(size)
    if mode == "CMYK":
        return Image.merge("RGB", (gray, gray, gray)).convert("CMYK")
    if mode == "I;16":
        return Image.frombytes("I;16", size, np.arange(size[0] * size[1], dtype="<u2").tobytes())
    return gray.convert(mode)


def jpeg(mode: str = "RGB", size: tuple[int, int] = (40, 30), *, exif: bytes | None = None) -> bytes:
    """A JPEG: JFIF 1.01, or with the given `ExifVersion` such as b"0220"."""
    out = io.BytesIO()
    options: dict[str, object] = {}
    if exif is not None:
        data = Image.Exif()
        data.get_ifd(0x8769)[0x9000] = exif
        options["exif"] = data.tobytes()
    picture(mode, size).save(out, "JPEG", **options)
    return out.getvalue()


def without_jfif(data: bytes) -> bytes:
    """The JPEG without its APP0 segment, as Photoshop wrote them."""
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def jfif_version(data: bytes, minor: int) -> bytes:
    """The JPEG as JFIF 1.<minor>."""
    at = data.index(b"JFIF\0") + 6
    return data[:at] + bytes([minor]) + data[at + 1 :]


def mpo() -> bytes:
    """Two images in one file, as stereo cameras write them."""
    out = io.BytesIO()
    picture().save(out, "MPO", save_all=True, append_images=[picture()])
    return out.getvalue()


def tiff(mode: str = "RGB", compression: str | None = None, size: tuple[int, int] = (40, 30)) -> bytes:
    """A little-endian TIFF."""
    out = io.BytesIO()
    picture(mode, size).save(out, "TIFF", compression=compression)
    return out.getvalue()


def big_endian_tiff(dtype: str = ">u2") -> bytes:
    """Written by another program than Pillow, high byte first."""
    out = io.BytesIO()
    pixels = np.arange(48 * 32, dtype="u2").reshape(32, 48).astype(dtype[1:])
    tifffile.imwrite(out, pixels, byteorder=">", photometric="minisblack", metadata=None)
    return out.getvalue()


def tiled_tiff() -> bytes:
    """16-bit RGB in tiles of 16 by 16, compressed."""
    out = io.BytesIO()
    pixels = np.zeros((33, 47, 3), dtype="u2")
    tifffile.imwrite(out, pixels, photometric="rgb", tile=(16, 16), compression="zlib", metadata=None)
    return out.getvalue()


def float_tiff() -> bytes:
    """A measurement as 32-bit floating point."""
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((10, 12), dtype="f4"), photometric="minisblack", metadata=None)
    return out.getvalue()


def multi_page_tiff() -> bytes:
    """Two pages."""
    out = io.BytesIO()
    picture().save(out, "TIFF", save_all=True, append_images=[picture()])
    return out.getvalue()


def big_tiff() -> bytes:
    """BigTIFF."""
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((10, 12), dtype="u1"), bigtiff=True, metadata=None)
    return out.getvalue()


def tiff_with_tag(tag: int, kind: str, value: object, count: int) -> bytes:
    """A TIFF with one more tag."""
    out = io.BytesIO()
    extra = [(tag, kind, count, value, True)]
    tifffile.imwrite(out, np.zeros((10, 12), dtype="u1"), extratags=extra, metadata=None)
    return out.getvalue()


def image_file(name: str) -> bytes:
    """Any other image that Pillow can write: PNG, GIF, PDF."""
    out = io.BytesIO()
    picture().save(out, name)
    return out.getvalue()


def bomb_tiff() -> bytes:
    """A TIFF of few bytes that says it has 90,000 by 90,000 pixels."""
    entries = [(256, 4, 90_000), (257, 4, 90_000), (258, 3, 8), (259, 3, 8), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 90_000), (279, 4, 4)]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0"


ACCEPTED_IMAGES = {
    "jfif101.jpg": jpeg(),
    "jfif100.jpg": jfif_version(jpeg(), 0),
    "jfif102.JPEG": jfif_version(jpeg("L"), 2),
    "gray.jpg": jpeg("L"),
    "cmyk.jpg": jpeg("CMYK", exif=b"0220"),
    "exif20.jpg": jpeg(exif=b"0200"),
    "exif21.jpg": jpeg(exif=b"0210"),
    "exif22.jpg": jpeg(exif=b"0220"),
    "exif221.jpg": jpeg(exif=b"0221"),
    "exif23.jpg": jpeg(exif=b"0230"),
    "exif231.jpg": jpeg(exif=b"0231"),
    "exif232.jpg": jpeg(exif=b"0232"),
    "rgb.tif": tiff(),
    "gray.tif": tiff("L"),
    "lzw.tif": tiff("RGB", "tiff_lzw"),
    "palette.tif": tiff("P"),
    "rgba.tif": tiff("RGBA"),
    "gray-alpha.tif": tiff("LA"),
    "cmyk.tif": tiff("CMYK"),
    "packbits.tif": tiff("RGB", "packbits"),
    "gray16.tif": tiff("I;16"),
    "bilevel-g4.tiff": tiff("1", "group4"),
    "bilevel-g3.tif": tiff("1", "group3"),
    "jpeg-inside.tif": tiff("RGB", "jpeg"),
    "deflate.tif": tiff("RGB", "tiff_adobe_deflate"),
    "big-endian.tif": big_endian_tiff(),
    "big-endian8.tif": big_endian_tiff(">u1"),
    "tiled16.tif": tiled_tiff(),
    "float.tif": float_tiff(),
}


def certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> bytes:
    """A self-signed certificate, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Museo")])
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start or now - timedelta(days=1))
        .not_valid_after(end or now + timedelta(days=365))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """The private key, PEM."""
    lock: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def fill(sip: Path, files: dict[str, bytes]) -> tuple[SourceFile, ...]:
    """Write files into the directory of a package's content, and describe them."""
    described = []
    for name, data in files.items():
        path = sip / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        described.append(SourceFile(PurePosixPath(name), f"Object:50000000:{name}"))
    return tuple(described)


def describe(files: tuple[SourceFile, ...], **changes: object) -> SipDescription:
    """A first submission of object 50000000."""
    values: dict[str, object] = {
        "objid": "Passari_Object_50000000",
        "content_id": "Object_50000000",
        "contract_id": CONTRACT,
        "organization": "Museo",
        "created": NOW,
        "modified": None,
        "lido": LIDO_PATH,
        "files": files,
    }
    return SipDescription(**{**values, **changes})  # type: ignore[arg-type]
