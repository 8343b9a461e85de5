"""The command line: exit codes, and messages that an administrator can act on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr

from passari_dagster.commands.common import print_json, print_table, told_to_people
from passari_dagster.errors import PermanentFailure
from passari_dagster.run_queue.ledger import LEASE, Lease, Ledger, connect
from passari_dagster_tests.conftest import PROJECT

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


EXAMPLE = {
    "PASSARI_CONFIG": str(PROJECT / "passari.toml.example"),
    "PASSARI_DB_URL": "postgresql://me@127.0.0.1:1/x",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}


def test_migrate_tells_a_program_the_revisions(tmp_path: Path, empty_database: str) -> None:
    first, second = (
        json.loads(command(tmp_path, "migrate", "--json", env={"PASSARI_DB_URL": empty_database}).stdout)
        for _ in range(2)
    )
    assert (first["museum"]["before"], first["dagster"]) == ([], None)
    assert first["museum"]["after"] == second["museum"]["before"] == second["museum"]["after"]


def test_workers_are_told_to_a_program(tmp_path: Path, redis_url: SecretStr) -> None:
    ledger = Ledger(connect(redis_url.get_secret_value()))
    lease = Lease("run-1", "host-1", "worker-1", 7, 0.0, "object 5")
    assert ledger.take_lease(lease)
    ledger.connection.persist(LEASE + lease.run_id)  # a busy machine may need longer than a lease lives
    done = command(tmp_path, "workers", "--json", env={**EXAMPLE, "REDIS_URL": redis_url.get_secret_value()})
    ledger.drop_lease(lease)
    ledger.close()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (row,) = [row for row in told["workers"] if row["run"] == "run-1"]
    assert (row["host"], row["worker"], row["does"]) == ("host-1", "worker-1", "object 5")
    assert set(told["waiting"]) == {"high", "normal", "low"}


def test_findings_of_the_check_are_told_to_a_program(tmp_path: Path) -> None:
    only_two = """
from passari_dagster.services import check
check.run = lambda *_: iter([check.Finding("one", True, "well"), check.Finding("two", False, "bad")])
"""
    done = command(tmp_path, "check", "--json", env=EXAMPLE, code=only_two)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout) == {
        "good": False,
        "findings": [{"name": "one", "good": True, "text": "well"}, {"name": "two", "good": False, "text": "bad"}],
    }


def test_options_of_passari_workflow_are_understood(tmp_path: Path) -> None:
    refused = command(tmp_path, "freeze-objects", "5", "--reason", "why", "--source", "automatic", env=EXAMPLE)
    assert refused.returncode == 2
    assert "only runs freeze" in refused.stderr
    for arguments in (
        ("freeze-objects", "--source", "user", "--delete-jobs"),
        ("freeze-objects", "--no-delete-jobs"),
        ("reenqueue-object",),
    ):
        done = command(tmp_path, *arguments, "5", "--reason", "why", env=EXAMPLE)
        assert "cannot be reached" in done.stderr  # it went as far as the servers
        assert ("all the same" in done.stderr) == ("--no-delete-jobs" in arguments)


@pytest.mark.parametrize("arguments", [["demo", "--enqueue", "0"], ["demo", "--nonsense"]])
def test_options_that_make_no_sense_end_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert command(tmp_path, *arguments).returncode == 2


def test_a_terminal_finds_nothing_to_obey_in_what_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m kuva.jpg"
    with told_to_people() as console:
        print_table(console, ("object", "message"), [(1, hostile)])
    with pytest.raises(typer.Exit), told_to_people():
        raise PermanentFailure(f"two lines:\n{hostile}")
    said, faults = capfd.readouterr()
    for text in (said, faults):
        assert "kuva.jpg" in text
        assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert faults.count("\n") == 2


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("requeue", ["requeue-failed"]), ("unfreeze --with", ["--with-reason", "--with-object-ids"])],
)
def test_the_shell_completes_commands_and_options(typed: str, completed: list[str]) -> None:
    words = f"passari-dagster {typed}"
    done = subprocess.run(
        [PROGRAM],
        env={
            **CLEAN,
            "_PASSARI_DAGSTER_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == completed


def test_json_has_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"title": "kirves \x9b31m \x7f \u202e \x1b[2J ä"}
    print_json(value)
    told = capsys.readouterr().out
    assert json.loads(told) == value
    assert all(sign.isprintable() or sign == "\n" for sign in told)
    assert "ä" in told
