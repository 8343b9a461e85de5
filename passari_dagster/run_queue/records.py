"""Old records in Dagster's database: found, and removed in batches, each of them one short transaction.

Dagster's own `delete_run` takes some ten statements for a run, each committed by itself, and the run before its events:
who is killed in between leaves events of no run. For ever it leaves the plan of each re-execution, which names the
parent and so is another one for each object. Here a batch of runs goes whole or not at all, with all that is theirs.

The unit is a family: a run and all its re-executions. Dagster fails a re-execution whose ancestors are not all there
(1.13.27, `_derive_state_from_logs`), and shows them beside each other. What is still needed is decided by who calls.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from sqlalchemy import Connection, TextClause, text

from passari_dagster.errors import PermanentFailure
from passari_dagster.run_queue.dagster_internals import ENDED_BACKFILLS, FINISHED, ROOT_RUN_ID_TAG
from passari_dagster.run_queue.storage import PooledRunStorage

RUNS_AT_ONCE = 200
ROWS_AT_ONCE = 1000
LOCK_WAIT = "5s"

# `update_timestamp` is in UTC, without saying so. A run that is nobody's child is the root of its family.
_OLD = text(
    """
    SELECT r.id, coalesce(root.value, r.run_id) AS family
    FROM runs r LEFT JOIN run_tags root ON root.run_id = r.run_id AND root.key = :root
    WHERE r.id > :after AND r.status = ANY(:finished)
    AND coalesce(r.end_time, extract(epoch FROM r.update_timestamp)) < :before
    ORDER BY r.id LIMIT :limit
    """
)
_MEMBERS = text(
    """
    WITH member AS (
        SELECT unnest(CAST(:families AS text[])) AS run_id
        UNION SELECT run_id FROM run_tags WHERE key = :root AND value = ANY(:families)
    )
    SELECT r.run_id, coalesce(root.value, r.run_id) AS family, r.partition, r.status = ANY(:finished) AS finished,
        coalesce(r.end_time, extract(epoch FROM r.update_timestamp)) AS ended,
        EXISTS (SELECT FROM event_logs e WHERE e.run_id = r.run_id AND e.asset_key IS NOT NULL)
        OR EXISTS (SELECT FROM asset_check_executions c WHERE c.run_id = r.run_id) AS tells_of_assets,
        EXISTS (SELECT FROM bulk_actions b WHERE b.key = r.backfill_id AND b.status <> ALL(:ended)) AS in_open_backfill
    FROM member JOIN runs r USING (run_id) LEFT JOIN run_tags root ON root.run_id = r.run_id AND root.key = :root
    """
)
# What an asset's page shows first: the latest event of each kind, and the latest of each check.
_LATEST = text(
    """
    SELECT run_id FROM event_logs WHERE id IN (
        SELECT max(id) FROM event_logs WHERE asset_key IS NOT NULL GROUP BY asset_key, dagster_event_type, partition
    )
    UNION SELECT last_run_id FROM asset_keys WHERE last_run_id IS NOT NULL
    UNION SELECT run_id FROM asset_check_executions
    WHERE id IN (SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name)
    """
)
_PLANS = text(
    """
    SELECT snapshot_id, snapshot_body FROM snapshots WHERE snapshot_id IN (
        SELECT substring(run_body FROM '"execution_plan_snapshot_id": "([0-9a-f]+)"') FROM runs
        WHERE run_id = ANY(:runs) AND run_body LIKE '%"parent_run_id": "%'
    )
    """
)
_NAMES_A_PARENT = b'"PastExecutionState"'
_FORGET_PLANS = text("DELETE FROM snapshots WHERE snapshot_id = ANY(:plans)")
_FORGET_EVENTS = text("DELETE FROM event_logs WHERE run_id = ANY(:runs)")
_FORGET = [
    text(statement)
    for statement in (
        """
        DELETE FROM asset_event_tags WHERE event_id IN (
            SELECT id FROM event_logs WHERE run_id = ANY(:runs) AND asset_key IS NOT NULL
        )
        """,
        "DELETE FROM asset_check_executions WHERE run_id = ANY(:runs)",
        # Dagster's monitor frees the places of runs that it finds: it would not find these.
        "UPDATE concurrency_slots SET run_id = NULL, step_key = NULL WHERE run_id = ANY(:runs)",
        "DELETE FROM pending_steps WHERE run_id = ANY(:runs)",
        "DELETE FROM runs WHERE run_id = ANY(:runs)",  # and with them their tags
    )
]
_FORGET_BACKFILLS = text(
    """
    WITH gone AS (
        DELETE FROM bulk_actions WHERE id IN (
            SELECT id FROM bulk_actions b
            WHERE status = ANY(:ended) AND timestamp < :before
            AND NOT EXISTS (SELECT FROM runs r WHERE r.backfill_id = b.key)
            ORDER BY id LIMIT :limit
        ) RETURNING key
    ), tags AS (DELETE FROM backfill_tags WHERE backfill_id IN (SELECT key FROM gone))
    SELECT count(*) FROM gone
    """
)
# The last tick of each is what the daemon goes on from.
_FORGET_TICKS = text(
    """
    DELETE FROM job_ticks WHERE id IN (
        SELECT id FROM job_ticks WHERE timestamp < :before
        AND id NOT IN (SELECT max(id) FROM job_ticks GROUP BY selector_id, job_origin_id)
        ORDER BY id LIMIT :limit
    )
    """
)
# Events that no run wrote: a materialization reported by hand, a change of freshness.
_FORGET_RUNLESS = text(
    """
    WITH gone AS (
        DELETE FROM event_logs WHERE id IN (
            SELECT id FROM event_logs WHERE run_id = '' AND timestamp < :before AND id NOT IN (
                SELECT max(id) FROM event_logs WHERE asset_key IS NOT NULL
                GROUP BY asset_key, dagster_event_type, partition
            )
            ORDER BY id LIMIT :limit
        ) RETURNING id
    ), tags AS (DELETE FROM asset_event_tags WHERE event_id IN (SELECT id FROM gone))
    SELECT count(*) FROM gone
    """
)
# One look into the index for each run, instead of one at each of its events.
_RUNS_OF_EVENTS = text(
    """
    WITH RECURSIVE found(run_id, number) AS (
        (SELECT run_id, 1 FROM event_logs WHERE run_id > :after ORDER BY run_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.run_id FROM event_logs e WHERE e.run_id > found.run_id ORDER BY e.run_id LIMIT 1), number + 1
        FROM found WHERE found.run_id IS NOT NULL AND number < :limit
    )
    SELECT found.run_id, EXISTS (SELECT FROM runs WHERE runs.run_id = found.run_id) AS there
    FROM found WHERE found.run_id IS NOT NULL ORDER BY 1
    """
)
_COUNTS = text(
    """
    SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM event_logs) AS events,
        (SELECT count(*) FROM bulk_actions) AS backfills, (SELECT count(*) FROM job_ticks) AS ticks,
        pg_database_size(current_database()) AS database_bytes
    """
)
_THERE = text("SELECT run_id FROM runs WHERE run_id = ANY(:runs)")


# For each plan that is removed PostgreSQL looks whether a run has it as its `snapshot_id`, which none ever has: without
# this index by reading all runs.
_INDEX = text("CREATE INDEX IF NOT EXISTS idx_passari_runs_snapshot_id ON runs (snapshot_id)")


@dataclass
class Family:
    """A run and its re-executions.

    Arguments:
        run_ids: of all of them.
        partitions: the partition keys that they were launched for.
        finished: whether all have ended.
        ended: seconds since the epoch: when the last one did.
        tells_of_assets: whether materializations, observations or checks are among their events.
        in_open_backfill: whether one of them belongs to a backfill that has not ended.
    """

    run_ids: list[str]
    partitions: set[str]
    finished: bool = True
    ended: float = 0.0
    tells_of_assets: bool = False
    in_open_backfill: bool = False


@contextlib.contextmanager
def _transaction(instance: dg.DagsterInstance) -> Iterator[Connection]:
    storage = instance.run_storage
    if not isinstance(storage, PooledRunStorage):
        raise PermanentFailure("dagster.yaml, storage: old records are removed from PooledPostgresStorage only")
    with storage.transaction() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'"))
        yield connection


def prepare(instance: dg.DagsterInstance) -> None:
    """Make the one index that removing needs, unless it is there. It is the only thing that we add to Dagster's tables.

    Raises:
        PermanentFailure: the instance is not on PostgreSQL.
    """
    with _transaction(instance) as connection:
        connection.execute(_INDEX)


def old_families(instance: dg.DagsterInstance, before: datetime, after: int = 0) -> tuple[list[Family], int | None]:
    """Families that have a run which ended before; some of them may have younger ones, too.

    Arguments:
        before: a moment, with its zone.
        after: where the last call came to.

    Returns:
        the families of the next `RUNS_AT_ONCE` runs, and where to go on; None: there are no more.
    """
    finished = {"finished": [status.value for status in FINISHED], "root": ROOT_RUN_ID_TAG}
    with _transaction(instance) as connection:
        old = connection.execute(
            _OLD, {**finished, "after": after, "before": before.timestamp(), "limit": RUNS_AT_ONCE}
        ).all()
        families = sorted({row.family for row in old})
        members = connection.execute(_MEMBERS, {**finished, "families": families, "ended": _ENDED_NAMES}).all()
    found: dict[str, Family] = defaultdict(lambda: Family([], set()))
    for row in members:
        family = found[row.family]
        family.run_ids.append(row.run_id)
        family.partitions.update([row.partition] if row.partition else [])
        family.finished &= row.finished
        family.ended = max(family.ended, float(row.ended))
        family.tells_of_assets |= row.tells_of_assets
        family.in_open_backfill |= row.in_open_backfill
    return list(found.values()), old[-1].id if len(old) == RUNS_AT_ONCE else None


def latest_of_assets(instance: dg.DagsterInstance) -> set[str]:
    """Runs that tell the latest of an asset or of a check."""
    with _transaction(instance) as connection:
        return set(connection.scalars(_LATEST))


def remove_runs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> int:
    """Remove whole families of runs, with events, tags, checks and plans.

    Returns:
        how many events went with them.
    """
    runs = {"runs": list(run_ids)}
    with _transaction(instance) as connection:
        plans = connection.execute(_PLANS, runs).all()
        own = [row.snapshot_id for row in plans if _NAMES_A_PARENT in zlib.decompress(row.snapshot_body)]
        for statement in _FORGET:
            connection.execute(statement, runs)
        connection.execute(_FORGET_PLANS, {"plans": own})
        return connection.execute(_FORGET_EVENTS, runs).rowcount


def remove_backfills(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove some backfills that were launched before, have ended, and have no run any more; answers how many."""
    return _remove(instance, _FORGET_BACKFILLS, before, ended=_ENDED_NAMES)


def remove_ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove some ticks of schedules and sensors, but never the last one of each; answers how many."""
    return _remove(instance, _FORGET_TICKS, before)


def remove_runless_events(instance: dg.DagsterInstance, before: datetime) -> int:
    """Remove some events that no run wrote, but never the latest of an asset; answers how many."""
    return _remove(instance, _FORGET_RUNLESS, before)


def _remove(instance: dg.DagsterInstance, statement: TextClause, before: datetime, **values: object) -> int:
    """One batch; 0: nothing is left to remove."""
    # Both columns are in UTC, the time zone of all sessions: see `storage.Connections`.
    with _transaction(instance) as connection:
        result = connection.execute(statement, {"before": before, "limit": ROWS_AT_ONCE, **values})
        return int(result.scalar_one()) if result.returns_rows else result.rowcount


def remove_orphans(instance: dg.DagsterInstance, after: str = "") -> tuple[int, str | None]:
    """Remove events whose run is gone, as a deletion leaves them that was cut short.

    A run is written before its first event, so that none is taken for gone that is only beginning.

    Arguments:
        after: where the last call came to.

    Returns:
        how many events were removed, and where to go on; None: there are no more.
    """
    with _transaction(instance) as connection:
        rows = connection.execute(_RUNS_OF_EVENTS, {"after": after, "limit": ROWS_AT_ONCE}).all()
        gone = [row.run_id for row in rows if not row.there]
    events = sum(
        remove_runs(instance, gone[start : start + RUNS_AT_ONCE]) for start in range(0, len(gone), RUNS_AT_ONCE)
    )
    return events, rows[-1].run_id if len(rows) == ROWS_AT_ONCE else None


def existing(instance: dg.DagsterInstance, run_ids: Collection[str]) -> set[str]:
    """Those of the runs that the database has."""
    with _transaction(instance) as connection:
        return set(connection.scalars(_THERE, {"runs": list(run_ids)}))


def counts(instance: dg.DagsterInstance) -> dict[str, int]:
    """How much there is, and the bytes of the database."""
    with _transaction(instance) as connection:
        row = connection.execute(_COUNTS).mappings().one()
    return {name: int(value) for name, value in row.items()}


_ENDED_NAMES = [status.value for status in ENDED_BACKFILLS]
