"""Letting frozen objects into the workflow again: by the exact reason for which they are frozen, by their ids, or both.

Enqueueing them is `enqueue`'s affair, and the rule of eligibility its judge.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from passari_dagster import locks
from passari_dagster.catalogue import freezing
from passari_dagster.catalogue.models import MuseumObject, MuseumPackage
from passari_dagster.errors import PassariError, PermanentFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import audit, enqueue
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.cancel import cancel_package
from passari_dagster.workflow.environment import Environment, Log

ACTION = "unfreeze_objects"
UNFROZEN, NOT_FROZEN = "unfrozen", "not frozen so"
BATCH = 500
"""Objects of one transaction."""


@dataclass(frozen=True)
class Selection:
    """Which frozen objects.

    Arguments:
        reason: those that are frozen for exactly this; None: for whatever; `freezing.NONE_GIVEN`: for none.
        object_ids: these only; empty: all.

    Raises:
        PermanentFailure: neither is given.
    """

    reason: str | None = None
    object_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.reason and not self.object_ids:
            raise PermanentFailure("say which objects: by the exact reason for which they are frozen, by ids, or both")


@dataclass
class Unfrozen:
    """What was, or would be, done.

    Arguments:
        tally: of all objects.
        ids: of those that were unfrozen, the first `keep` by id.
    """

    tally: Tally
    ids: list[int] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Of all that were unfrozen."""
        return self.tally.counts[UNFROZEN]


def unfreeze(
    env: Environment,
    actor: Actor,
    selection: Selection,
    *,
    reason: str,
    log: Log,
    dry_run: bool = False,
    keep: int = 0,
    sample: int | None = 20,
) -> Unfrozen:
    """Unfreeze objects. A latest package that was not preserved counts no more, so that its object is eligible; its
    row, logs and reports stay. One that the DPS has, or may have, goes on.

    Done in sets, each a transaction with its part of the audit event. Safe to repeat.

    Arguments:
        reason: why, for the audit log.
        dry_run: only find out what would be done.
        keep: how many ids the answer holds, to be enqueued.
        sample: how many objects of each outcome are told by id; None: all.

    Raises:
        PermanentFailure: there is no reason.
    """
    deed = Deed(env.now, actor, ACTION, audit.require_reason(reason), _words(selection))
    answer = Unfrozen(Tally(dry_run=dry_run, sample=sample))
    frozen_for = _frozen_for(env, selection)
    among = selection.object_ids or None
    left = set(among or ())
    after = 0
    while True:
        refused, recorded, cleared = _clear_up(env, deed, frozen_for, among, after, log, dry_run=dry_run)
        with env.transaction() as session:
            batch = freezing.frozen_objects(session, reason=frozen_for, among=among, after=after, limit=BATCH)
            chosen = [(row, package) for row, package in batch if row.id not in refused]
            ids = [row.id for row, _ in chosen]
            if ids and not dry_run:
                freezing.unfreeze(session, ids)
                freezing.drop_latest_packages(session, [row.id for row, package in chosen if _is_dropped(package)])
                deed.record(session, [object_id for object_id in ids if object_id not in recorded])
        if not batch:
            break
        after = batch[-1][0].id
        for object_id, why in refused.items():
            answer.tally.add(object_id, REFUSED, why)
            if not dry_run:  # a preview tells all of them itself
                log(f"object {object_id}: {REFUSED} ({why})")
        for row, package in chosen:
            answer.tally.add(row.id, UNFROZEN, _detail(row, package, deletes=row.id in cleared))
        answer.ids += ids[: max(0, keep - len(answer.ids))]
        left.difference_update(row.id for row, _ in batch)
        log(f"{answer.tally.counts[UNFROZEN]} objects {'would be unfrozen' if dry_run else 'are unfrozen'} so far")
    for object_id in sorted(left):
        answer.tally.add(object_id, NOT_FROZEN, "it is not frozen for this reason" if selection.reason else "")
    return answer


def would_enqueue(
    env: Environment, object_ids: Sequence[int], *, in_flight: Collection[int], registered: Collection[int]
) -> enqueue.Chosen:
    """Which of these objects would be enqueued once they are unfrozen, and why others would not. Nothing is changed.

    Arguments:
        object_ids: those that `unfreeze` would unfreeze.
        in_flight, registered: as `enqueue.choose` has them.
    """

    def change(session: Session) -> None:
        rows = freezing.frozen_objects(session, reason=None, among=object_ids, after=0, limit=len(object_ids))
        dropped = [row.id for row, package in rows if package is not None and _counts_no_more(package)]
        freezing.unfreeze(session, object_ids)
        freezing.drop_latest_packages(session, dropped)

    return enqueue.choose_after(env, change, object_ids, in_flight=in_flight, registered=registered)


def _words(selection: Selection) -> str:
    told = [f"frozen for: {selection.reason}"] if selection.reason else []
    return "; ".join([*told, *(["by ids"] if selection.object_ids else [])])


def _is_dropped(package: MuseumPackage | None) -> bool:
    return package is not None and not package.is_open and not package.preserved


def _is_with_the_dps(package: MuseumPackage) -> bool:
    return package.is_open and bool(package.uploaded or package.submission_date or package.verdict)


def _counts_no_more(package: MuseumPackage) -> bool:
    """Whether it is dropped in the end: one that is open and was not sent is cancelled first."""
    return not package.preserved and not _is_with_the_dps(package)


def _detail(row: MuseumObject, package: MuseumPackage | None, *, deletes: bool) -> str:
    told = [f"was frozen for: {row.freeze_reason}"] if row.freeze_reason else []
    if package is not None and _is_with_the_dps(package):
        told.append(f"{package.sip_filename} is with the DPS and goes on")
    elif package is not None and _counts_no_more(package):
        told.append(f"{package.sip_filename} was {package.rest or 'cancelled'}, and counts no more")
    if deletes:
        told.append("its files are deleted")
    return "; ".join(told)


def _frozen_for(env: Environment, selection: Selection) -> str | None:
    """The reason as `freezing.frozen_objects` wants it."""
    if not selection.reason:
        return None
    with env.transaction() as session:
        if freezing.frozen_objects(session, reason=selection.reason, among=None, after=0, limit=1):
            return selection.reason
    # As it was said when they were frozen, or as it is kept.
    return freezing.WITHOUT if selection.reason == freezing.NONE_GIVEN else " ".join(selection.reason.split())


def _clear_up(
    env: Environment,
    deed: Deed,
    frozen_for: str | None,
    among: Collection[int] | None,
    after: int,
    log: Log,
    *,
    dry_run: bool,
) -> tuple[dict[int, str], set[int], set[int]]:
    """Of the next objects: remove what is left here of former packages, and cancel those that are open and were not
    sent, as passari-workflow may have left them.

    Returns:
        objects that must be left alone, and why; objects of which the audit log tells already; objects whose files
        are deleted.
    """
    with env.transaction() as session:
        batch = freezing.frozen_objects(session, reason=frozen_for, among=among, after=after, limit=BATCH)
    refused: dict[int, str] = {}
    recorded: set[int] = set()
    cleared: set[int] = set()
    for row, package in batch:
        workspace = Workspace(env.settings.package_dir, row.id)
        has_files = workspace.root.exists()
        try:
            if package is not None and package.is_open:
                if not _is_with_the_dps(package):
                    cancel_package(env, row.id, log, deed=deed, dry_run=dry_run)
                    recorded.add(row.id)
                    cleared.update([row.id] if has_files else [])
            elif has_files:
                with env.lock(locks.object_lock(row.id), wait=0):
                    cleared.add(row.id)
                    if dry_run:
                        continue
                    with env.transaction() as session:
                        deed.record(session, [row.id])
                    recorded.add(row.id)
                    if package is not None and package.sip_filename is not None:
                        workspace.archive_logs(env.settings.archive_dir, package.sip_filename)
                    workspace.delete()
        except locks.LockBusyError:
            refused[row.id] = "its lock is held: a run of it executes, or was killed a moment ago"
        except (PassariError, OSError) as error:
            refused[row.id] = str(error)
    return refused, recorded, cleared


def earlier(env: Environment, run_ids: Collection[str], *, limit: int) -> list[int]:
    """Objects that these runs of the job have unfrozen: one that was killed then, and is started again."""
    with env.transaction() as session:
        return audit.objects_of_runs(session, ACTION, run_ids, limit=limit)
