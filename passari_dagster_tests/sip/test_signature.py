"""The signing key: what an administrator is told when it is not fit."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from passari_dagster.errors import PermanentFailure
from passari_dagster.sip.signature import load_signer
from passari_dagster_tests.sip.content import certificate, private_pem

NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)


def test_a_fit_key_in_either_order_among_other_certificates(museum_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = tmp_path / "key.pem"
    pem.write_bytes(certificate(other) + certificate(museum_key) + private_pem(museum_key))
    signer = load_signer(pem)
    assert b"mets.xml:sha256:" in signer.sign("0" * 64)
    assert "key" not in repr(signer).split("certificate")[0]


def test_what_is_wrong_is_said_and_the_key_is_not(museum_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    key, cert = private_pem(museum_key), certificate(museum_key)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    cases = {
        "holds no private key": cert,
        "holds no certificate": key,
        "does not belong to the certificate": private_pem(other) + cert,
        "not an RSA key": private_pem(elliptic) + certificate(elliptic),
        "has a passphrase": private_pem(museum_key, b"secret") + cert,
        "private key in .* cannot be read": key.replace(key[40:100], b"!" * 60) + cert,
        "certificate in .* cannot be read": key + cert.replace(cert[40:100], b"!" * 60),
        "expired at": key + certificate(museum_key, start=NOW - 3 * DAY, end=NOW - DAY),
        "not valid before": key + certificate(museum_key, start=NOW + DAY, end=NOW + 3 * DAY),
    }
    pem = tmp_path / "key.pem"
    for message, data in cases.items():
        pem.write_bytes(data)
        with pytest.raises(PermanentFailure, match=message) as caught:
            load_signer(pem)
        assert key.splitlines()[3].decode() not in str(caught.value)
    with pytest.raises(PermanentFailure, match="cannot be read: No such file"):
        load_signer(tmp_path / "none.pem")
    with pytest.raises(PermanentFailure, match="cannot be read: Is a directory"):
        load_signer(tmp_path)


def test_the_certificate_must_be_valid_then(pem: Path) -> None:
    assert load_signer(pem, now=NOW + 300 * DAY)
    with pytest.raises(PermanentFailure, match="expired"):
        load_signer(pem, now=NOW + 400 * DAY)
