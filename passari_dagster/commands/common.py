"""What all commands share: how errors are told, options, tables, the environment. Commands are in the other modules."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from passari_dagster.errors import PassariError, SettingsError

SYSTEM_DATA = Path("passari-data/system")
WIDTH = 100
"""Columns of a table that is not printed to a terminal."""
DataOption = Annotated[Path, typer.Option("--data", help="folder of everything that it keeps")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="only say what would be done")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; it is kept in the audit log")]


@contextlib.contextmanager
def told_to_people() -> Iterator[Console]:
    """Errors become a message and an exit code; a console for the rest."""
    try:
        yield Console()
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except PassariError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


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
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(console: Console, columns: Sequence[str | Column], rows: Sequence[Sequence[object]]) -> None:
    """A table for people; without a terminal, as wide as `WIDTH`."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    wide = console if console.is_terminal else Console(width=WIDTH, file=console.file)
    wide.print(table, markup=False, highlight=False)
