"""The commands `enqueue`, `freeze`, `unfreeze` and `reenqueue`: what the jobs `…_objects` do, from a shell.

They need no code server: Dagster's daemon, wherever it is, makes the runs of what they launch.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from passari_dagster import locks
from passari_dagster.commands.common import (
    IDS_HELP,
    SYSTEM_DATA,
    DataOption,
    DryRunOption,
    JsonOption,
    ObjectIds,
    ReasonOption,
    end_if_refused,
    opened_environment,
    our_repository,
    parse_ids,
    print_json,
    print_table,
    print_tally,
    quiet,
    told_to_people,
    within_bounds,
)

if TYPE_CHECKING:
    from passari_dagster.defs.launch import Launched
    from passari_dagster.workflow.bulk import Tally
    from passari_dagster.workflow.environment import Environment


IDS_OF_A_COMMAND = 5000
"""Linux takes 128 KiB of one argument."""


class Source(str, Enum):
    """As passari-workflow's option is written."""

    USER = "user"
    AUTOMATIC = "automatic"


def _launch_too(env: Environment, instance: Any, held: locks.Held, object_ids: list[int], **options: Any) -> Launched:
    """As `_launch`, after the first part of a command is done, which is not done again when that is given once more."""
    try:
        return _launch(env, instance, held, object_ids, **options)
    except BaseException:
        typer.echo("done, but not enqueued; to do that:", err=True)
        for start in range(0, len(object_ids), IDS_OF_A_COMMAND):
            ids = ",".join(map(str, object_ids[start : start + IDS_OF_A_COMMAND]))
            typer.echo(f"passari-dagster enqueue --object-ids {ids}", err=True)
        raise


def _launch(env: Environment, instance: Any, held: locks.Held, object_ids: list[int], **options: Any) -> Launched:
    """Launch those of the objects that are eligible."""
    from passari_dagster.defs import launch
    from passari_dagster.workflow.audit import on_the_command_line

    return launch.enqueue_eligible(
        env,
        instance,
        our_repository,
        held,
        on_the_command_line(),
        object_ids=object_ids,
        **options,
    )


def _print(console: Console, tally: Tally, launched: Launched | None, *, as_json: bool) -> None:
    """The outcome; ends the process with 1 if something was refused, or found no room."""
    if as_json:
        print_json({**tally.as_json(), **(_launched_json(launched) if launched else {})})
    else:
        print_tally(console, tally)
        if launched is not None:
            _print_launched(console, launched, dry_run=tally.dry_run)
    end_if_refused(tally)
    _end_if_left(launched, dry_run=tally.dry_run)


def _end_if_left(launched: Launched | None, *, dry_run: bool) -> None:
    if launched is not None and launched.chosen.left and not dry_run:
        raise typer.Exit(1)


def _launched_json(launched: Launched) -> dict[str, Any]:
    chosen = launched.chosen
    return {
        "chosen": list(chosen.ids),
        "left": chosen.left,
        "not_enqueued": {str(object_id): why for object_id, why in sorted(chosen.refused.items())},
        "backfill": launched.backfill_id,
    }


def _print_launched(console: Console, launched: Launched, *, dry_run: bool) -> None:
    from passari_dagster.workflow.bulk import SAMPLE

    chosen = launched.chosen
    rows = [(object_id, why) for object_id, why in sorted(chosen.refused.items())]
    if rows:
        print_table(console, ("object", "not enqueued, because"), rows[:SAMPLE])
        console.print(f"{len(rows)} objects {'would not be' if dry_run else 'are not'} enqueued")
    if chosen.left:
        console.print(f"{chosen.left} objects are left: the cap on partition keys (partition_cap) is reached")
    if chosen.ids:
        more = len(chosen.ids) - SAMPLE
        first = ", ".join(map(str, chosen.ids[:SAMPLE])) + (f", … and {more} more" if more > 0 else "")
        console.print(first, highlight=False)
    if max(len(rows), len(chosen.ids)) > SAMPLE and dry_run:
        console.print("--json lists all", highlight=False)
    number = len(chosen.ids)
    if dry_run:
        console.print(f"dry run, nothing is done: {number} objects would be enqueued", highlight=False)
    else:
        done = f"enqueued, backfill {launched.backfill_id}" if launched.backfill_id else "are enqueued"
        console.print(f"{number} objects {done}", highlight=False)


def enqueue(
    object_count: Annotated[
        int | None,
        typer.Option(
            "--object-count", min=1, callback=within_bounds, help="how many; may be left out if ids are given"
        ),
    ] = None,
    random: Annotated[
        bool,
        typer.Option(
            "--random/--no-random",
            help="at random instead of by ascending id; a preview is one draw, others are enqueued later",
        ),
    ] = False,
    object_ids: Annotated[str, typer.Option("--object-ids", metavar="ID,ID,…", help=IDS_HELP)] = "",
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Enqueue eligible objects, as the job enqueue_objects does; those that are in the workflow are passed over."""
    ids = parse_ids(object_ids)
    if object_count is None and not ids:
        raise typer.BadParameter("give --object-count, --object-ids, or both")
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch

        with launch.open_instance() as instance, env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
            launched = _launch(
                env, instance, held, ids, count=object_count, random=random, dry_run=dry_run, reason=reason
            )
        if as_json:
            print_json({"dry_run": dry_run, **_launched_json(launched)})
        else:
            _print_launched(console, launched, dry_run=dry_run)
        _end_if_left(launched, dry_run=dry_run)


def freeze(
    object_ids: ObjectIds,
    reason: ReasonOption,
    replace_reason: Annotated[
        bool, typer.Option("--replace-reason", help="also of objects that are frozen already; others keep theirs")
    ] = False,
    delete_workspaces: Annotated[
        bool, typer.Option("--delete-workspaces", help="delete what was downloaded and packaged; logs are archived")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    source: Annotated[
        Source, typer.Option("--source", hidden=True, help="of passari-workflow: who freezes, which is a person here")
    ] = Source.USER,
    delete_jobs: Annotated[
        bool,
        typer.Option("--delete-jobs/--no-delete-jobs", hidden=True, help="of passari-workflow: it is always done here"),
    ] = True,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Freeze objects: keep them out of the workflow, and cancel their queued runs and what was not sent.

    Objects whose run executes are refused, and named; the others are frozen, and the exit code is 1.
    """
    if source is Source.AUTOMATIC:
        raise typer.BadParameter(
            "what is frozen by this command is frozen by a person; only runs freeze automatically",
            param_hint="--source",
        )
    if not delete_jobs:
        typer.echo("--no-delete-jobs: queued runs of frozen objects are cancelled all the same", err=True)
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch
        from passari_dagster.workflow import freeze as use_case
        from passari_dagster.workflow.audit import on_the_command_line

        with launch.open_instance() as instance:
            tally = use_case.freeze(
                env,
                on_the_command_line(),
                object_ids,
                reason=reason,
                runs=launch.ObjectRuns(instance),
                log=quiet,
                replace_reason=replace_reason,
                delete_workspaces=delete_workspaces,
                dry_run=dry_run,
                sample=None,
            )
        _print(console, tally, None, as_json=as_json)


def unfreeze(
    reason: ReasonOption,
    with_reason: Annotated[
        str | None,
        typer.Option("--with-reason", help="objects that are frozen for exactly this reason; (none given): for none"),
    ] = None,
    with_object_ids: Annotated[str, typer.Option("--with-object-ids", metavar="ID,ID,…", help=IDS_HELP)] = "",
    enqueue_: Annotated[bool, typer.Option("--enqueue/--no-enqueue", help="then enqueue what is eligible")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Unfreeze objects, by the exact reason for which they are frozen, by ids, or those to which both apply."""
    ids = parse_ids(with_object_ids)
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch
        from passari_dagster.workflow import unfreeze as use_case
        from passari_dagster.workflow.audit import on_the_command_line
        from passari_dagster.workflow.bulk import SAMPLE

        launched = None
        selection = use_case.Selection(with_reason, tuple(ids))
        with launch.open_instance() as instance, env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
            done = use_case.unfreeze(
                env,
                on_the_command_line(),
                selection,
                reason=reason,
                log=quiet,
                dry_run=dry_run,
                keep=env.settings.workflow.partition_cap if enqueue_ else 0,
                sample=None if as_json else SAMPLE,
            )
            if done.ids and not dry_run:
                launched = _launch_too(env, instance, held, done.ids, reason=reason)
            elif enqueue_ and dry_run:
                launched = launch.would_launch(env, instance, use_case.would_enqueue, done.ids)
        more = done.number - len(done.ids) if enqueue_ else 0
        if more:
            typer.echo(f"{more} more are unfrozen, and not enqueued: there are more than partition_cap", err=True)
        _print(console, done.tally, launched, as_json=as_json)
        if more and not dry_run:
            raise typer.Exit(1)


def reenqueue(
    object_ids: ObjectIds,
    reason: ReasonOption,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Re-enqueue objects that the DPS rejected, unchanged. The old packages and their reports stay visible."""
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch
        from passari_dagster.workflow import reenqueue as use_case
        from passari_dagster.workflow.audit import on_the_command_line

        launched = None
        with launch.open_instance() as instance, env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT) as held:
            done = use_case.reenqueue(
                env,
                on_the_command_line(),
                object_ids,
                reason=reason,
                in_flight=launch.in_flight(instance, object_ids),
                log=quiet,
                dry_run=dry_run,
                sample=None,
            )
            if done.ids and not dry_run:
                launched = _launch_too(env, instance, held, done.ids, reason=reason)
            elif dry_run:
                launched = launch.would_launch(env, instance, use_case.would_enqueue, done.ids)
        _print(console, done.tally, launched, as_json=as_json)
