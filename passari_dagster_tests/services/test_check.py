"""`passari-dagster check` names each thing that is wrong, and says what to do; one fault does not hide another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from passari_dagster.services import check
from passari_dagster.services.check import Finding
from passari_dagster.settings import Settings
from passari_dagster.workflow import preserve
from passari_dagster_tests.conftest import run_sql
from passari_dagster_tests.house import House, synchronise_all
from passari_dagster_tests.post_office import post_office

THINGS = (
    "museum database",
    "Dagster database",
    "Redis",
    "MuseumPlus",
    "DPS, SFTP",
    "DPS, REST",
    "signing key",
    "outside tools",
    "detectors",
    "package directory",
    "archive directory",
    "workflow",
    "daemon",
)


@pytest.fixture
def house(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[House]:
    house = House(tmp_path, museum_database, redis_url)
    (tmp_path / "packages").mkdir()
    (tmp_path / "sign.pem").chmod(0o600)
    _renew_certificate(tmp_path / "sign.pem", days=365)
    try:
        yield house
    finally:
        house.close()


@pytest.fixture(autouse=True)
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of the tests may have a small disk."""
    monkeypatch.setattr(check, "LEAST_FREE_BYTES", 1)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def wrong(settings: Settings, dagster_url: str) -> dict[str, str]:
    """What is wrong, by its name; everything was looked at."""
    findings: list[Finding] = list(check.run(settings, {"DAGSTER_PG_URL": dagster_url}))
    assert [finding.name for finding in findings] == list(THINGS)
    return {finding.name: finding.text for finding in findings if not finding.good}


def test_nothing_is_wrong_in_good_order(house: House, empty_database: str) -> None:
    assert wrong(house.settings(), empty_database) == {}


def test_a_mail_server_is_looked_at_where_there_is_one(house: House, empty_database: str, tmp_path: Path) -> None:
    with post_office(tmp_path / "office") as office:
        settings = house.settings(mail=office.section())
        (*_, mail) = check.run(settings, {"DAGSTER_PG_URL": empty_database})
        assert (mail.name, mail.good) == ("mail", True)
    (*_, mail) = check.run(settings, {"DAGSTER_PG_URL": empty_database})
    assert not mail.good
    assert "cannot be reached" in mail.text
    assert "See [mail]" in mail.text


def test_a_database_without_the_schema(house: House, empty_database: str) -> None:
    settings = house.settings().model_copy(update={"database_url": SecretStr(empty_database)})
    found = wrong(settings, empty_database)
    assert list(found) == ["museum database", "workflow"]
    assert "passari-dagster migrate" in found["museum database"]


def test_servers_that_nobody_runs(house: House, empty_database: str, closed_port: int) -> None:
    nowhere = f"127.0.0.1:{closed_port}"
    settings = house.settings(
        museumplus={"url": f"http://{nowhere}/ria-ws/application"},
        dps={
            **house._values["dps"],
            "sftp": {**house._values["dps"]["sftp"], "port": closed_port},
            "rest": {**house._values["dps"]["rest"], "url": f"http://{nowhere}"},
        },
    ).model_copy(
        update={
            "database_url": SecretStr(f"postgresql+psycopg2://me:secret-word@{nowhere}/passari"),
            "redis_url": SecretStr(f"redis://:secret-word@{nowhere}/0"),
        }
    )
    found = wrong(settings, f"postgresql://me:secret-word@{nowhere}/dagster")
    servers = ["museum database", "Dagster database", "Redis", "MuseumPlus", "DPS, SFTP", "DPS, REST"]
    assert list(found) == [*servers, "workflow", "daemon"]
    assert "PASSARI_DB_URL" in found["museum database"]
    assert "DAGSTER_PG_URL" in found["Dagster database"]
    assert "REDIS_URL" in found["Redis"]
    assert "[museumplus] url" in found["MuseumPlus"]
    assert "[dps.sftp]" in found["DPS, SFTP"]
    assert "[dps.rest]" in found["DPS, REST"]
    assert "secret-word" not in str(found)


def test_wrong_passwords_and_keys(house: House, empty_database: str, tmp_path: Path) -> None:
    dps = house._values["dps"]
    stranger = tmp_path / "stranger"
    _new_ssh_key(stranger)
    settings = house.settings(
        museumplus={"password": "secret-word"},
        dps={"sftp": {**dps["sftp"], "private_key": stranger}, "rest": {**dps["rest"], "password": "secret-word"}},
    )
    found = wrong(settings, empty_database)
    assert list(found) == ["MuseumPlus", "DPS, SFTP", "DPS, REST"]
    assert "secret-word" not in str(found)


def test_a_dps_that_is_not_the_one_we_know(house: House, empty_database: str, tmp_path: Path) -> None:
    public = _new_ssh_key(tmp_path / "impostor")
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{house.dps.sftp_port} {public}\n")
    assert list(wrong(house.settings(), empty_database)) == ["DPS, SFTP"]


@pytest.mark.parametrize(
    ("days", "words"), [(-1, "expired"), (10, "expires in 9 days"), (60, None)], ids=["expired", "soon", "good"]
)
def test_the_certificate_of_the_signing_key(
    house: House, empty_database: str, tmp_path: Path, days: int, words: str | None
) -> None:
    _renew_certificate(tmp_path / "sign.pem", days)
    found = wrong(house.settings(), empty_database)
    if words is None:
        assert found == {}
    else:
        assert words in found["signing key"]
        assert "register" in found["signing key"]


def test_a_signing_key_that_others_can_read_or_that_is_not_there(
    house: House, empty_database: str, tmp_path: Path
) -> None:
    key = tmp_path / "sign.pem"
    key.chmod(0o644)
    assert "chmod 600" in wrong(house.settings(), empty_database)["signing key"]
    key.unlink()
    assert str(key) in wrong(house.settings(), empty_database)["signing key"]


def test_directories_that_are_missing_full_or_not_ours(
    house: House, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").rmdir()
    (tmp_path / "packages").rmdir()
    # Where nobody may write, not even root.
    settings = house.settings().model_copy(update={"package_dir": Path("/proc/self")})
    found = wrong(settings, empty_database)
    assert list(found) == ["package directory", "archive directory"]
    assert "cannot be written to" in found["package directory"]
    assert f"{tmp_path / 'archive'} is not there" in found["archive directory"]

    (tmp_path / "packages").mkdir()
    monkeypatch.setattr(check, "LEAST_FREE_BYTES", 10**18)
    assert "GB free" in wrong(house.settings(), empty_database)["package directory"]


def _new_ssh_key(path: Path) -> str:
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(path)
    return key.export_public_key().decode().strip()


def _renew_certificate(pem: Path, days: int) -> None:
    """Another certificate for the same key, valid for so many days from now."""
    key: Any = load_pem_private_key(pem.read_bytes(), password=None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Museum")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    text = pem.read_text()
    private = text[: text.index("-----BEGIN CERTIFICATE-----")]
    pem.write_text(private + certificate.public_bytes(Encoding.PEM).decode())


def test_an_outside_tool_that_is_not_there(house: House, empty_database: str) -> None:
    found = wrong(house.settings(sip={"tools": {"jhove": "/bin/true", "verapdf": "/no/such/verapdf"}}), empty_database)
    assert found == {"outside tools": "veraPDF: /no/such/verapdf is no executable. See [sip.tools]."}


def test_a_package_that_nobody_goes_on_with(house: House, empty_database: str) -> None:
    with house.environment() as env:
        synchronise_all(env)
        object_id = house.museum.object_ids[0]
        preserve.download_object(env, object_id, lambda _: None)
    run_sql(empty_database, "CREATE TABLE runs (partition text, status text, pipeline_name text)")
    found = wrong(house.settings(), empty_database)
    assert list(found) == ["workflow"]
    assert f"1 packages were begun and have no run: objects {object_id}" in found["workflow"]
    assert "passari-dagster cancel" in found["workflow"]
    run_sql(empty_database, f"INSERT INTO runs VALUES ('{object_id}', 'QUEUED', 'preserve_object')")
    assert wrong(house.settings(), empty_database) == {}
