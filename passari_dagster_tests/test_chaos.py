"""A catalogue that is edited all the time, a MuseumPlus that fails, kills at random: the database is right at the end.

`make chaos` goes through ten seeds; PASSARI_CHAOS_SEEDS says how many.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import MuseumAttachment, MuseumObject, object_attachments
from passari_dagster.museumplus import search
from passari_dagster.museumplus.search import AttachmentRecord, ObjectRecord
from passari_dagster.simulation import museum_documents
from passari_dagster.simulation.museum_records import ObjectFacts
from passari_dagster.simulation.museumplus import LOG_FIELD, SimulatedMuseum
from passari_dagster_tests.house import House

pytestmark = pytest.mark.chaos

SEEDS = range(1, 1 + int(os.environ.get("PASSARI_CHAOS_SEEDS", "10")))
OBJECTS = 5000
KILLS = 20
MUSEUM_KILLS = 5
RATES = (
    "--error-rate",
    "0.03",
    "--cut-rate",
    "0.03",
    "--short-rate",
    "0.02",
    "--drop-rate",
    "0.02",
    "--latency",
    "0.02",
)
CLIENT = """
import sys
from passari_dagster import settings
from passari_dagster.errors import PassariError
from passari_dagster.workflow import synchronise
from passari_dagster.workflow.environment import open_environment
from passari_dagster.workflow.hashes import sync_hashes
full = synchronise.Options(full="full" in sys.argv, accept_removals=True, window=False)
with open_environment(settings.load()) as env:
    print("ready", flush=True)
    while True:
        try:
            synchronise.sync_objects(env, print, full)
            synchronise.sync_attachments(env, print, full)
            sync_hashes(env, print)
        except PassariError as error:
            print(error, flush=True)
            continue
        print("round", flush=True)
        if "once" in sys.argv:
            break
"""


class Museum:
    """A simulated MuseumPlus in a process of its own, whose catalogue this process edits.

    Arguments:
        house: of the settings; its own museum is not used.
        random: decides what happens.
    """

    def __init__(self, house: House, directory: Path, random: Random) -> None:
        self._random, self._directory = random, directory
        self.port = int(re.findall(r":(\d+)/", house.museum.url)[0])
        house.museum.stop()
        self.catalogue = SimulatedMuseum(objects=OBJECTS, data_dir=directory)
        self._gone: list[ObjectFacts] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self, *rates: str) -> None:
        """Answer requests; with faults at these rates."""
        command = [sys.executable, "-m", "passari_dagster.simulation.museumplus", "--port", str(self.port)]
        command += ["--objects", str(OBJECTS), "--data-dir", str(self._directory), *rates]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the simulated MuseumPlus did not start"

    def kill(self) -> None:
        """As by a power cut."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def edit(self) -> None:
        """Somebody in the museum does something."""
        random, catalogue = self._random, self.catalogue
        object_id = random.choice(list(catalogue.object_ids))
        with contextlib.suppress(KeyError):  # it is gone
            facts = catalogue.object(object_id)
            match random.randrange(8):
                case 0 | 1 | 2:
                    catalogue.edit_object(object_id, title=f"Muutettu {random.random()}")
                case 3:
                    self._gone.append(facts)
                    catalogue.delete_object(object_id)
                case 4:
                    catalogue.add_object(title="Uusi", attachments=[("kuva.jpg", b"x")] * random.randrange(3))
                case 5 if facts.multimedia_ids:
                    catalogue.delete_attachment(random.choice(facts.multimedia_ids))
                case 6 if facts.multimedia_ids:
                    catalogue.set_attachment(random.choice(facts.multimedia_ids), filename=f"{random.random()}.jpg")
                case 7 if self._gone:
                    back = self._gone.pop(random.randrange(len(self._gone)))
                    catalogue.restore_object(back)
                    catalogue.edit_object(back.id, title="Palautettu")

    def objects(self) -> dict[int, ObjectRecord]:
        """What MuseumPlus would say of each object now."""
        found = {}
        for object_id in (*self.catalogue.object_ids, *self._added("Object")):
            with contextlib.suppress(KeyError):
                item = museum_documents.object_item(self.catalogue.object(object_id))
                document = museum_documents.module("Object", [item], 1)
                page = search.object_page([document], after_id=0, log_field=LOG_FIELD, server_time=None)
                found[object_id] = page.records[0]
        return found

    def attachments(self, objects: dict[int, ObjectRecord]) -> dict[int, AttachmentRecord]:
        """What MuseumPlus would say of each attachment now."""
        found = {}
        ids = {id_ for record in objects.values() for id_ in record.multimedia_ids}
        ids.update(self._added("Multimedia"))
        ids.update(id_ for facts in self._gone for id_ in facts.multimedia_ids)
        for multimedia_id in ids:
            with contextlib.suppress(KeyError):
                facts = self.catalogue.attachment(multimedia_id)
                item = museum_documents.attachment_item(facts, has_file=self.catalogue.has_file(multimedia_id))
                document = museum_documents.module("Multimedia", [item], 1)
                page = search.attachment_page([document], after_id=0, server_time=None)
                found[multimedia_id] = page.records[0]
        return found

    def _added(self, module: Any) -> list[int]:
        return [row.id for row in self.catalogue.changed(module)]


@pytest.fixture
def house(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[House]:
    """A museum database of its own, and settings."""
    house = House(tmp_path, museum_database, redis_url, objects=1)
    yield house
    house.dps.stop()


def client(house: House, config: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process that synchronises."""
    environment = {
        **os.environ,
        "PASSARI_CONFIG": str(config),
        "PASSARI_DB_URL": house.database_url,
        "REDIS_URL": house.redis_url.get_secret_value(),
    }
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_to_its_end(house: House, config: Path, *arguments: str) -> None:
    process = client(house, config, "once", *arguments)
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, output[-3000:]


def editing(museum: Museum, random: Random, over: threading.Event, errors: list[BaseException]) -> None:
    """Edits all the time, and MuseumPlus is killed now and then."""
    kills_at = sorted(time.monotonic() + random.uniform(2, 40) for _ in range(MUSEUM_KILLS))
    try:
        while not over.is_set():
            museum.edit()
            over.wait(random.uniform(0, 0.04))
            if kills_at and time.monotonic() > kills_at[0]:
                kills_at.pop(0)
                museum.kill()
                over.wait(random.uniform(0, 0.5))
                museum.start(*RATES)
    except BaseException as error:
        errors.append(error)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_meanwhile_the_database_has_the_catalogue_at_the_end(
    house: House, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    museum = Museum(house, tmp_path / "museum", random)
    config = house.write_config(
        tmp_path / "passari.toml",
        museumplus={"page_size": 100, "retries": 4, "retry_wait": 0.05, "session_file": tmp_path / "session"},
        workflow={"lock_expiry": 2, "sync_window": ""},
    )
    over, errors = threading.Event(), list[BaseException]()
    museum.start(*RATES)
    editor = threading.Thread(target=editing, args=(museum, Random(seed + 1000), over, errors))
    editor.start()
    rounds = 0
    try:
        for _ in range(KILLS):
            process = client(house, config, *(["full"] if random.random() < 0.4 else []))
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            time.sleep(random.uniform(0.2, 3))
            process.send_signal(signal.SIGKILL)
            rounds += process.communicate()[0].count("round")
    finally:
        over.set()
        editor.join(30)
    try:
        assert not errors, errors
        museum.kill()
        museum.start()
        # First what changes alone show: nothing was skipped, whatever was under way.
        run_to_its_end(house, config)
        objects = museum.objects()
        attachments = museum.attachments(objects)
        compare(house, objects, attachments, removals=False)
        # Then everything is read, and what is gone is seen.
        run_to_its_end(house, config, "full")
        compare(house, objects, attachments, removals=True)
    finally:
        museum.kill()
        museum.catalogue.stop()


def compare(
    house: House,
    objects: dict[int, ObjectRecord],
    attachments: dict[int, AttachmentRecord],
    *,
    removals: bool,
) -> None:
    """The database says of each item what MuseumPlus says.

    Arguments:
        removals: what is not there any more is marked; nothing else ever is.
    """
    engine = create_engine(house.database_url)
    with Session(engine) as session:
        object_rows = {row.id: row for row in session.scalars(select(MuseumObject))}
        attachment_rows = {row.id: row for row in session.scalars(select(MuseumAttachment))}
        links: dict[int, set[int]] = {}
        for object_id, attachment_id in session.execute(select(object_attachments)):
            links.setdefault(object_id, set()).add(attachment_id)
    engine.dispose()
    now = datetime.now(timezone.utc) + timedelta(seconds=1)
    assert set(objects) <= set(object_rows)
    assert set(attachments) <= set(attachment_rows)
    for object_id, record in objects.items():
        row = object_rows[object_id]
        there = [attachments[id_] for id_ in record.multimedia_ids]
        assert (row.title, row.created_date, row.metadata_hash) == (
            record.title,
            record.created_date,
            record.metadata_hash,
        ), object_id
        assert links.get(object_id, set()) == set(record.multimedia_ids), object_id
        joined = "".join(sorted(found.metadata_hash for found in there))
        assert row.attachment_metadata_hash == (hashlib.sha256(joined.encode()).hexdigest() if joined else "")
        dates = [date for date in (record.modified_date, *(found.modified_date for found in there)) if date]
        # It never goes back: an attachment that is gone may have been the newest.
        assert not dates or (row.modified_date is not None and max(dates) <= row.modified_date <= now), object_id
        assert row.removed_date is None, object_id
    for attachment_id, found in attachments.items():
        kept = attachment_rows[attachment_id]
        assert (kept.filename, kept.created_date, kept.modified_date, kept.metadata_hash, kept.removed_date) == (
            found.filename,
            found.created_date,
            found.modified_date,
            found.metadata_hash,
            None,
        ), attachment_id
    if removals:
        gone = [row.id for row in object_rows.values() if row.id not in objects and row.removed_date is None]
        gone += [row.id for row in attachment_rows.values() if row.id not in attachments and row.removed_date is None]
        assert gone == []
