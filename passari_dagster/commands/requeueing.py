"""The command `requeue-failed`: failed objects are launched again, as by the job `requeue_failed`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from passari_dagster.commands.common import (
    IDS_HELP,
    SYSTEM_DATA,
    DataOption,
    DryRunOption,
    JsonOption,
    ReasonOption,
    opened_environment,
    our_repository,
    parse_ids,
    print_json,
    print_tally,
    told_to_people,
)

_WRITTEN = "as 2026-01-31 (the whole day) or 2026-01-31T14:30"


class Outcome(str, Enum):
    """As the option is written."""

    SYSTEM_ERROR = "system-error"
    CONTENT_FAILURE = "content-failure"


def requeue_failed(
    reason: ReasonOption,
    outcome: Annotated[
        Outcome | None, typer.Option("--outcome", help="content-failure: a file failed what reads it, nobody knows why")
    ] = None,
    error: Annotated[str, typer.Option("--error", help="part of the error's message, in large or small letters")] = "",
    op: Annotated[str, typer.Option("--op", help="the op that failed, such as submit_sip")] = "",
    since: Annotated[str, typer.Option("--since", metavar="DATE", help=f"failed then or later; {_WRITTEN}")] = "",
    until: Annotated[str, typer.Option("--until", metavar="DATE", help=f"failed before then; {_WRITTEN}")] = "",
    object_ids: Annotated[str, typer.Option("--object-ids", metavar="ID,ID,…", help=IDS_HELP)] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Launch failed objects again: those to which all that is given applies, and that nothing has mended since."""
    ids = parse_ids(object_ids)
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch, requeue
        from passari_dagster.run_queue.dagster_internals import make_new_backfill_id
        from passari_dagster.workflow.audit import on_the_command_line
        from passari_dagster.workflow.requeue import Kind, Selection, moment

        zone = ZoneInfo(env.settings.time_zone)
        kind = Kind[outcome.name] if outcome else None
        wanted = requeue.Wanted(Selection(kind, error, op), ids, moment(since, zone), moment(until, zone, end=True))
        with launch.open_instance() as instance:
            done = requeue.requeue_failures(
                env,
                instance,
                our_repository,
                on_the_command_line(),
                wanted,
                reason=reason,
                backfill_id=make_new_backfill_id(),
                dry_run=dry_run,
                sample=None,
            )
        if as_json:
            print_json({**done.plan.tally.as_json(), "backfills": done.backfills, "cut": done.cut})
            return
        print_tally(console, done.plan.tally)
        if done.backfills:
            console.print(f"backfills {', '.join(done.backfills)}", highlight=False)
        if done.cut:
            typer.echo(requeue.CUT, err=True)
