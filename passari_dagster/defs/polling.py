"""The job `poll_dps`, and the launch of confirmations, which is also the sensor's."""

from collections.abc import Callable

import dagster as dg
from pydantic import Field

from passari_dagster import locks
from passari_dagster.defs import keys, launch
from passari_dagster.defs.bulk import told_once
from passari_dagster.run_queue.dagster_internals import RemoteRepositoryOrigin
from passari_dagster.workflow import poll
from passari_dagster.workflow.bulk import SAMPLE
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.shown import in_markdown

CONFIRM_WAIT = 10.0
"""Seconds that confirmations wait for an enqueue to end; then they come with the next look."""
POLL_WAIT = 120.0
"""Seconds that a person's look waits for the sensor's to end."""


def launch_confirmations(
    env: Environment,
    instance: dg.DagsterInstance,
    repository: Callable[[], RemoteRepositoryOrigin],
    warn: Log,
    *,
    launched_by: str | None = None,
) -> str:
    """Launch the confirmations that are due; tells how many. To be called under the lock of the poll.

    Arguments:
        repository: where the job is.
        warn: told what has to wait.
        launched_by: sensor that the UI names as the launcher; None: a person.
    """
    due = poll.due_confirmations(env)
    busy = launch.in_flight(instance, set(due.values())) if due else set()
    due = {package_id: object_id for package_id, object_id in due.items() if object_id not in busy}
    object_ids = sorted(set(due.values()))
    if not object_ids:
        return "0 confirmations launched"
    try:
        with env.lock(locks.WORKFLOW, wait=CONFIRM_WAIT):
            fitting = set(keys.make_room(env, instance, object_ids))
            poll.confirmations_launched(env, [id_ for id_, object_id in due.items() if object_id in fitting])
            if fitting:
                launch.backfill(
                    instance,
                    repository(),
                    sorted(fitting),
                    title=f"confirm {len(fitting)} packages",
                    launched_by=launched_by,
                    steps=launch.CONFIRMATION,
                )
    except locks.LockBusyError:
        return f"{len(object_ids)} confirmations wait: objects are being enqueued"
    told = f"{len(fitting)} confirmations launched"
    if left := len(object_ids) - len(fitting):
        told += f", {left} wait for room under the cap on partition keys"
        warn(told)
    return told


def look(
    env: Environment,
    instance: dg.DagsterInstance,
    repository: Callable[[], RemoteRepositoryOrigin],
    log: Log,
    warn: Log,
    *,
    days: int,
) -> tuple[poll.Look, str]:
    """A person's look at the DPS: what it found, and what is told of the confirmations.

    Raises:
        TransientFailure: the DPS could not be asked, or the sensor is at it. What is known already is confirmed.
    """
    with env.lock(locks.POLL, wait=POLL_WAIT):
        try:
            found = poll.look_back(env, log, days=days)
        finally:
            told = launch_confirmations(env, instance, repository, warn)
    return found, told


class PollConfig(dg.Config):
    """How far to look back."""

    days: int = Field(
        default=31, gt=0, le=poll.MAX_DAYS, description="look for verdicts that the DPS gave in the last so many days"
    )


@dg.op(name="poll", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def poll_op(context: dg.OpExecutionContext, config: PollConfig) -> None:
    """Ask the DPS for its verdicts on all packages that wait for one, record them, and have them confirmed."""
    env: Environment = context.resources.environment
    with told_once():
        found, confirmations = look(
            env,
            context.instance,
            lambda: launch.repository_of_run(context.run),
            context.log.info,
            context.log.warning,
            days=config.days,
        )
    context.log.info(f"{found.waiting} packages waited, {found.news} verdicts are news; {confirmations}")
    context.add_output_metadata(
        {
            "waiting": found.waiting,
            "accepted": found.count("accepted"),
            "rejected": found.count("rejected"),
            "confirmations": confirmations,
            "verdicts": dg.MetadataValue.md(markdown(found)),
        }
    )


def markdown(found: poll.Look) -> str:
    """A table for the UI."""
    news = [verdict for verdict in found.found if verdict.news]
    lines = [
        f"{found.waiting} packages waited for a verdict, of {len(news)} there is one now",
        "",
        "| object | package | verdict | reported |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {one.object_id} | {in_markdown(one.sip_filename)} | {one.status} | {one.reported:%Y-%m-%d %H:%M} UTC |"
        for one in news[:SAMPLE]
    ]
    return "\n".join([*lines, *([f"\n… and {len(news) - SAMPLE} more"] if len(news) > SAMPLE else [])])


@dg.job
def poll_dps() -> None:
    """Look at the DPS now, as the sensor processed_sips does by itself, but at all that waits."""
    poll_op()
