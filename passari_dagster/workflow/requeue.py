"""Failed objects that are to be launched again: which, by how they failed, and which need it no more.

Finding failed runs, and launching new ones, is Dagster's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from itertools import islice
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from passari_dagster.catalogue import eligibility, packages
from passari_dagster.errors import PermanentFailure
from passari_dagster.workflow import audit
from passari_dagster.workflow.audit import Actor
from passari_dagster.workflow.bulk import Tally
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.standing import Failure

ACTION = "requeue_failed"
REQUEUED, CONFIRMED, LEFT = "requeued", "confirmation requeued", "left as it is"
MOST = 20_000
"""Failed runs of one call."""
BATCH = 500
"""Objects of one look into the database."""
_DAY = len("2026-01-31")


class Kind(str, Enum):
    """How a run failed."""

    SYSTEM_ERROR = "system error"
    """The world was at fault, and retries were spent, or could not help."""
    CONTENT_FAILURE = "content failure"
    """The SIP could not be made, and another try could not help: perhaps a content problem that no detector knows."""


@dataclass(frozen=True)
class Selection:
    """Which failures, by what their runs said.

    Arguments:
        kind: None: both.
        error: part of the message, in large or small letters; empty: whatever it says.
        step: the op that failed; empty: whichever, or none.
    """

    kind: Kind | None = None
    error: str = ""
    step: str = ""

    def has(self, failure: Failure) -> bool:
        """Whether it is one of them."""
        return (
            self.kind in (None, kind_of(failure))
            and self.error.casefold() in failure.message.casefold()
            and self.step in ("", failure.step)
        )

    def __str__(self) -> str:
        told = {"outcome": self.kind and self.kind.value, "error": self.error, "op": self.step}
        return ", ".join(f"{name}: {value}" for name, value in told.items() if value)


def kind_of(failure: Failure) -> Kind:
    """Whether the world or, as far as can be told, the object is at fault."""
    return Kind.CONTENT_FAILURE if failure.of_the_content else Kind.SYSTEM_ERROR


@dataclass
class Plan:
    """What is to be launched.

    Arguments:
        tally: of all failures that were selected.
        whole: objects that go through the steps, which pass over what is done.
        confirmations: objects whose verdict only waits to be confirmed, and the packages of each.
    """

    tally: Tally
    whole: list[int] = field(default_factory=list)
    confirmations: dict[int, list[int]] = field(default_factory=dict)

    @property
    def ids(self) -> list[int]:
        """All objects that are to be launched."""
        return [*self.whole, *self.confirmations]


def plan(
    env: Environment,
    failures: Iterable[Failure],
    selection: Selection,
    *,
    in_flight: Collection[int],
    registered: Collection[int],
    dry_run: bool = False,
    sample: int | None = 20,
) -> Plan:
    """Choose of the failures those that are selected and that a new run can mend. Nothing is changed.

    Left as they are: objects that have a run again, that are frozen or not eligible since, and those with the DPS.

    Arguments:
        failures: of the last runs of their objects; read one by one.
        in_flight: objects with a run that is queued or live, or soon will be.
        registered: objects that have a partition key already; others need room under `partition_cap`.
        dry_run: for the words of the answer.
        sample: how many objects of each outcome are told by id; None: all.
    """
    answer = Plan(Tally(dry_run=dry_run, sample=sample))
    room = env.settings.workflow.partition_cap - len(registered)
    selected = (failure for failure in failures if selection.has(failure))
    while batch := list(islice(selected, BATCH)):
        ids = [failure.object_id for failure in batch]
        with env.transaction() as session:
            unconfirmed = packages.unconfirmed_among(session, ids)
            why_not = _why_not(env, session, ids, in_flight)
        for failure in batch:
            object_id = failure.object_id
            why = why_not.get(object_id)
            if object_id in unconfirmed and object_id not in in_flight:
                why = None
            if why is None and object_id not in registered:
                why, room = (None, room - 1) if room > 0 else ("the cap on partition keys is reached", room)
            said = f"{failure.step or 'the run itself'}: {failure.message}"
            if why is not None:
                answer.tally.add(object_id, LEFT, f"{why}; it had failed in {said}")
            elif object_id in unconfirmed:
                answer.tally.add(object_id, CONFIRMED, said)
                answer.confirmations[object_id] = unconfirmed[object_id]
            else:
                answer.tally.add(object_id, REQUEUED, said)
                answer.whole.append(object_id)
    return answer


def _why_not(env: Environment, session: Session, ids: Collection[int], in_flight: Collection[int]) -> dict[int, str]:
    """Why objects are left as they are; the others are launched from the beginning."""
    explained = eligibility.explain(session, ids, now=env.now(), delays=env.delays)
    why = {each.object_id: each.reasons for each in explained if each.reasons}
    told = {object_id: str(reasons[0]) for object_id, reasons in why.items()}
    for object_id, sent in packages.latest_open(session, ids).items():
        frozen = next((each for each in why.get(object_id, ()) if each.reason is eligibility.FROZEN), None)
        if sent:
            told[object_id] = "its package is with the DPS, and is watched"
        elif frozen is not None:
            told[object_id] = str(frozen)
        else:
            told.pop(object_id, None)  # what was begun goes on
    return told | {id_: "a run of it is queued or live" for id_ in ids if id_ in in_flight}


def record(env: Environment, session: Session, actor: Actor, done: Plan, selection: Selection, *, reason: str) -> None:
    """The audit event of the launch that follows; and the wait for another confirmation begins anew."""
    now = env.now()
    audit.record(session, actor, ACTION, now=now, reason=reason, details=str(selection), object_ids=done.ids)
    confirmed = [id_ for package_ids in done.confirmations.values() for id_ in package_ids]
    packages.mark_confirm_requested(session, confirmed, now=now)


def moment(text: str, zone: ZoneInfo, *, end: bool = False) -> datetime | None:
    """A date, or a date and time, as a person writes it; None where nothing is written.

    Arguments:
        text: such as 2026-01-31 or 2026-01-31T14:30, perhaps with an offset.
        zone: of those without an offset.
        end: of a date alone the end is meant, not the beginning.

    Raises:
        PermanentFailure: it is neither.
    """
    text = text.strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise PermanentFailure(f"{text!r} is no date: write 2026-01-31 or 2026-01-31T14:30") from None
    if end and len(text) == _DAY:
        found += timedelta(days=1)
    return found if found.tzinfo else found.replace(tzinfo=zone)
