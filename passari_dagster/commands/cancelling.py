"""The command `cancel`: packages are taken out of the workflow, as by the job `cancel_objects`."""

from __future__ import annotations

from typing import Annotated

import typer

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    DryRunOption,
    JsonOption,
    ObjectIds,
    end_if_refused,
    opened_environment,
    quiet,
    tell_tally,
    told_to_people,
)


def cancel(
    object_ids: ObjectIds,
    resend: Annotated[
        bool, typer.Option("--resend", help="also what was sent, if the DPS does not show it: it is sent anew then")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="why; it is kept in the audit log. May be left out without --resend")
    ] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Take objects' packages out of the workflow; the objects may be enqueued again.

    What the DPS has, and objects whose run executes, are refused, and named; the others are done. The exit code is 1.
    """
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.workflow import cancel as use_case
        from passari_dagster.workflow.audit import on_the_command_line

        tally = use_case.cancel(
            env,
            on_the_command_line(),
            object_ids,
            reason=reason,
            log=quiet,
            resend=resend,
            dry_run=dry_run,
            sample=None,
        )
        tell_tally(console, tally, as_json=as_json)
        end_if_refused(tally)
