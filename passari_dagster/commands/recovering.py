"""The command `recover`: what a restored backup does not know of is put back, as by the job `recover`."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    DryRunOption,
    JsonOption,
    end_if_refused,
    opened_environment,
    print_json,
    quiet,
    told_to_people,
)


def recover(
    reason: Annotated[str, typer.Option("--reason", help="why; kept in the audit log, and may be left out")] = "",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """After a backup of the museum database was restored: put back what was sent since, from the archive.

    Objects that cannot be done are named, the others are, and the exit code is 1.
    """
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.workflow import recover as use_case
        from passari_dagster.workflow.audit import on_the_command_line

        # A large archive takes its time: people are told as it goes.
        tell = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
        done = use_case.recover(
            env,
            on_the_command_line(),
            log=quiet if as_json else tell,
            reason=reason,
            dry_run=dry_run,
            sample=None,
        )
        if as_json:
            print_json({**done.tally.as_json(), "objects_in_the_archive": done.archived})
        else:
            tell(done.summary)
        end_if_refused(done.tally)
