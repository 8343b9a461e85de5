"""Who works, on what, since when, and how much waits: read from Redis, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table
from rq import Worker
from rq.serializers import JSONSerializer

from passari_dagster.run_queue.ledger import Lease, Ledger, connect


@dataclass(frozen=True)
class Row:
    """A worker.

    Arguments:
        host: on which it works.
        worker: its name.
        does: the run in a few words; None: it waits.
        run: id of the run.
        since: when it has begun with it.
    """

    host: str
    worker: str
    does: str | None = None
    run: str | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Overview:
    """Workers, and how many runs stand in each queue."""

    workers: list[Row]
    waiting: dict[str, int]


def read(redis_url: str) -> Overview:
    """Ask Redis.

    Arguments:
        redis_url: of the queue.
    """
    ledger = Ledger(connect(redis_url))
    try:
        leases = {lease.worker: lease for lease in ledger.leases()}
        workers = Worker.all(connection=ledger.connection, serializer=JSONSerializer)
        depth = ledger.depth()
    finally:
        ledger.close()
    rows = [
        _row(worker.hostname or "?", worker.name, leases.pop(worker.name, None))
        for worker in sorted(workers, key=lambda each: (each.hostname or "", each.name))
    ]
    # Executed by a worker that RQ does not show (any more).
    rows += [_row(lease.host, lease.worker, lease) for lease in leases.values()]
    return Overview(rows, {name.removeprefix("passari-"): count for name, count in depth.items()})


def _row(host: str, worker: str, lease: Lease | None) -> Row:
    if lease is None:
        return Row(host, worker)
    since = datetime.fromtimestamp(lease.since, timezone.utc).astimezone()
    return Row(host, worker, lease.what, lease.run_id, since)


def show(found: Overview, console: Console) -> None:
    """Print it for people."""
    table = Table("host", "worker", "does", "run", "since")
    for row in found.workers:
        since = row.since.strftime("%Y-%m-%d %H:%M:%S") if row.since else ""
        table.add_row(row.host, row.worker[:8], row.does or "waits", (row.run or "")[:8], since)
    console.print(table)
    waiting = ", ".join(f"{count} {name}" for name, count in found.waiting.items())
    console.print(f"{sum(found.waiting.values())} runs wait ({waiting})", highlight=False)
