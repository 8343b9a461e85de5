"""Preflight: what would happen to objects if they were enqueued, found out without sending or recording anything.

Objects are downloaded and packaged one after the other, in a workspace of the preflight's own, and removed again. The
database is read only: no package, no freeze, no lock of the object; neither the archive nor MuseumPlus is told. How
the findings are shown is the affair of `preflight_report`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from passari_dagster import locks, stopping
from passari_dagster.catalogue import eligibility, packages
from passari_dagster.catalogue.models import MuseumObject
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.errors import ContentProblem, PassariError, TransientFailure
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.toolkit import ThoroughToolkit

FOLDER = "preflight"
"""In the package directory: the workspaces of preflights. No object has such an id."""
EXPIRY = 15
"""Seconds until the workspace of a preflight that was killed may be removed by another one."""
_NO_ROW = 0
_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """One content problem.

    Arguments:
        object_id: whose it is.
        title: of the object, as the database has it; empty: not known.
        file: path in the package; empty: the problem is the object's as a whole.
        code: kind of the problem, short; see `sip/problems.py`.
        reason: what the object would be frozen by.
        detail: what exactly was found.
        advice: what a person can do about it.
    """

    object_id: int
    title: str
    file: str
    code: str
    reason: str
    detail: str
    advice: str


@dataclass(frozen=True)
class Examined:
    """What came of one object.

    Arguments:
        object_id: the object.
        problems: its content problems.
        failure: a system error, for which the object was not examined to its end; it may have problems all the same.
    """

    object_id: int
    problems: tuple[Found, ...] = ()
    failure: str | None = None

    def __str__(self) -> str:
        number = len(self.problems)
        told = f"{number} problem{'s' if number > 1 else ''}" if number else "no problem"
        if self.failure is None:
            return f"object {self.object_id}: {told} found"
        return f"object {self.object_id}: could not be examined: {self.failure}" + (f"; {told} found" if number else "")


def choose(env: Environment, *, count: int, object_ids: Sequence[int]) -> list[int]:
    """The objects to examine.

    Arguments:
        count: how many eligible objects to pick at random, when none are named.
        object_ids: these, whether they are eligible or not, and in this order.
    """
    if object_ids:
        return list(dict.fromkeys(object_ids))
    with env.transaction() as session:
        return eligibility.eligible_ids(session, now=env.now(), delays=env.delays, limit=count, random=True)


def preflight(env: Environment, object_ids: Sequence[int], tell: Callable[[Examined], None], log: Log) -> int:
    """Download and package the objects, one after the other. A system error of one does not end the rest.

    Arguments:
        tell: gets what came of each object, as soon as it is known.
        log: gets a line for what a killed preflight had left here, and was removed.

    Returns:
        how many objects are left, because this process was asked to stop.

    Raises:
        TransientFailure: Redis cannot be reached.
        OSError: the workspace cannot be made, or an object's files cannot be removed again.
    """
    with _workspace(env, log) as directory:
        for number, object_id in enumerate(object_ids):
            if stopping.is_asked():
                return len(object_ids) - number
            tell(_examine(env, directory, object_id))
    return 0


def _examine(env: Environment, directory: Path, object_id: int) -> Examined:
    workspace = Workspace(directory, object_id)
    title, found, failure = "", list[tuple[str, ContentProblem]](), None
    try:
        with env.transaction() as session:
            row = session.get(MuseumObject, object_id)
            title = (row.title or "") if row is not None else ""
            package = _package(session, object_id, env.now())
        workspace.create()
        try:
            found += _download(env, package, workspace)
            env.toolkit.package(package, workspace.root, _nobody)
        except ContentProblem as problem:
            found += problem.problems or [("", problem)]
    except PassariError as error:
        failure = str(error)
    except Exception as error:  # whatever it is, it is no reason to leave out the others
        _logger.warning("preflight of object %s", object_id, exc_info=True)
        failure = f"{type(error).__name__}: {error}"
    finally:
        # Before the next object comes: no more than one is here at a time.
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(workspace.root)
    problems = (
        Found(object_id, title, file, problem.code, problem.reason, problem.detail, problem.advice)
        for file, problem in found
    )
    return Examined(object_id, tuple(problems), failure)


def _download(env: Environment, package: PackageFacts, workspace: Workspace) -> list[tuple[str, ContentProblem]]:
    if isinstance(env.toolkit, ThoroughToolkit):
        return env.toolkit.download_all(package, workspace.root, _nobody)
    env.toolkit.download(package, workspace.root, _nobody)
    return []


def _nobody(line: str) -> None:
    """The log of a step: what it tells of each file is found in the problems, or is of no interest."""


def _package(session: Session, object_id: int, now: datetime) -> PackageFacts:
    """The object's next package, of which no row of the database tells."""
    return PackageFacts(
        object_id=object_id,
        package_id=_NO_ROW,
        sip_id="preflight",
        sip_filename=f"Preflight_Object_{object_id}.tar",
        created=now,
        object_modified=None,
        first_preserved=packages.first_preserved(session, object_id, _NO_ROW),
        downloaded=False,
        packaged=False,
        uploaded=False,
        rest=None,
        sip_size=None,
        sip_sha256=None,
        submission_date=None,
        verdict=None,
        verdict_date=None,
        report_day=None,
        transfer_id=None,
        confirmed=False,
    )


@contextlib.contextmanager
def _workspace(env: Environment, log: Log) -> Iterator[Path]:
    """A directory of this preflight alone, gone at the end; with it goes what killed preflights have left."""
    begun = time.monotonic()
    folder = env.settings.package_dir / FOLDER
    run = f"{env.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    # The lock tells other preflights, on this host or another, that this one lives. It is not among the locks that
    # transactions check: who loses it may lose files, and with them the finding of one object, but records nothing.
    with _hold(env, run, wait=1):
        directory = folder / run
        directory.mkdir(parents=True)
        try:
            others = [path for path in sorted(folder.iterdir()) if _RUN.fullmatch(path.name) and path != directory]
            locked = [path for path in others if not _remove_if_killed(env, path, log)]
            yield directory
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)
        # The lock of one that was killed just before this one began has expired by now, or soon will have.
        for path in locked:
            _remove_if_killed(env, path, log, wait=begun + EXPIRY + 1 - time.monotonic())


def _hold(env: Environment, run: str, *, wait: float) -> contextlib.AbstractContextManager[locks.Held]:
    return locks.hold(env.settings.redis_url, locks.preflight_lock(run), expiry=EXPIRY, wait=wait)


def _remove_if_killed(env: Environment, path: Path, log: Log, *, wait: float = 0) -> bool:
    """Remove another preflight's workspace if that one does not live any more.

    Arguments:
        wait: seconds for a lock that may be that of a killed one.

    Returns:
        whether it does not live, as far as its lock tells.
    """
    try:
        with _hold(env, path.name, wait=wait):
            if path.is_dir():  # otherwise it came to its own end meanwhile
                log(f"{path} was left by a preflight that was killed, and is removed")
                shutil.rmtree(path)
    except TransientFailure:
        return False
    except OSError as error:
        log(f"{path} cannot be removed: {error}")
    return True
