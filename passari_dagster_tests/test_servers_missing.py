"""Commands without their servers, or on a database that was not migrated: words, exit code 2, and no password."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError

from passari_dagster.catalogue import database
from passari_dagster.commands import servers
from passari_dagster.errors import TransientFailure
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.test_cli import command

NOBODY = "postgresql://me:secret-word@127.0.0.1:1/x"
NO_REDIS = "redis://:secret-word@127.0.0.1:1/0"
LOOKING = (
    ("packages",),
    ("packages", "--json"),
    ("frozen", "--json"),
    ("explain", "5"),
    ("object-dossier", "5"),
)
LAUNCHING = (
    ("enqueue", "--object-count", "1"),
    ("freeze", "5", "--reason", "why"),
    ("unfreeze", "--with-object-ids", "5", "--reason", "why"),
    ("reenqueue", "5", "--reason", "why"),
    ("poll-dps",),
    ("requeue-failed", "--reason", "why"),
    ("reset-workflow", "--reason", "why"),
)
TOO_LARGE = "99999999999999999999"


def told(
    folder: Path, *arguments: str, database: str = NOBODY, dagster: str = NOBODY, redis: str = NO_REDIS
) -> subprocess.CompletedProcess[str]:
    """The command with these servers; what it says is fit for people."""
    env = {
        "PASSARI_CONFIG": str(PROJECT / "passari.toml.example"),
        "PASSARI_DB_URL": database,
        "DAGSTER_PG_URL": dagster,
        "REDIS_URL": redis,
    }
    done = command(folder, *arguments, env=env)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "secret-word" not in said
    assert "SELECT" not in said
    return done


@pytest.mark.parametrize(
    "arguments",
    [*LOOKING, *LAUNCHING, ("adopt", "--no-redis"), ("migrate",), ("preflight", "5"), ("shell",)],
    ids=" ".join,
)
def test_without_postgresql_a_command_says_so_and_ends_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = told(tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert "cannot be reached" in done.stderr or arguments[0] == "preflight"
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [*LOOKING, *LAUNCHING[:2], ("adopt", "--no-redis")], ids=" ".join)
def test_on_a_database_that_was_not_migrated_a_command_says_what_to_run(
    tmp_path: Path, arguments: tuple[str, ...], empty_database: str, redis_url: SecretStr
) -> None:
    urls = {"database": empty_database, "dagster": empty_database, "redis": redis_url.get_secret_value()}
    done = told(tmp_path, *arguments, **urls)
    assert done.returncode == 2, done.stderr
    assert "`passari-dagster migrate`" in done.stderr


@pytest.mark.parametrize("arguments", [("workers",), ("workers", "--json"), *LAUNCHING, ("adopt",)], ids=" ".join)
def test_without_redis_a_command_says_so_and_ends_with_2(
    tmp_path: Path, arguments: tuple[str, ...], museum_database: str
) -> None:
    done = told(tmp_path, *arguments, database=museum_database, dagster=museum_database)
    assert done.returncode == 2, done.stderr
    assert "Redis" in done.stderr
    assert "cannot be reached" in done.stderr


def test_without_dagsters_database_a_command_says_so_and_ends_with_2(
    tmp_path: Path, museum_database: str, redis_url: SecretStr
) -> None:
    done = told(tmp_path, *LAUNCHING[0], database=museum_database, redis=redis_url.get_secret_value())
    assert done.returncode == 2, done.stderr
    assert "Dagster's database cannot be reached" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", TOO_LARGE),
        ("object-dossier", TOO_LARGE),
        ("preflight", TOO_LARGE),
        ("search-dps", "--object-id", TOO_LARGE),
        ("packages", "--after", TOO_LARGE),
        ("frozen", "--after", TOO_LARGE),
        ("freeze", TOO_LARGE, "--reason", "why"),
        ("reenqueue", TOO_LARGE, "--reason", "why"),
        ("enqueue", "--object-ids", TOO_LARGE),
        ("enqueue", "--object-count", TOO_LARGE),
        ("unfreeze", "--with-object-ids", f"5,{TOO_LARGE}", "--reason", "why"),
    ],
    ids=" ".join,
)
def test_an_id_that_is_too_large_is_refused_before_anything_is_asked(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = told(tmp_path, *arguments)
    assert done.returncode == 2
    assert TOO_LARGE in done.stderr
    assert "9223372036854775807" in done.stderr


def test_an_id_that_a_command_did_not_look_at_is_told_in_words(engine: Engine) -> None:
    with pytest.raises(DataError) as raised, database.transaction(engine) as session:
        session.execute(text(f"SELECT {TOO_LARGE}::bigint"))
    found = servers.trouble(raised.value)
    assert found is not None
    assert found.code == 1
    assert "too large" in found.text
    assert TOO_LARGE not in found.text


def test_a_server_that_goes_away_in_the_middle_does_not_say_that_nothing_was_done(engine: Engine) -> None:
    gone = pytest.raises(TransientFailure, match="What was done before stays done")
    with gone, servers.lost_halfway(), database.transaction(engine) as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(ZeroDivisionError), servers.lost_halfway():
        raise ZeroDivisionError
