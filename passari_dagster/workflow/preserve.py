"""One object through the four steps, each of which goes on from what the database says.

A step decides, has the toolkit do the work, and records it. It may be repeated after a crash at any point, by
another process, on another host: nothing is handed over from step to step but the object's id.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from passari_dagster.catalogue import freezing, packages
from passari_dagster.catalogue.eligibility import why_not
from passari_dagster.catalogue.models import FreezeSource, Verdict
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow import journal
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.steplog import step_log


class Outcome(Enum):
    """How a step ended, when it ended well."""

    DONE = "done"
    """The next step may go on."""
    SKIPPED = "skipped"
    """The object has no business in the workflow now."""
    FROZEN = "frozen"
    """A content problem was found."""
    WAITING = "waiting"
    """The package is with the DPS, which has not spoken yet."""
    PRESERVED = "preserved"
    """The DPS accepted the package, and all that follows is done."""
    REJECTED = "rejected"
    """The DPS rejected the package, and all that follows is done."""


@dataclass(frozen=True)
class StepResult:
    """How a step ended, and why.

    Arguments:
        reason: of a frozen object: exactly the text by which it is unfrozen.
        detail: of a frozen object: what was found, and where.
    """

    outcome: Outcome
    message: str
    reason: str = ""
    detail: str = ""

    @property
    def proceeds(self) -> bool:
        """Whether the next step is to run."""
        return self.outcome is Outcome.DONE


def download_object(env: Environment, object_id: int, log: Log) -> StepResult:
    """Bring the object's documents and files here, and open its package.

    An object that is frozen, not eligible, or waiting for the DPS is left alone, whoever launched it.
    """
    workspace = _workspace(env, object_id)
    journal.recover(env, object_id, log)
    with env.transaction() as session:
        row = packages.object_row(session, object_id)
        package = packages.latest(session, object_id)
        frozen = f"frozen: {row.freeze_reason}" if row.frozen else None
        # An open package goes on, whatever the rule says of new ones.
        reason = None if package and package.open else why_not(session, object_id, now=env.now(), delays=env.delays)
    if package and package.open and package.intended:
        return StepResult(Outcome.DONE, f"{package.sip_filename} was sent, or nearly so")
    if frozen or reason:
        _clear_up(env, workspace, package)
        return StepResult(Outcome.SKIPPED, f"object {object_id} is skipped: {frozen or reason}")
    if package and package.open and _is_downloaded(package, workspace):
        return StepResult(Outcome.DONE, f"{package.sip_filename} was downloaded already")

    with env.transaction() as session:
        modified = packages.object_row(session, object_id).modified_date
        package = packages.begin(session, object_id, object_modified=modified, now=env.now())
    try:
        with _working(env, package, workspace, "download-object", log) as say:
            downloaded = env.toolkit.download(package, workspace.root, say)
            with env.transaction() as session:
                packages.mark_downloaded(
                    session,
                    package.package_id,
                    object_modified=downloaded.object_modified,
                    attachment_ids=downloaded.attachment_ids,
                )
            return _done(say, f"downloaded, {len(downloaded.attachment_ids)} attachments")
    except ContentProblem as problem:
        return _freeze(env, package, workspace, problem, log)


def create_sip(env: Environment, object_id: int, log: Log) -> StepResult:
    """Make the SIP, or freeze the object if its content forbids it."""
    workspace = _workspace(env, object_id)
    package = _begun_package(env, object_id)
    if not package.open:
        return _nothing_left(package)
    if package.intended or _is_packaged(package, workspace):
        return StepResult(Outcome.DONE, f"{package.sip_filename} was made already")
    try:
        with _working(env, package, workspace, "create-sip", log) as say:
            packaged = env.toolkit.package(package, workspace.root, say)
            with env.transaction() as session:
                packages.mark_packaged(session, package.package_id, size=packaged.size, sha256=packaged.sha256)
            return _done(say, f"{package.sip_filename} is made, {packaged.size} bytes")
    except ContentProblem as problem:
        return _freeze(env, package, workspace, problem, log)


def submit_sip(env: Environment, object_id: int, log: Log) -> StepResult:
    """Send the SIP, unless it was sent; then leave it to the DPS."""
    workspace = _workspace(env, object_id)
    journal.recover(env, object_id, log)
    package = _begun_package(env, object_id)
    if not package.open:
        return _nothing_left(package)
    if not package.uploaded:
        with _working(env, package, workspace, "submit-sip", log) as say:
            if package.intended:
                journal.write(env, package.package_id)  # killed after the commit of the intent, perhaps
            env.toolkit.submit(package, workspace.root, partial(_record_intent, env, package), say)
            with env.transaction() as session:
                packages.mark_uploaded(session, package.package_id, now=env.now())
            _done(say, f"{package.sip_filename} is with the DPS")
    if package.sip_sha256 is not None:  # passari-workflow's tar is not ours to remove before there is a verdict
        workspace.tar(package.sip_filename).unlink(missing_ok=True)
    shutil.rmtree(workspace.workspace, ignore_errors=True)
    if package.verdict is None:
        return StepResult(Outcome.WAITING, f"{package.sip_filename} is with the DPS and waits for its verdict")
    return StepResult(Outcome.DONE, f"{package.sip_filename} was {package.verdict.value}")


def confirm_sip(env: Environment, object_id: int, log: Log) -> StepResult:
    """Do all that follows a verdict: reports, logs, MuseumPlus, and the database as the last.

    Needs nothing of the earlier steps, neither their run nor their files.
    """
    workspace = _workspace(env, object_id)
    with env.transaction() as session:
        latest = packages.latest(session, object_id)
        package = packages.unconfirmed(session, object_id)
    if package is None:
        if latest is not None and latest.confirmed:
            # What an attempt that was killed after its commit left to do.
            if latest.intended:
                journal.write(env, latest.package_id)
            workspace.delete()
        return StepResult(Outcome.SKIPPED, f"object {object_id} has no verdict that is not confirmed")
    with _working(env, package, workspace, "confirm-sip", log) as say:
        env.toolkit.confirm(package, workspace.root, say)
        say(f"{package.sip_filename} is {package.verdict.value}" if package.verdict else package.sip_filename)
        workspace.archive_logs(env.settings.archive_dir, package.sip_filename)
        with env.transaction() as session:
            packages.close(session, package.package_id)
            packages.mark_confirmed(session, package.package_id, now=env.now())
        journal.write(env, package.package_id)
    if latest is not None and latest.package_id == package.package_id:
        workspace.delete()
    if package.verdict is Verdict.REJECTED:
        told = f"{package.sip_filename} is rejected by the DPS; its ingest report is archived among the package's logs"
        return StepResult(Outcome.REJECTED, told)
    return StepResult(Outcome.PRESERVED, f"{package.sip_filename} is preserved")


def _workspace(env: Environment, object_id: int) -> Workspace:
    return Workspace(env.settings.package_dir, object_id)


def _begun_package(env: Environment, object_id: int) -> PackageFacts:
    with env.transaction() as session:
        package = packages.latest(session, object_id)
    if package is None:
        raise PermanentFailure(f"object {object_id} has no package in the workflow; launch the whole job for it")
    return package


def _nothing_left(package: PackageFacts) -> StepResult:
    """A run that was killed and starts again may find that the package has come to rest meanwhile."""
    return StepResult(Outcome.SKIPPED, f"{package.sip_filename} was {package.rest}: nothing is left to do")


def _is_downloaded(package: PackageFacts, workspace: Workspace) -> bool:
    # Of passari-workflow's download we have no digests: it cannot be told whether it is whole.
    documents = package.begun_here and (workspace.reports / "Object.xml").is_file()
    return package.downloaded and (documents or _is_packaged(package, workspace))


def _is_packaged(package: PackageFacts, workspace: Workspace) -> bool:
    return package.packaged and _has_size(workspace.tar(package.sip_filename), package.sip_size)


def _has_size(path: Path, size: int | None) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _record_intent(env: Environment, package: PackageFacts) -> None:
    with env.transaction() as session:
        packages.mark_submitting(session, package.package_id, now=env.now())
    journal.write(env, package.package_id)


def _done(say: Log, message: str) -> StepResult:
    say(message)
    return StepResult(Outcome.DONE, message)


@contextlib.contextmanager
def _working(env: Environment, package: PackageFacts, workspace: Workspace, step: str, log: Log) -> Iterator[Log]:
    """The step's directories and log."""
    with _full_disk_explained(env, workspace):
        workspace.create()
        with step_log(workspace.logs / f"{step}.log", f"{step} {package.sip_filename}", log) as say:
            yield say


@contextlib.contextmanager
def _full_disk_explained(env: Environment, workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransientFailure(
                f"object {workspace.object_id}: no space left for {error.filename or workspace.root}: free space in "
                f"{env.settings.package_dir} or {env.settings.archive_dir}, or have fewer objects in the workflow"
            ) from error
        raise


def _freeze(
    env: Environment, package: PackageFacts, workspace: Workspace, problem: ContentProblem, log: Log
) -> StepResult:
    # The step's log, which tells the problem, is closed by now: over NFS an open file cannot be deleted.
    message = f"object {package.object_id} is frozen: {problem}"
    log(message)
    if package.sip_size is not None:
        # It was made before, and its files were lost: a part that was sent then would stay at the DPS for good.
        with Dps(env.settings.dps) as dps:
            dps.remove_incomplete(package.sip_filename)
    with env.transaction() as session:
        freezing.freeze(session, package.object_id, reason=problem.reason, source=FreezeSource.AUTOMATIC)
    _archive_and_delete(env, workspace, package)
    return StepResult(Outcome.FROZEN, message, reason=problem.reason, detail=problem.detail)


def _clear_up(env: Environment, workspace: Workspace, package: PackageFacts | None) -> None:
    """Finish what a run that was killed after its last commit left over."""
    if package is not None and not package.open:
        _archive_and_delete(env, workspace, package)


def _archive_and_delete(env: Environment, workspace: Workspace, package: PackageFacts) -> None:
    with _full_disk_explained(env, workspace):
        workspace.archive_logs(env.settings.archive_dir, package.sip_filename)
    workspace.delete()
