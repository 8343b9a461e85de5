"""Having rejected objects packaged and sent once more, though they have not changed. Launching them is Dagster's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from passari_dagster import locks
from passari_dagster.catalogue import eligibility, freezing, packages
from passari_dagster.errors import PassariError
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import audit, enqueue, journal
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.environment import Environment, Log

ACTION = "reenqueue_objects"
REENQUEUED = "re-enqueued"


@dataclass
class Reenqueued:
    """What was, or would be, done.

    Arguments:
        tally: of all objects.
        ids: those to launch.
    """

    tally: Tally
    ids: list[int] = field(default_factory=list)


class _RefusedError(PassariError):
    """Nothing is done to the object; the message says why."""


def reenqueue(
    env: Environment,
    actor: Actor,
    object_ids: Sequence[int],
    *,
    reason: str,
    in_flight: Collection[int],
    log: Log,
    dry_run: bool = False,
    sample: int | None = 20,
) -> Reenqueued:
    """Make objects eligible whose latest package was rejected. That package counts no more; its row, logs and reports
    stay. To be called under the workflow lock.

    Each object is a transaction of its own, under its lock; those that are refused do not keep the others.

    Arguments:
        reason: why, for the audit log.
        in_flight: objects with a run that is queued or live, or soon will be.
        dry_run: only find out what would be done.
        sample: how many objects of each outcome are told by id; None: all.

    Raises:
        PermanentFailure: there is no reason.
    """
    deed = Deed(env.now, actor, ACTION, audit.require_reason(reason))
    answer = Reenqueued(Tally(dry_run=dry_run, sample=sample))
    for object_id in dict.fromkeys(object_ids):
        try:
            if object_id in in_flight:
                raise _RefusedError("a run of it is queued or live")
            with env.lock(locks.object_lock(object_id), wait=0):
                if not dry_run:
                    journal.recover(env, object_id, log)
                told = _one(env, deed, object_id, dry_run=dry_run)
            answer.tally.add(object_id, REENQUEUED, told)
            answer.ids.append(object_id)
            continue
        except locks.LockBusyError:
            why = "its lock is held: a run of it executes, or was killed a moment ago"
        except (PassariError, OSError) as error:
            why = str(error)
        answer.tally.add(object_id, REFUSED, why)
        if not dry_run:  # a preview tells all of them itself
            log(f"object {object_id}: {REFUSED} ({why})")
    return answer


def _one(env: Environment, deed: Deed, object_id: int, *, dry_run: bool) -> str:
    """Answers what is told of it."""
    with env.transaction() as session:
        row = packages.object_row(session, object_id, lock=True)
        if dry_run:
            savepoint = session.begin_nested()
            journal.restore(env, session, object_id)
        package = packages.latest(session, object_id)
        if package is None or package.rest != "rejected":
            told = (
                "it has none" if package is None else f"{package.sip_filename} is {package.rest or 'in the workflow'}"
            )
            raise _RefusedError(f"its latest package was not rejected: {told}")
        freezing.drop_latest_packages(session, [object_id])
        session.expire(row)
        if why := eligibility.why_not(session, object_id, now=env.now(), delays=env.delays):
            raise _RefusedError(f"it would not be eligible: {why}")
        told = f"{package.sip_filename} was rejected, and counts no more"
        if Workspace(env.settings.package_dir, object_id).root.exists():
            told += "; what is left of its files is deleted"
        if dry_run:
            savepoint.rollback()
        else:
            deed.record(session, [object_id])
            _clear_up(env, object_id, package.sip_filename)
    return told


def would_enqueue(
    env: Environment, object_ids: Sequence[int], *, in_flight: Collection[int], registered: Collection[int]
) -> enqueue.Chosen:
    """Which of these objects would be enqueued once they are eligible, and why others would not. Nothing is changed.

    Arguments:
        object_ids: those that `reenqueue` would make eligible.
        in_flight, registered: as `enqueue.choose` has them.
    """

    def change(session: Session) -> None:
        freezing.drop_latest_packages(session, object_ids)

    return enqueue.choose_after(env, change, object_ids, in_flight=in_flight, registered=registered)


def _clear_up(env: Environment, object_id: int, sip_filename: str) -> None:
    """What a confirmation that was killed at its very end left here."""
    workspace = Workspace(env.settings.package_dir, object_id)
    if workspace.root.exists():
        workspace.archive_logs(env.settings.archive_dir, sip_filename)
        workspace.delete()


def earlier(env: Environment, run_ids: Collection[str], *, limit: int) -> list[int]:
    """Objects that these runs of the job have made eligible: one that was killed then, and is started again."""
    with env.transaction() as session:
        return audit.objects_of_runs(session, ACTION, run_ids, limit=limit)
