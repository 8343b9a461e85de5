"""What the demo needs to look like an institution: keys, a certificate, passwords, and the settings file.

Everything is made once, kept in the demo's folder and readable for its owner only. What is done with it is in
`demo.py`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from cryptography.x509.oid import NameOID

from passari_dagster import durable
from passari_dagster.simulation.museum_records import LOG_FIELD

ORGANIZATION = "Simulated Museum"
CONTRACT_ID = "urn:uuid:5d8a1f0e-2f55-4f0b-9a4e-1f6c1c2a7b90"
USERNAME = "passari"
CERTIFICATE_YEARS = 10


@dataclass(frozen=True)
class Material:
    """Files of the demo.

    Arguments:
        folder: where they are.
    """

    folder: Path

    @property
    def signing_key(self) -> Path:
        """Key and certificate that packages are signed with."""
        return self.folder / "signing-key.pem"

    @property
    def certificate(self) -> Path:
        """The certificate alone, as registered with the DPS."""
        return self.folder / "certificate.pem"

    @property
    def ssh_key(self) -> Path:
        """The museum's key for SFTP."""
        return self.folder / "ssh-key"

    @property
    def authorized_keys(self) -> Path:
        """What the DPS lets in."""
        return self.folder / "authorized-keys"

    @property
    def host_key(self) -> Path:
        """The DPS's own SSH key."""
        return self.folder / "host-key"

    @property
    def known_hosts(self) -> Path:
        """The DPS's SSH key, as the museum knows it."""
        return self.folder / "known-hosts"

    @property
    def museumplus_password(self) -> Path:
        """The museum's password for MuseumPlus."""
        return self.folder / "museumplus-password"

    @property
    def rest_credentials(self) -> Path:
        """The museum's login for the DPS's REST interface, as `user:password`."""
        return self.folder / "rest-credentials"


def prepare(folder: Path, *, sftp_port: int) -> Material:
    """Make what is missing.

    Arguments:
        folder: made when missing.
        sftp_port: where the simulated DPS will listen this time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    material = Material(folder)
    if not material.certificate.exists():
        _make_signer(material)
    if not material.authorized_keys.exists():
        _keep(material.authorized_keys, _make_ssh_key(material.ssh_key))
    if not material.host_key.exists():
        _make_ssh_key(material.host_key)
    if not material.museumplus_password.exists():
        _keep(material.museumplus_password, secrets.token_urlsafe(24).encode())
    if not material.rest_credentials.exists():
        _keep(material.rest_credentials, f"{USERNAME}:{secrets.token_urlsafe(24)}".encode())
    host = f"[127.0.0.1]:{sftp_port}".encode()
    _keep(material.known_hosts, host + b" " + _public_half(material.host_key))
    return material


def settings_file(
    material: Material, data: Path, *, museumplus_url: str, sftp_port: int, rest_url: str, ca_file: Path
) -> str:
    """The content of the demo's `passari.toml`. The servers' URLs are not in it: they are the environment's."""
    return f"""\
# Written anew by `passari-dagster demo` at each start.
package_dir = {_toml(data / "packages")}
archive_dir = {_toml(data / "archive")}

[museumplus]
url = {_toml(museumplus_url)}
username = {_toml(USERNAME)}
password = {_toml(material.museumplus_password.read_text(encoding="ascii"))}
session_file = {_toml(data / "museumplus-session")}
object_preservation_field_name = {_toml(LOG_FIELD)}

[dps]
contract_id = {_toml(CONTRACT_ID)}
organization = {_toml(ORGANIZATION)}
sign_key = {_toml(material.signing_key)}

[dps.sftp]
host = "127.0.0.1"
port = {sftp_port}
username = {_toml(USERNAME)}
private_key = {_toml(material.ssh_key)}
known_hosts = {_toml(material.known_hosts)}

[dps.rest]
url = {_toml(rest_url)}
username = {_toml(USERNAME)}
password = {_toml(material.rest_credentials.read_text(encoding="ascii").partition(":")[2])}
ca_file = {_toml(ca_file)}
access = "3.0"

[workflow]
preservation_delay = 0
update_delay = 0
poll_interval = 5
"""


def _toml(value: str | Path) -> str:
    """A basic string of TOML."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _make_signer(material: Material) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ORGANIZATION)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * CERTIFICATE_YEARS))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _keep(material.signing_key, private + certificate)
    _keep(material.certificate, certificate)


def _make_ssh_key(path: Path) -> bytes:
    """Make a key; answers with its public half."""
    key = ed25519.Ed25519PrivateKey.generate()
    _keep(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return _public_half(path)


def _public_half(path: Path) -> bytes:
    key = load_ssh_private_key(path.read_bytes(), password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"


def _keep(path: Path, data: bytes) -> None:
    durable.write_bytes(path, data, mode=0o600)
