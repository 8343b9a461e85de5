"""Emptying the workflow after an older backup of the museum database was restored.

What was begun and not sent is given up, and its objects may be enqueued again. What the DPS has is never given up: the
archive's records and the DPS itself are asked first. Whether runs are queued or live is Dagster's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passari_dagster import locks
from passari_dagster.catalogue import packages
from passari_dagster.catalogue.eligibility import why_not
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.catalogue.recovery import Restored
from passari_dagster.dps import Dps, DpsUnreachableError, Place, Waiting
from passari_dagster.errors import PassariError, PermanentFailure
from passari_dagster.sip.workspace import Workspace, objects_with_files
from passari_dagster.workflow import audit, journal
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.cancel import remove_what_was_cut, would_remove
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.museum_toolkit import objid
from passari_dagster.workflow.recover import RECOVERED

ACTION = "reset_workflow"
CANCELLED = "cancelled"
KEPT = "with the DPS, kept"
UNSURE = "perhaps with the DPS, kept"
CLEARED = "files deleted"
BATCH = 500
"""Packages of one look at the DPS."""
NAMED = 20
"""Runs that a refusal names."""


def refuse_while_busy(runs: int, first: Sequence[str], waiting: int) -> None:
    """The workflow is reset only while nothing is in it.

    Arguments:
        runs: how many runs are queued or live.
        first: ids of some.
        waiting: how many objects a backfill is about to launch.

    Raises:
        PermanentFailure: something is.
    """
    if runs:
        more = f", and {runs - len(first)} more" if runs > len(first) else ""
        raise PermanentFailure(
            f"{runs} runs of preserve_object are queued or live: {', '.join(first)}{more}. Let them end, or cancel "
            "them, and reset the workflow then"
        )
    if waiting:
        raise PermanentFailure(f"a backfill is about to launch {waiting} objects: let it end, or cancel it")


@dataclass
class _Reset:
    """One call."""

    env: Environment
    deed: Deed
    perform: bool
    log: Log
    dps: Dps

    def one(self, object_id: int, package_id: int, place: Place) -> tuple[str, str]:
        """What becomes of a package; answers outcome and detail."""
        with self.env.lock(locks.object_lock(object_id), wait=self.env.settings.workflow.lock_expiry + 1):
            with self.env.transaction() as session:
                savepoint = session.begin_nested()
                journal.restore(self.env, session, object_id)
                session.flush()
                package = packages.by_number(session, package_id)
                if self.perform:
                    savepoint.commit()
                else:
                    savepoint.rollback()
            if not package.open:
                return KEPT if package.rest != "cancelled" else CANCELLED, f"{package.sip_filename} is {package.rest}"
            if package.uploaded or package.verdict is not None:
                return KEPT, f"{package.sip_filename}: its verdict is watched"
            removed, place = self._look(package, place)
            if place is not Place.NOWHERE:
                return self._keep(package, place)
            if package.intended and not removed:
                return UNSURE, (
                    f"{package.sip_filename} was sent at {package.submission_date:%Y-%m-%d %H:%M}, and is watched; if "
                    f"the DPS says that it has it not: passari-dagster cancel --resend {object_id}"
                )
            return self._give_up(package)

    def _look(self, package: PackageFacts, place: Place) -> tuple[bool, Place]:
        """Whether a part of the package was removed, or would be, and where the package is then."""
        if place not in (Place.NOWHERE, Place.INCOMPLETE):
            return False, place
        return (remove_what_was_cut if self.perform else would_remove)(self.dps, package)

    def _keep(self, package: PackageFacts, place: Place) -> tuple[str, str]:
        """The DPS has it, whatever the database says: from now on its verdict is watched."""
        if self.perform:
            with self.env.transaction() as session:
                packages.mark_uploaded(session, package.package_id, now=self.env.now())
                self.deed.record(session, [package.object_id])
            journal.write(self.env, package.package_id)
        return KEPT, f"{package.sip_filename} is with the DPS ({place.value}): its verdict is watched"

    def _give_up(self, package: PackageFacts) -> tuple[str, str]:
        with self.env.transaction() as session:
            savepoint = session.begin_nested()
            packages.cancel(session, package.package_id)
            session.flush()
            why = why_not(session, package.object_id, now=self.env.now(), delays=self.env.delays)
            if self.perform:
                savepoint.commit()
                self.deed.record(session, [package.object_id])
            else:
                savepoint.rollback()
        if self.perform:
            journal.forget(self.env, package.object_id, package.sip_filename)
            self._delete_files(package.object_id, package.sip_filename)
        return CANCELLED, f"{package.sip_filename}; " + (f"not eligible: {why}" if why else "eligible again")

    def _delete_files(self, object_id: int, sip_filename: str) -> None:
        workspace = Workspace(self.env.settings.package_dir, object_id)
        if workspace.root.exists():
            workspace.archive_logs(self.env.settings.archive_dir, sip_filename)
            workspace.delete()

    def leftover(self, object_id: int) -> tuple[str, str] | None:
        """Files of an object that has no package in the workflow: begun after the backup, or left by who was killed."""
        with self.env.lock(locks.object_lock(object_id), wait=self.env.settings.workflow.lock_expiry + 1):
            with self.env.transaction() as session:
                package = packages.latest(session, object_id)
            if package is not None and package.open:
                return None
            name = (
                package.sip_filename if package is not None else f"{self.env.now():%Y%m%d}_Object_{object_id}-lost.tar"
            )
            if self.perform:
                with self.env.transaction() as session:
                    self.deed.record(session, [object_id])  # before: of what is deleted nothing else tells
                if package is not None and package.rest == "cancelled":
                    journal.forget(self.env, object_id, name)
                self._delete_files(object_id, name)
            return CLEARED, f"it has no package in the workflow; its logs are archived with {name}"


def reset(
    env: Environment,
    actor: Actor,
    *,
    reason: str,
    log: Log,
    perform: bool = False,
    sample: int | None = 20,
) -> Tally:
    """Give up what was begun and not sent, after what was lost is put back from the archive and the DPS was asked.

    To be called under the workflow lock, after `refuse_while_busy`. Each object is a transaction of its own, under its
    lock. Safe to repeat: whoever was killed in between calls it again.

    Arguments:
        reason: why, for the audit log.
        perform: do it; otherwise it is only found out what would be done. The DPS is asked, too.
        sample: how many objects of each outcome the answer tells by id; None: all.

    Raises:
        PermanentFailure: there is no reason, or the archive's records could not all be put back: then nothing is given
            up.
        TransientFailure: the archive or the DPS could not be asked.
    """
    deed = Deed(env.now, actor, ACTION, audit.require_reason(reason))
    tally = Tally(dry_run=not perform, sample=sample)
    # What comes back counts as sent, and is watched: nothing else is done to those objects.
    done = _recover(env, deed, tally, log, perform=perform)
    with Dps(env.settings.dps) as dps:
        call = _Reset(env, deed, perform, log, dps)
        after = 0
        while True:
            with env.transaction() as session:
                batch = packages.not_sent(session, after=after, limit=BATCH)
            if not batch:
                break
            after = batch[-1].package_id
            look = [Waiting(one.sip_filename, objid(one.object_id), one.created) for one in batch]
            places = dps.places(look)
            for one in batch:
                if one.object_id in done:
                    continue
                done.add(one.object_id)
                try:
                    outcome, detail = call.one(one.object_id, one.package_id, places[one.sip_filename])
                except (DpsUnreachableError, locks.LockLostError):
                    raise  # it would be the same for all others
                except (PassariError, OSError) as error:
                    outcome, detail = REFUSED, str(error)
                tally.add(one.object_id, outcome, detail)
                log(_line(one.object_id, outcome, detail, perform=perform))
        for object_id in objects_with_files(env.settings.package_dir):
            if object_id in done:
                continue
            try:
                cleared = call.leftover(object_id)
            except (PassariError, OSError) as error:
                cleared = REFUSED, str(error)
            if cleared is not None:
                tally.add(object_id, *cleared)
                log(_line(object_id, *cleared, perform=perform))
    return tally


def _line(object_id: int, outcome: str, detail: str, *, perform: bool) -> str:
    return f"object {object_id}: {'' if perform else 'would be: '}{outcome} ({detail})"


def _recover(env: Environment, deed: Deed, tally: Tally, log: Log, *, perform: bool) -> set[int]:
    """What was sent and lost comes back first, so that it is not given up; answers the objects."""
    recovered: set[int] = set()

    def told(object_id: int, restored: Restored) -> None:
        recovered.add(object_id)
        tally.add(object_id, RECOVERED, str(restored))
        log(_line(object_id, RECOVERED, str(restored), perform=perform))

    try:
        if perform:
            journal.recover_all(env, log, deed, told)
        else:
            for object_id, restored in journal.would_recover_all(env):
                told(object_id, restored)
    except OSError as error:
        raise PermanentFailure(f"the archive cannot be read: {error}") from error
    return recovered
