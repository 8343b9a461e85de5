"""The signature of a package: a detached S/MIME message over a manifest that names `mets.xml` and its digest.

Reading the institution's key and signing belong here; what is signed besides the METS (nothing: the METS has the
digests of all files) and where the signature is put do not. [SIP specification: signature.sig; the manifest has
one line `path:algorithm:hexdigest` per file.]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from passari_dagster.errors import PermanentFailure

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.S)
_MAX_PEM_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Signer:
    """The institution's signing key and its certificate, which the DPS has registered."""

    key: rsa.RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate

    def sign(self, mets_sha256: str) -> bytes:
        """The content of `signature.sig`.

        Arguments:
            mets_sha256: SHA-256 of `mets.xml`, 64 lower-case hexadecimal digits.
        """
        manifest = f"mets.xml:sha256:{mets_sha256}".encode("ascii")
        return (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(manifest)
            .add_signer(self.certificate, self.key, hashes.SHA256())
            .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
        )


def load_signer(path: Path, *, now: datetime | None = None) -> Signer:
    """The signer in a PEM file that holds both the private key (RSA, no passphrase) and its certificate.

    Further certificates in the file are passed over; the one that belongs to the key is used.

    Arguments:
        path: the PEM file.
        now: time at which the certificate must be valid; the present by default.

    Raises:
        PermanentFailure: says which of them is missing or unfit. Never repeats the key.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise PermanentFailure(f"signing key {path} cannot be read: {error.strerror}") from None
    blocks = [(match[1], match[0] + b"\n") for match in _PEM_BLOCK.finditer(data)]
    key = _key(path, [block for kind, block in blocks if kind.endswith(b"PRIVATE KEY")])
    certificate = _certificate(path, key, [block for kind, block in blocks if kind == b"CERTIFICATE"])
    at = now or datetime.now(timezone.utc)
    if at < certificate.not_valid_before_utc:
        raise PermanentFailure(
            f"the certificate in {path} is not valid before {certificate.not_valid_before_utc.isoformat()}"
        )
    if at > certificate.not_valid_after_utc:
        raise PermanentFailure(
            f"the certificate in {path} expired at {certificate.not_valid_after_utc.isoformat()};"
            " renew it and register the new one with the DPS"
        )
    return Signer(key, certificate)


def _key(path: Path, blocks: list[bytes]) -> rsa.RSAPrivateKey:
    if not blocks:
        raise PermanentFailure(f"{path} holds no private key")
    if b"ENCRYPTED" in blocks[0]:
        raise PermanentFailure(f"the private key in {path} has a passphrase, which is not supported")
    try:
        key = serialization.load_pem_private_key(blocks[0], password=None)
    except Exception:  # the library raises several kinds; its text could repeat the input
        raise PermanentFailure(f"the private key in {path} cannot be read") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise PermanentFailure(f"the private key in {path} is not an RSA key")
    return key


def _certificate(path: Path, key: rsa.RSAPrivateKey, blocks: list[bytes]) -> x509.Certificate:
    if not blocks:
        raise PermanentFailure(f"{path} holds no certificate; put it after the private key")
    for block in blocks:
        try:
            certificate = x509.load_pem_x509_certificate(block)
            public = certificate.public_key()
        except Exception:
            raise PermanentFailure(f"a certificate in {path} cannot be read") from None
        if isinstance(public, rsa.RSAPublicKey) and public.public_numbers() == key.public_key().public_numbers():
            return certificate
    raise PermanentFailure(f"the private key in {path} does not belong to the certificate in it")
