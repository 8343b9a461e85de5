"""Objects whose package was in the middle of passari-workflow when it was stopped: what becomes of them.

Its revision of the database is taken over before (`alembic/`), which calls all that may be with the DPS sent. What the
rows do not tell, the DPS, the files and passari-workflow's queues do:

| the row | besides | what becomes of it |
|---|---|---|
| downloaded | | start again: what it downloaded cannot be told to be whole |
| downloaded, and not its object's latest | | nothing: a double launch left it, and nobody looks at it |
| packaged | the DPS has it (transfer, accepted, rejected) | wait |
| packaged | the DPS has `.incomplete` only: never renamed | start again; the part is removed |
| packaged | the DPS shows nothing, and its `submit_sip` waits and was never tried | start again |
| packaged | the DPS shows nothing, else | wait: it may be at work on it; `cancel --resend` is for a person |
| uploaded | | wait |
| accepted, not confirmed | the DPS has the report | finish: the sensor has it confirmed |
| accepted or rejected | a directory with its `.status`: `confirm_sip` did not end | finish, likewise |
| either of these | the DPS has the report no longer | finish: what there is is archived, MuseumPlus is not told |
| cancelled, and it was packaged | the DPS has it | wait: it counts as sent again |
| cancelled, and it was packaged | the DPS has `.incomplete` only | clear up: the part is removed |
| cancelled, accepted, rejected, or none | a directory | clear up: its logs are archived, it is removed |
| none, or one at rest | a job in its queues | to be enqueued here |
| frozen, or else | | nothing |

Start again: logs are archived, the package is cancelled, its directory removed; the object may be enqueued, and is
downloaded anew. Wait, and finish: our sensor finds the verdict, and the confirmation archives what the directory has.
This module only looks; `adopt` does it.
"""

from __future__ import annotations

import enum
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from passari_dagster.catalogue import adoption
from passari_dagster.catalogue.adoption import Adopted, Standing
from passari_dagster.dps import Dps, Place, Waiting
from passari_dagster.errors import PermanentFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.museum_toolkit import objid
from passari_dagster.workflow.old_queues import OldQueues

WITH_THE_DPS = (Place.TRANSFER, Place.ACCEPTED, Place.REJECTED)
JUDGED = (Place.ACCEPTED, Place.REJECTED)
SHOWN = 5
"""Ids that are told of many."""
LATELY = timedelta(minutes=75)
"""Its `sync-processed-sips` runs every hour: one that ran since may run again."""


class Fate(enum.Enum):
    """What becomes of an object."""

    FINISH = "finish"
    WAIT = "wait"
    START_AGAIN = "start again"
    CLEAR_UP = "clear up"


Deed = Literal["nothing", "cancel", "watch", "confirm", "close", "clear"]
"""What is done: the package is cancelled and its files removed; it counts as sent; its verdict is looked for again; it
is archived and counts as confirmed; its files are archived and removed."""


@dataclass(frozen=True)
class Step:
    """What becomes of one package, or of a directory without one.

    Arguments:
        state: how passari-workflow left it.
        what: what will happen.
        deed: what `adopt.carry_out` does.
    """

    object_id: int
    package: Adopted | None
    fate: Fate
    state: str
    what: str
    deed: Deed


@dataclass(frozen=True)
class Plan:
    """What becomes of all of them.

    Arguments:
        steps: by object.
        enqueue: objects to be enqueued here: those that start again, and those that waited in its queues.
        obstacles: why it cannot be carried out now, and what to do.
        notes: what else an administrator should know.
    """

    steps: tuple[Step, ...]
    enqueue: tuple[int, ...]
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]


def make_plan(
    env: Environment, queues: OldQueues | None, *, stopped: bool = False, without_directories: bool = False
) -> Plan:
    """Look at everything; nothing is changed.

    Arguments:
        queues: what passari-workflow's Redis tells; None: it is gone.
        stopped: all its processes are stopped, whatever Redis says.
        without_directories: packages whose directory is not in `package_dir` are taken over all the same.

    Raises:
        PermanentFailure: `package_dir` is not there.
        PassariError: the DPS cannot be asked.
    """
    directories = _directories(env.settings.package_dir)
    with env.transaction() as session:
        rows = adoption.in_the_middle(session, directories)
    with Dps(env.settings.dps) as dps:
        asked = [
            row for row in rows if row.packaged and not row.judged and not (row.rest == "cancelled" and row.watched)
        ]
        places = dps.places([Waiting(row.sip_filename, objid(row.object_id), row.created) for row in asked])
    steps = []
    for row in rows:
        workspace = Workspace(env.settings.package_dir, row.object_id)
        has_directory = row.latest and row.object_id in directories
        place = places.get(row.sip_filename, Place.NOWHERE)
        if step := _decide(row, place, queues, workspace if has_directory else None):
            steps.append(step)
    jobs = {job.object_id for job in queues.jobs if job.step != "confirm_sip"} if queues else set()
    with env.transaction() as session:
        standings = adoption.standings(session, jobs | directories | {step.object_id for step in steps})
    steps += _directories_alone(env.settings.package_dir, directories, standings)
    missing = [row.object_id for row in rows if row.rest is None and row.latest and row.object_id not in directories]
    return Plan(
        steps=tuple(sorted(steps, key=lambda step: (step.object_id, step.package.package_id if step.package else 0))),
        enqueue=_to_enqueue(steps, jobs, queues, standings),
        obstacles=(
            *_at_work(queues, stopped),
            *_missing(env, [] if without_directories else missing),
            *_archive_closed(env.settings.archive_dir),
        ),
        notes=tuple(_notes(env, queues, directories - standings.keys())),
    )


def _directories(package_dir: Path) -> set[int]:
    try:
        return {int(path.name) for path in package_dir.iterdir() if path.name.isdecimal() and path.is_dir()}
    except OSError as error:
        raise PermanentFailure(
            f"package_dir {package_dir} cannot be read: {error.strerror}. It should be the one that passari-workflow "
            "had: mount it, or correct the setting"
        ) from error


def _decide(row: Adopted, place: Place, queues: OldQueues | None, workspace: Workspace | None) -> Step | None:
    """The table of this module; `workspace` is None where there is no directory that is this package's."""
    if row.rest is None and not row.packaged:
        again = "its logs are archived, and it is downloaded anew when it is enqueued"
        return _step(row, Fate.START_AGAIN, "downloaded", again, "cancel") if row.latest else None
    if row.rest is None:
        return _decide_packaged(row, place, queues)
    if row.rest == "cancelled":
        if not row.watched and place in WITH_THE_DPS:
            return _step(
                row, Fate.WAIT, f"cancelled, but with the DPS ({place.value})", "it counts as sent again", "watch"
            )
        if not row.watched and place is Place.INCOMPLETE:
            return _step(row, Fate.CLEAR_UP, "cancelled, but with the DPS in part", "the part is removed", "clear")
        if workspace is not None:
            return _step(row, Fate.CLEAR_UP, "cancelled", "its logs are archived, its directory is removed", "clear")
        return None
    if row.confirmed and workspace is None:
        return None
    if row.confirmed and not (workspace and workspace.tar(f"{row.sip_filename}.status").is_file()):
        return _step(
            row, Fate.CLEAR_UP, f"{row.rest}; a directory is left", "logs in it are archived, it is removed", "clear"
        )
    state = f"{row.rest}, not confirmed"
    if row.judged or place in JUDGED:
        deed: Deed = "confirm" if row.confirmed or not row.watched else "nothing"
        return _step(row, Fate.FINISH, state, "the sensor finds the verdict again, and has it confirmed", deed)
    gone = "the DPS has its report no longer: what there is is archived, MuseumPlus is not told"
    return _step(row, Fate.FINISH, state, gone, "close")


def _step(row: Adopted, fate: Fate, state: str, what: str, deed: Deed) -> Step:
    return Step(row.object_id, row, fate, state, what, deed)


def _decide_packaged(row: Adopted, place: Place, queues: OldQueues | None) -> Step:
    # Not watched: a worker that was forgotten made it when the database was ours already.
    wait: Deed = "nothing" if row.watched else "watch"
    if row.judged:
        return _step(row, Fate.FINISH, "the DPS has spoken", "it is being confirmed here", "nothing")
    if row.uploaded or place in WITH_THE_DPS:
        state = "uploaded" if row.uploaded else "packaged, and sent"
        when = f"the sensor confirms it when the DPS has spoken (now: {place.value})"
        return _step(row, Fate.WAIT, state, when, wait)
    if place is Place.INCOMPLETE:
        again = "the part is removed, and it is downloaded anew when it is enqueued"
        return _step(row, Fate.START_AGAIN, "packaged, and sent in part", again, "cancel")
    if never_sent(row, queues):
        again = "its submit_sip was never tried: it is downloaded anew when it is enqueued"
        return _step(row, Fate.START_AGAIN, "packaged, not sent", again, "cancel")
    lost = "it is watched. If the DPS says that it never got it: passari-dagster cancel --resend"
    return _step(row, Fate.WAIT, "packaged, perhaps sent", lost, wait)


def never_sent(row: Adopted, queues: OldQueues | None) -> bool:
    """Of a package that the DPS does not show: whether the queue proves that nobody has begun to send it."""
    return row.latest and queues is not None and queues.never_tried(row.object_id, "submit_sip")


def _directories_alone(package_dir: Path, directories: Collection[int], standings: dict[int, Standing]) -> list[Step]:
    steps = []
    for object_id in directories & standings.keys():
        if not standings[object_id].has_package:
            logs = Workspace(package_dir, object_id).logs
            if logs.is_dir() and any(logs.iterdir()):
                continue  # of no package that is known: there is nowhere to archive them
            steps.append(
                Step(object_id, None, Fate.CLEAR_UP, "an unfinished download", "its directory is removed", "clear")
            )
    return steps


def _to_enqueue(
    steps: Iterable[Step], jobs: Collection[int], queues: OldQueues | None, standings: dict[int, Standing]
) -> tuple[int, ...]:
    again = {step.object_id for step in steps if step.fate is Fate.START_AGAIN}
    downloads = {job.object_id for job in queues.jobs if job.step == "download_object"} if queues else set()
    waiting = {
        object_id
        for object_id in jobs
        if (stands := standings.get(object_id)) is not None
        and not stands.ours
        and not stands.open
        and (stands.cancelled or not stands.has_package or object_id in downloads)
    }
    return tuple(sorted(id_ for id_ in again | waiting if not standings[id_].frozen))


def _at_work(queues: OldQueues | None, stopped: bool) -> Iterable[str]:
    if queues is None or stopped:
        return
    stop = "stop all its workers, cron jobs and timers, and its web interface"
    if queues.workers:
        yield (
            f"passari-workflow's workers are alive: {', '.join(queues.workers)}. Stop them; one that was killed is "
            "forgotten after seven minutes, or say --stopped"
        )
    started = [job for job in queues.jobs if job.state == "started"]
    if started and not queues.workers:
        yield (
            f"passari-workflow has begun {_some(f'{job.step} of {job.object_id}' for job in started)}, and may be at "
            f"work on it still: {stop}, look that no process of it runs, and say --stopped"
        )
    if queues.at_work:
        yield (
            f"passari-workflow enqueues, freezes or resets objects at this moment: {stop}. The mark of a command that "
            "was killed vanishes after a quarter of an hour; or say --stopped"
        )


def _missing(env: Environment, missing: list[int]) -> Iterable[str]:
    if missing:
        yield (
            f"{len(missing)} packages have no directory in package_dir {env.settings.package_dir}, those of objects "
            f"{_some(missing)}: is it the one that passari-workflow had? If they are lost, say --without-directories: "
            "their logs are then not archived"
        )


def _archive_closed(archive_dir: Path) -> Iterable[str]:
    try:
        with tempfile.TemporaryFile(dir=archive_dir):
            return
    except OSError as error:
        yield f"archive_dir {archive_dir} cannot be written: {error.strerror}. Mount it, or make it writable"


def _notes(env: Environment, queues: OldQueues | None, unknown: Collection[int]) -> Iterable[str]:
    if unknown:
        yield (
            f"{env.settings.package_dir} has directories of objects that the database does not know, {_some(unknown)}: "
            "they are left"
        )
    if queues is None:
        return
    if not queues.known:
        yield "there is no trace of passari-workflow in this Redis. Had it another one? Name it by --redis"
    if queues.requests:
        yield f"{queues.requests} requests to enqueue a number of objects wait in its queue: they are not taken over"
    if queues.locked and not queues.workers:
        yield f"its locks on objects {_some(queues.locked)} were left by killed jobs: they matter to nobody here"
    for name, moment in sorted(queues.ran.items()):
        if env.now() - moment < LATELY:
            yield f"its {name.replace('_', '-')} ran at {moment:%Y-%m-%d %H:%M} UTC: see that its timer is stopped"


def _some(of: Iterable[object]) -> str:
    told = [str(item) for item in (sorted(of) if isinstance(of, (set, frozenset)) else of)]
    return ", ".join(told[:SHOWN]) + (f" and {len(told) - SHOWN} more" if len(told) > SHOWN else "")
