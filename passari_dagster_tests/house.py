"""A whole house for tests: a simulated museum, a simulated DPS, a database, and the settings that join them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from sqlalchemy import select

from passari_dagster.catalogue.models import MuseumObject, MuseumPackage
from passari_dagster.settings import Settings
from passari_dagster.simulation.dps import SimulatedDps
from passari_dagster.simulation.museumplus import LOG_FIELD, SimulatedMuseum
from passari_dagster.workflow import poll, preserve, synchronise
from passari_dagster.workflow.environment import Environment, open_environment
from passari_dagster.workflow.hashes import sync_hashes
from passari_dagster.workflow.preserve import StepResult

CONTRACT = "urn:uuid:11111111-2222-3333-4444-555555555555"


def make_signing_key(directory: Path) -> tuple[Path, Path]:
    """A signing key with its certificate in one file, and the certificate alone, as the DPS registers it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Museum")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signing, registered = directory / "sign.pem", directory / "certificate.pem"
    signing.write_bytes(private + pem)
    registered.write_bytes(pem)
    return signing, registered


class House:
    """Everything that the workflow talks to, in one temporary directory.

    Arguments:
        directory: empty.
        database_url: a museum database at the newest revision.
        redis_url: for locks.
        objects: how many objects the museum has.
    """

    def __init__(self, directory: Path, database_url: str, redis_url: SecretStr, objects: int = 40) -> None:
        self.directory, self.database_url, self.redis_url = directory, database_url, redis_url
        (directory / "archive").mkdir()
        signing, self.certificate = make_signing_key(directory)
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(directory / "id")
        key.write_public_key(directory / "authorized_keys")
        self.museum = SimulatedMuseum(objects=objects)
        self.dps = SimulatedDps(
            directory / "dps",
            certificate=self.certificate,
            contract_id=CONTRACT,
            authorized_keys=directory / "authorized_keys",
        )
        self.museum.start()
        self.dps.start()
        (directory / "known_hosts").write_text(self.dps.known_hosts_line)
        self._values: dict[str, Any] = {
            "package_dir": directory / "packages",
            "archive_dir": directory / "archive",
            "museumplus": {
                "url": self.museum.url,
                "username": self.museum.username,
                "password": self.museum.password,
                "object_preservation_field_name": LOG_FIELD,
                "retries": 2,
                "retry_wait": 0.01,
                "timeout": 20,
                "session_file": directory / "session",
            },
            "dps": {
                "contract_id": CONTRACT,
                "organization": "Museum",
                "sign_key": signing,
                "sftp": {
                    "host": "127.0.0.1",
                    "port": self.dps.sftp_port,
                    "username": "museum",
                    "private_key": directory / "id",
                    "known_hosts": directory / "known_hosts",
                    "timeout": 20,
                },
                "rest": {
                    "url": self.dps.rest_url,
                    "username": self.dps.rest_user,
                    "password": self.dps.rest_password,
                    "ca_file": self.dps.ca_file,
                    "access": "3.0",
                    "retry_wait": 0.01,
                },
            },
        }

    def close(self) -> None:
        """Stop the simulators."""
        self.dps.stop()
        self.museum.stop()

    def settings(self, **changes: dict[str, Any]) -> Settings:
        """The settings; each keyword is a section, whose keys win over ours."""
        values = {**self._values}
        for section, given in changes.items():
            values[section] = {**values.get(section, {}), **given}
        return Settings(database_url=self.database_url, redis_url=self.redis_url, **values)

    @contextlib.contextmanager
    def environment(self, **changes: dict[str, Any]) -> Iterator[Environment]:
        """The environment of the use cases."""
        with open_environment(self.settings(**changes)) as env:
            yield env

    def command_environment(self, **changes: dict[str, Any]) -> dict[str, str]:
        """What a command of ours finds in its environment; the keywords are those of `settings`."""
        config = self.write_config(self.directory / "passari.toml", **changes)
        return {
            "PATH": os.defpath,
            "PASSARI_CONFIG": str(config),
            "PASSARI_DB_URL": self.database_url,
            "REDIS_URL": self.redis_url.get_secret_value(),
        }

    def command(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """`passari-dagster` in a process of its own; the keywords are further environment variables."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "passari-dagster"), *map(str, arguments)],
            cwd=self.directory,
            env={**self.command_environment(), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def write_config(self, path: Path, **changes: dict[str, Any]) -> Path:
        """The settings as a `passari.toml`, without database and Redis, which come from the environment."""
        path.write_text(toml({**self._values, **{k: {**self._values.get(k, {}), **v} for k, v in changes.items()}}))
        path.chmod(0o600)
        return path


def toml(values: dict[str, Any], prefix: str = "") -> str:
    """A small TOML writer for nested tables of texts, numbers and flags."""
    lines, tables = [], []
    for key, value in values.items():
        if isinstance(value, dict):
            name = f"{prefix}{key}"
            tables.append(f"\n[{name}]\n{toml(value, f'{name}.')}")
        elif isinstance(value, bool):
            lines.append(f"{key} = {str(value).lower()}")
        elif isinstance(value, (int, float)):
            lines.append(f"{key} = {value}")
        else:
            lines.append(f'{key} = "{value}"')
    return "\n".join(lines + tables) + "\n"


def synchronise_all(env: Environment) -> None:
    """The three syncs, in their order."""
    for sync in (synchronise.sync_objects, synchronise.sync_attachments, sync_hashes):
        sync(env, lambda _: None)


STEPS = (preserve.download_object, preserve.create_sip, preserve.submit_sip)


def send(env: Environment, object_id: int, log: list[str] | None = None) -> StepResult:
    """What the first run of an object does: its steps, until one of them is the last."""
    lines = log if log is not None else []
    for step in STEPS:
        result = step(env, object_id, lines.append)
        if not result.proceeds:
            break
    return result


def confirm(env: Environment, object_id: int, log: list[str] | None = None) -> StepResult:
    """Wait for the verdict, and do what the second run of an object does."""
    lines = log if log is not None else []
    poll.record_verdicts(env, lines.append)
    return preserve.confirm_sip(env, object_id, lines.append)


def object_row(env: Environment, object_id: int) -> MuseumObject:
    """The object's row as it is now."""
    with env.transaction() as session:
        return session.get_one(MuseumObject, object_id)


def package_rows(env: Environment, object_id: int) -> list[MuseumPackage]:
    """The object's packages, oldest first."""
    with env.transaction() as session:
        query = select(MuseumPackage).where(MuseumPackage.museum_object_id == object_id).order_by(MuseumPackage.id)
        return list(session.scalars(query))
