"""Choosing the objects that go into the workflow next. Launching them is Dagster's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from passari_dagster.catalogue import eligibility, packages
from passari_dagster.workflow.environment import Environment


@dataclass(frozen=True)
class Chosen:
    """What to launch.

    Arguments:
        ids: the objects, in the order of launching.
        left: how many more were asked for and eligible, for which there is no room under the cap.
        refused: objects that were asked for by id, and why each is not launched.
    """

    ids: tuple[int, ...]
    left: int
    refused: dict[int, str]


def choose(
    env: Environment,
    *,
    count: int | None,
    object_ids: Sequence[int],
    random: bool,
    in_flight: Collection[int],
    registered: Collection[int],
    change: Callable[[Session], object] | None = None,
) -> Chosen:
    """Pick eligible objects that are not in the workflow. To be called under the workflow lock.

    Arguments:
        count: most objects; None: all of `object_ids`.
        object_ids: consider these only; empty: all objects.
        random: in random order, instead of by id.
        in_flight: objects with a run that is queued or live, or soon will be.
        registered: objects that have a partition key already; others need room under `partition_cap`.
        change: to the database, which is undone: what would be chosen after it.
    """
    asked = list(dict.fromkeys(object_ids))
    with env.transaction() if change is None else env.undone() as session:
        if change is not None:
            change(session)
        found = eligibility.eligible_ids(
            session,
            now=env.now(),
            delays=env.delays,
            limit=count,
            random=random,
            among=asked or None,
            excluding=in_flight,
        )
        if asked:
            # What was begun and never sent goes on when it is launched again.
            begun = packages.unfinished_ids(session, among=asked)
            found = sorted({*found, *begun}.difference(in_flight))[:count]
        others = set(asked).difference(found)
        told = eligibility.reasons(session, others, now=env.now(), delays=env.delays) if others else {}
    refused = {
        object_id: "a run of it is queued or live"
        if object_id in in_flight
        else told.get(object_id, "more objects than object_count")
        for object_id in others
    }
    ids = fit(found, registered=registered, cap=env.settings.workflow.partition_cap)
    return Chosen(ids=tuple(ids), left=len(found) - len(ids), refused=refused)


def choose_after(
    env: Environment,
    change: Callable[[Session], object],
    object_ids: Sequence[int],
    *,
    in_flight: Collection[int],
    registered: Collection[int],
) -> Chosen:
    """What `choose` would answer of all these objects after a change, which is undone. Of none: nothing."""
    if not object_ids:
        return Chosen((), 0, {})
    return choose(
        env,
        count=None,
        object_ids=object_ids,
        random=False,
        in_flight=in_flight,
        registered=registered,
        change=change,
    )


def fit(ids: Sequence[int], *, registered: Collection[int], cap: int) -> list[int]:
    """The first of the ids that can be registered without more than `cap` keys in all."""
    known, room, fitting = set(registered), cap - len(registered), []
    for object_id in ids:
        if object_id in known:
            fitting.append(object_id)
        elif room > 0:
            fitting.append(object_id)
            room -= 1
    return fitting


def candidates(env: Environment, *, limit: int, in_flight: Collection[int]) -> list[int]:
    """Objects for an administrator to pick from: those that were begun and never sent, then the next eligible ones.

    Arguments:
        in_flight: objects with a run, which need nobody.
    """
    with env.transaction() as session:
        begun = [id_ for id_ in packages.unfinished_ids(session, limit=limit) if id_ not in in_flight]
        eligible = eligibility.eligible_ids(
            session, now=env.now(), delays=env.delays, limit=limit - len(begun), excluding=in_flight
        )
    return begun + eligible


def stranded(env: Environment, *, in_flight: Collection[int]) -> list[int]:
    """Objects whose package was begun and not sent, and that have no run: nobody goes on with them unasked."""
    with env.transaction() as session:
        return [id_ for id_ in packages.unfinished_ids(session) if id_ not in in_flight]


def finished(env: Environment, ids: Collection[int]) -> list[int]:
    """Those of the objects that wait for nothing in the workflow: not eligible, and without an open package."""
    with env.transaction() as session:
        return eligibility.prunable_ids(session, ids, now=env.now(), delays=env.delays)


def dispensable(env: Environment, ids: Collection[int]) -> list[int]:
    """Those of the objects that can do without a partition key, in the order in which they give way.

    First those that wait for nothing. Then those that may be picked by hand, and come back after the next sync; the DPS
    has the others, and they come back when it has spoken.
    """
    first = finished(env, ids)
    with env.transaction() as session:
        eligible = eligibility.eligible_ids(session, now=env.now(), delays=env.delays, among=ids)
        waiting = sorted({package.object_id for package in packages.awaiting_verdict(session)}.intersection(ids))
    return list(dict.fromkeys([*first, *eligible, *waiting]))


def in_the_workflow(env: Environment, ids: Collection[int]) -> set[int]:
    """Those of the objects that have a package which is not done with: its runs may yet be asked for."""
    with env.transaction() as session:
        return packages.in_the_workflow(session, ids)
