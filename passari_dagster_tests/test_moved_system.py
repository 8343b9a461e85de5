"""A system is moved to other servers, out of backups that are older than what it did last: nothing is sent twice.

As docs/guides/deployment.md, "Backup and restore", and docs/guides/administrator.md, "When a host is moved", tell it:
`pg_dump` and `pg_restore` of both databases, a Redis that is empty, the shared directories as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from passari_dagster.services.embedded import EmbeddedPostgres
from passari_dagster.workflow import journal
from passari_dagster_tests.house import House, package_rows
from passari_dagster_tests.running import WORKFLOW, Running, museum_and_dps, system_of
from passari_dagster_tests.test_requeue_system import config, failing, sent, told_by

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("moved")]

DATABASES = {"PASSARI_DB_URL": "passari", "DAGSTER_PG_URL": "dagster"}


def postgres_tool(name: str, url: str, *arguments: object) -> None:
    """One of PostgreSQL's own programs, of the same release as the server at this URL."""
    engine = create_engine(url)
    with engine.connect() as connection:
        programs = connection.execute(text("SELECT setting FROM pg_config WHERE name = 'BINDIR'")).scalar_one()
    engine.dispose()
    # They take no URL of SQLAlchemy's.
    database = f"--dbname={url.replace('postgresql+psycopg2:', 'postgresql:')}"
    done = subprocess.run(
        [f"{programs}/{name}", database, *map(str, arguments)],
        env={"PATH": os.defpath, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def back_up(running: Running, directory: Path) -> None:
    for variable, name in DATABASES.items():
        url = running.system.environment[variable]
        postgres_tool("pg_dump", url, "--format=custom", f"--file={directory / name}.dump")


@contextlib.contextmanager
def moved(house: House, compute_logs: str, directory: Path, backup: Path) -> Iterator[Running]:
    """A system of the same house on other servers, with what the backup knows."""
    with EmbeddedPostgres(directory / "postgres") as postgres:
        urls = {variable: postgres.url(name) for variable, name in DATABASES.items()}
        for variable, name in DATABASES.items():
            postgres_tool("pg_restore", urls[variable], "--clean", "--if-exists", backup / f"{name}.dump")
        with system_of(house, directory / "data", {**urls, "PASSARI_COMPUTE_LOG_DIR": compute_logs}) as running:
            yield running


def verdicts(running: Running) -> dict[str, int]:
    return told_by(running, "poll_dps", config("poll", days=7))


def rows(running: Running, object_id: int) -> list[tuple[Any, ...]]:
    with running.environment() as env:
        return [
            (row.sip_filename, row.submission_date is not None, bool(row.cancelled))
            for row in package_rows(env, object_id)
        ]


def test_a_system_that_is_restored_elsewhere_goes_on_and_sends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKFLOW, "poll_interval", 3600)
    with museum_and_dps(tmp_path, 30) as house:
        with system_of(house, tmp_path / "data") as running:
            for job in ("sync_objects", "sync_attachments", "sync_hashes"):
                running.run(job)
            preserved, waiting, begun, only_at_the_dps, only_in_the_archive, frozen = running.good_objects()[:6]
            sent(running, preserved)
            verdicts(running)
            sent(running, waiting)
            failing(running, begun)
            failing(running, only_at_the_dps, without="id")
            running.wait_until("preserved", preserved)
            back_up(running, tmp_path)

            # What the backup does not know.
            sent(running, only_at_the_dps, only_in_the_archive)
            running.run("freeze_objects", config("freeze", object_ids=[frozen], reason="rights"))
            ((name, *_),) = rows(running, only_in_the_archive)
            compute_logs = running.system.environment["PASSARI_COMPUTE_LOG_DIR"]
        next((tmp_path / "archive").rglob(f"*Object_{only_at_the_dps}-*/{journal.FILE}")).unlink()

        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with moved(house, compute_logs, elsewhere, tmp_path) as running:
            assert running.stages(preserved, frozen) == ["preserved", "new"]
            assert [run["status"] for run in running.runs_of(preserved)] == ["SUCCESS", "SUCCESS"]
            assert rows(running, only_in_the_archive) == []
            assert not rows(running, only_at_the_dps)[0][1]
            preview = json.loads(running.passari("recover", "--dry-run", "--json"))
            assert preview["counts"] == {"put back from the archive": 1}

            numbers = told_by(running, "reset_workflow", config("reset", reason="moved"))
            assert numbers == {"cancelled": 1, "with_the_DPS_kept": 1, "put_back_from_the_archive": 1}
            assert rows(running, only_in_the_archive) == []
            assert told_by(running, "reset_workflow", config("reset", reason="moved", perform=True)) == numbers
            assert rows(running, only_in_the_archive) == [(name, True, False)]

            assert verdicts(running) == {"waiting": 3, "accepted": 3, "rejected": 0}
            running.wait_until("preserved", waiting, only_at_the_dps, only_in_the_archive)
            sent(running, begun)
            verdicts(running)
            running.wait_until("preserved", begun)
            objects = (preserved, waiting, only_at_the_dps, only_in_the_archive, begun)
            assert [len(running.received(object_id)) for object_id in objects] == [1, 1, 1, 1, 1]
