"""The command `reset-workflow`: the workflow is emptied after a restored backup, as by the job `reset_workflow`."""

from __future__ import annotations

from typing import Annotated

import typer

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    JsonOption,
    ReasonOption,
    end_if_refused,
    opened_environment,
    quiet,
    tell_tally,
    told_to_people,
)


def reset_workflow(
    reason: ReasonOption,
    perform: Annotated[
        bool, typer.Option("--perform-reset", help="do it; without it, it is only said what would be done")
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """After an older backup was restored: give up what was begun and not sent. What the DPS has stays watched.

    First what was sent since is put back from the archive, and the DPS is asked. Refused while runs of preserve_object
    are queued or live; objects that cannot be reset are named, the others are, and the exit code is 1.
    """
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch
        from passari_dagster.defs.reset import reset_when_idle
        from passari_dagster.workflow.audit import on_the_command_line

        with launch.open_instance() as instance:
            tally = reset_when_idle(
                env,
                instance,
                on_the_command_line(),
                reason=reason,
                log=quiet,
                perform=perform,
                sample=None if as_json else 20,
            )
        tell_tally(console, tally, as_json=as_json)
        end_if_refused(tally)
