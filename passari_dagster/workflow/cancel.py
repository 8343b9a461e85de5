"""Taking an object's package out of the workflow by hand: the way out of what nobody else can decide."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from passari_dagster import locks
from passari_dagster.catalogue import packages
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps, Place
from passari_dagster.errors import PassariError, PermanentFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import audit, journal
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.museum_toolkit import objid

ACTION = "cancel"
CANCELLED = "cancelled"


@dataclass
class _Cancel:
    """One call."""

    env: Environment
    resend: bool
    deed: Deed | None
    log: Log
    dps: Dps

    def act(self, object_id: int) -> str:
        """Cancel the object's open package, under the object's lock; answers what is told of it.

        Raises:
            PassariError, OSError: nothing is done, or only a part; the message says why.
        """
        if restored := journal.recover(self.env, object_id, self.log):
            # Not what the caller thinks of: they looked at what the database said before.
            raise PermanentFailure(_lost(restored.names[-1]))
        with self.env.transaction() as session:
            latest = packages.latest(session, object_id)
        if latest is not None and latest.rest == "cancelled":
            journal.forget(self.env, object_id, latest.sip_filename)  # killed before it did, perhaps
        package = _open(object_id, latest)
        told = self._is_not_the_dps(package, dry_run=False) + self._told_of_files(object_id)
        with self.env.transaction() as session:
            packages.cancel(session, package.package_id)
            if self.deed is not None:
                self.deed.record(session, [object_id])
        self._clear_up(object_id, package.sip_filename)
        return told

    def preview(self, object_id: int) -> str:
        """What `act` would tell. What lies half sent at the DPS stays, and may hide what is seen without it."""
        with self.env.undone() as session:
            restored = journal.restore(self.env, session, object_id)
            latest = packages.latest(session, object_id)
        if restored:
            raise PermanentFailure(_lost(restored.names[-1]))
        return self._is_not_the_dps(_open(object_id, latest), dry_run=True) + self._told_of_files(object_id)

    def _told_of_files(self, object_id: int) -> str:
        has_files = Workspace(self.env.settings.package_dir, object_id).root.exists()
        return "; its files are deleted" if has_files else ""

    def finish(self, object_id: int) -> str:
        """Do what was left to do by a call that cancelled the object's package, and was killed."""
        with self.env.transaction() as session:
            package = packages.latest(session, object_id)
        if package is None or package.rest != "cancelled":
            return "before this was started again; the object was enqueued since"
        self._clear_up(object_id, package.sip_filename)
        return f"{package.sip_filename}, before this was started again"

    def _is_not_the_dps(self, package: PackageFacts, *, dry_run: bool) -> str:
        """Refuse what the DPS has, or may have; answers what is told of the package.

        Raises:
            PermanentFailure: the DPS has it, or may have it and nobody said that it is to be sent anew.
        """
        name = package.sip_filename
        # Not `packaged`: a package that was begun anew after its files were lost may have been sent in part before.
        if package.sip_size is None and not package.intended:
            return name
        removed, place = (would_remove if dry_run else remove_what_was_cut)(self.dps, package)
        if place is not Place.NOWHERE:
            raise PermanentFailure(f"{name} is with the DPS ({place.value}): its verdict is waited for")
        never_renamed = removed and not package.uploaded
        if package.intended and not never_renamed and not self.resend:
            raise PermanentFailure(
                f"{name} was sent at {package.submission_date}, and the DPS may be at work on it. If the DPS "
                "says that it has it not, cancel it with --resend (in the job: resend: true)"
            )
        told = [name]
        if removed:
            told.append("what was sent of it in part is removed at the DPS")
        if package.intended and not never_renamed:
            told.append(f"it was sent at {package.submission_date}, and is sent anew when the object is enqueued")
        return "; ".join(told)

    def _clear_up(self, object_id: int, sip_filename: str) -> None:
        journal.forget(self.env, object_id, sip_filename)
        workspace = Workspace(self.env.settings.package_dir, object_id)
        workspace.archive_logs(self.env.settings.archive_dir, sip_filename)
        workspace.delete()


def cancel(
    env: Environment,
    actor: Actor,
    object_ids: Sequence[int],
    *,
    reason: str,
    log: Log,
    resend: bool = False,
    dry_run: bool = False,
    before: Collection[int] = (),
    sample: int | None = 20,
) -> Tally:
    """Cancel objects' open packages; the objects are eligible again, and their next packages have new names.

    Each object is a transaction of its own, under its lock; those that are refused do not keep the others.

    Arguments:
        reason: for the audit log; may be empty without `resend`.
        resend: as `cancel_package` has it.
        dry_run: only find out what would be done. The DPS is asked, too.
        before: objects that this call has cancelled before it was killed; what was left to do is done.
        sample: how many objects of each outcome the answer tells by id; None: all.

    Raises:
        PermanentFailure: there is no reason, and one is needed.
    """
    why = audit.require_reason(reason) if resend else reason.strip()
    deed = Deed(env.now, actor, ACTION, why, "with --resend" if resend else "")
    tally = Tally(dry_run=dry_run, sample=sample)
    with Dps(env.settings.dps) as dps:
        call = _Cancel(env, resend, deed, log, dps)
        for object_id in dict.fromkeys(object_ids):
            outcome, detail = _one(call, object_id, dry_run=dry_run, again=object_id in before)
            tally.add(object_id, outcome, detail)
            log(f"object {object_id}: {'would be: ' if dry_run else ''}{outcome} ({detail})")
    return tally


def _one(call: _Cancel, object_id: int, *, dry_run: bool, again: bool) -> tuple[str, str]:
    """Outcome and detail of one object."""
    # The lock of the call that was killed may be held for a while yet.
    wait = call.env.settings.workflow.lock_expiry + 1 if again else 0
    try:
        with call.env.lock(locks.object_lock(object_id), wait=wait):
            if again:
                return CANCELLED, call.finish(object_id)
            return CANCELLED, call.preview(object_id) if dry_run else call.act(object_id)
    except locks.LockBusyError:
        return REFUSED, "its lock is held: a run of it executes, or was killed a moment ago"
    except (PassariError, OSError) as error:
        return REFUSED, str(error)


def earlier(env: Environment, run_ids: Collection[str], *, limit: int) -> list[int]:
    """Objects whose packages these runs of the job have cancelled: one that was killed, and is started again."""
    with env.transaction() as session:
        return audit.objects_of_runs(session, ACTION, run_ids, limit=limit)


def cancel_package(
    env: Environment,
    object_id: int,
    log: Log,
    *,
    resend: bool = False,
    deed: Deed | None = None,
    dry_run: bool = False,
) -> None:
    """Cancel the object's open package; the object is eligible again, and its next package has a new name.

    Arguments:
        resend: also cancel a package that was, or may have been, sent and that the DPS does not show. If the DPS has
            it all the same, it gets the object a second time; only a person can rule that out.
        deed: for the audit log; None: it is part of what is recorded otherwise.
        dry_run: only find out whether it would be refused. The DPS is asked, too.

    Raises:
        LockBusyError: a run of the object executes.
        PermanentFailure: there is no open package, or the DPS has it.
    """
    with env.lock(locks.object_lock(object_id), wait=0), Dps(env.settings.dps) as dps:
        call = _Cancel(env, resend, deed, log, dps)
        told = call.preview(object_id) if dry_run else call.act(object_id)
    if not dry_run:
        log(f"object {object_id}: {CANCELLED} ({told}); it may be enqueued again")


def _lost(sip_filename: str) -> str:
    return (
        f"the database had lost that {sip_filename} was sent: that is put back, and nothing cancelled. Look at it, "
        "then cancel it if it is still to be cancelled"
    )


def _open(object_id: int, package: PackageFacts | None) -> PackageFacts:
    if package is None or not package.open:
        raise PermanentFailure(f"object {object_id} has no package in the workflow")
    return package


def remove_what_was_cut(dps: Dps, package: PackageFacts) -> tuple[bool, Place]:
    """Remove what a send that was cut short left at the DPS, and look where the package is then.

    Returns:
        whether there was something, so that it was never renamed; and where the package is.
    """
    # In this order: until there is nothing left to rename, a rename that was cut short may still be carried out.
    removed = dps.remove_incomplete(package.sip_filename)
    return removed, dps.find(package.sip_filename, objid(package.object_id), package.created).place


def would_remove(dps: Dps, package: PackageFacts) -> tuple[bool, Place]:
    """What `remove_what_was_cut` would answer; nothing is removed."""
    place = dps.find(package.sip_filename, objid(package.object_id), package.created).place
    return (True, Place.NOWHERE) if place is Place.INCOMPLETE else (False, place)
