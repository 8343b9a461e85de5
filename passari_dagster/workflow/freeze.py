"""Freezing objects by hand: kept out of the workflow, for a reason, until somebody unfreezes them.

What the DPS has stays watched. Objects that are frozen for a content problem are `preserve`'s affair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from passari_dagster import locks
from passari_dagster.catalogue import freezing, packages
from passari_dagster.catalogue.models import FreezeSource
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps, Place
from passari_dagster.errors import PassariError, PermanentFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import audit, journal
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.cancel import remove_what_was_cut, would_remove
from passari_dagster.workflow.environment import Environment, Log

ACTION = "freeze_objects"
BATCH = 20
"""Objects for which the workflow lock is held at once: who enqueues meanwhile does not wait for all of them."""
FROZEN, ALREADY, REPLACED = "frozen", "frozen already", "frozen already, new reason"


class Runs(Protocol):
    """The runs of objects, which are Dagster's."""

    def executing(self, object_id: int) -> str | None:
        """Id of the object's run that executes, if one does."""

    def queued(self, object_id: int) -> Sequence[str]:
        """Ids of its runs that wait in the queue, but for those that only confirm what the DPS has said."""

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""


@dataclass
class _Freeze:
    """One call."""

    env: Environment
    deed: Deed
    runs: Runs
    replace_reason: bool
    delete_workspaces: bool
    dry_run: bool
    log: Log
    dps: Dps

    def one(self, object_id: int) -> tuple[str, str]:
        """Freeze an object, or find out what would be done; answers outcome and detail.

        Raises:
            PassariError, OSError: nothing is done to it, or only a part; the message says why.
        """
        if run_id := self.runs.executing(object_id):
            return REFUSED, f"run {run_id} of it executes: cancel that run, or wait until it has ended"
        try:
            with self.env.lock(locks.object_lock(object_id), wait=0):
                return self._preview(object_id) if self.dry_run else self._act(object_id)
        except locks.LockBusyError:
            return REFUSED, "its lock is held: a run of it executes, or was killed a moment ago"

    def _preview(self, object_id: int) -> tuple[str, str]:
        with self.env.undone() as session:
            restored = journal.restore(self.env, session, object_id)
            row = packages.object_row(session, object_id)
            outcome, kept = self._outcome(bool(row.frozen), row.freeze_reason)
            package = packages.latest(session, object_id)
        cancels, removes = _is_cancelled(self.dps, package, dry_run=True)
        told = [f"the database had lost that {name} was sent" for name in restored.names]
        return outcome, "; ".join([*told, *self._details(object_id, kept, package, cancels, removes)])

    def _outcome(self, frozen: bool, reason: str | None) -> tuple[str, str | None]:
        """The outcome, and the old reason if it is kept."""
        if not frozen:
            return FROZEN, None
        if reason is None or (self.replace_reason and reason != self.deed.reason):
            return REPLACED, None
        return ALREADY, reason

    def _details(
        self, object_id: int, kept: str | None, package: PackageFacts | None, cancels: bool, removes: bool
    ) -> list[str]:
        told = [f"its reason stays: {kept}"] if kept is not None else []
        if package is not None and package.open:
            is_sent = "the DPS has, or may have, its package, which stays watched"
            told.append(f"{package.sip_filename} is cancelled" if cancels else f"{package.sip_filename}: {is_sent}")
        if removes:
            told.append("what was sent of it in part is removed at the DPS")
        if queued := len(self.runs.queued(object_id)):
            told.append(f"{queued} queued {'run is' if queued == 1 else 'runs are'} cancelled")
        if self._deletes_asked(object_id):
            deletes = self._deletes(object_id, package, cancels)
            told.append("its files are deleted" if deletes else "its files stay until the DPS has spoken")
        return told

    def _deletes_asked(self, object_id: int) -> bool:
        return self.delete_workspaces and Workspace(self.env.settings.package_dir, object_id).root.exists()

    def _deletes(self, object_id: int, package: PackageFacts | None, cancels: bool) -> bool:
        """Whether the object's files are deleted: not while the DPS may ask for them."""
        watched = package is not None and package.open and not cancels
        return self._deletes_asked(object_id) and not watched

    def _act(self, object_id: int) -> tuple[str, str]:
        restored = journal.recover(self.env, object_id, self.log)
        with self.env.transaction() as session:
            packages.object_row(session, object_id)  # before the DPS is asked
            package = packages.latest(session, object_id)
        cancels, removes = _is_cancelled(self.dps, package, dry_run=False)
        with self.env.transaction() as session:
            row = packages.object_row(session, object_id, lock=True)
            outcome, kept = self._outcome(bool(row.frozen), row.freeze_reason)
            if kept is None:
                freezing.freeze(session, object_id, reason=self.deed.reason, source=FreezeSource.USER)
            if package is not None and cancels:
                session.flush()
                latest = packages.latest(session, object_id)
                if latest is not None and latest.open:
                    packages.cancel(session, latest.package_id)
            # Of one that is frozen already, runs and files are all that is left to be done: that is told, too.
            if kept is None or cancels or self.runs.queued(object_id) or self._deletes(object_id, package, cancels):
                self.deed.record(session, [object_id])
        details = self._details(object_id, kept, package, cancels, removes)
        # All that follows is done again by whoever freezes the object once more, should this process die here.
        if package is not None and (cancels or package.rest == "cancelled"):
            journal.forget(self.env, object_id, package.sip_filename)
        for run_id in self.runs.queued(object_id):
            self.runs.cancel(run_id)
        self._clear_up(object_id, package, delete=self._deletes(object_id, package, cancels))
        told = [f"the database had lost that {name} was sent: put back from the archive" for name in restored.names]
        return outcome, "; ".join([*told, *details])

    def _clear_up(self, object_id: int, package: PackageFacts | None, *, delete: bool) -> None:
        workspace = Workspace(self.env.settings.package_dir, object_id)
        if not workspace.root.exists():
            return
        if package is not None:
            workspace.archive_logs(self.env.settings.archive_dir, package.sip_filename)
        if delete:
            workspace.delete()


def freeze(
    env: Environment,
    actor: Actor,
    object_ids: Sequence[int],
    *,
    reason: str,
    runs: Runs,
    log: Log,
    replace_reason: bool = False,
    delete_workspaces: bool = False,
    dry_run: bool = False,
    sample: int | None = 20,
) -> Tally:
    """Freeze objects: their packages that were not sent are cancelled, and their queued runs.

    Each object is a transaction of its own, under its lock. Those that cannot be frozen now, such as those with a run
    that executes, are refused, each with its cause, and do not keep the others. Safe to repeat.

    Arguments:
        reason: stable text; objects are unfrozen by it.
        replace_reason: also of objects that are frozen already; otherwise they keep theirs.
        delete_workspaces: delete what was downloaded and packaged. Logs are archived in any case.
        dry_run: only find out what would be done. The DPS is asked, too.
        sample: how many objects of each outcome the answer tells by id; None: all.

    Raises:
        PermanentFailure: there is no reason.
        LockBusyError: somebody enqueues, or the like, all the while. Called again it goes on.
    """
    deed = Deed(env.now, actor, ACTION, audit.require_reason(reason))
    tally = Tally(dry_run=dry_run, sample=sample)
    with Dps(env.settings.dps) as dps:
        call = _Freeze(env, deed, runs, replace_reason, delete_workspaces, dry_run, log, dps)
        ids = list(dict.fromkeys(object_ids))
        for start in range(0, len(ids), BATCH):
            with contextlib.nullcontext() if dry_run else env.lock(locks.WORKFLOW, wait=locks.WORKFLOW_WAIT):
                for object_id in ids[start : start + BATCH]:
                    try:
                        outcome, detail = call.one(object_id)
                    except (PassariError, OSError) as error:
                        outcome, detail = REFUSED, str(error)
                    tally.add(object_id, outcome, detail)
                    would = "would be: " if dry_run else ""
                    log(f"object {object_id}: {would}{outcome}" + (f" ({detail})" if detail else ""))
    return tally


def _is_cancelled(dps: Dps, package: PackageFacts | None, *, dry_run: bool) -> tuple[bool, bool]:
    """Whether the object's package is to be cancelled: it is in the workflow, and the DPS has it not for certain; and
    whether a part of it was, or would be, removed at the DPS.

    Raises:
        PermanentFailure: the DPS has it, and the database does not know.
    """
    if package is None or not package.open or package.uploaded or package.verdict is not None:
        return False, False
    # Not `packaged`: see `cancel`.
    if package.sip_size is None and not package.intended:
        return True, False
    removed, place = (would_remove if dry_run else remove_what_was_cut)(dps, package)
    if place in (Place.NOWHERE, Place.INCOMPLETE):
        return removed or not package.intended, removed
    if package.intended:
        return False, removed
    raise PermanentFailure(
        f"{package.sip_filename} is with the DPS ({place.value}), and the database does not know: launch the object, "
        "which records that it was sent, and freeze it then"
    )
