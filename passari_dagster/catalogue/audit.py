"""The audit log: who did what, when, why, and to which objects.

An event is recorded in the transaction that does what it tells of, so that neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import AuditEvent, audit_event_objects

SAMPLE = 20
"""Objects of an event that are told by id."""
NAMED = 3
"""Those of them that a row of a table names."""
_OBJECTS = text(
    "INSERT INTO audit_event_objects (audit_event_id, museum_object_id) "
    "SELECT DISTINCT CAST(:event AS bigint), unnest(CAST(:ids AS bigint[]))"
)


@dataclass(frozen=True)
class Actor:
    """Who does something.

    Arguments:
        who: the login, or what is known instead of it, such as `unknown (ui)`.
        run_id: Dagster's run in which it is done; None: the command line.
    """

    who: str
    run_id: str | None = None


@dataclass(frozen=True)
class Event:
    """What was recorded.

    Arguments:
        objects: of how many objects it tells.
        object_ids: the first of them, by id.
    """

    id: int
    date: datetime
    who: str
    action: str
    reason: str
    details: str
    run_id: str | None
    objects: int
    object_ids: tuple[int, ...]

    @property
    def what(self) -> str:
        """The action, with its details."""
        return f"{self.action}: {self.details}" if self.details else self.action

    @property
    def which(self) -> str:
        """How many objects, and the first of them; empty: none."""
        ids = ", ".join(map(str, self.object_ids[:NAMED])) + (", …" if self.objects > NAMED else "")
        return f"{self.objects}: {ids}" if self.objects else ""


def record(
    session: Session,
    actor: Actor,
    action: str,
    *,
    now: datetime,
    reason: str = "",
    details: str = "",
    object_ids: Collection[int] = (),
    event_id: int | None = None,
) -> int:
    """Record what is done in this transaction.

    Arguments:
        action: name of the job or command.
        reason: why, in the person's words.
        details: what exactly, in a few words.
        event_id: of the event that tells of these objects, too: what is done in several transactions is one event.

    Returns:
        the event's id, for the next of these transactions.
    """
    if event_id is None:
        row = AuditEvent(date=now, who=actor.who, action=action, reason=reason, details=details, run_id=actor.run_id)
        session.add(row)
        session.flush()
        event_id = row.id
    if object_ids:
        session.execute(_OBJECTS, {"event": event_id, "ids": list(object_ids)})
    return event_id


@dataclass
class Deed:
    """One thing that is done in several transactions: one event, which is recorded with the first of them.

    Arguments:
        now: the clock.
        actor, action, reason, details: as `record` has them.
    """

    now: Callable[[], datetime]
    actor: Actor
    action: str
    reason: str = ""
    details: str = ""
    _event_id: int | None = None

    def record(self, session: Session, object_ids: Collection[int]) -> None:
        """Record in this transaction that it is done to these objects."""
        event_id = record(
            session,
            self.actor,
            self.action,
            now=self.now(),
            reason=self.reason,
            details=self.details,
            object_ids=object_ids,
            event_id=self._event_id,
        )

        @event.listens_for(session, "after_commit", once=True)
        def remember(_session: Session) -> None:
            # Not before: a transaction that is rolled back takes its event along.
            self._event_id = event_id


def objects_of_runs(session: Session, action: str, run_ids: Collection[str], *, limit: int) -> list[int]:
    """Objects that were told of in these runs of a job, by id: what a run that is started again finds done.

    Arguments:
        limit: most of them.
    """
    query = (
        select(audit_event_objects.c.museum_object_id)
        .join(AuditEvent, AuditEvent.id == audit_event_objects.c.audit_event_id)
        .where(AuditEvent.action == action, AuditEvent.run_id.in_(run_ids))
        .distinct()
        .order_by(audit_event_objects.c.museum_object_id)
        .limit(limit)
    )
    return list(session.scalars(query))


def last_time(session: Session, action: str, object_ids: Collection[int]) -> dict[int, datetime]:
    """When this was done the last time to each of the objects to which it ever was."""
    query = (
        select(audit_event_objects.c.museum_object_id, func.max(AuditEvent.date))
        .join(AuditEvent, AuditEvent.id == audit_event_objects.c.audit_event_id)
        .where(AuditEvent.action == action, audit_event_objects.c.museum_object_id.in_(object_ids))
        .group_by(audit_event_objects.c.museum_object_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def count(session: Session, *, since: datetime) -> int:
    """How many events there are from a moment on."""
    return session.scalar(select(func.count()).select_from(AuditEvent).where(AuditEvent.date >= since)) or 0


def events(session: Session, *, limit: int, object_id: int | None = None, since: datetime | None = None) -> list[Event]:
    """The last events, newest first.

    Arguments:
        limit: most of them.
        object_id: those that tell of this object only.
        since: those from that moment on only.
    """
    query = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if object_id is not None:
        told = select(audit_event_objects.c.audit_event_id).where(audit_event_objects.c.museum_object_id == object_id)
        query = query.where(AuditEvent.id.in_(told))
    if since is not None:
        query = query.where(AuditEvent.date >= since)
    found = []
    for row in session.scalars(query):
        of_event = audit_event_objects.c.audit_event_id == row.id
        ids = select(audit_event_objects.c.museum_object_id).where(of_event).order_by("museum_object_id").limit(SAMPLE)
        number = session.scalar(select(func.count()).select_from(audit_event_objects).where(of_event)) or 0
        found.append(
            Event(
                id=row.id,
                date=row.date,
                who=row.who,
                action=row.action,
                reason=row.reason,
                details=row.details,
                run_id=row.run_id,
                objects=number,
                object_ids=tuple(session.scalars(ids)),
            )
        )
    return found
