"""Dagster's storage in PostgreSQL, over one small pool of connections for each process.

Dagster's own storage opens a connection for every statement, in each of its three parts, and in the webserver keeps up
to 63. Here runs, events and schedules share one pool, and so do all instances that a process has of one database (the
code server makes a new one for each tick). A fork keeps nothing of its parent's connections: see `_start_anew`.

What is stored, and how, is dagster-postgres's affair; nothing of it is changed here. It is no interface that others may
build upon, so what we rely on is told by `test_storage.py`: that its classes reach the database through their attribute
`_engine` and nothing else, that `optimize_for_webserver` is what makes engines for the webserver, and that an instance
is done with its storages when it has called `dispose` of the events' one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import psycopg2
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from passari_dagster.connections import ping_when_idle, postgres_arguments
from passari_dagster.errors import SettingsError
from passari_dagster.run_queue.backfill_runs import BackfillRuns
from passari_dagster.run_queue.dagster_internals import (
    BACKFILL_ID_TAG,
    FINISHED,
    PARTITION_SET_TAG,
    REPOSITORY_LABEL_TAG,
    ConcurrencyClaimStatus,
    ConcurrencySlotStatus,
    ConfigurableClass,
    ConfigurableClassData,
    DagsterEventType,
    DagsterStorage,
    EventLogStorage,
    JobBucket,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
    RunPartitionData,
    RunStorage,
    ScheduleStorage,
    TagBucket,
    copy_record,
    set_pg_statement_timeout,
)

POOL_SIZE = 2
MAX_OVERFLOW = 0
"""A process with one thread opens one. Of the daemon's threads no more than two need one at the same time; a smaller
pool with an overflow would open a connection for every tenth statement."""
WEBSERVER_POOL_SIZE = 4
WEBSERVER_MAX_OVERFLOW = 2
"""At most; `dagster-webserver --db-pool-max-overflow` may ask for less. It is one process, with a thread a query."""
POOL_TIMEOUT = 120
"""Seconds that a thread waits for a connection of its process; Dagster then tries five times more."""
RECYCLE = 1800
FAILURE_WAIT = 60.0
"""Seconds that a failure is kept from the run retries at most: a run that was failed by mistake may go on for hours."""
CLAIM_WAIT = 1.0
"""Seconds between two requests of a step for a place in its pool."""
_TAKE_PLACE = text(
    """
    UPDATE concurrency_slots SET run_id = :run, step_key = :step
    WHERE step_key IS NULL AND id = (
        SELECT id FROM concurrency_slots WHERE concurrency_key = :pool AND step_key IS NULL AND NOT deleted
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    """
)
_UNFINISHED_AMONG = text("SELECT run_id FROM runs WHERE run_id = ANY(:runs) AND NOT status = ANY(:finished)")
# Each from an end of an index.
_IS_ONLY_REPOSITORY = text(
    "SELECT min(value) = :repository AND max(value) = :repository FROM run_tags WHERE key = :repository_tag"
)
_LATEST_OF_PARTITIONS = text(
    """
    SELECT run_id, partition, status, start_time, end_time FROM runs WHERE id IN (
        SELECT max(id) FROM runs WHERE partition_set = :partition_set AND partition <> '' AND status = ANY(:statuses)
        GROUP BY partition
    )
    """
)
APPLICATION = "passari_dagster: dagster"


class PatientPool(QueuePool):
    """A pool whose threads wait for each other, and in which none waits while it holds a connection itself.

    In some places Dagster asks for a second connection while it holds one (`add_backfill`; the first materialization
    of a process). If as many threads did so as there are connections, they would wait for each other for ever: the
    second one comes on top, and is closed when it is given back.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._holders: dict[ConnectionPoolEntry, int] = {}
        self._extra: set[ConnectionPoolEntry] = set()
        # The garbage collector may give a connection back, in the middle of anything.
        self._book = threading.RLock()

    def _do_get(self) -> ConnectionPoolEntry:
        thread = threading.get_ident()
        with self._book:
            extra = thread in self._holders.values()
        entry = self._create_connection() if extra else super()._do_get()
        with self._book:
            self._holders[entry] = thread
            if extra:
                self._extra.add(entry)
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        with self._book:
            self._holders.pop(record, None)
            extra = record in self._extra
            self._extra.discard(record)
        if extra:
            record.close()
        else:
            super()._do_return_conn(record)


class Connections:
    """The connections of this process to one database, for all instances of Dagster in it.

    Arguments:
        url: of the database, with its password.
        pool_size: connections that are kept when nobody uses them.
        max_overflow: further ones at a time.
    """

    def __init__(self, url: str, pool_size: int, max_overflow: int) -> None:
        # Bare `postgresql://` is for psycopg 3 since SQLAlchemy 2.1.
        self.url = make_url(url).set(drivername="postgresql+psycopg2")
        self.engine = self._create_engine(pool_size, max_overflow, RECYCLE)
        self.users: weakref.WeakSet[PooledEventLogStorage] = weakref.WeakSet()
        self._statement_timeout: int | None = None

    def _create_engine(self, pool_size: int, max_overflow: int, recycle: int) -> Engine:
        # Dagster's columns have no time zone: what is written is read as UTC, whatever zone the server has.
        arguments = postgres_arguments(self.url.render_as_string(hide_password=False), APPLICATION, timezone="UTC")
        engine = create_engine(
            self.url,
            isolation_level="AUTOCOMMIT",
            poolclass=PatientPool,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=POOL_TIMEOUT,
            pool_recycle=recycle,
            pool_use_lifo=True,
            connect_args=arguments,
        )
        ping_when_idle(engine)
        event.listen(engine, "connect", lambda connection, _entry: _open.add(connection))
        return engine

    def serve_webserver(self, statement_timeout: int, recycle: int, max_overflow: int) -> None:
        """Use a pool for many threads, whose statements are cut off. Each storage asks for it; once is enough.

        Arguments:
            statement_timeout: milliseconds.
            recycle: seconds after which a connection is replaced.
            max_overflow: connections wanted beyond those that are kept.
        """
        if self._statement_timeout == statement_timeout:
            return
        self._statement_timeout = statement_timeout
        former = self.engine
        self.engine = self._create_engine(WEBSERVER_POOL_SIZE, min(max_overflow, WEBSERVER_MAX_OVERFLOW), recycle)
        event.listen(
            self.engine, "connect", lambda connection, _entry: set_pg_statement_timeout(connection, statement_timeout)
        )
        former.dispose()

    def release(self, user: PooledEventLogStorage) -> None:
        """An instance is done; the last one closes what is open. It may go on all the same: that opens them anew."""
        self.users.discard(user)
        if not self.users:
            self.engine.dispose()


_shared: weakref.WeakValueDictionary[tuple[str, int, int], Connections] = weakref.WeakValueDictionary()
_open: weakref.WeakSet[Any] = weakref.WeakSet()
_lock = threading.Lock()


def _connections(url: str, pool_size: int, max_overflow: int) -> Connections:
    key = (url, pool_size, max_overflow)
    with _lock:
        connections = _shared.get(key)
        if connections is None:
            connections = _shared[key] = Connections(*key)
        return connections


def _start_anew() -> None:
    """In the child of a fork: open connections of our own, and leave those of the parent alone.

    The sockets are the parent's and ours alike. A word from us would get between the parent's words, so each is
    replaced by a file that leads nowhere: what was in use in the moment of the fork, and is given back here with a
    rollback or a goodbye, says it to nobody. And when the parent is killed, the server sees it at once.
    """
    _lock.release()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_open):
        with contextlib.suppress(psycopg2.InterfaceError):  # closed by now
            os.dup2(nowhere, connection.fileno(), inheritable=False)
    os.close(nowhere)
    _open.clear()
    for connections in list(_shared.values()):
        connections.engine.dispose(close=False)  # keeps its compiled statements, which were dear


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_start_anew)


class _Pooled:
    """What the three storages have in common: the engine, which Dagster's constructors would make for each."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        super().__init__(connections.url.render_as_string(hide_password=False))  # type: ignore[call-arg]

    @property
    def _engine(self) -> Engine:
        return self._connections.engine

    @_engine.setter
    def _engine(self, unused: Engine) -> None:
        """Dagster's own engine, which has not connected yet."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of our own. Each of Dagster's statements is committed by itself."""
        engine = self._engine.execution_options(isolation_level="READ COMMITTED")
        with engine.begin() as connection:
            yield connection

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        self._connections.serve_webserver(statement_timeout, pool_recycle, max_overflow)


class PooledRunStorage(_Pooled, PostgresRunStorage):
    """Runs, backfills, daemon heartbeats."""

    _has_run_stats = False

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self._backfill_runs = BackfillRuns(lambda ids: super(PooledRunStorage, self).get_runs(dg.RunsFilter([*ids])))

    def get_runs(
        self,
        filters: dg.RunsFilter | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        bucket_by: JobBucket | TagBucket | None = None,
        ascending: bool = False,
    ) -> Sequence[dg.DagsterRun]:
        """As Dagster's; all runs of a backfill are answered without reading again what has not changed."""
        backfill_id = filters.tags.get(BACKFILL_ID_TAG) if filters else None
        if (
            not isinstance(backfill_id, str)
            or filters != dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill_id})
            or (cursor, limit, bucket_by, ascending) != (None, None, None, False)
        ):
            return super().get_runs(filters, cursor, limit, bucket_by, ascending)
        rows = self.fetchall(self._runs_query(filters, columns=["run_id", "status", "update_timestamp"]))
        stamps = {row["run_id"]: (row["status"], row["update_timestamp"]) for row in rows}
        return self._backfill_runs.answer(backfill_id, stamps)

    def get_run_partition_data(self, runs_filter: dg.RunsFilter) -> Sequence[RunPartitionData]:
        """As Dagster's: the latest run of each partition. What the page of a job's partitions asks for, the database
        answers from one table; Dagster's own query reads all runs, with two of the tags of each.
        """
        tags = runs_filter.tags
        is_of_the_page = set(tags) == {PARTITION_SET_TAG, REPOSITORY_LABEL_TAG} and runs_filter.statuses
        if not is_of_the_page or runs_filter != dg.RunsFilter(statuses=runs_filter.statuses, tags=tags):
            return super().get_run_partition_data(runs_filter)
        values = {
            "partition_set": tags[PARTITION_SET_TAG],
            "repository_tag": REPOSITORY_LABEL_TAG,
            "repository": tags[REPOSITORY_LABEL_TAG],
            "statuses": [status.value for status in runs_filter.statuses],
        }
        with self.connect() as connection:
            if not connection.scalar(_IS_ONLY_REPOSITORY, values):
                return super().get_run_partition_data(runs_filter)
            rows = connection.execute(_LATEST_OF_PARTITIONS, values).all()
        return [
            RunPartitionData(
                run_id=row.run_id,
                partition=row.partition,
                status=dg.DagsterRunStatus(row.status),
                start_time=row.start_time,
                end_time=row.end_time,
            )
            for row in rows
        ]

    def has_run_stats_index_cols(self) -> bool:
        # Asked at each look at a run, by reading the table's columns from the catalogue. They do not go away.
        self._has_run_stats = self._has_run_stats or super().has_run_stats_index_cols()
        return self._has_run_stats


class PooledScheduleStorage(_Pooled, PostgresScheduleStorage):
    """States and ticks of schedules and sensors."""


class PooledEventLogStorage(_Pooled, PostgresEventLogStorage):
    """Events, assets, dynamic partitions, pools of the ops."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        connections.users.add(self)

    def get_logs_for_all_runs_by_log_id(
        self,
        after_cursor: int = -1,
        dagster_event_type: DagsterEventType | set[DagsterEventType] | None = None,
        limit: int | None = None,
    ) -> Mapping[int, dg.EventLogEntry]:
        """As Dagster's, for its run retries; but a young failure is told only when its run has that status.

        Dagster (1.13.27) stores a failure, and then the status of the run, by two statements. Run retries that read
        between the two find no failed run, go on behind the event, and never start the run again. What is missed here,
        as where the clock of a host is off, `retries.py` finds.
        """
        events = super().get_logs_for_all_runs_by_log_id(after_cursor, dagster_event_type, limit)
        if dagster_event_type not in (DagsterEventType.RUN_FAILURE, {DagsterEventType.RUN_FAILURE}):
            return events
        young = [entry.run_id for entry in events.values() if abs(time.time() - entry.timestamp) < FAILURE_WAIT]
        if not young:
            return events
        values = {"runs": young, "finished": [status.value for status in FINISHED]}
        with self.index_connection() as connection:
            unfinished = set(connection.execute(_UNFINISHED_AMONG, values).scalars())
        return dict(itertools.takewhile(lambda item: item[1].run_id not in unfinished, events.items()))

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> ConcurrencyClaimStatus:
        """Ask for a place in a pool. Without one the wait is here: Dagster's own is always of no length (1.13.27,
        `interval_to_next_pending_claim_check`), and a run that waits would keep a core and the database busy.
        """
        status = super().claim_concurrency_slot(concurrency_key, run_id, step_key, priority)
        if status.is_claimed:
            return status
        time.sleep(CLAIM_WAIT)
        return copy_record(status, sleep_interval=0.0)

    def _claim_concurrency_slot(self, concurrency_key: str, run_id: str, step_key: str) -> ConcurrencySlotStatus:
        """Take a free place in a pool, in one statement.

        Dagster (1.13.27) looks for one, locks its row, and takes it with another statement. Since each is committed by
        itself, the lock is gone by then: runs that begin together take the same place, and the pool's limit is passed.
        """
        with self.index_connection() as connection:
            taken = connection.execute(_TAKE_PLACE, {"pool": concurrency_key, "run": run_id, "step": step_key})
            return ConcurrencySlotStatus.CLAIMED if taken.rowcount else ConcurrencySlotStatus.BLOCKED

    def dispose(self) -> None:
        super().dispose()  # ends the threads that watch runs: they read until then
        self._connections.release(self)


class PooledPostgresStorage(DagsterStorage[Any], ConfigurableClass):
    """Dagster's storage in PostgreSQL, pooled and safe over fork. In `dagster.yaml`:

        storage:
          custom:
            module: passari_dagster.run_queue.storage
            class: PooledPostgresStorage
            config:
              postgres_url:
                env: DAGSTER_PG_URL

    Arguments:
        postgres_url: of the database; tables are created in an empty one.
        pool_size: see the configuration.
        max_overflow: see the configuration.
        inst_data: where Dagster found this class, for its references to the instance.

    Raises:
        SettingsError: a number that would leave the pool empty or without bounds.
    """

    def __init__(
        self,
        postgres_url: str,
        pool_size: int = POOL_SIZE,
        max_overflow: int = MAX_OVERFLOW,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        if pool_size < 1 or max_overflow < 0:
            raise SettingsError(
                "dagster.yaml, storage: pool_size is 1 or more, max_overflow 0 or more;"
                f" they are {pool_size} and {max_overflow}"
            )
        self._inst_data = inst_data
        connections = _connections(postgres_url, pool_size, max_overflow)
        self._run_storage = PooledRunStorage(connections)
        self._event_log_storage = PooledEventLogStorage(connections)
        self._schedule_storage = PooledScheduleStorage(connections)
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, dg.Field]:
        return {
            "postgres_url": dg.Field(
                dg.StringSource, description="URL of Dagster's database: postgresql://USER:PASSWORD@HOST:PORT/NAME"
            ),
            "pool_size": dg.Field(
                dg.IntSource,
                default_value=POOL_SIZE,
                description="Connections that a process keeps open when it does not use them; the webserver has its"
                f" own pool, of {WEBSERVER_POOL_SIZE}",
            ),
            "max_overflow": dg.Field(
                dg.IntSource,
                default_value=MAX_OVERFLOW,
                description="Connections that a process may have beyond those while several of its threads use them;"
                f" the webserver has {WEBSERVER_MAX_OVERFLOW} at most",
            ),
        }

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresStorage:
        return cls(inst_data=inst_data, **config_value)

    @property
    def event_log_storage(self) -> EventLogStorage[Any]:
        return self._event_log_storage

    @property
    def run_storage(self) -> RunStorage[Any]:
        return self._run_storage

    @property
    def schedule_storage(self) -> ScheduleStorage[Any]:
        return self._schedule_storage

    def dispose(self) -> None:
        """Close the connections, unless another instance of this process uses them."""
        self._event_log_storage.dispose()
