"""Who works, on what, since when, and how much waits: read from Redis, shown as tables."""

from __future__ import annotations

from datetime import datetime, timezone

from rich.console import Console
from rich.table import Table
from rq import Worker
from rq.serializers import JSONSerializer

from passari_dagster.run_queue.ledger import Lease, Ledger, connect


def show(redis_url: str, console: Console) -> None:
    """Print it.

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
    table = Table("host", "worker", "does", "run", "since")
    for worker in sorted(workers, key=lambda each: (each.hostname or "", each.name)):
        lease = leases.pop(worker.name, None)
        table.add_row(worker.hostname or "?", worker.name[:8], *_work(lease))
    for lease in leases.values():  # executed by a worker that RQ does not show (any more)
        table.add_row(lease.host, lease.worker[:8], *_work(lease))
    console.print(table)
    waiting = ", ".join(f"{count} {name.removeprefix('passari-')}" for name, count in depth.items())
    console.print(f"{sum(depth.values())} runs wait ({waiting})", highlight=False)


def _work(lease: Lease | None) -> tuple[str, str, str]:
    if lease is None:
        return "waits", "", ""
    since = datetime.fromtimestamp(lease.since, timezone.utc).astimezone()
    return lease.what, lease.run_id[:8], since.strftime("%Y-%m-%d %H:%M:%S")
