"""What all commands share: how errors are told, options, tables, the environment. Commands are in the other modules."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from passari_dagster import settings
from passari_dagster.errors import PassariError, SettingsError
from passari_dagster.workflow.shown import visible

if TYPE_CHECKING:
    from passari_dagster.run_queue.dagster_internals import RemoteRepositoryOrigin
    from passari_dagster.workflow.bulk import Tally
    from passari_dagster.workflow.environment import Environment

_CONTROLS = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
LARGEST = 2**63 - 1
"""The largest number of the database, for ids above all."""


def within_bounds(given: Any) -> Any:
    """A number, or numbers, that the database can be asked for: a callback of options and arguments."""
    for number in given if isinstance(given, (list, tuple)) else [given]:
        if number is not None and abs(number) > LARGEST:
            raise typer.BadParameter(f"{number} is too large: {LARGEST} is the largest number that can be an id")
    return given


SYSTEM_DATA = Path("passari-data/system")
WIDTH = 100
"""Columns of a table that is not printed to a terminal."""
IDS_HELP = "ids, with commas between them"
DataOption = Annotated[Path, typer.Option("--data", help="folder of everything that it keeps")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
ObjectIds = Annotated[list[int], typer.Argument(help="ids of the objects", callback=within_bounds)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="only say what would be done")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; it is kept in the audit log")]


@contextlib.contextmanager
def told_to_people(*, servers: bool = True) -> Iterator[Console]:
    """Errors become a message and an exit code; a console for the rest.

    Arguments:
        servers: those of PostgreSQL and Redis, too.
    """
    try:
        yield Console()
    except typer.Exit:
        raise
    except SettingsError as error:
        typer.echo(visible(str(error)), err=True)
        raise typer.Exit(2) from None
    except PassariError as error:
        typer.echo(visible(str(error)), err=True)
        raise typer.Exit(1) from None
    except Exception as error:
        from passari_dagster.commands.servers import trouble

        found = trouble(error) if servers else None
        if found is None:
            raise
        typer.echo(found.text, err=True)
        raise typer.Exit(found.code) from None


def use_env_file(data: Path) -> dict[str, str]:
    """Our environment, with what is missing in it from the env file of the system on this folder."""
    from passari_dagster.services.system import read_env

    for name, value in read_env(data).items():
        os.environ.setdefault(name, value)
    return dict(os.environ)


def use_dagster_environment(data: Path) -> None:
    """Our environment, completed by what `dagster.yaml` and `workspace.yaml` ask for."""
    from passari_dagster.services.system import dagster_environment

    os.environ.update(dagster_environment(use_env_file(data), data))


def print_json(value: Any) -> None:
    """One JSON document, for programs; dates and the like as text."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    # What JSON leaves as it is and a terminal obeys.
    typer.echo(_CONTROLS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text))


def print_table(console: Console, columns: Sequence[str | Column], rows: Sequence[Sequence[object]]) -> None:
    """A table for people; without a terminal, as wide as `WIDTH`."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else visible(str(cell)) for cell in row))
    wide = console if console.is_terminal else Console(width=WIDTH, file=console.file)
    wide.print(table, markup=False, highlight=False)


@contextlib.contextmanager
def museum_environment(data: Path) -> Iterator[Environment]:
    """The use cases' environment, for what asks nothing of Dagster."""
    use_env_file(data)
    from passari_dagster.workflow.environment import open_environment

    with open_environment(settings.load()) as env:
        yield env


@contextlib.contextmanager
def opened_environment(data: Path) -> Iterator[Environment]:
    """The use cases' environment, with its servers there; Dagster finds what its two files ask for."""
    use_dagster_environment(data)
    from passari_dagster.commands import servers
    from passari_dagster.workflow.environment import open_environment

    loaded = settings.load()
    os.environ.setdefault("REDIS_URL", loaded.redis_url.get_secret_value())
    with open_environment(loaded) as env:
        servers.reach(env, os.environ)
        with servers.lost_halfway():
            yield env


def our_repository() -> RemoteRepositoryOrigin:
    """Where the jobs are that a command launches."""
    from passari_dagster.defs import launch
    from passari_dagster.services.system import project_root

    return launch.our_repository(project_root(os.environ) / "workspace.yaml")


def parse_ids(text: str) -> list[int]:
    """Ids with commas or blanks between them."""
    words = text.replace(",", " ").split()
    if wrong := [word for word in words if not (word.isascii() and word.isdigit())]:
        raise typer.BadParameter(f"{wrong[0]!r} is not the id of an object")
    return list(within_bounds([int(word) for word in words]))


def print_tally(console: Console, tally: Tally) -> None:
    """What becomes of the objects, for people."""
    rows = [(entry.object_id, entry.outcome, entry.detail) for entry in tally.entries]
    print_table(console, ("object", "outcome", ""), rows)
    more = sum(tally.counts.values()) - len(rows)
    console.print(
        f"… and {more} more; --json lists all" if more else "", visible(tally.summary), sep="\n", markup=False
    )


def tell_tally(console: Console, tally: Tally, *, as_json: bool) -> None:
    """What becomes of the objects, for programs or for people."""
    if as_json:
        print_json(tally.as_json())
    else:
        print_tally(console, tally)


def end_if_refused(tally: Tally) -> None:
    """End the process with 1 if something was refused; a preview may say so, and was done."""
    if tally.refused and not tally.dry_run:
        raise typer.Exit(1)


def quiet(_line: str) -> None:
    """The table tells all."""
