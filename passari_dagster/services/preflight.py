"""`passari-dagster preflight`: a preflight from the command line. What it does is known by `workflow.preflight`."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from passari_dagster.errors import TransientFailure
from passari_dagster.services.supervisor import Stop
from passari_dagster.settings import Settings
from passari_dagster.workflow import preflight
from passari_dagster.workflow import preflight_report as report
from passari_dagster.workflow.environment import open_environment
from passari_dagster.workflow.preflight import Examined
from passari_dagster.workflow.shown import plain

SHOWN = 200
"""Most rows of the table that is printed."""
NO_PROBLEMS, PROBLEMS, NOT_DONE = 0, 1, 2
"""Exit codes."""


@dataclass(frozen=True)
class Options:
    """What to examine, and how to tell it.

    Arguments:
        object_ids: these objects; none: `count` eligible ones at random.
        csv: file for a table of all problems.
        as_json: print JSON instead of tables.
    """

    object_ids: tuple[int, ...]
    count: int
    csv: Path | None
    as_json: bool


def run(settings: Settings, options: Options, console: Console) -> int:
    """Do the preflight; tell each object on stderr at once, and the findings on stdout at the end.

    Arguments:
        console: standard output.

    Returns:
        the exit code.

    Raises:
        TransientFailure: nothing could be found out; the message says why.
    """
    progress = Console(stderr=True)
    summary = report.Summary(kept=sys.maxsize if options.as_json else SHOWN)

    def say(line: str) -> None:
        progress.print(plain(line), markup=False, highlight=False, soft_wrap=True)

    try:
        with contextlib.ExitStack() as stack:
            write = stack.enter_context(report.csv_file(options.csv)) if options.csv is not None else None
            env = stack.enter_context(open_environment(settings))

            def tell(examined: Examined) -> None:
                summary.add(examined)
                summary.left -= 1
                if write is not None:
                    write(examined)
                say(str(examined))

            chosen = preflight.choose(env, count=options.count, object_ids=options.object_ids)
            summary.left = len(chosen)
            preflight.preflight(env, chosen, tell, say)
    except OSError as error:
        raise TransientFailure(f"the preflight could not be done: {type(error).__name__}: {error}") from error
    except Stop:
        _print(summary, options, console)  # what is known so far
        raise
    _print(summary, options, console)
    if not summary.complete:
        return NOT_DONE
    return PROBLEMS if summary.problems else NO_PROBLEMS


def _print(summary: report.Summary, options: Options, console: Console) -> None:
    if options.as_json:
        typer.echo(json.dumps(summary.as_json()))
    else:
        report.show(summary, console)
