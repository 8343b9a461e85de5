"""The certificates of the simulated DPS: an authority of its own, and one that it gives its server."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY = "ca.pem"
YEARS = 10


def prepare(directory: Path) -> tuple[Path, Path]:
    """Certificate and key of the server, new at each start; the authority is made once.

    Arguments:
        directory: gets them, and `ca.pem`, which clients trust.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority, authority_key = directory / AUTHORITY, directory / "ca.key"
    if not authority.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(authority_key, _private(key))
        _write(authority, _sign("Simulated DPS authority", key.public_key(), None, key))
    issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    issuer_key = load_pem_private_key(authority_key.read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, private = directory / "server.pem", directory / "server.key"
    _write(private, _private(key))
    _write(certificate, _sign("127.0.0.1", key.public_key(), issuer, issuer_key))
    return certificate, private


def _sign(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """A certificate as RFC 5280 wants it; without an issuer, that of the authority itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_authority = issuer is None
    now = datetime.now(timezone.utc)
    usage = {"key_cert_sign": is_authority, "crl_sign": is_authority, "digital_signature": True}
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS if is_authority else 365))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(**usage, **dict.fromkeys(unused, False), encipher_only=False, decipher_only=False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123
        stream.write(data)
