"""What the simulated DPS keeps on disk: packages received, verdicts, the folders that SFTP shows.

    home/        transfer/, accepted/, rejected/, as SFTP shows them
    received/    every package as it was sent, <n>-<name>
    work/        packages being checked
    dips/        what was asked for of what is preserved; see `dps_dips`
    verdicts.jsonl   one line for each verdict, and for each transfer deleted over REST; read again at a start

How packages are checked is known by `dps_ingest`; who may see what by the servers.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from passari_dagster.simulation import dps_ingest, dps_reports
from passari_dagster.simulation.dps_dips import Dips
from passari_dagster.simulation.dps_faults import Faults

log = logging.getLogger(__name__)

Status = Literal["in_progress", "accepted", "rejected"]


@dataclass
class Transfer:
    """A package that was taken from `transfer/`.

    Arguments:
        transfer_id: `<name>-<uuid>`.
        name: file name of the package.
        received: file name in `received/`.
        size: bytes.
        status: where it stands.
        time: of the verdict, or of the arrival while there is none; UTC, ISO 8601.
        objid: of its METS.
        contentid: of its METS.
        record_status: of its METS.
        reasons: why it was rejected.
        damaged: whether a fault knob flipped a byte of it.
        deleted: whether its transfer was deleted over REST.
    """

    transfer_id: str
    name: str
    received: str
    size: int
    status: Status
    time: str
    objid: str = ""
    contentid: str = ""
    record_status: str = ""
    reasons: list[str] = field(default_factory=list)
    damaged: bool = False
    deleted: bool = False

    @property
    def when(self) -> datetime:
        """`time` as a datetime."""
        return datetime.fromisoformat(self.time)


class Store:
    """The folders of one simulated DPS, and what it knows.

    Arguments:
        directory: all is kept below it.
        certificate: PEM file with the registered certificate.
        contract_id: the contract, `urn:uuid:…`.
        faults: the knobs.
    """

    def __init__(self, directory: Path, certificate: Path, contract_id: str, faults: Faults) -> None:
        self.home = directory / "home"
        self.received = directory / "received"
        self.log = directory / "verdicts.jsonl"
        self.contract_id = contract_id
        self.faults = faults
        self.dips = Dips(directory / "dips", faults)
        self._work = directory / "work"
        self._certificate = certificate
        self._transfers: dict[str, Transfer] = {}
        self._lock = threading.Lock()
        shutil.rmtree(self._work, ignore_errors=True)
        for folder in (
            *(self.home / name for name in ("transfer", "accepted", "rejected")),
            self.received,
            self._work,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            for line in self.log.read_text(encoding="utf-8").splitlines():
                transfer = Transfer(**json.loads(line))
                self._transfers[transfer.transfer_id] = transfer

    def transfers(self) -> list[Transfer]:
        """All transfers not deleted, oldest first."""
        with self._lock:
            return [transfer for transfer in self._transfers.values() if not transfer.deleted]

    def ingested(self) -> dict[str, list[Transfer]]:
        """The accepted transfers of each OBJID, deleted or not: what the DPS preserves."""
        found: dict[str, list[Transfer]] = {}
        with self._lock:
            for transfer in self._transfers.values():
                if transfer.status == "accepted":
                    found.setdefault(transfer.objid, []).append(transfer)
        return found

    def unjudged(self) -> list[Transfer]:
        """What was received before a stop and got no verdict."""
        judged = {transfer.received for transfer in self._transfers.values()}
        left = sorted(path.name for path in self.received.iterdir() if path.name not in judged)
        return [self._begin(name.partition("-")[2], name) for name in left]

    def take(self, name: str) -> Transfer:
        """Move a package out of `transfer/`."""
        number = sum(1 for _ in self.received.iterdir()) + 1
        received = f"{number:06}-{name}"
        (self.home / "transfer" / name).rename(self.received / received)
        return self._begin(name, received)

    def judge(self, transfer: Transfer) -> None:
        """Check a package, and publish the verdict and its reports."""
        work = self._work / transfer.transfer_id
        content, public = work / "content", work / "public"
        content.mkdir(parents=True)
        public.mkdir()
        result = dps_ingest.Result(reasons=list(dps_ingest.unpack(self.received / transfer.received, content)))
        if self.faults.damage > 0:
            self.faults.damage -= 1
            transfer.damaged = _flip_a_byte(content)
        if not result.reasons:
            result = dps_ingest.inspect(
                content, certificate=self._certificate, contract_id=self.contract_id, known=self.ingested()
            )
        status: Status = "rejected" if result.reasons else "accepted"
        now = datetime.now(timezone.utc)
        facts = (transfer.transfer_id, result.objid, status, result.reasons, now)
        report = f"{transfer.transfer_id}-ingest-report"
        (public / f"{report}.xml").write_bytes(dps_reports.premis(*facts))
        (public / f"{report}.html").write_bytes(dps_reports.page(*facts))
        if status == "rejected":
            content.rename(public / transfer.name)
        _publish(public, self.home / status / str(now.date()) / transfer.name)
        shutil.rmtree(work)
        with self._lock:
            transfer.objid, transfer.contentid = result.objid, result.contentid
            transfer.record_status, transfer.reasons = result.record_status, result.reasons
            transfer.time, transfer.status = now.isoformat(), status
        self._write(transfer)
        log.info("%s is %s: %s", transfer.name, status, "; ".join(result.reasons) or "nothing found")

    def report(self, transfer: Transfer, kind: str) -> Path | None:
        """The file of an ingest report, if there is one and it may be seen."""
        name = f"{transfer.transfer_id}-ingest-report.{kind}"
        path = self.home / transfer.status / str(transfer.when.date()) / transfer.name / name
        return path if path.is_file() and not self.faults.hides(name) else None

    def delete(self, transfer: Transfer) -> None:
        """Forget a transfer, as REST API 3.0 does: its information and its reports."""
        for kind in ("xml", "html"):
            path = self.report(transfer, kind)
            if path is not None:
                path.unlink()
        transfer.deleted = True
        self._write(transfer)

    def _begin(self, name: str, received: str) -> Transfer:
        transfer = Transfer(
            transfer_id=f"{name}-{uuid.uuid4()}",
            name=name,
            received=received,
            size=(self.received / received).stat().st_size,
            status="in_progress",
            time=datetime.now(timezone.utc).isoformat(),
        )
        with self._lock:
            self._transfers[transfer.transfer_id] = transfer
        return transfer

    def _write(self, transfer: Transfer) -> None:
        with self._lock, self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(transfer)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _publish(public: Path, target: Path) -> None:
    """Show a package's directory at once; beside what an earlier transfer of the name left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        public.rename(target)
        return
    for path in sorted(public.iterdir()):
        if path.is_dir():
            shutil.rmtree(target / path.name, ignore_errors=True)
        path.rename(target / path.name)


def _flip_a_byte(content: Path) -> bool:
    """Flip one byte in the middle of the largest file."""
    files = sorted((path for path in content.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if not files or not files[-1].stat().st_size:
        return False
    with files[-1].open("r+b") as stream:
        stream.seek(files[-1].stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0xFF]))
    return True
