"""What the steps of an object do with the database, done once before workers are forked: the forks have it compiled.

Not the files, and nobody outside: their modules are only brought into memory.
"""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import text
from sqlalchemy.orm import Session

from passari_dagster.catalogue import packages, recovery
from passari_dagster.catalogue.eligibility import Delays, why_not
from passari_dagster.catalogue.models import MuseumObject, Verdict
from passari_dagster.settings import Settings
from passari_dagster.workflow.environment import open_environment

OBJECT = -1
"""No object of a museum has such an id."""
LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


def rehearse(settings: Settings) -> None:
    """Take an object that nobody will ever see through its whole life, in a transaction that is never committed.

    Raises:
        SQLAlchemyError: the database is away, or has not our tables.
        SettingsError: there is no such toolkit.
    """
    # Imported by the toolkit when they are needed only.
    from passari_dagster.dps import rest, sftp  # noqa: F401

    # Left without a commit. Each step begins with nothing in memory, as in a process of its own.
    with open_environment(settings) as env, Session(env.engine, expire_on_commit=False) as session:
        # Another pool may rehearse at this moment, and stand still in the middle of it: nobody waits for that.
        session.execute(text("SET LOCAL lock_timeout = '5s'"))
        session.add(MuseumObject(id=OBJECT, created_date=LONG_AGO, modified_date=LONG_AGO))
        _live(session, env.delays)


def _live(session: Session, delays: Delays) -> None:
    now = datetime.now(timezone.utc)
    _forget(session)
    why_not(session, OBJECT, now=now, delays=delays)
    begun = packages.begin(session, OBJECT, object_modified=LONG_AGO, now=now)
    _forget(session)
    packages.latest(session, OBJECT)
    packages.mark_downloaded(session, begun.package_id, object_modified=LONG_AGO, attachment_ids=[])
    _forget(session)
    packages.mark_packaged(session, begun.package_id, size=0, sha256="")
    _forget(session)
    packages.mark_submitting(session, begun.package_id, now=now)
    _forget(session)
    recovery.restore(session, OBJECT, [recovery.record(session, begun.package_id)])
    _forget(session)
    packages.mark_uploaded(session, begun.package_id, now=now)
    packages.record_verdict(
        session, begun.package_id, verdict=Verdict.ACCEPTED, reported=now, day=now.date(), transfer_id=""
    )
    _forget(session)
    packages.unconfirmed(session, OBJECT)
    packages.close(session, begun.package_id)
    packages.mark_confirmed(session, begun.package_id, now=now)
    session.flush()


def _forget(session: Session) -> None:
    session.flush()
    session.expunge_all()
