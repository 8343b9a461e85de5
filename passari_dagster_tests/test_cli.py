"""The command line: exit codes, and messages that an administrator can act on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).parent / "passari-dagster")
CLEAN = {"PATH": os.defpath, "HOME": "/nonexistent"}


def command(
    cwd: Path, *arguments: str, env: dict[str, str] | None = None, code: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty environment; `code` is executed in its process before."""
    program = ["-c", f"{code}\nfrom passari_dagster.cli import app\napp()"]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env={**CLEAN, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_is_installed_and_lists_what_it_can_do(tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "--help"], env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for name in ("demo", "up", "check", "migrate", "env"):
        assert name in done.stdout


def test_missing_settings_are_named_with_their_variable(tmp_path: Path) -> None:
    done = command(tmp_path, "check")
    assert done.returncode == 2
    assert "museumplus" in done.stderr
    assert "PASSARI_DB_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_named_and_not_repeated(tmp_path: Path) -> None:
    done = command(tmp_path, "check", env={"PASSARI_DB_URL": "mysql://me:secret-word@host/db"})
    assert done.returncode == 2
    assert "database_url" in done.stderr
    assert "secret-word" not in done.stderr + done.stdout


def test_a_settings_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "passari.toml").write_text("this is not toml")
    for name in ("check", "up"):
        done = command(tmp_path, name)
        assert done.returncode == 2
        assert "passari.toml" in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_redis_server_the_command_says_what_to_install_and_ends_with_2(tmp_path: Path) -> None:
    hidden = "from passari_dagster.services import embedded; embedded.find_spec = lambda _: None"
    servers = dict.fromkeys(("PASSARI_DB_URL", "DAGSTER_PG_URL"), "postgresql://nobody@127.0.0.1:1/x")
    done = command(tmp_path, "up", code=hidden, env={**servers, "PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "apt install redis-server" in done.stderr
    assert "Traceback" not in done.stderr


def test_env_tells_a_shell_where_the_values_are_without_printing_them(tmp_path: Path) -> None:
    done = command(tmp_path, "env", "--data", "my data")
    assert done.returncode == 2
    assert "passari-dagster up" in done.stderr

    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "env").write_text("PASSARI_DB_URL='postgresql://me:secret word@host/db'\n")
    done = command(tmp_path, "env", "--data", "my data")
    assert done.returncode == 0
    assert "secret" not in done.stdout
    shell = subprocess.run(
        ["sh", "-c", 'eval "$1"; python3 -c "import os; print(os.environ[\'PASSARI_DB_URL\'])"', "sh", done.stdout],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shell.stdout.strip() == "postgresql://me:secret word@host/db"


def test_a_database_that_cannot_be_reached_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    done = command(tmp_path, "migrate", env={"PASSARI_DB_URL": "postgresql://me:secret-word@127.0.0.1:1/x"})
    assert done.returncode == 2
    assert "the database cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stderr + done.stdout


def test_migrate_brings_an_empty_database_to_the_newest_schema(tmp_path: Path, empty_database: str) -> None:
    for _ in range(2):
        done = command(tmp_path, "migrate", env={"PASSARI_DB_URL": empty_database})
        assert done.returncode == 0, done.stderr
        assert "up to date" in done.stdout


@pytest.mark.parametrize("arguments", [["demo", "--enqueue", "0"], ["demo", "--nonsense"]])
def test_options_that_make_no_sense_end_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert command(tmp_path, *arguments).returncode == 2
