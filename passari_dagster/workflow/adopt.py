"""Doing what the plan says of the objects that were in the middle of passari-workflow. The plan is `adoption_plan`'s.

An object is looked at once more under its lock: meanwhile the DPS, or a run of ours, may have gone on with it. Logs are
archived before the commit, and directories removed after it: whoever is killed between finds a package at rest with
a directory, which the next plan clears up.
"""

from __future__ import annotations

from passari_dagster import locks
from passari_dagster.catalogue import adoption, packages
from passari_dagster.catalogue.adoption import Adopted
from passari_dagster.dps import Dps, Place
from passari_dagster.errors import PermanentFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow.adoption_plan import JUDGED, WITH_THE_DPS, Plan, Step, never_sent
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.museum_toolkit import objid
from passari_dagster.workflow.old_queues import OldQueues

ACTION = "adopt"
CHANGED = "has gone on meanwhile: nothing is done"


def carry_out(env: Environment, actor: Actor, plan: Plan, queues: OldQueues | None, log: Log) -> None:
    """Do what the plan says. May be repeated after a crash at any point.

    Arguments:
        actor: who does it, for the audit log.
        plan: without obstacles.
        log: is told what was done, or found otherwise than planned.

    Raises:
        LockBusyError: another process is at it.
        PermanentFailure: there are obstacles; the archive or the directories cannot be written: nothing was changed of
            the object that is named; or some objects were busy: they are named in the log, and all others are done.
        PassariError: the DPS cannot be asked.
    """
    if plan.obstacles:
        raise PermanentFailure("; ".join(plan.obstacles))
    deed = Deed(env.now, actor, ACTION)
    todo = [step for step in plan.steps if step.deed != "nothing"]
    busy = 0
    with env.lock(locks.ADOPTION, wait=0), Dps(env.settings.dps) as dps:
        for done, step in enumerate(todo):
            try:
                # A run of ours that was just killed has its object's lock for a while yet.
                with env.lock(locks.object_lock(step.object_id), wait=env.settings.workflow.lock_expiry + 1):
                    log(f"object {step.object_id}: {_do(env, deed, dps, step, queues)}")
            except locks.LockBusyError as failure:
                log(f"object {step.object_id} is left: {failure}")
                busy += 1
            except OSError as error:
                raise PermanentFailure(
                    f"object {step.object_id}: {error.filename or env.settings.archive_dir} cannot be written: "
                    f"{error.strerror or error}. {done} of {len(todo)} are done. See to it, and run the command again"
                ) from error
    if busy:
        raise PermanentFailure(f"{busy} of {len(todo)} objects are left, since a run has them; run the command again")


def _do(env: Environment, deed: Deed, dps: Dps, step: Step, queues: OldQueues | None) -> str:
    workspace = Workspace(env.settings.package_dir, step.object_id)
    if step.package is None:
        return _clear_without_package(env, deed, step.object_id, workspace)
    with env.transaction() as session:
        package = adoption.again(session, step.package.package_id)
    if package is None or package.rest != step.package.rest or package.judged:
        return CHANGED
    if step.deed == "cancel":
        return _cancel(env, deed, dps, package, workspace, queues)
    if step.deed == "clear":
        with env.transaction() as session:
            deed.record(session, [package.object_id])
        if not package.watched and package.packaged:
            dps.remove_incomplete(package.sip_filename)
        return _archive_and_delete(env, package, workspace, "is cleared up")
    place = _place(dps, package)
    if step.deed == "watch":
        if package.watched or (package.rest == "cancelled" and place not in WITH_THE_DPS):
            return CHANGED
        with env.transaction() as session:
            adoption.watch(session, package.package_id)
            deed.record(session, [package.object_id])
        return f"{package.sip_filename} is watched"
    if place in JUDGED:
        with env.transaction() as session:
            adoption.confirm_again(session, package.package_id)
            deed.record(session, [package.object_id])
        return f"{package.sip_filename} is confirmed at one of the sensor's next looks"
    workspace.archive_logs(env.settings.archive_dir, package.sip_filename)
    if not package.confirmed:
        with env.transaction() as session:
            packages.mark_confirmed(session, package.package_id, now=env.now())
            deed.record(session, [package.object_id])
    return _archive_and_delete(env, package, workspace, f"was {package.rest}, and is archived")


def _cancel(
    env: Environment, deed: Deed, dps: Dps, package: Adopted, workspace: Workspace, queues: OldQueues | None
) -> str:
    name = package.sip_filename
    if package.packaged:
        # First: until there is nothing left to rename, a rename that was cut short may still be carried out.
        removed = dps.remove_incomplete(name)
        place = _place(dps, package)
        if place is not Place.NOWHERE or not (removed or never_sent(package, queues)):
            return f"{name} may be with the DPS after all ({place.value}): its verdict is waited for"
    if package.latest:
        workspace.archive_logs(env.settings.archive_dir, name)
    with env.transaction() as session:
        packages.cancel(session, package.package_id)
        deed.record(session, [package.object_id])
    return _archive_and_delete(env, package, workspace, "is cancelled; the object may be enqueued")


def _archive_and_delete(env: Environment, package: Adopted, workspace: Workspace, said: str) -> str:
    """What is in the directory is the latest package's; that of an older one is gone."""
    if package.latest:
        workspace.archive_logs(env.settings.archive_dir, package.sip_filename)
        workspace.delete()
    return f"{package.sip_filename} {said}"


def _clear_without_package(env: Environment, deed: Deed, object_id: int, workspace: Workspace) -> str:
    with env.transaction() as session:
        if adoption.standings(session, [object_id])[object_id].has_package:
            return CHANGED
        deed.record(session, [object_id])
    workspace.delete()
    return "an unfinished download is removed"


def _place(dps: Dps, package: Adopted) -> Place:
    return dps.find(package.sip_filename, objid(package.object_id), package.created).place
