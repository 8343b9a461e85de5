"""Seconds until the pages that an administrator lives with show their rows, in headless Chromium, after months of use.

    python benchmarks/ui.py [--quick] [--json] [--screenshots DIRECTORY]

A running system of which everything has grown: 1,000,000 objects in the museum database, 10,000 partition keys, and in
Dagster's database what a month of 667 objects a day and a year of syncs leave there. That is copied from what the
system wrote for one object and its syncs, so that it has the same size and shape.

| figure | is the page |
|---|---|
| partitions_page_s | Partitions of preserve_object: the states of all keys, the latest backfills |
| backfills_page_s | Runs, Backfills |
| asset_page_s | the asset museum_objects: its latest numbers |
| plots_page_s | the same, and its history plotted |
| runs_page_s | Runs |

Each is the median of five visits in one browser; `first_…` is the first one, which also fetches Dagster's scripts, and
`…_cpu_s` what a visit costs the webserver and PostgreSQL.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.pipeline import cpu_seconds
from passari_dagster_tests import grown
from passari_dagster_tests.grown import FIRST_KEY, Growth
from passari_dagster_tests.running import Running, running_system
from passari_dagster_tests.screenshots import PARTITIONS, Browser, browser_at

VISITS = 5
SERVERS = ("webserver", "postgres")
KEYS = "museum_object"
OPEN_BACKFILLS = "{partitionBackfillsOrError(status: REQUESTED) {...on PartitionBackfills {results {id}}}}"
TABLES = {"keys": "dynamic_partitions", "runs": "runs", "events": "event_logs", "backfills": "bulk_actions"}


def fill_museum(url: str, objects: int, with_keys: range) -> None:
    """Rows of objects.

    Arguments:
        objects: how many.
        with_keys: which of them have a partition key: they are in the workflow, but for one in ten, which is eligible.
    """
    statements = (
        """
        INSERT INTO museum_objects (id, title, preserved, frozen, created_date, modified_date, metadata_hash,
            attachment_metadata_hash)
        SELECT :first + n, 'Esine ' || n, false, false, now() - interval '3 years', now() - interval '2 years',
            encode(sha256(n::text::bytea), 'hex'), '' FROM generate_series(1, :objects) n
        """,
        """
        INSERT INTO museum_packages (sip_filename, sip_id, created_date, downloaded, packaged, uploaded, preserved,
            rejected, cancelled, museum_object_id)
        SELECT 'copy-' || n || '.tar', 'copy-' || n, now() - interval '1 day', true, false, false, false, false, false,
            :first + n FROM generate_series(CAST(:begin AS int), :end) n WHERE n % 10 > 0
        """,
        """
        UPDATE museum_objects o SET latest_package_id = p.id
        FROM museum_packages p WHERE p.museum_object_id = o.id AND o.id > :first
        """,
    )
    engine = create_engine(url)
    values = {"first": FIRST_KEY, "objects": objects, "begin": with_keys.start, "end": with_keys.stop - 1}
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def fill(running: Running, objects: int, keys: int, copies: int) -> dict[str, int]:
    """Have a system that has worked for months; answers how much it holds.

    Arguments:
        copies: objects that had runs within the last month; the last of them have the keys.
    """
    object_id = running.good_objects()[0]
    running.enqueue(object_id)
    running.wait_until("preserved", object_id)
    running.wait(
        lambda: not running.webserver.ask(OPEN_BACKFILLS)["partitionBackfillsOrError"]["results"], "backfills to end"
    )
    dagster, with_keys = running.system.environment["DAGSTER_PG_URL"], range(copies - keys + 1, copies + 1)
    fill_museum(running.system.environment["PASSARI_DB_URL"], objects, with_keys)
    grown.grow(dagster, object_id, Growth(objects=copies))
    grown.add_keys(dagster, KEYS, [str(FIRST_KEY + n) for n in with_keys])
    engine = create_engine(dagster)
    with engine.connect() as connection:
        held = {
            name: int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0) for name, table in TABLES.items()
        }
    engine.dispose()
    return {"museum_objects": objects, **held}


def visit(open_page: Callable[[], object]) -> list[float]:
    """Seconds of each visit.

    Arguments:
        open_page: ends when the page shows its rows.
    """
    seconds = []
    for _ in range(VISITS):
        begun = time.monotonic()
        open_page()
        seconds.append(time.monotonic() - begun)
    return seconds


def pages(running: Running, browser: Browser, last_key: str) -> dict[str, Callable[[], object]]:
    """How each page is opened.

    Arguments:
        last_key: the partition that was registered last.
    """
    newest = "{partitionBackfillsOrError(limit: 1) {...on PartitionBackfills {results {id}}}}"
    backfill = running.webserver.ask(newest)["partitionBackfillsOrError"]["results"][0]["id"]

    def asset() -> None:
        browser.open("/assets/museum_objects", "Latest materialization", "new_objects", "items_per_second")

    def plots() -> None:
        asset()
        browser.click("Plots")
        browser.element("(//canvas)[5]")

    return {
        "partitions": lambda: browser.open(PARTITIONS, "Total partitions", last_key, backfill, "Succeeded"),
        "backfills": lambda: browser.open("/runs?view=backfills", backfill, "Success"),
        "asset": asset,
        "plots": plots,
        "runs": lambda: browser.open("/runs", "preserve_object", "Success"),
    }


def measure(quick: bool, screenshots: str | None = None) -> dict[str, Any]:
    """All figures."""
    objects, keys, copies = (20_000, 1_000, 1_000) if quick else (1_000_000, 10_000, 20_000)
    folder = Path(screenshots) if screenshots else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="passari-benchmark-") as directory,
        running_system(Path(directory), objects=12, workers=1) as running,
    ):
        figures: dict[str, Any] = fill(running, objects, keys, copies)
        with browser_at(running) as browser:
            browser.resize(1280, 900)
            for name, open_page in pages(running, browser, str(FIRST_KEY + copies)).items():
                before = cpu_seconds(running)
                seconds = visit(open_page)
                after = cpu_seconds(running)
                figures[f"{name}_cpu_s"] = round(
                    sum(after[service] - before[service] for service in SERVERS) / VISITS, 2
                )
                figures[f"{name}_page_s"] = round(statistics.median(seconds), 2)
                figures[f"first_{name}_page_s"] = round(seconds[0], 2)
                if folder:
                    browser.photograph(folder / f"{name}.png")
    return figures


if __name__ == "__main__":
    sys.exit(
        machine.run(
            __doc__,
            "20,000 objects, 1,000 keys, 2,000 runs",
            measure,
            options={"--screenshots": "directory that gets a picture of each page"},
        )
    )
