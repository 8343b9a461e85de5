"""A passari-workflow as a museum has it when it moves: its rows, its directories, its archive and its queues.

Its jobs are told step by step as its own source does them [passari-workflow 1.1: `jobs/*.py`, `scripts/*.py`;
passari 1.1: `dpres/package.py`, `scripts/*.py`]. Its SIPs are made by our packager, under its names. The database is a
real one of its revision, and goes on by our migrations.
"""

from __future__ import annotations

import gzip
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis
from alembic import command
from rq import Queue
from sqlalchemy import text

from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps import Dps, Verdict, Waiting
from passari_dagster.museumplus import items
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.preservation_log import LogEntry
from passari_dagster.sip.workspace import Workspace
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.museum_toolkit import objid
from passari_dagster_tests.conftest import alembic_config
from passari_dagster_tests.house import House

FIRST = "156f33fadc35"


class OldWorkflow:
    """The workflow before the move.

    Arguments:
        house: whose museum, DPS and directories it has.
        env: of our use cases, over the same database, which is at our newest revision and synchronised.
        queue_url: of its Redis.
        moved: the database is at our revision, and stays there.
    """

    def __init__(self, house: House, env: Environment, queue_url: str, *, moved: bool = False) -> None:
        self.house, self.env = house, env
        self.redis = redis.Redis.from_url(queue_url)
        self._clock = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=2)
        env.settings.package_dir.mkdir(exist_ok=True)
        if not moved:
            self._migrate("downgrade", FIRST)

    def move(self) -> None:
        """Our migration."""
        self._migrate("upgrade", "head")

    def _migrate(self, direction: str, revision: str) -> None:
        self.env.engine.dispose()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PASSARI_DB_URL", self.house.database_url)
            getattr(command, direction)(alembic_config(), revision)

    def sql(self, statement: str, **values: Any) -> Any:
        """Execute a statement; the rows that it returns."""
        with self.env.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    def root(self, object_id: int) -> Path:
        """`<package_dir>/<id>`."""
        return self.env.settings.package_dir / str(object_id)

    def archive(self, object_id: int) -> Path:
        """Where the logs of the object's latest package are archived."""
        digits = str(object_id)
        parts = [digits[start : start + 3] for start in range(0, len(digits), 3)]
        return self.env.settings.archive_dir.joinpath(*parts, f"Object_{digits}", self.name(object_id), "logs")

    def name(self, object_id: int) -> str:
        """File name of the object's latest package."""
        ((name,),) = self.sql(
            "SELECT sip_filename FROM museum_packages p JOIN museum_objects o ON o.latest_package_id = p.id "
            "WHERE o.id = :id",
            id=object_id,
        )
        return str(name)

    def _files(self, object_id: int) -> str:
        """`download_object`: files as the museum has them, no manifest; returns the date in the package's name."""
        workspace = Workspace(self.env.settings.package_dir, object_id)
        for path in (workspace.workspace, workspace.reports, workspace.logs):
            path.mkdir(parents=True, exist_ok=True)
        with MuseumPlus(self.env.settings.museumplus) as museum:
            document = museum.item("Object", object_id)
            item = items.read_object(document)
            for attachment_id in item.attachment_ids:
                directory = workspace.attachments / str(attachment_id)
                directory.mkdir(parents=True, exist_ok=True)
                metadata = museum.item("Multimedia", attachment_id)
                (directory / "Multimedia.xml").write_bytes(metadata)
                museum.download_attachment(attachment_id, directory / items.read_attachment(metadata).filename)
            (workspace.reports / "lido.xml").write_bytes(museum.export_lido(object_id))
            (workspace.reports / "Object.xml").write_bytes(document)
        assert item.modified is not None
        return f"{item.modified:%Y%m%d}"

    def begin_download(self, object_id: int) -> None:
        """A `download_object` that was killed: it makes its row at the end."""
        self._files(object_id)
        (self.root(object_id) / "sip" / "reports" / "Object.xml").unlink()
        (self.root(object_id) / "sip" / "attachments" / "7").mkdir(parents=True)
        (self.root(object_id) / "sip" / "attachments" / "7" / "kuva.jpg.download").write_bytes(b"half")

    def download(self, object_id: int) -> None:
        """`download_object`; `create_sip` waits then."""
        date = self._files(object_id)
        self._clock += timedelta(seconds=1)
        sip_id = f"{self._clock:%Y%m%d-%H%M%S}"
        name = f"{date}_Object_{object_id}-{sip_id}.tar"
        self.sql(
            "INSERT INTO museum_packages (id, sip_filename, sip_id, object_modified_date, created_date, downloaded, "
            "packaged, uploaded, rejected, preserved, cancelled, museum_object_id, metadata_hash, "
            "attachment_metadata_hash) SELECT nextval('museum_packages_id_seq'), :name, :sip_id, modified_date, :now, "
            "true, false, false, false, false, false, id, metadata_hash, attachment_metadata_hash "
            "FROM museum_objects WHERE id = :id",
            name=name,
            sip_id=sip_id,
            now=self._clock,
            id=object_id,
        )
        self.sql(
            "UPDATE museum_objects SET latest_package_id = (SELECT id FROM museum_packages WHERE sip_filename = :name) "
            "WHERE id = :id",
            name=name,
            id=object_id,
        )
        self.enqueue("create_sip", object_id)

    def create_sip(self, object_id: int) -> None:
        """`create_sip`; `submit_sip` waits then. Logs are of siptools, and are not compressed yet."""
        self.take("create_sip", object_id)
        root, name = self.root(object_id), self.name(object_id)
        self._make_tar(object_id, root / name)
        for log in ("import-object", "create-mix", "compile-mets", "sign-mets", "compress"):
            (root / "logs" / f"{log}.log").write_text(f"\n===COMMAND===\n{log} of {name}\n===STDOUT===\n")
        (root / "sip" / "mets.xml").write_bytes(b"<mets/>")
        (root / "sip" / "signature.sig").write_bytes(b"signed")
        (root / "workspace" / "import-object-md-references.jsonl").write_bytes(b"{}")
        self._set(object_id, "packaged = true")
        self.enqueue("submit_sip", object_id)

    def _make_tar(self, object_id: int, tar: Path) -> None:
        """Like its own, a SIP that the DPS accepts."""
        scratch = self.house.directory / "scratch" / str(object_id)
        Workspace(scratch.parent, object_id).create()
        facts = PackageFacts(
            object_id=object_id,
            package_id=1,
            sip_id="",
            sip_filename=tar.name,
            created=self._clock,
            object_modified=None,
            first_preserved=None,
            downloaded=True,
            packaged=False,
            uploaded=False,
            rest=None,
            sip_size=None,
            sip_sha256=None,
            submission_date=None,
            verdict=None,
            verdict_date=None,
            report_day=None,
            transfer_id=None,
            confirmed=False,
        )
        self.env.toolkit.download(facts, scratch, lambda _: None)
        self.env.toolkit.package(facts, scratch, lambda _: None)
        (scratch / tar.name).rename(tar)
        shutil.rmtree(scratch)

    def submit(self, object_id: int, *, killed: str = "") -> None:
        """`submit_sip`; `killed` in the upload (`upload`), or after the rename (`rename`). Its tar goes at the end."""
        self.take("submit_sip", object_id)
        tar = self.root(object_id) / self.name(object_id)
        transfer = self.house.dps.home / "transfer"
        if killed == "upload":
            (transfer / f"{tar.name}.incomplete").write_bytes(tar.read_bytes()[:1000])
            return
        with Dps(self.env.settings.dps) as dps:
            dps.submit(tar, tar.name, before_rename=lambda: None)
        if killed == "rename":
            return
        self._set(object_id, "uploaded = true")
        tar.unlink()

    def sync_processed_sips(self, object_id: int) -> str:
        """`sync-processed-sips`: the verdict is in the row before anything that follows from it is done."""
        name = self.name(object_id)
        transfer = self.house.dps.wait_for(name)
        accepted = transfer.status == "accepted"
        self._set(object_id, "preserved = true" if accepted else "rejected = true")
        with Dps(self.env.settings.dps) as dps:
            verdict = next(iter(dps.verdicts([_waiting(name, object_id, self._clock)])))
            self._fetch_reports(dps, verdict, self.root(object_id) / "logs")
            if not accepted:
                dps.remove_rejected(name, verdict.date)
        (self.root(object_id) / f"{name}.status").write_text(transfer.status)
        self.enqueue("confirm_sip", object_id)
        return transfer.status

    def _fetch_reports(self, dps: Dps, verdict: Verdict, logs: Path) -> None:
        for report in dps.fetch_reports(verdict, logs):
            report.rename(logs / f"ingest-report{report.suffix}")

    def confirm(self, object_id: int, *, killed: str = "") -> None:
        """`confirm_sip`; `killed` before MuseumPlus was told (`telling`), or before its commit (`commit`)."""
        self.take("confirm_sip", object_id)
        root, archive = self.root(object_id), self.archive(object_id)
        archive.parent.mkdir(parents=True, exist_ok=True)
        for log in (root / "logs").iterdir():
            if log.suffix != ".gz":
                with gzip.open(f"{log}.gz", "wb") as packed:
                    packed.write(log.read_bytes())
                log.unlink()
        shutil.copytree(root / "logs", archive, dirs_exist_ok=True)
        if killed == "telling":
            return
        with MuseumPlus(self.env.settings.museumplus) as museum:
            museum.add_log_entry(object_id, LogEntry(self.name(object_id), "accepted", None, self._clock))
        shutil.rmtree(root)
        if killed == "commit":
            return
        self.sql("UPDATE museum_objects SET preserved = true WHERE id = :id", id=object_id)

    def freeze(self, object_id: int, *, delete_jobs: bool) -> None:
        """`freeze-objects`: the package counts as cancelled, wherever it is."""
        self._set(object_id, "cancelled = true")
        self.sql(
            "UPDATE museum_objects SET frozen = true, freeze_reason = 'rights', freeze_source = 'USER' WHERE id = :id",
            id=object_id,
        )
        if delete_jobs:
            shutil.rmtree(self.root(object_id))

    def _set(self, object_id: int, change: str) -> None:
        self.sql(f"UPDATE museum_packages SET {change} WHERE sip_filename = :name", name=self.name(object_id))

    def enqueue(self, step: str, object_id: int) -> None:
        """A job as its own: the queue's name and the object's id are the job's."""
        Queue(step, connection=self.redis).enqueue(
            f"passari_workflow.jobs.{step}.{step}", kwargs={"object_id": object_id}, job_id=f"{step}_{object_id}"
        )

    def take(self, step: str, object_id: int) -> None:
        """A worker takes the job."""
        self.redis.lrem(f"rq:queue:{step}", 0, f"{step}_{object_id}")
        self.redis.delete(f"rq:job:{step}_{object_id}")


def _waiting(name: str, object_id: int, since: datetime) -> Waiting:
    return Waiting(name, objid(object_id), since - timedelta(minutes=5))
