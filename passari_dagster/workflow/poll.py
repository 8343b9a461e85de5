"""Asking the DPS for its verdicts, and choosing what is to be confirmed. Launching that is Dagster's."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from passari_dagster import dps
from passari_dagster.catalogue import packages
from passari_dagster.catalogue.models import Verdict
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.museum_toolkit import objid

LOOK_SECONDS = 40.0
"""After them nothing more is asked: a sensor's tick has 60 seconds in all."""


PERSONS_LOOK_SECONDS = 600.0
"""The same for a look that a person asks for."""
MAX_DAYS = 3650


@dataclass(frozen=True)
class Found:
    """A verdict that was found.

    Arguments:
        status: accepted or rejected.
        reported: when the ingest report was made.
        news: whether the database did not know it yet.
    """

    object_id: int
    sip_filename: str
    status: str
    reported: datetime
    news: bool


@dataclass(frozen=True)
class Look:
    """What a look at the DPS found.

    Arguments:
        waiting: how many packages waited for a verdict when it began.
        found: the verdicts; a package without one goes on waiting.
    """

    waiting: int
    found: tuple[Found, ...]

    @property
    def news(self) -> int:
        """How many verdicts the database did not know yet."""
        return sum(found.news for found in self.found)

    def count(self, status: str) -> int:
        """How many of the news are accepted, or rejected."""
        return sum(found.news and found.status == status for found in self.found)


def record_verdicts(env: Environment, log: Log) -> int:
    """Look for verdicts on the packages that wait for one, and record those found in one transaction.

    A look is bounded in time, in date folders listed and in packages looked into, so that it is over before the next
    one; which these are is drawn at random, but for the newest folders, so that no package waits for ever.

    Returns:
        how many verdicts were news.

    Raises:
        TransientFailure: the DPS could not be asked; that is never "no verdicts". What was found before is recorded.
    """
    return _look(env, log, _waiting(env), LOOK_SECONDS, env.settings.workflow.max_verdicts).news


def look_back(env: Environment, log: Log, *, days: int) -> Look:
    """As `record_verdicts`, for a person: all packages, and all date folders back to `days` ago.

    Ends after `PERSONS_LOOK_SECONDS` all the same; what there was no time for is found by the next look.

    Arguments:
        days: verdicts that are older are not looked for.
    """
    earliest = env.now() - timedelta(days=days)
    waiting = [replace(package, created=max(package.created, earliest)) for package in _waiting(env)]
    return _look(env, log, waiting, PERSONS_LOOK_SECONDS, len(waiting), older=days + 2)


def _waiting(env: Environment) -> list[packages.Awaiting]:
    with env.transaction() as session:
        return packages.awaiting_verdict(session)


def _look(
    env: Environment,
    log: Log,
    waiting: Sequence[packages.Awaiting],
    seconds: float,
    limit: int,
    **folders: int,
) -> Look:
    if not waiting:
        return Look(0, ())
    by_name = {package.sip_filename: package for package in waiting}
    found: list[dps.Verdict] = []
    told: list[Found] = []
    deadline = time.monotonic() + seconds
    try:
        with dps.Dps(env.settings.dps) as service:
            # Counted from when the package was begun: its name is its own, and the send is only later.
            look = [dps.Waiting(package.sip_filename, objid(package.object_id), package.created) for package in waiting]
            for verdict in service.verdicts(look, limit=limit, until=deadline, **folders):
                found.append(verdict)
    finally:
        with env.transaction() as session:
            for verdict in found:
                package = by_name[verdict.name]
                news = packages.record_verdict(
                    session,
                    package.package_id,
                    verdict=Verdict(verdict.status),
                    reported=verdict.reported,
                    day=verdict.date,
                    transfer_id=verdict.transfer_id,
                )
                told.append(Found(package.object_id, verdict.name, verdict.status, verdict.reported, news))
                if news:
                    log(f"{verdict.name}: {verdict.status}")
    return Look(len(waiting), tuple(told))


def due_confirmations(env: Environment) -> dict[int, int]:
    """Packages whose confirmation may be launched now, with the object of each.

    A confirmation that failed, was cancelled or killed comes back with growing waits.
    """
    workflow = env.settings.workflow
    with env.transaction() as session:
        return packages.confirmations_due(
            session, now=env.now(), backoff=workflow.confirm_backoff, limit=workflow.max_verdicts
        )


def confirmations_launched(env: Environment, package_ids: Collection[int]) -> None:
    """The wait for another attempt begins. To be called before the launch: a wait too many does no harm."""
    with env.transaction() as session:
        packages.mark_confirm_requested(session, package_ids, now=env.now())
