"""Many runs at once, and many objects at once: connections stay bounded, and nothing is lost or left over.

`PASSARI_FAULT_OBJECTS=2000 make faults` has that many objects preserved instead of two hundred.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import redis
from sqlalchemy import func, select

from passari_dagster.catalogue.models import MuseumPackage
from passari_dagster.run_queue.ledger import RESULT_SECONDS, Ledger, connect
from passari_dagster.services import embedded
from passari_dagster.services.system import System
from passari_dagster_tests.house import House
from passari_dagster_tests.running import Running, running_system
from passari_dagster_tests.workflow.stories import old_object

OBJECTS = int(os.environ.get("PASSARI_FAULT_OBJECTS", "200"))
pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(600 + 5 * OBJECTS),
    pytest.mark.xdist_group("many"),
]

WORKERS = 20
HELD = 40
"""Objects, two for each worker."""
MAX_CONNECTIONS, BOUND = 100, 60
log = logging.getLogger(__name__)
PERMANENT = (
    b"lock:passari:daemon",
    b"lock-signal:",
    b"passari:daemon",
    b"rq:worker",
    b"rq:queues",
    b"rq:clean",
    b"rq:finished",
)
"""Beginnings of keys that are always there, or belong to no run."""
MEMORIES = (b"rq:job:", b"rq:results:", b"rq:execution")
GONE = -2
"""What Redis says of a key that has expired."""
LETTER = b"Kirves on l\xc3\xb6ytynyt.\n"


class Connections:
    """Counts the server's clients many times a second, while the block runs.

    Arguments:
        url: of one of its databases.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url.replace("+psycopg2", ""))
        self._connection.autocommit = True
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, name="count")
        self.peak: Counter[tuple[str, str]] = Counter()
        """The most there were: by database and what they call themselves."""

    def __enter__(self) -> Connections:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _count(self) -> None:
        with self._connection.cursor() as cursor:
            while not self._over.wait(0.05):
                cursor.execute(
                    "SELECT datname, application_name FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
                now = Counter((str(database), str(name)) for database, name in cursor.fetchall())
                if now.total() > self.peak.total():
                    self.peak = now


OF_CONNECTIONS: list[int] = []
MANY: list[int] = []
ENQUEUED: list[int] = []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A system with twenty workers, on a server with a hundred connections; pools let all of them work at once."""
    pools = ("download_object", "create_sip", "submit_sip", "confirm_sip")
    wide = {f"PASSARI_WORKERS__POOLS__{pool.upper()}": str(WORKERS) for pool in pools}

    def prepare(house: House) -> None:
        for objects, count in ((OF_CONNECTIONS, HELD), (MANY, OBJECTS)):
            objects[:] = [old_object(house, ("kirje.txt", LETTER)) for _ in range(count)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "MAX_CONNECTIONS", MAX_CONNECTIONS)
        directory = tmp_path_factory.mktemp("many")
        with running_system(directory, 1, wide, prepare, workers=WORKERS) as system:
            yield system


def test_twenty_workers_with_all_that_belongs_to_them_stay_under_sixty_connections(running: Running) -> None:
    """Daemon, webserver and code server included, and the museum database as well as Dagster's."""
    downloads = running.house.museum.hold(lambda seen: seen.path.endswith("/attachment"), at="body")
    with Connections(running.system.environment["DAGSTER_PG_URL"]) as connections:
        running.enqueue(*OF_CONNECTIONS)
        ENQUEUED.extend(OF_CONNECTIONS)
        running.wait(lambda: _at_work(running) == WORKERS, "all workers to download")
        running.system.sleep(12)  # long enough for each worker to look after its run
        log.info("while %d download: %s", WORKERS, dict(connections.peak))
        downloads.release()
        received = running.house.dps.received
        running.wait(lambda: len(list(received.iterdir())) == HELD, "all packages to be sent")
    log.info("at the peak: %s, %d in all", dict(connections.peak), connections.peak.total())
    assert 2 * WORKERS < connections.peak.total() < BOUND, connections.peak


def _at_work(running: Running) -> int:
    with contextlib.closing(Ledger(connect(running.system.environment["REDIS_URL"]))) as ledger:
        return len(list(ledger.leases()))


def test_many_objects_enqueued_at_once_are_all_preserved_and_nothing_is_left(running: Running) -> None:
    """By four workers, each object once, beside those of the test before."""
    _replace_workers(running, 4)
    begun = time.monotonic()
    running.enqueue(*MANY)
    ENQUEUED.extend(MANY)
    running.wait(lambda: _preserved(running) == len(ENQUEUED), "all to be preserved", 300 + 5 * OBJECTS)
    log.info("%d objects by 4 workers: %.0f s", OBJECTS, time.monotonic() - begun)
    _assert_each_was_received_once_and_told_once(running)
    _wait_until_redis_holds_nothing(running)
    runs = running.webserver.runs("preserve_object")
    assert {run["status"] for run in runs} == {"SUCCESS"}
    assert len(runs) == 2 * len(ENQUEUED), "each was sent in one run, and confirmed in another"
    _assert_the_backfill_page_is_complete(running)
    assert list(running.house.settings().package_dir.iterdir()) == []


def _preserved(running: Running) -> int:
    """How many packages are, by one query."""
    with running.environment() as env, env.transaction() as session:
        return session.scalar(select(func.count()).where(MuseumPackage.preserved.is_(True))) or 0


def _replace_workers(running: Running, count: int) -> None:
    """The pool that was there ends in good order; another one is started."""
    system = running.system
    assert isinstance(system, System)
    (workers,) = (child for child in system.supervisor.children if child.name == "workers")
    system.supervisor.children.remove(workers)
    workers.stop()
    system.supervisor.start(system.worker_service(count))


def _assert_each_was_received_once_and_told_once(running: Running) -> None:
    names = " ".join(path.name for path in running.house.dps.received.iterdir())
    assert Counter(re.findall(r"_Object_(\d+)-", names)) == Counter(map(str, ENQUEUED))
    for object_id in MANY:
        (entry,) = running.house.museum.log_field(object_id)
        assert entry["status"] == "accepted"


def _wait_until_redis_holds_nothing(running: Running) -> None:
    """But for who leads, the workers, and what RQ remembers of jobs for a minute after their end."""
    client = redis.Redis.from_url(running.system.environment["REDIS_URL"])
    with contextlib.closing(Ledger(client)) as ledger:
        running.wait(lambda: not ledger.queued() and not list(ledger.leases()), "queue and leases to be empty", 60)
        running.wait(lambda: not ledger.claims(), "the claims to go", 60)
        lives = {key: client.ttl(key) for key in client.scan_iter() if not key.startswith(PERMANENT)}
    assert not [key for key in lives if not key.startswith(MEMORIES)], "no claim, lock, lease or request is left"
    assert all(0 <= seconds <= RESULT_SECONDS for seconds in lives.values() if seconds != GONE), lives


def _assert_the_backfill_page_is_complete(running: Running) -> None:
    """As the page asks for it: the backfill has ended well, and so has each of its partitions."""
    data = running.wait(lambda: _backfills_when_ended(running), "the backfills to have ended", 60)
    assert {backfill["status"] for backfill in data} == {"COMPLETED_SUCCESS"}
    keys = {str(object_id) for object_id in MANY}
    launched, *_confirmed = (backfill for backfill in data[::-1] if keys & set(backfill["partitionNames"]))
    assert set(launched["partitionNames"]) == keys
    counts = {each["runStatus"]: each["count"] for each in launched["partitionStatusCounts"]}
    assert {status: count for status, count in counts.items() if count} == {"SUCCESS": len(MANY)}


def _backfills_when_ended(running: Running) -> list[dict[str, Any]] | None:
    data = running.webserver.ask(
        "{partitionBackfillsOrError{...on PartitionBackfills{results{status partitionNames"
        " partitionStatusCounts{runStatus count}}} ...on Error{message}}}"
    )
    results: list[dict[str, Any]] = data["partitionBackfillsOrError"]["results"]
    return results if all(backfill["status"].startswith("COMPLETED") for backfill in results) else None
