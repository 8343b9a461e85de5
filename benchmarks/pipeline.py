"""CPU seconds per object through the whole path, on a running system: download to confirm, both runs of an object.

    python benchmarks/pipeline.py [--quick] [--json]

Each object has two small images. Counted is the CPU of the workers with all their run processes, of the code server and
of the daemon; PostgreSQL, Redis, the simulators and the webserver are counted apart. Measured twice: with the product's
toolkit, and with one whose steps return at once, which is the price of Dagster. The original needed 19.9 CPU seconds.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from passari_dagster_tests.running import Running, running_system

COUNTED = ("code-server", "daemon", "workers")
APART = ("postgres", "redis", "webserver")


def add_objects(running: Running, count: int) -> list[int]:
    """Objects with two small images each: created long ago, so that they are eligible, and just modified, so that the
    next sync sees them.
    """
    now = datetime.now(timezone.utc)
    long_ago = now - timedelta(days=365)
    ids = []
    for number in range(count):
        images = []
        for name, format_ in (("kuva.jpg", "JPEG"), ("skannaus.tif", "TIFF")):
            stream = io.BytesIO()
            Image.new("RGB", (64, 48), (number % 256, 80, 120)).save(stream, format_)
            images.append((name, stream.getvalue()))
        ids.append(
            running.house.museum.add_object(
                title=f"Mittaus {number}", created=long_ago, modified=now, attachments=images
            )
        )
    for job in ("sync_objects", "sync_attachments", "sync_hashes"):
        running.run(job)
    return ids


def cpu_seconds(running: Running) -> dict[str, float]:
    """CPU of each service so far, its ended children included; PostgreSQL's are its living ones."""
    seconds = {}
    for child in running.system.supervisor.children:
        process = psutil.Process(child.process.pid)
        times = process.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for descendant in process.children(recursive=True):
            own = descendant.cpu_times()
            total += own.user + own.system + own.children_user + own.children_system
        seconds[child.service.name] = total
    return seconds


def give_verdicts(running: Running) -> None:
    """What the DPS would say, for packages that were never sent."""
    engine = create_engine(running.house.database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE museum_packages SET verdict = 'ACCEPTED', verdict_date = now(), report_day = current_date, "
                "transfer_id = 'none' WHERE uploaded AND verdict IS NULL AND confirmed_date IS NULL"
            )
        )
    engine.dispose()


def measure(count: int, toolkit: str | None) -> dict[str, float]:
    """Figures of one pass over `count` objects.

    Arguments:
        toolkit: the setting; None: the product's.
    """
    with tempfile.TemporaryDirectory(prefix="passari-benchmark-") as directory:
        here = str(Path(__file__).resolve().parent.parent)  # where workers find the toolkit
        variables = {"PASSARI_TOOLKIT": toolkit, "PYTHONPATH": here} if toolkit else {}
        with running_system(Path(directory), objects=1, variables=variables) as running:
            ids = add_objects(running, count)
            before, begun = cpu_seconds(running), time.monotonic()
            running.enqueue(*ids)
            while set(running.stages(*ids)) != {"preserved"}:
                if toolkit:
                    give_verdicts(running)
                running.system.sleep(2)
            after, wall = cpu_seconds(running), time.monotonic() - begun
    used = {name: after[name] - before[name] for name in after}
    figures = {f"{name}_cpu_s_per_object": round(used[name] / count, 3) for name in APART}
    figures["cpu_s_per_object"] = round(sum(used[name] for name in COUNTED) / count, 3)
    figures["wall_s_per_object"] = round(wall / count, 3)
    return figures


def compare(quick: bool) -> dict[str, Any]:
    """All figures."""
    count = 6 if quick else 50
    whole = measure(count, None)
    dagster = measure(count, "benchmarks.instant_toolkit:build")
    return {
        "objects": count,
        **whole,
        "dagster_cpu_s_per_object": dagster["cpu_s_per_object"],
        "original_cpu_s_per_object": 19.9,
        "ratio_to_original": round(whole["cpu_s_per_object"] / 19.9, 3),
    }


if __name__ == "__main__":
    sys.exit(machine.run(__doc__, "6 objects instead of 50", compare))
