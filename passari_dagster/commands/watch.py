"""The commands `overview` and `audit-log`: what the assets of the group workbench tell, from a shell."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.table import Column

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    JsonOption,
    museum_environment,
    opened_environment,
    print_json,
    print_table,
    told_to_people,
)
from passari_dagster.errors import PermanentFailure


def overview(as_json: JsonOption = False, data: DataOption = SYSTEM_DATA) -> None:
    """Count how many objects are where in the workflow, as the asset workflow_overview does. Nothing is changed."""
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch, workbench
        from passari_dagster.workflow.overview import KEYS, MEANING

        with launch.open_instance() as instance:
            counts = workbench.counts(env, instance)
            runs = workbench.unfinished_runs(instance)
        if as_json:
            print_json({**counts, "runs_queued_or_live": runs})
            return
        columns = (Column("objects", no_wrap=True, justify="right"), Column("where", no_wrap=True), "which")
        print_table(console, columns, [(f"{counts[key]:,}", key, MEANING[key]) for key in KEYS])
        console.print(f"{runs:,} runs of objects are queued or live", highlight=False)


def audit_log(
    object_id: Annotated[
        int | None, typer.Option("--object", metavar="ID", help="what was done to this object only")
    ] = None,
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="what was done then or later")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="most events")] = 50,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Tell who did what, when, why, and to which objects, the latest first. Nothing is changed."""
    from passari_dagster.workflow import audit
    from passari_dagster.workflow.shown import plain

    with told_to_people() as console:
        with museum_environment(data) as env:
            zone = ZoneInfo(env.settings.time_zone)
            moment = _moment(since, zone)
            with env.transaction() as session:
                found = audit.events(session, limit=limit + 1, object_id=object_id, since=moment)
        events, more = found[:limit], len(found) > limit
        if as_json:
            print_json({"events": [dataclasses.asdict(event) for event in events], "more": more})
            return
        rows = [
            (
                f"{event.date.astimezone(zone):%Y-%m-%d %H:%M}",
                plain(event.who),
                plain(event.what),
                event.which,
                plain(event.reason),
            )
            for event in events
        ]
        print_table(console, [Column("when", no_wrap=True), "who", "what", "objects", "why"], rows)
        if not events:
            console.print("nothing was done")
        if more:
            console.print("there are older ones: give a greater --limit", highlight=False)


def _moment(since: str, zone: ZoneInfo) -> datetime | None:
    from passari_dagster.workflow.requeue import moment

    try:
        return moment(since, zone)
    except PermanentFailure as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
