"""The first sync of a catalogue: CPU seconds of the client, beside what XML alone costs, and the gain of reading ahead.

    python benchmarks/sync.py [--quick] [--json]

The simulated MuseumPlus is a process of its own; counted is the CPU of this one, from the first request to the last
commit. `limit_ratio` is the share of what lxml reaches on the same pages by parsing and canonical XML alone.
`latency_speedup` is against the same client with one connection, which asks for a page when the last one is written;
each page takes a second more. The original reached 348 objects and 479 attachments per CPU second.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lxml import etree
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from passari_dagster import safe_xml
from passari_dagster.museumplus import fields
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.services.embedded import EmbeddedPostgres, EmbeddedRedis
from passari_dagster.services.migrations import migrate_museum
from passari_dagster.settings import Settings
from passari_dagster.simulation import museum_documents
from passari_dagster.simulation.museum_records import FIRST_MULTIMEDIA, FIRST_OBJECT, MOST_ATTACHMENTS, Museum
from passari_dagster.simulation.museumplus import LOG_FIELD
from passari_dagster.workflow import synchronise
from passari_dagster.workflow.environment import Environment, open_environment

ROOT = Path(__file__).resolve().parent.parent
PAGE = 500
OBJECTS_OF_ATTACHMENTS = 5 / 8
"""Objects for each attachment in the simulated museum."""
TABLES = "museum_objects, museum_attachments, sync_statuses, sync_ranges, unseen_items, stale_attachment_hashes"


@dataclass
class Servers:
    """Where the databases are."""

    database_url: str
    redis_url: str
    directory: Path

    @contextlib.contextmanager
    def environment(self, objects: int, *, latency: float = 0.0) -> Iterator[Environment]:
        """A simulated MuseumPlus of its own, an empty database, and the workflow between them."""
        command = [sys.executable, "-m", "passari_dagster.simulation.museumplus", "--objects", str(objects)]
        museum = subprocess.Popen(
            [*command, "--latency", str(latency)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert museum.stdout is not None
            url = museum.stdout.readline().strip()
            settings = Settings.model_validate(
                {
                    "database_url": self.database_url,
                    "redis_url": self.redis_url,
                    "package_dir": self.directory / "packages",
                    "archive_dir": self.directory / "archive",
                    "museumplus": {
                        "url": url,
                        "username": "passari",
                        "password": "salasana",
                        "object_preservation_field_name": LOG_FIELD,
                        "page_size": PAGE,
                    },
                    "dps": {
                        "contract_id": "urn:uuid:11111111-2222-3333-4444-555555555555",
                        "organization": "Museum",
                        "sign_key": self.directory / "key",
                        "sftp": {
                            "host": "localhost",
                            "username": "museum",
                            "private_key": self.directory / "key",
                            "known_hosts": self.directory / "known_hosts",
                        },
                    },
                    "workflow": {"sync_window": ""},
                }
            )
            with open_environment(settings) as env:
                with env.transaction() as session:
                    session.execute(text(f"TRUNCATE {TABLES} CASCADE"))
                yield env
        finally:
            museum.terminate()
            museum.wait()


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """PostgreSQL and Redis of their own."""
    with tempfile.TemporaryDirectory(prefix="benchmark-sync-") as name:
        directory = Path(name)
        with EmbeddedPostgres(directory / "pg") as postgres, EmbeddedRedis(directory / "redis") as redis:
            url = postgres.url("passari")
            migrate_museum({**os.environ, "PASSARI_DB_URL": url}, ROOT)
            yield Servers(url, redis.url(), directory)


def first_sync(place: Servers, module: str, count: int) -> tuple[float, float, int]:
    """CPU seconds of this process, wall seconds, items."""
    attachments = module == "Multimedia"
    sync = synchronise.sync_attachments if attachments else synchronise.sync_objects
    with place.environment(round(count * OBJECTS_OF_ATTACHMENTS) if attachments else count) as env:
        cpu, wall = time.process_time(), time.monotonic()
        result = sync(env, quiet)
        return time.process_time() - cpu, time.monotonic() - wall, result.items


def pages_of_objects(count: int) -> list[bytes]:
    """The pages that the simulated MuseumPlus answers."""
    museum = Museum(count, 1)
    ids = range(FIRST_OBJECT, FIRST_OBJECT + count)
    starts = range(0, count, PAGE)
    return [
        museum_documents.module(
            "Object", (museum_documents.object_item(museum.object(id_)) for id_ in ids[at : at + PAGE]), count - at
        )
        for at in starts
    ]


def mean_attachment_bytes(count: int) -> float:
    """Size of a Multimedia item, on average."""
    museum = Museum(count, 1)
    ids = range(FIRST_MULTIMEDIA, FIRST_MULTIMEDIA + MOST_ATTACHMENTS * count)
    items = [
        len(museum_documents.attachment_item(museum.attachment(id_), has_file=True).encode())
        for id_ in ids
        if museum.has_attachment(id_)
    ]
    return sum(items) / len(items)


def xml_alone(pages: list[bytes]) -> float:
    """CPU seconds of parsing the pages, and making canonical XML of each item."""
    begun = time.process_time()
    for page in pages:
        for item in fields.module_items(safe_xml.parse(page, source="page"), "Object"):
            etree.tostring(item, method="c14n", exclusive=False, with_comments=False)
    return time.process_time() - begun


def seconds_with_latency(place: Servers, count: int, *, ahead: bool) -> float:
    """Wall seconds of the first sync if each answer comes a second later."""
    with place.environment(count, latency=1.0) as env:
        begun = time.monotonic()
        if ahead:
            synchronise.sync_objects(env, quiet)
        else:
            read_one_by_one(env)
        return time.monotonic() - begun


def read_one_by_one(env: Environment) -> None:
    """The same client and the same statements; a page is asked for when the one before has been written."""
    with MuseumPlus(env.settings.museumplus) as museum:
        last_id: int | None = 0
        while last_id is not None:
            page = museum.search("Object", after_id=last_id, limit=PAGE)
            with env.transaction() as session:
                synchronise.OBJECTS.upsert(session, page.records)
            last_id = None if page.total == len(page.records) else page.last_id


def peak_rss_mb(count: int) -> float:
    """Peak memory of a process that reads a catalogue of that size."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak-of", str(count)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return float(done.stdout.split()[-1])


def print_peak(count: int) -> int:
    """What `peak_rss_mb` asks for."""
    with servers() as place:
        first_sync(place, "Object", count)
    # Not getrusage's: that one begins with the memory of who started this process.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")))
    return 0


def quiet(line: str) -> None:
    """A log that nobody reads."""


def measure(quick: bool) -> dict[str, Any]:
    """The figures, as the issue names them."""
    count, rounds, large = (4_000, 1, 20_000) if quick else (20_000, 3, 200_000)
    pages = pages_of_objects(count)
    objects, attachments, alone = [], [], []
    with servers() as place:
        first_sync(place, "Object", PAGE)  # everything is imported, statements are compiled
        first_sync(place, "Multimedia", PAGE)
        for _ in range(rounds):
            objects.append(first_sync(place, "Object", count))
            alone.append(xml_alone(pages))
            attachments.append(first_sync(place, "Multimedia", 2 * count))
        one_by_one = seconds_with_latency(place, count, ahead=False)
        side_by_side = seconds_with_latency(place, count, ahead=True)
    per_cpu_s = median(items / cpu for cpu, _, items in objects)
    return {
        "objects_per_cpu_s": round(per_cpu_s),
        "attachments_per_cpu_s": round(median(items / cpu for cpu, _, items in attachments)),
        "limit_ratio": round(per_cpu_s / (count / median(alone)), 2),
        "xml_alone_objects_per_cpu_s": round(count / median(alone)),
        "latency_speedup": round(one_by_one / side_by_side, 2),
        "rss_growth_mb": round(peak_rss_mb(large) - peak_rss_mb(count), 1),
        "objects_wall_s": round(median(wall for _, wall, _ in objects), 1),
        "attachments_wall_s": round(median(wall for _, wall, _ in attachments), 1),
        "objects": count,
        "attachments": attachments[0][2],
        "mean_object_bytes": round(sum(map(len, pages)) / count),
        "mean_attachment_bytes": round(mean_attachment_bytes(1000)),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        sys.exit(print_peak(int(sys.argv[2])))
    sys.exit(machine.run(__doc__, "4,000 objects, once", measure))
