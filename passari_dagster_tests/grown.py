"""Dagster's database as it is after months: what a system has written is copied many times over, with ids of its own.

Everything is copied that was written for one object (its two runs with their events, tags, plans and backfills) and for
the syncs (runs, materializations, checks). So the copies are as large, and look the same to Dagster, as what they are
copied from; only that many backfills have few objects, which is how confirmations come in, is told here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, create_engine, text

FIRST_KEY = 5_000_000
"""Objects that exist as copies only have ids from here on."""
SYNC_JOBS = ("sync_objects", "sync_attachments", "sync_hashes")


@dataclass(frozen=True)
class Growth:
    """How much there is to be.

    Arguments:
        objects: that have a first run and its confirmation, each with a backfill.
        per_enqueue: objects in a backfill of `enqueue_objects`.
        per_confirmation: objects in a backfill of confirmations.
        oldest_days: how long ago the first of them was begun; the others follow evenly, up to now.
        sync_days: how many days, up to now, had a sync of each kind.
    """

    objects: int
    per_enqueue: int = 100
    per_confirmation: int = 3
    oldest_days: float = 30.0
    sync_days: int = 365


_COPIES = """
CREATE TEMP TABLE copies AS
SELECT n, p.run_id AS pattern, p.kind, md5(p.kind || n)::uuid::text AS run_id, p.start_time,
    interval '1 second' * round(
        CASE WHEN p.kind IN ('first', 'confirm') THEN (:objects - n) * :days * 86400.0 / :objects
        ELSE (:sync_days - n) * 86400.0 + 7200 END
    ) AS age
FROM (
    SELECT run_id, 'first' AS kind, start_time, CAST(:objects AS int) AS number FROM runs WHERE run_id = :first
    UNION ALL SELECT run_id, 'confirm', start_time, :objects FROM runs WHERE run_id = :confirm
    UNION ALL (
        SELECT DISTINCT ON (pipeline_name) run_id, pipeline_name, start_time, :sync_days FROM runs
        WHERE pipeline_name = ANY(:sync_jobs) AND status = 'SUCCESS' ORDER BY pipeline_name, id
    )
) p, LATERAL generate_series(1, p.number) AS n
"""

# A confirmation's plan names its parent: each has its own.
_STATEMENTS = [
    "CREATE INDEX ON copies (pattern)",
    "ANALYZE copies",
    """
    INSERT INTO snapshots (snapshot_id, snapshot_body, snapshot_type)
    SELECT {plan}, snapshot_body, snapshot_type FROM snapshots, copies c
    WHERE snapshot_id = :plan AND c.kind = 'confirm'
    """,
    """
    INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set,
        create_timestamp, update_timestamp, start_time, end_time, backfill_id)
    SELECT c.run_id, r.snapshot_id, r.pipeline_name, r.mode, r.status, {run_body},
        CASE WHEN r.partition IS NOT NULL THEN {key} END, r.partition_set,
        r.create_timestamp - c.age, r.update_timestamp - c.age,
        r.start_time - extract(epoch FROM c.age), r.end_time - extract(epoch FROM c.age),
        CASE c.kind WHEN 'first' THEN {enqueued} WHEN 'confirm' THEN {confirmed} END
    FROM copies c JOIN runs r ON r.run_id = c.pattern ORDER BY r.create_timestamp - c.age
    """,
    """
    INSERT INTO run_tags (run_id, key, value)
    SELECT c.run_id, t.key, {value} FROM copies c JOIN run_tags t ON t.run_id = c.pattern
    """,
    """
    INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT c.run_id, {event}, e.dagster_event_type, e.timestamp - c.age, e.step_key, e.asset_key, e.partition
    FROM copies c JOIN event_logs e ON e.run_id = c.pattern ORDER BY c.start_time - extract(epoch FROM c.age), e.id
    """,
    """
    INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status, evaluation_event,
        evaluation_event_timestamp, evaluation_event_storage_id, materialization_event_storage_id, create_timestamp)
    SELECT x.asset_key, x.check_name, x.partition, c.run_id, x.execution_status,
        replace(x.evaluation_event, c.pattern, c.run_id), x.evaluation_event_timestamp - c.age,
        x.evaluation_event_storage_id, x.materialization_event_storage_id, x.create_timestamp - c.age
    FROM copies c JOIN asset_check_executions x ON x.run_id = c.pattern ORDER BY c.age DESC
    """,
    """
    INSERT INTO bulk_actions (key, status, timestamp, body, action_type, selector_id, job_name)
    SELECT c.backfill, 'COMPLETED_SUCCESS', b.timestamp - c.age,
        regexp_replace(regexp_replace(regexp_replace(replace(b.body, b.key, c.backfill),
            '"partition_names": \\[[^]]*\\]', '"partition_names": [' || c.keys || ']'),
            '"backfill_timestamp": [0-9.]+',
            '"backfill_timestamp": ' || extract(epoch FROM b.timestamp - c.age)::text),
            '"backfill_end_timestamp": [0-9.]+',
            '"backfill_end_timestamp": ' || extract(epoch FROM b.timestamp - c.age + interval '1 minute')::text),
        b.action_type, b.selector_id, b.job_name
    FROM (
        SELECT CASE c.kind WHEN 'first' THEN {enqueued} ELSE {confirmed} END AS backfill, min(c.kind) AS kind,
            string_agg('"' || {key} || '"', ', ' ORDER BY n) AS keys, max(c.age) AS age
        FROM copies c WHERE c.kind IN ('first', 'confirm') GROUP BY 1
    ) c JOIN bulk_actions b ON b.key = CASE c.kind WHEN 'first' THEN :first_backfill ELSE :confirm_backfill END
    ORDER BY c.age DESC
    """,
    """
    INSERT INTO backfill_tags (backfill_id, key, value)
    SELECT DISTINCT {confirmed}, t.key, t.value FROM copies c, backfill_tags t
    WHERE c.kind = 'confirm' AND t.backfill_id = :confirm_backfill
    """,
]


def _fill(statement: str) -> str:
    key = f"({FIRST_KEY} + c.n)::text"
    enqueued, confirmed = "left(md5('e' || c.n / :per_enqueue), 8)", "left(md5('c' || c.n / :per_confirmation), 8)"
    plan = "left(md5('plan' || c.n), 40)"
    ids = "replace(replace({0}, :first, md5('first' || c.n)::uuid::text), :confirm, md5('confirm' || c.n)::uuid::text)"
    ids = f"replace(replace({ids}, :first_backfill, {enqueued}), :confirm_backfill, {confirmed})"
    ids = f"replace(replace({ids}, :key, {key}), :plan, {plan})"
    copied = f"CASE WHEN c.kind IN ('first', 'confirm') THEN {ids} ELSE replace({{0}}, c.pattern, c.run_id) END"
    # The plots go by the time that is written in the event itself.
    moved = (
        'CASE WHEN e.asset_key IS NULL THEN {0} ELSE regexp_replace({0}, \'"timestamp": [0-9.]+, "user_message"\','
        " '\"timestamp\": ' || extract(epoch FROM e.timestamp - c.age)::text || ', \"user_message\"') END"
    )
    return statement.format(
        key=key,
        enqueued=enqueued,
        confirmed=confirmed,
        plan=plan,
        run_body=copied.format("r.run_body"),
        value=copied.format("t.value"),
        event=moved.format(f"({copied.format('e.event')})"),
    )


def grow(database_url: str, object_id: int, growth: Growth) -> None:
    """Copy what a running system has written of an object that is confirmed, and of its syncs.

    Arguments:
        database_url: of Dagster's database.
        object_id: sent and confirmed by one run each.
    """
    engine = create_engine(database_url)
    with engine.begin() as connection:
        values = _pattern(connection, object_id)
        values.update(
            objects=growth.objects,
            days=growth.oldest_days,
            sync_days=growth.sync_days,
            sync_jobs=list(SYNC_JOBS),
            per_enqueue=growth.per_enqueue,
            per_confirmation=growth.per_confirmation,
        )
        for statement in (_COPIES, *map(_fill, _STATEMENTS)):
            connection.execute(text(statement), values)
        connection.execute(text("DROP TABLE copies"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def add_keys(database_url: str, name: str, keys: list[str]) -> None:
    """Give partition keys to a set of dynamic partitions."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO dynamic_partitions (partitions_def_name, partition)"
                " SELECT :name, unnest(CAST(:keys AS text[])) ON CONFLICT DO NOTHING"
            ),
            {"name": name, "keys": keys},
        )
    engine.dispose()


def _pattern(connection: Connection, object_id: int) -> dict[str, object]:
    first, confirm = connection.execute(
        text(
            'SELECT run_id, backfill_id, substring(run_body FROM \'"execution_plan_snapshot_id": "([0-9a-f]+)"\')'
            " FROM runs WHERE partition = :key AND status = 'SUCCESS' ORDER BY id"
        ),
        {"key": str(object_id)},
    ).all()
    return {
        "key": str(object_id),
        "first": first[0],
        "first_backfill": first[1],
        "confirm": confirm[0],
        "confirm_backfill": confirm[1],
        "plan": confirm[2],
    }
