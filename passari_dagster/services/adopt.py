"""`passari-dagster adopt`: how the plan is told, and when it is carried out. It is `workflow.adoption_plan`'s."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import typer
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from passari_dagster.errors import PassariError, SettingsError, TransientFailure
from passari_dagster.services import migrations
from passari_dagster.settings import Settings
from passari_dagster.workflow import adopt, adoption_plan, old_queues
from passari_dagster.workflow.adoption_plan import Fate, Plan
from passari_dagster.workflow.audit import on_the_command_line
from passari_dagster.workflow.environment import open_environment
from passari_dagster.workflow.old_queues import OldQueues

SHOWN = 200
"""Most packages, and ids to enqueue, that are printed; --json has them all."""
DONE, NOT_DONE = 0, 1
"""Exit codes."""


@dataclass(frozen=True)
class Options:
    """What to do, and how to tell it.

    Arguments:
        yes: do it.
        as_json: print one JSON object.
        redis: passari-workflow's Redis; None: the one of the settings.
        no_redis: it is gone.
        stopped: all processes of passari-workflow are stopped, whatever Redis says.
        without_directories: directories that are not in `package_dir` are lost.
    """

    yes: bool
    as_json: bool
    redis: SecretStr | None
    no_redis: bool
    stopped: bool
    without_directories: bool


def run(settings: Settings, root: Path, options: Options, console: Console) -> int:
    """Tell the plan, and carry it out if that is wanted.

    Arguments:
        root: of the project, with its revisions.
        console: standard output.

    Returns:
        the exit code.

    Raises:
        SettingsError: the database has not our schema yet.
        PassariError: the plan could not be made.
    """
    if not migrations.museum_is_current(settings.database_url.get_secret_value(), root):
        raise SettingsError("the museum database has not the schema of this version: run `passari-dagster migrate`")
    queues = None if options.no_redis else old_queues.read(options.redis or settings.redis_url)
    try:
        return _run(settings, queues, options, console)
    except SQLAlchemyError as error:
        raise TransientFailure(
            f"the museum database: {type(error).__name__}: {getattr(error, 'orig', None)}. Run the command again"
        ) from error


def _run(settings: Settings, queues: OldQueues | None, options: Options, console: Console) -> int:
    with open_environment(settings) as env:
        plan = adoption_plan.make_plan(
            env, queues, stopped=options.stopped, without_directories=options.without_directories
        )
        if not options.as_json:
            _show(plan, queues, console)
        failure = None
        if options.yes:
            progress = Console(stderr=True) if options.as_json else console
            say = partial(progress.print, markup=False, highlight=False, soft_wrap=True)
            try:
                adopt.carry_out(env, on_the_command_line(), plan, queues, say)
            except PassariError as error:
                failure = str(error)
    if options.as_json:
        answer = _as_json(plan, queues, done=options.yes and failure is None, failure=failure)
        typer.echo(json.dumps(answer, indent=1, ensure_ascii=False))
    elif failure is not None:
        typer.echo(failure, err=True)
    elif not options.yes and any(step.deed != "nothing" for step in plan.steps):
        console.print("Nothing was changed. To do it: passari-dagster adopt --yes", highlight=False)
    return NOT_DONE if failure is not None or plan.obstacles else DONE


def _show(plan: Plan, queues: OldQueues | None, console: Console) -> None:
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for step in plan.steps[:SHOWN]:
        name = f" {step.package.sip_filename}" if step.package else ""
        say(f"{step.fate.value:<11}  {step.object_id}{name}: {step.state}: {step.what}")
    if len(plan.steps) > SHOWN:
        say(f"… and {len(plan.steps) - SHOWN} more, which --json lists")
    counts = Counter(step.fate for step in plan.steps)
    say(", ".join(f"{counts[fate]} {fate.value}" for fate in Fate) + f"; {len(plan.enqueue)} to be enqueued here")
    if plan.enqueue:
        ids = ", ".join(map(str, plan.enqueue[:SHOWN]))
        more = "" if len(plan.enqueue) <= SHOWN else f" and {len(plan.enqueue) - SHOWN} more, which --json lists"
        say(f"to be enqueued here afterwards (job enqueue_objects, object_ids): {ids}{more}")
    if queues is not None and queues.jobs:
        jobs = Counter((job.step, job.state) for job in queues.jobs)
        say("in its queues: " + ", ".join(f"{count} {step} {state}" for (step, state), count in jobs.items()))
    for note in plan.notes:
        say(f"note: {note}")
    for obstacle in plan.obstacles:
        say(f"in the way: {obstacle}")


def _as_json(plan: Plan, queues: OldQueues | None, *, done: bool, failure: str | None) -> dict[str, object]:
    return {
        "packages": [
            {
                "object_id": step.object_id,
                "sip_filename": step.package.sip_filename if step.package else None,
                "state": step.state,
                "fate": step.fate.value,
                "what": step.what,
                "changes": step.deed != "nothing",
            }
            for step in plan.steps
        ],
        "enqueue": plan.enqueue,
        "jobs": [asdict(job) for job in queues.jobs] if queues is not None else None,
        "notes": plan.notes,
        "obstacles": plan.obstacles,
        "done": done,
        "failure": failure,
    }
