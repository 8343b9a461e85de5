"""The directory of one object while its package is made, and the archive where its logs stay for ever.

Only paths and their upkeep belong here; what the files contain is known by those who write them. The layout is
that of passari, so that an institution finds its files where they have always been.
"""

from __future__ import annotations

import gzip
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from passari_dagster.durable import make_directory, open_for_replacement

_SIP_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CHUNK = 1024 * 1024
_OBJECT = "Object_"


@dataclass(frozen=True)
class Workspace:
    """The paths of one object's package directory, `<package_dir>/<object id>`.

    Arguments:
        package_dir: directory of all packages.
        object_id: id of the object in the catalogue.
    """

    package_dir: Path
    object_id: int

    @property
    def root(self) -> Path:
        """Everything of the object."""
        return self.package_dir / str(self.object_id)

    @property
    def sip(self) -> Path:
        """What goes into the package."""
        return self.root / "sip"

    @property
    def reports(self) -> Path:
        """The object's own documents: `Object.xml`, `lido.xml`."""
        return self.sip / "reports"

    @property
    def attachments(self) -> Path:
        """One directory for each attachment."""
        return self.sip / "attachments"

    @property
    def collection_activities(self) -> Path:
        """One directory for each collection activity."""
        return self.sip / "collection_activities"

    @property
    def logs(self) -> Path:
        """Logs and ingest reports, archived when the package is confirmed."""
        return self.root / "logs"

    @property
    def workspace(self) -> Path:
        """Scratch files."""
        return self.root / "workspace"

    def tar(self, sip_filename: str) -> Path:
        """Where the finished package is.

        Arguments:
            sip_filename: name of the package, `<date>_Object_<id>.tar`.
        """
        return self.root / _checked(sip_filename)

    def create(self) -> None:
        """Make the directories that are missing."""
        for path in (
            self.reports,
            self.attachments,
            self.collection_activities,
            self.logs,
            self.workspace,
        ):
            path.mkdir(parents=True, exist_ok=True)

    def archive_logs(self, archive_dir: Path, sip_filename: str) -> tuple[Path, ...]:
        """Copy each log to the archive, compressed. Safe to repeat after a crash at any point.

        A log `X` becomes `X.gz`; a log that is compressed already is copied as it is. Where both `X` and `X.gz`
        are there, `X` is the newer one (the report was downloaded again) and wins. An archived log of the same
        name is replaced, in one step, by the complete new one, if that begins with it; one that says something else,
        such as an older attempt's, stays, and the new one becomes `X.1.gz`.

        Arguments:
            archive_dir: root of the archive.
            sip_filename: name of the package.

        Returns:
            the archived files, by name.
        """
        target = archive_path(archive_dir, self.object_id, sip_filename) / "logs"
        make_directory(target)
        if not self.logs.is_dir():
            return ()
        sources = {
            path.relative_to(self.logs).as_posix(): path
            for path in sorted(self.logs.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        archived = []
        for name, source in sources.items():
            compressed = name.endswith(".gz")
            if compressed and name.removesuffix(".gz") in sources:
                continue
            plain = name.removesuffix(".gz")
            make_directory((target / name).parent)
            for number in count():
                destination = target / (f"{plain}.{number}.gz" if number else f"{plain}.gz")
                there = _archived(destination, source, compressed=compressed)
                if there == "nothing":
                    _archive(source, destination, compress=not compressed)
                if there != "another":
                    archived.append(destination)
                    break
        return tuple(archived)

    def delete(self) -> None:
        """Remove the directory and all in it. Does nothing where it is gone already."""
        # Renamed first: a removal cut short must not leave half a workspace that looks like a whole one.
        doomed = self.package_dir / f".deleted-{self.object_id}"
        if doomed.exists():
            shutil.rmtree(doomed)
        if self.root.exists():
            self.root.rename(doomed)
            shutil.rmtree(doomed)


def objects_with_files(package_dir: Path) -> list[int]:
    """Ids of the objects that have a package directory; none where there is no `package_dir` yet."""
    if not package_dir.is_dir():
        return []
    return sorted(int(path.name) for path in package_dir.iterdir() if path.name.isdecimal())


def archive_path(archive_dir: Path, object_id: int, sip_filename: str) -> Path:
    """Directory of one package in the archive: `<archive_dir>/123/456/7/Object_1234567/<sip_filename>`.

    Arguments:
        archive_dir: root of the archive.
        object_id: id of the object; its digits, by threes, are the directories above.
        sip_filename: name of the package.
    """
    return object_archive_path(archive_dir, object_id) / _checked(sip_filename)


def object_archive_path(archive_dir: Path, object_id: int) -> Path:
    """Directory of all packages of one object in the archive; see `archive_path`."""
    digits = str(object_id)
    parts = [digits[start : start + 3] for start in range(0, len(digits), 3)]
    return archive_dir.joinpath(*parts, f"{_OBJECT}{digits}")


def archived_objects(archive_dir: Path) -> Iterator[int]:
    """Ids of the objects that have packages in the archive."""
    for path in sorted(archive_dir.iterdir()):
        object_id = path.name.removeprefix(_OBJECT)
        if path.name.startswith(_OBJECT) and object_id.isdecimal():
            yield int(object_id)
        elif path.name.isdecimal() and path.is_dir():
            yield from archived_objects(path)


def _checked(sip_filename: str) -> str:
    if not _SIP_FILENAME.fullmatch(sip_filename):
        raise ValueError(f"{sip_filename!r} is no file name for a package")
    return sip_filename


def _archived(archived: Path, source: Path, *, compressed: bool) -> Literal["nothing", "it", "another"]:
    """What is under a log's name in the archive: nothing, or its beginning; the log itself; or another one."""
    with gzip.open(source) if compressed else source.open("rb") as log:
        try:
            with gzip.open(archived) as old:
                while block := old.read(_CHUNK):
                    if log.read(len(block)) != block:
                        return "another"
            return "nothing" if log.read(1) else "it"
        except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error):
            return "nothing"  # not there, or its writing was cut short


def _archive(source: Path, destination: Path, *, compress: bool) -> None:
    with source.open("rb") as log, open_for_replacement(destination) as stream:
        if not compress:
            shutil.copyfileobj(log, stream, _CHUNK)
            return
        # No name and the log's own time: a repeated run writes the same bytes.
        modified = int(source.stat().st_mtime)
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=modified) as packed:
            shutil.copyfileobj(log, packed, _CHUNK)
