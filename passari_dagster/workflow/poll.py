"""Asking the DPS for its verdicts, and choosing what is to be confirmed. Launching that is Dagster's."""

from __future__ import annotations

import time
from collections.abc import Collection

from passari_dagster import dps
from passari_dagster.catalogue import packages
from passari_dagster.catalogue.models import Verdict
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.museum_toolkit import objid

LOOK_SECONDS = 40.0
"""After them nothing more is asked: a sensor's tick has 60 seconds in all."""


def record_verdicts(env: Environment, log: Log) -> int:
    """Look for verdicts on the packages that wait for one, and record those found in one transaction.

    A look is bounded in time, in date folders listed and in packages looked into, so that it is over before the next
    one; which these are is drawn at random, but for the newest folders, so that no package waits for ever.

    Returns:
        how many verdicts were news.

    Raises:
        TransientFailure: the DPS could not be asked; that is never "no verdicts". What was found before is recorded.
    """
    settings = env.settings
    with env.transaction() as session:
        waiting = packages.awaiting_verdict(session)
    if not waiting:
        return 0
    by_name = {package.sip_filename: package for package in waiting}
    found: list[dps.Verdict] = []
    deadline = time.monotonic() + LOOK_SECONDS
    recorded = 0
    try:
        with dps.Dps(settings.dps) as service:
            # Counted from when the package was begun: its name is its own, and the send is only later.
            look = [dps.Waiting(package.sip_filename, objid(package.object_id), package.created) for package in waiting]
            for verdict in service.verdicts(look, limit=settings.workflow.max_verdicts, until=deadline):
                found.append(verdict)
    finally:
        with env.transaction() as session:
            for verdict in found:
                news = packages.record_verdict(
                    session,
                    by_name[verdict.name].package_id,
                    verdict=Verdict(verdict.status),
                    reported=verdict.reported,
                    day=verdict.date,
                    transfer_id=verdict.transfer_id,
                )
                if news:
                    recorded += 1
                    log(f"{verdict.name}: {verdict.status}")
    return recorded


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
