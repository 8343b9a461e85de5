"""The README and the guides: each command line in them is one that the command takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from passari_dagster import cli
from passari_dagster.defs import build_defs
from passari_dagster.settings import load
from passari_dagster_tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:^|[\s/])passari-dagster +(\S.*)|^(?:\$ )?passari +(\S.*)")
"""`passari` is the alias of the deployment guide; as a word within a line it is a user, a directory or a database."""
ADMINISTRATOR = PROJECT / "docs" / "guides" / "administrator.md"
NUMBERS = {"ID": "1234567", "N": "5", "…": "1234567"}
"""What stands in the pages for a number, which a text may be, too; any other word is a text."""
ENDS = {"|", ";", "&&", ">", ">>", "&"}


def spans(text: str) -> Iterator[str]:
    """Lines of code, and what stands in backticks, perhaps over two lines."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line.startswith("    ")]
        yield from (line.strip() for line in lines)
        prose = "\n".join(line for line in block.splitlines() if not line.startswith("    "))
        yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def command_lines(text: str) -> Iterator[str]:
    """What is said to the command, in each place."""
    for span in spans(text):
        if found := PROGRAM.search(span):
            yield found[1] or found[2]


def arguments(line: str) -> list[str]:
    """The words of a command line, as a shell makes them of it, up to a comment or to another command."""
    words = shlex.split(line, comments=True)
    end = next((place for place, word in enumerate(words) if word in ENDS), len(words))
    return [NUMBERS.get(word, word) for word in words[:end]]


def wrong(line: str) -> str | None:
    """What the command has to say against it; None: nothing. Its options are read, and nothing is done."""
    words = arguments(line)
    if words == ["COMMAND", "--help"]:
        return None
    program: Any = typer.main.get_command(cli.app)
    try:
        name, command, rest = program.resolve_command(program.make_context("passari-dagster", list(words)), words)
        command.make_context(name, rest)
    except Exception as error:  # of typer's own kinds, which have no public name
        if getattr(error, "exit_code", None) == 0:  # it has helped
            return None
        return f"passari-dagster {line}: {getattr(error, 'message', '') or error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_each_command_line_of_the_page_is_taken(page: Path) -> None:
    assert [told for line in command_lines(page.read_text(encoding="utf-8")) if (told := wrong(line))] == []


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_the_administrators_guide_says_which_job_is_which_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    table = re.search(r"^\| job \| command \|\n(?:\|.*\n)+", ADMINISTRATOR.read_text(encoding="utf-8"), re.M)
    assert table is not None
    program: Any = typer.main.get_command(cli.app)
    commands = {name for name, command in program.commands.items() if not command.hidden}
    jobs = {job.name for job in build_defs(load()).get_repository_def().get_all_jobs()}
    named = set(re.findall(r"`([\w-]+)`", table[0])) - {"frozen_objects", "audit_log"}
    assert named == commands | {name for name in jobs if not name.startswith("__")}


def test_command_lines_are_found_wherever_they_stand() -> None:
    text = (
        "Say `passari-dagster\npoll-dps --days 31`, or `passari check`; a user `passari`.\n\n"
        "    PASSARI_DB_URL=… passari-dagster migrate     # once\n"
        "    alias passari='runuser -u passari -- /opt/passari/current/.venv/bin/passari-dagster'\n"
    )
    assert sorted(map(arguments, command_lines(text))) == [["check"], ["migrate"], ["poll-dps", "--days", "31"]]
    found = [line for page in PAGES for line in command_lines(page.read_text(encoding="utf-8"))]
    assert len(found) > 60


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("requeue-failed", "reason"),
        ("requeue-failed --reason … --object-ids ID,ID,…", None),
        ("reenqueue --reason … ID …", None),
        ("freeze ID … --reason TEXT --sauce x", "--sauce"),
        ("cancel", "object_ids"),
        ("cancel --help", None),
        ("enqueue --object-count N", None),
        ("enqueue --object-count many", "many"),
        ("reset-everything", "reset-everything"),
        ("object-dossier ID --html FILE | less", None),
        ("COMMAND --help", None),
    ],
)
def test_what_is_wrong_is_said(line: str, says: str | None) -> None:
    told = wrong(line)
    assert told is None if says is None else says in (told or "")
