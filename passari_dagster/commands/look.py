"""Commands that look, and change nothing: packages, frozen objects, the dossier of an object, a Python shell.

The shell may change rows when it is told to; then it is in the audit log.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.table import Column

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    JsonOption,
    museum_environment,
    print_json,
    print_table,
    told_to_people,
    within_bounds,
)

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="rows of a page")]
_WORDS = 60
"""Characters of a title in a table."""


def packages(
    search: Annotated[
        str, typer.Argument(help="id of an object; or part of its title, of a package's name, or of an attachment's")
    ] = "",
    preserved: Annotated[bool, typer.Option("--preserved", help="those that the DPS accepted")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="those that the DPS rejected")] = False,
    processing: Annotated[bool, typer.Option("--processing", help="those that are in the workflow")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="those that were taken out before")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="of each object its latest one only")] = False,
    limit: LimitOption = 25,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", metavar="PACKAGE", callback=within_bounds, help="go on after this number: the page's last one"
        ),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Find packages, the newest first. With more than one of the states: those that are in any of them."""
    from passari_dagster.catalogue.search import State, find_packages
    from passari_dagster.workflow.shown import plain

    asked = {
        State.PRESERVED: preserved,
        State.REJECTED: rejected,
        State.PROCESSING: processing,
        State.CANCELLED: cancelled,
    }
    with told_to_people() as console:
        with museum_environment(data) as env, env.transaction() as session:
            states = [state for state, wanted in asked.items() if wanted]
            found = find_packages(
                session, search=search.strip(), states=states, latest=latest, limit=limit + 1, before=after
            )
        page, more = found[:limit], len(found) > limit
        following = page[-1].package_id if more else None
        if as_json:
            print_json({"packages": [dataclasses.asdict(each) for each in page], "next_after": following})
            return
        zone = ZoneInfo(env.settings.time_zone)
        print_table(
            console,
            (
                *(Column(name, no_wrap=True) for name in ("no.", "package", "state", "begun")),
                Column("title"),
            ),
            [
                (
                    each.package_id,
                    plain(each.sip_filename),
                    f"{each.state}{', frozen' if each.frozen and each.latest else ''}",
                    each.begun and each.begun.astimezone(zone).date(),
                    plain(each.title)[:_WORDS],
                )
                for each in page
            ],
        )
        if not page:
            console.print("no package was found")
        if following is not None:
            console.print(f"there are more: --after {following}", highlight=False)


def frozen(
    reason: Annotated[str | None, typer.Option("--reason", help="list the objects of exactly this reason")] = None,
    search: Annotated[
        str, typer.Option("--search", help="list objects with this id, or with this in their title or reason")
    ] = "",
    limit: LimitOption = 50,
    after: Annotated[
        int,
        typer.Option(
            "--after", metavar="OBJECT", callback=within_bounds, help="go on after this id: the page's last one"
        ),
    ] = 0,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Count frozen objects by reason; with --reason or --search, list them."""
    from passari_dagster.catalogue.freezing import NONE_GIVEN, WITHOUT
    from passari_dagster.catalogue.statistics import count_frozen, frozen_by_reason, frozen_objects
    from passari_dagster.workflow.shown import plain

    search = search.strip()
    with told_to_people() as console:
        with museum_environment(data) as env, env.transaction() as session:
            if reason is None and not search:
                counts = frozen_by_reason(session)
                if as_json:
                    print_json({"reasons": [dataclasses.asdict(each) for each in counts]})
                    return
                # Each reason whole and on one line, however wide the terminal: objects are unfrozen by exactly that.
                console.print("objects  by people  reason")
                for each in counts:
                    told = plain(each.reason, whole=True) or NONE_GIVEN
                    line = f"{each.objects:>7}  {each.by_people:>9}  {told}"
                    console.print(line, markup=False, highlight=False, soft_wrap=True)
                console.print(f"{sum(each.objects for each in counts)} objects are frozen", highlight=False)
                return
            reason = WITHOUT if reason == NONE_GIVEN else reason
            number = count_frozen(session, reason=reason, search=search)
            found = frozen_objects(session, reason=reason, search=search, limit=limit + 1, after=after)
        page = found[:limit]
        following = page[-1].object_id if len(found) > limit else None
        if as_json:
            objects = [dataclasses.asdict(each) for each in page]
            print_json({"number": number, "objects": objects, "next_after": following})
            return
        print_table(
            console,
            (Column("object", no_wrap=True, justify="right"), "title", Column("by", no_wrap=True), "reason"),
            [
                (each.object_id, plain(each.title)[:_WORDS], each.source, plain(each.reason, whole=True))
                for each in page
            ],
        )
        console.print(f"{number} frozen objects were found", highlight=False)
        if following is not None:
            console.print(f"there are more: --after {following}", highlight=False)


def object_dossier(
    object_id: Annotated[int, typer.Argument(help="id of the object", callback=within_bounds)],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="write a page with the ingest reports inside")
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="print Markdown; this is what is done anyway")
    ] = False,
    as_json: JsonOption = False,
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="NAME", help="print a log whole, such as create-sip: the newest one"),
    ] = None,
    ui: Annotated[
        str, typer.Option("--ui", metavar="URL", help="address of Dagster's user interface, for links to the runs")
    ] = "",
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Tell on one page all that is known of an object: packages, changes, steps, logs, reports. Nothing is changed."""
    if sum((html is not None, as_markdown, as_json, log is not None)) > 1:
        raise typer.BadParameter("give one of --html, --markdown, --json and --log", param_hint="--html")
    if ui and not ui.startswith(("http://", "https://")):
        raise typer.BadParameter("an address begins with http:// or https://", param_hint="--ui")
    from passari_dagster import durable
    from passari_dagster.errors import PermanentFailure
    from passari_dagster.workflow import dossier, dossier_html, step_times
    from passari_dagster.workflow.dossier_markdown import markdown
    from passari_dagster.workflow.shown import visible

    base = ui.rstrip("/")
    with told_to_people() as console:
        with museum_environment(data) as env:
            made = dossier.dossier(env, object_id)
        if log is not None:
            path = dossier.log_named(made, log)
            try:
                for line in step_times.whole(path):
                    typer.echo(visible(line))
            except (OSError, EOFError) as error:
                raise PermanentFailure(f"{path} cannot be read: {error}") from error
        elif html is not None:
            try:
                durable.write_bytes(html, dossier_html.html(made, base).encode())
            except OSError as error:
                raise PermanentFailure(f"{html} cannot be written: {error}") from error
            console.print(str(html), markup=False, highlight=False, soft_wrap=True)
        elif as_json:
            print_json(dossier.as_json(made))
        else:
            typer.echo(markdown(made, base), nl=False)


def shell(
    write: Annotated[bool, typer.Option("--write", help="let it change the museum database")] = False,
    reason: Annotated[str, typer.Option("--reason", help="with --write: why; it is kept in the audit log")] = "",
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Open a Python shell on the museum database, which it cannot change unless told so. A script on its standard
    input is executed instead.
    """
    from passari_dagster.services import shell as console_of_python

    # What a script does wrong with the database is shown whole.
    with told_to_people(servers=False), museum_environment(data) as env:
        with told_to_people():
            env.engine.connect().close()
        console_of_python.run(env, write=write, reason=reason)
