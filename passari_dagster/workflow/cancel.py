"""Taking an object's package out of the workflow by hand: the way out of what nobody else can decide."""

from __future__ import annotations

import contextlib

from passari_dagster import locks
from passari_dagster.catalogue import packages
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps, Place
from passari_dagster.errors import PermanentFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import journal
from passari_dagster.workflow.audit import Deed
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.museum_toolkit import objid

ACTION = "cancel"


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
    workspace = Workspace(env.settings.package_dir, object_id)
    with env.lock(locks.object_lock(object_id), wait=0):
        if restored := _would_recover(env, object_id) if dry_run else journal.recover(env, object_id, log):
            # Not what the caller thinks of: they looked at what the database said before.
            raise PermanentFailure(
                f"the database had lost that {restored[-1]} was sent, and knows it again: look at it, then cancel it "
                "if it is still to be cancelled"
            )
        with env.transaction() as session:
            package = packages.latest(session, object_id)
        if package is not None and package.rest == "cancelled" and not dry_run:
            journal.forget(env, object_id, package.sip_filename)  # killed before it did, perhaps
        if package is None or not package.open:
            raise PermanentFailure(f"object {object_id} has no package in the workflow")
        name = package.sip_filename
        # Not `packaged`: a package that was begun anew after its files were lost may have been sent in part before.
        if package.sip_size is not None or package.intended:
            with Dps(env.settings.dps) as dps:
                removed, place = (would_remove if dry_run else remove_what_was_cut)(dps, package)
            if place is not Place.NOWHERE:
                raise PermanentFailure(f"{name} is with the DPS ({place.value}): its verdict is waited for")
            never_renamed = removed and not package.uploaded
            if package.intended and not never_renamed and not resend:
                raise PermanentFailure(
                    f"{name} was sent at {package.submission_date}, and the DPS may be at work on it. If the DPS "
                    "says that it has it not, cancel it with --resend"
                )
        if dry_run:
            return
        with env.transaction() as session:
            packages.cancel(session, package.package_id)
            if deed is not None:
                deed.record(session, [object_id])
        journal.forget(env, object_id, name)
        log(f"{name} is cancelled; object {object_id} may be enqueued again")
        workspace.archive_logs(env.settings.archive_dir, name)
        workspace.delete()


def _would_recover(env: Environment, object_id: int) -> list[str]:
    with env.transaction() as session, contextlib.ExitStack() as stack:
        stack.callback(session.begin_nested().rollback)
        return journal.restore(env, session, object_id)


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
