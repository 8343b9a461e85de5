"""Tiny packages, made with plain code: just what the simulated DPS looks at, and a way to spoil each part of it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7

CONTRACT = "urn:uuid:5a1f4a4e-7c39-4d36-8f10-0e2b7d0b1b6f"

TIFF = (
    b"II*\0\x08\0\0\0"
    b"\x02\0"
    b"\x00\x01\x03\0\x01\0\0\0\x01\0\0\0"  # ImageWidth
    b"\x01\x01\x03\0\x01\0\0\0\x01\0\0\0"  # ImageLength
    b"\0\0\0\0"
)
UNSORTED_TIFF = TIFF[:10] + TIFF[22:34] + TIFF[10:22] + TIFF[34:]
UNALIGNED_TIFF = TIFF[:4] + b"\x09\0\0\0" + b"\0" + TIFF[8:]
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9"


class Signer:
    """A key and its self-signed certificate."""

    def __init__(self, directory: Path) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name.from_rfc4514_string("CN=Museum")
        now = datetime.now(timezone.utc)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )
        self.certificate_file = directory / "certificate.pem"
        self.certificate_file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, mets: bytes) -> bytes:
        """The content of signature.sig."""
        manifest = f"mets.xml:sha256:{hashlib.sha256(mets).hexdigest()}".encode()
        return (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(manifest)
            .add_signer(self.certificate, self.key, hashes.SHA256())
            .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
        )


def mets(
    files: Mapping[str, tuple[bytes, str]], *, objid: str, record_status: str = "submission", algorithm: str = "SHA-256"
) -> str:
    """A METS document that satisfies the simulated DPS, though no schema.

    Arguments:
        files: content and format name of each file.
        objid: OBJID.
        record_status: RECORDSTATUS.
        algorithm: of the fixity.
    """
    technical, section = "", ""
    for number, (name, (content, format_name)) in enumerate(files.items()):
        digest = hashlib.new(algorithm.replace("-", "").lower(), content).hexdigest()
        technical += (
            f'<mets:techMD ID="t{number}"><mets:mdWrap><mets:xmlData><premis:object xsi:type="premis:file">'
            f"<premis:objectCharacteristics><premis:fixity><premis:messageDigestAlgorithm>{algorithm}"
            f"</premis:messageDigestAlgorithm><premis:messageDigest>{digest}</premis:messageDigest></premis:fixity>"
            f"<premis:format><premis:formatDesignation><premis:formatName>{format_name}</premis:formatName>"
            f"</premis:formatDesignation></premis:format></premis:objectCharacteristics></premis:object>"
            f"</mets:xmlData></mets:mdWrap></mets:techMD>"
        )
        section += (
            f'<mets:file ID="f{number}" ADMID="t{number}"><mets:FLocat xlink:href="file:///{quote(name)}"/></mets:file>'
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<mets:mets xmlns:mets="http://www.loc.gov/METS/" xmlns:premis="info:lc/xmlns/premis-v2"'
        ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xmlns:fi="http://digitalpreservation.fi/schemas/mets/fi-extensions"'
        ' PROFILE="http://digitalpreservation.fi/mets-profiles/cultural-heritage"'
        f' OBJID="{objid}" fi:CONTRACTID="{CONTRACT}" fi:CATALOG="1.8.0" fi:SPECIFICATION="1.8.0">'
        f'<mets:metsHdr RECORDSTATUS="{record_status}"/><mets:amdSec>{technical}</mets:amdSec>'
        f"<mets:fileSec><mets:fileGrp>{section}</mets:fileGrp></mets:fileSec></mets:mets>\n"
    )


def write(
    path: Path,
    signer: Signer,
    *,
    objid: str = "Passari_Object_1",
    record_status: str = "submission",
    files: Mapping[str, tuple[bytes, str]] | None = None,
    algorithm: str = "SHA-256",
    edit_mets: Callable[[str], str] = lambda text: text,
    after_signing: Callable[[dict[str, bytes]], None] = lambda members: None,
    edit_tar: Callable[[tarfile.TarFile], None] = lambda tar: None,
) -> Path:
    """Write a package; the three last arguments spoil it."""
    files = files or {"reports/lido.xml": (b"<lido/>", "text/xml; charset=UTF-8")}
    document = edit_mets(mets(files, objid=objid, record_status=record_status, algorithm=algorithm)).encode()
    members = {
        "mets.xml": document,
        "signature.sig": signer.sign(document),
        **{name: content for name, (content, _) in files.items()},
    }
    after_signing(members)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        edit_tar(tar)
    return path
