"""`search-dps` and `retrieve-dip`: what the DPS preserves, found and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Column

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    DryRunOption,
    JsonOption,
    museum_environment,
    print_json,
    print_table,
    told_to_people,
    within_bounds,
)
from passari_dagster.services.supervisor import Stop, stop_on_signals


def search_dps(
    query: Annotated[
        str, typer.Option("--query", help="in the DPS's query language, such as OBJID:Passari_Object_123")
    ] = "",
    object_id: Annotated[
        int | None,
        typer.Option("--object-id", callback=within_bounds, help="instead of a query: packages of an object"),
    ] = None,
    page: Annotated[int, typer.Option("--page", min=1, help="of the answer")] = 1,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="packages in a page")] = 50,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """List the packages that the DPS preserves: their ids, objects, SIPs and dates."""
    from passari_dagster.workflow import preserved

    with told_to_people() as console, museum_environment(data) as environment:
        found = preserved.search(environment, query=query, object_id=object_id, page=page, limit=limit)
        if as_json:
            print_json(found.as_json())
            return
        # An id is copied from here: it is never broken.
        columns = [
            Column(name, overflow="fold") if name == "SIP" else Column(name, no_wrap=True, overflow="ignore")
            for name in preserved.COLUMNS
        ]
        print_table(console, columns, [preserved.cells(row) for row in found.rows])
        console.print(str(found), markup=False, highlight=False)


def retrieve_dip(
    aip_id: Annotated[str, typer.Argument(help="the DPS's id of the package, as search-dps shows it")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIRECTORY", help="where the DIP goes; without it, dip_dir")
    ] = None,
    archive: Annotated[Literal["zip", "tar"], typer.Option("--format", help="the form of the DIP")] = "zip",
    hours: Annotated[float, typer.Option("--hours", min=0.001, max=240, help="longest that it may take")] = 24.0,
    reason: Annotated[str, typer.Option("--reason", help="why; it is kept in the audit log")] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Fetch a preserved package from the DPS as a DIP, verify it, and have the DPS delete its copy.

    A call that was stopped, killed or given up is gone on with by the next one of the same package and directory.
    """
    from passari_dagster.workflow import audit
    from passari_dagster.workflow import retrieve as use_case

    try:
        with told_to_people() as console, stop_on_signals(), museum_environment(data) as environment:
            if dry_run:
                plan = use_case.plan(environment, aip_id, output=output, archive=archive)
                print_json(plan.as_json()) if as_json else typer.echo(str(plan))
                raise typer.Exit(0 if plan.known else 1)
            # With --json, progress does not stand in the way of a program.
            lines = Console(stderr=as_json)
            retrieved = use_case.retrieve(
                environment,
                audit.on_the_command_line(),
                aip_id,
                lambda line: lines.print(line, markup=False, highlight=False, soft_wrap=True),
                output=output,
                archive=archive,
                hours=hours,
                reason=reason,
            )
            if as_json:
                print_json(retrieved.as_json())
            elif not retrieved.deleted:
                console.print("the DPS still has its copy: call again to have it deleted")
    except Stop as stop:
        typer.echo(f"stopped ({stop}); call again to go on", err=True)
        raise typer.Exit(128 + stop.number) from None
