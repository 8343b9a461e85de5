"""The DIPs of the simulated DPS: made of what was accepted, kept until they are deleted.

    dips/<id>/dip.zip or dip.tar   the content of the package, with its METS as the DPS's own
    dips/<id>/dip.json             of which package, and when it was asked for

Who may have one is known by `dps_rest`.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

from passari_dagster.simulation.dps_faults import Faults

METS = "mets.xml"
FORMATS = ("zip", "tar")


@dataclass(frozen=True)
class Dip:
    """A DIP that was asked for.

    Arguments:
        dip_id: its id.
        aip_id: of which package.
        archive: `zip` or `tar`.
        requested: when, in seconds since 1970.
    """

    dip_id: str
    aip_id: str
    archive: str
    requested: float

    @property
    def timestamp(self) -> str:
        """When it was asked for, as the DPS writes it."""
        return datetime.fromtimestamp(self.requested, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Dips:
    """All DIPs of one simulated DPS.

    Arguments:
        directory: they are kept below it.
        faults: the knobs.
    """

    def __init__(self, directory: Path, faults: Faults) -> None:
        self._directory, self._faults = directory, faults
        directory.mkdir(parents=True, exist_ok=True)

    def make(self, aip_id: str, package: Path, archive: str) -> Dip:
        """Make a DIP of a package as it was received; it is to be had after a while."""
        dip = Dip(str(uuid.uuid4()), aip_id, archive, time.time())
        folder = self._directory / dip.dip_id
        folder.mkdir()
        damage = self._faults.dip_damage > 0
        self._faults.dip_damage -= damage
        write = _write_zip if archive == "zip" else _write_tar
        write(folder / f"dip.{archive}", _content(package, damage=damage))
        (folder / "dip.json").write_text(json.dumps(asdict(dip)), encoding="utf-8")
        return dip

    def find(self, dip_id: str) -> Dip | None:
        """The DIP of this id, ready or not."""
        if re.fullmatch(r"[0-9a-f-]{36}", dip_id) is None:
            return None
        try:
            return Dip(**json.loads((self._directory / dip_id / "dip.json").read_bytes()))
        except FileNotFoundError:
            return None

    def all(self) -> list[Dip]:
        """Every DIP that is not deleted."""
        found = (self.find(path.name) for path in self._directory.iterdir())
        return sorted((dip for dip in found if dip is not None), key=lambda dip: dip.requested)

    def is_ready(self, dip: Dip) -> bool:
        """Whether it is to be had."""
        return not self._faults.dip_never and time.time() >= dip.requested + self._faults.dip_delay

    def file(self, dip: Dip) -> Path:
        """Its archive."""
        return self._directory / dip.dip_id / f"dip.{dip.archive}"

    def delete(self, dip: Dip) -> None:
        """Forget it."""
        shutil.rmtree(self._directory / dip.dip_id)


def _content(package: Path, *, damage: bool) -> Iterator[tuple[str, bytes]]:
    """The files of a package: its METS tells that it is a DIP, and the museum's signature of it is left out."""
    with tarfile.open(package, "r:") as source:
        for member in source:
            stream = source.extractfile(member) if member.isfile() else None
            name = member.name.removeprefix("./")
            if stream is None or name == "signature.sig":
                continue
            data = stream.read()
            if name == METS:
                data = re.sub(rb'RECORDSTATUS="\w+"', b'RECORDSTATUS="dissemination"', data, count=1)
            elif damage and data:
                data, damage = bytes([data[0] ^ 0xFF]) + data[1:], False
            yield name, data


def _write_zip(path: Path, content: Iterator[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content:
            archive.writestr(name, data)


def _write_tar(path: Path, content: Iterator[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
