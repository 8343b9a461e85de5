"""Bringing Redis into line with Dagster's database, which is the truth: after a FLUSHALL, a lost or an old Redis, or a
worker that died with a run in its hands.

A run is enqueued again only while the database calls it QUEUED, and a worker executes it only if it is so still: too
much in the queue does no harm.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass

import dagster as dg

from passari_dagster.run_queue import runs
from passari_dagster.run_queue.dagster_internals import UNFINISHED
from passari_dagster.run_queue.ledger import LEASE_GRACE, Ledger

SECOND_LOOK = 2.0
"""Seconds after which a run that no queue holds is looked for once more: a worker may be about to begin it."""
OTHERS = [status for status in UNFINISHED if status is not dg.DagsterRunStatus.QUEUED]
AT_ONCE = 2000
"""Most runs that one call enqueues or claims again."""
COMPARE_EVERY = 300.0
"""Seconds after which all ids are compared, even if no number has changed."""


@dataclass(frozen=True)
class Reconciled:
    """What was brought into line.

    Arguments:
        enqueued: runs that no queue held.
        claimed: runs whose claim was lost.
        freed: claims of runs that have ended.
        failed: runs that never began.
        dropped: queued in Redis, and not in the database.
    """

    enqueued: int
    claimed: int
    freed: int
    failed: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{self.enqueued} runs enqueued again, {self.claimed} claimed again, {self.failed} never began, "
            f"{self.freed} claims freed, {self.dropped} dropped from the queue"
        )


def reconcile_if_changed(
    instance: dg.DagsterInstance, ledger: Ledger, seen: str | None
) -> tuple[Reconciled | None, str | None]:
    """Compare, unless all was well the last time and no number has changed since, which costs little to see.

    Arguments:
        seen: what the last call answered; None: there was none.

    Returns:
        what was brought into line, None if nothing was compared; and `seen` for the next call.

    Raises:
        redis.RedisError: Redis is away.
    """
    numbers, now = _numbers(instance, ledger), time.time()
    if seen is not None and not numbers["starting"]:
        last = json.loads(seen)
        # A clock that was set back has it compared.
        if last["numbers"] == numbers and 0 <= now - last["at"] < COMPARE_EVERY:
            return None, seen
    done = reconcile(instance, ledger)
    return done, None if any(astuple(done)) else json.dumps({"at": now, "numbers": numbers})


def _numbers(instance: dg.DagsterInstance, ledger: Ledger) -> dict[str, int | str]:
    """What changes when Redis or the database loses a run, or is replaced by an older one of itself."""

    def count(*statuses: dg.DagsterRunStatus) -> int:
        return instance.get_runs_count(dg.RunsFilter(statuses=list(statuses)))

    return {
        "redis": ledger.identity(),
        **ledger.depth(),
        "claims": ledger.claim_count(),
        "queued": count(dg.DagsterRunStatus.QUEUED),
        "starting": count(dg.DagsterRunStatus.STARTING),
        "others": count(*OTHERS),
    }


def reconcile(instance: dg.DagsterInstance, ledger: Ledger) -> Reconciled:
    """Compare, and mend what differs. Costs a handful of queries, however many runs are queued.

    Raises:
        redis.RedisError: Redis is away; nothing is lost by that, the next call does it.
    """
    # Redis is read before the database: what is new meanwhile is seen in the database, and not taken for lost.
    claims, in_redis = ledger.claims(), ledger.queued()
    others = _ids(instance, OTHERS)
    queued = _in_order(instance, [dg.DagsterRunStatus.QUEUED])
    # What began, or became queued, between the two is in one of the three.
    unfinished = others.union(queued, _ids(instance, OTHERS))
    freed = sum(ledger.release(claimed, run_id) for claimed, run_id in claims.items() if run_id not in unfinished)
    dropped = sum(ledger.remove(run_id) for run_id in in_redis - unfinished)
    return Reconciled(
        enqueued=_enqueue(instance, ledger, [run_id for run_id in queued if run_id not in in_redis]),
        claimed=_claim(instance, ledger, unfinished.difference(claims.values())),
        freed=freed,
        failed=_fail_those_that_never_began(instance, ledger),
        dropped=dropped,
    )


def _ids(instance: dg.DagsterInstance, statuses: Collection[dg.DagsterRunStatus]) -> set[str]:
    return set(_in_order(instance, statuses))


def _in_order(instance: dg.DagsterInstance, statuses: Collection[dg.DagsterRunStatus]) -> Sequence[str]:
    """The runs that were created first come first."""
    return instance.get_run_ids(dg.RunsFilter(statuses=list(statuses)))[::-1]


def _enqueue(instance: dg.DagsterInstance, ledger: Ledger, missing: Sequence[str]) -> int:
    """Enqueue runs in the order of their creation, so that the queue is as it was."""
    if not missing:
        return 0
    time.sleep(SECOND_LOOK)
    in_redis = ledger.queued()
    count = 0
    for run in _runs(instance, [run_id for run_id in missing if run_id not in in_redis]):
        taken = run.status is not dg.DagsterRunStatus.QUEUED or ledger.lease_of(run.run_id) is not None
        if not taken and runs.admit(instance, ledger, run):
            runs.enqueue(ledger, run, anew=True)
            count += 1
    return count


def _claim(instance: dg.DagsterInstance, ledger: Ledger, unclaimed: set[str]) -> int:
    """Runs that execute get their claim back; of those that are queued the worker sees to it.

    One that was created and never submitted, since its launcher was killed, gets none: nobody may ever execute it, and
    it would keep others from the object until run monitoring ends it.
    """
    count = 0
    for run in _runs(instance, list(unclaimed)):
        claimed = runs.claimed_by(run)
        is_one = not run.is_finished and run.status is not dg.DagsterRunStatus.NOT_STARTED
        if claimed is not None and is_one and ledger.claim(claimed, run.run_id) == run.run_id:
            count += 1
    return count


def _runs(instance: dg.DagsterInstance, ids: Sequence[str]) -> list[dg.DagsterRun]:
    """The first `AT_ONCE` of them, in the order of their creation."""
    if not ids:
        return []
    return list(instance.get_runs(dg.RunsFilter(run_ids=list(ids[:AT_ONCE])), ascending=True))


def _fail_those_that_never_began(instance: dg.DagsterInstance, ledger: Ledger) -> int:
    """A worker died between the report that a run is STARTING and its first event.

    It had the lease before it reported. How long ago that was is not asked: its clock may have been another one.
    """
    dead = _without_a_lease(instance, ledger)
    if dead:
        time.sleep(LEASE_GRACE)
        dead &= _without_a_lease(instance, ledger)
    for run_id in dead:
        runs.report_dead(instance, ledger, run_id, "The worker that took the run died before it began.")
    return len(dead)


def _without_a_lease(instance: dg.DagsterInstance, ledger: Ledger) -> set[str]:
    starting = _ids(instance, [dg.DagsterRunStatus.STARTING])
    return {run_id for run_id in starting if ledger.lease_of(run_id) is None}
