"""A museum's side of a simulated DPS: keys, settings and packages, in one temporary directory."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import asyncssh

from passari_dagster.dps import Dps, Waiting
from passari_dagster.settings import DpsSettings, RestSettings, SftpSettings
from passari_dagster.simulation.dps import SimulatedDps
from passari_dagster_tests.dps import tiny_sip

OBJID = "Passari_Object_1"


class Site:
    """A simulated DPS and what a museum needs to use it.

    Arguments:
        directory: empty.
        signer: of the packages.
        options: of the simulated DPS.
    """

    def __init__(self, directory: Path, signer: tiny_sip.Signer, **options: Any) -> None:
        self.directory, self.signer = directory, signer
        self.key = make_key(directory / "id", "ssh-ed25519")
        self.authorized_keys = directory / "authorized_keys"
        authorize(self.authorized_keys, self.key)
        self.known_hosts = directory / "known_hosts"
        self.dps = self.make(**options)

    def make(self, **options: Any) -> SimulatedDps:
        """A DPS on this site's directory."""
        return SimulatedDps(
            self.directory / "dps",
            certificate=self.signer.certificate_file,
            contract_id=tiny_sip.CONTRACT,
            authorized_keys=self.authorized_keys,
            **options,
        )

    def start(self) -> None:
        self.dps.start()
        self.known_hosts.write_text(self.dps.known_hosts_line)

    def settings(
        self,
        *,
        verdicts: str = "sftp",
        sftp: dict[str, Any] | None = None,
        rest: dict[str, Any] | None = None,
    ) -> DpsSettings:
        """Settings for this DPS; the dictionaries win over what fits."""
        rest_settings = {
            "url": self.dps.rest_url,
            "username": self.dps.rest_user,
            "password": self.dps.rest_password,
            "ca_file": self.dps.ca_file,
            "retry_wait": 0.01,
            "retries": 3,
            **(rest or {}),
        }
        return DpsSettings(
            contract_id=tiny_sip.CONTRACT,
            organization="Museum",
            sign_key=self.directory / "unused.pem",
            sftp=SftpSettings(
                **{
                    "host": "127.0.0.1",
                    "port": self.dps.sftp_port,
                    "username": "museum",
                    "private_key": self.key,
                    "known_hosts": self.known_hosts,
                    "timeout": 10,
                    **(sftp or {}),
                }
            ),
            rest=RestSettings(**rest_settings) if verdicts != "sftp" or rest else None,
            verdicts=verdicts,
        )

    def client(self, **changes: Any) -> Dps:
        return Dps(self.settings(**changes))

    def package(self, name: str = "20261123_Object_1.tar", **options: Any) -> Path:
        """A package in the museum's directory."""
        return tiny_sip.write(self.directory / name, self.signer, **options)

    def send(self, client: Dps, name: str, **options: Any) -> Waiting:
        """Make a package, send it, and wait for the verdict."""
        waiting = Waiting(name, options.get("objid", OBJID), now())
        client.submit(self.package(name, **options), name, before_rename=lambda: None)
        self.dps.wait_for(name)
        return waiting

    def publish(
        self, status: str, day: str, name: str, *reports: str, age: timedelta = timedelta(), content: bool = False
    ) -> Path:
        """Put a package's directory into a date folder, as the DPS would."""
        folder = self.dps.home / status / day / name
        folder.mkdir(parents=True, exist_ok=True)
        for report in reports:
            path = folder / report
            path.write_text(f"report {report}")
            set_age(path, age)
        if content:
            (folder / name / "reports" / "deep").mkdir(parents=True)
            (folder / name / "mets.xml").write_text("<mets/>")
            (folder / name / "reports" / "deep" / "lido.xml").write_text("<lido/>")
        return folder


def make_key(path: Path, algorithm: str) -> Path:
    """A new private key file, with its public key beside it."""
    key = asyncssh.generate_private_key(algorithm)
    key.write_private_key(path)
    key.write_public_key(path.with_suffix(".pub"))
    return path


def authorize(authorized_keys: Path, *keys: Path) -> None:
    authorized_keys.write_text("".join(key.with_suffix(".pub").read_text() for key in keys))


def set_age(path: Path, age: timedelta) -> None:
    """Make a file look as old as that."""
    import os

    time = (now() - age).timestamp()
    os.utime(path, (time, time))


def now() -> datetime:
    return datetime.now(timezone.utc)


def today() -> str:
    return str(now().date())
