"""Verification of `signature.sig`: a detached S/MIME signature over a manifest of digests.

As the DPS does it: the signer's certificate must be the registered one. Just enough DER is read here for a CMS
SignedData (RFC 5652) with one signer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_DIGESTS: dict[bytes, tuple[str, hashes.HashAlgorithm]] = {
    bytes.fromhex("2b0e03021a"): ("sha1", hashes.SHA1()),  # noqa: S303 - siptools-ng signs so, and the DPS accepts it
    bytes.fromhex("608648016503040201"): ("sha256", hashes.SHA256()),
    bytes.fromhex("608648016503040202"): ("sha384", hashes.SHA384()),
    bytes.fromhex("608648016503040203"): ("sha512", hashes.SHA512()),
}
_SEQUENCE, _SET, _CONTEXT_0 = 0x30, 0x31, 0xA0


class SignatureError(ValueError):
    """The signature does not hold; the message says why."""


def verify(directory: Path, certificate: Path) -> None:
    """Check the signature of an unpacked package.

    Arguments:
        directory: holds `signature.sig` and the files that its manifest names.
        certificate: PEM file with the registered certificate.

    Raises:
        SignatureError: the signature is malformed, by another key, or of other bytes.
    """
    path = directory / "signature.sig"
    if not path.is_file():
        raise SignatureError("signature.sig is missing")
    manifest, cms = _parts(path.read_bytes())
    _check_manifest(manifest, directory)
    registered = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    if not registered.not_valid_before_utc <= datetime.now(timezone.utc) <= registered.not_valid_after_utc:
        raise SignatureError("the registered certificate is not valid today")
    try:
        _check_cms(cms, re.sub(rb"\r?\n", b"\r\n", manifest), registered)
    except (IndexError, StopIteration) as error:
        raise SignatureError("signature.sig holds no CMS SignedData") from error


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The signed bytes and the DER of a multipart/signed file."""
    head, blank, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    boundary = re.search(rb'boundary="?([^";\s]+)"?', head)
    if not blank or b"multipart/signed" not in head or boundary is None:
        raise SignatureError("signature.sig is not multipart/signed")
    parts = re.split(rb"(?:^|\n)--" + re.escape(boundary[1]) + rb"(?:--)?[ \t]*(?:\n|$)", body)
    if len(parts) < 3 or b"pkcs7-signature" not in parts[2].partition(b"\n\n")[0]:
        raise SignatureError("signature.sig has no pkcs7-signature part")
    try:
        return parts[1], base64.b64decode(b"".join(parts[2].partition(b"\n\n")[2].split()), validate=True)
    except binascii.Error as error:
        raise SignatureError("the signature is not base64") from error


def _check_manifest(manifest: bytes, directory: Path) -> None:
    signed = set()
    text = manifest.decode("utf-8", "replace").strip()
    for line in text.rpartition("\n\n")[2].splitlines():
        fields = line.split(":")
        if len(fields) != 3 or fields[1] not in ("sha1", "sha256"):
            raise SignatureError(f"a line of the manifest is not path:sha1|sha256:digest: {line!r}")
        name, algorithm, digest = fields
        path = directory / name
        if not path.is_file() or not path.resolve().is_relative_to(directory.resolve()):
            raise SignatureError(f"the signed {name} is not in the package")
        if hashlib.new(algorithm, path.read_bytes()).hexdigest() != digest:
            raise SignatureError(f"the {algorithm} of {name} is not the signed one")
        signed.add(name)
    if "mets.xml" not in signed:
        raise SignatureError("mets.xml is not signed")


def _check_cms(der: bytes, content: bytes, certificate: x509.Certificate) -> None:
    info = list(_items(_only(der, _SEQUENCE)))
    if info[0][1] != _SIGNED_DATA:
        raise SignatureError("the signature is not CMS SignedData")
    signed_data = list(_items(_only(info[1][1], _SEQUENCE)))
    signers = list(_items(signed_data[-1][1]))
    if len(signers) != 1:
        raise SignatureError(f"{len(signers)} signers, expected one")
    # version, sid, digestAlgorithm, [0] signedAttrs?, signatureAlgorithm, signature
    fields = list(_items(signers[0][1]))
    digest_oid = next(_items(fields[2][1]))[1]
    if digest_oid not in _DIGESTS:
        raise SignatureError("the digest algorithm is not SHA-1 or SHA-2")
    name, algorithm = _DIGESTS[digest_oid]
    to_verify = content
    if fields[3][0] == _CONTEXT_0:
        attributes = fields.pop(3)
        values = {next(_items(item))[1]: list(_items(item))[1][1] for _, item, _ in _items(attributes[1])}
        if next(_items(values.get(_MESSAGE_DIGEST, b"")), (0, b"", b""))[1] != hashlib.new(name, content).digest():
            raise SignatureError("the signed digest is not the manifest's")
        to_verify = bytes([_SET]) + attributes[2][1:]
    key, value = certificate.public_key(), fields[4][1]
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(value, to_verify, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(value, to_verify, ec.ECDSA(algorithm))
        else:
            raise SignatureError("the registered certificate has neither an RSA nor an EC key")
    except InvalidSignature as error:
        raise SignatureError("not signed with the registered certificate") from error


def _only(der: bytes, tag: int) -> bytes:
    found, content, _ = next(_items(der))
    if found != tag:
        raise SignatureError("signature.sig holds no CMS SignedData")
    return content


def _items(der: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, content and whole encoding of each item; definite lengths only, as DER demands."""
    at = 0
    while at < len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length == 0x80:
            raise SignatureError("the signature is BER, not DER")
        if length > 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start], "big")
        end = start + length
        if end > len(der):
            raise SignatureError("the signature is cut off")
        yield tag, der[start:end], der[at:end]
        at = end
