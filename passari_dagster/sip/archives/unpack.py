"""`unpack_in_place`: an archive becomes a directory of the same name, or a content problem that tells all its faults.

An archive is gone through twice. The first time everything that it tells is checked, and nothing is written; the
second time each file is written, in pieces, with its digest, and held to what was told. Before the files, or a fault of
it, are believed, the archive is compared with its download: a TAR has no checksum of what is in it.

An archive in an archive is refused, not unpacked: the limits then hold for all that one attachment can become, nothing
is decompressed to be thrown away, and each decompression that the package tells of is one that a person asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from passari_dagster import durable
from passari_dagster.durable import sync_directory
from passari_dagster.errors import ContentProblem, TransientFailure
from passari_dagster.sip import problems
from passari_dagster.sip.archives import sevenzips, tars, zips
from passari_dagster.sip.archives.leftovers import is_leftover
from passari_dagster.sip.archives.member import Member, MembersOf
from passari_dagster.sip.files import open_regular
from passari_dagster.sip.names import check_path

MAX_DEPTH = 30
"""Directories one in the other: the METS has an element for each, and its readers do not go deeper than 256."""
MAX_PATH_BYTES = 1024
"""Of a path in an archive: with the directory where packages are made before it, the system must be able to open it."""

_HARMLESS = 10 * 1024 * 1024  # bytes; so little is no bomb, whatever its ratio
_LATEST = 253402300800.0  # the year 10000
_DRIVE = re.compile(r"[A-Za-z]:")
_SUFFIXES = frozenset({"", ".attachment", ".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".7z"})


@dataclass(frozen=True)
class Limits:
    """What an archive may become; settings say how much.

    Arguments:
        files: most files and directories, whether the archive tells of them or not.
        size: most bytes, of all files together.
        ratio: most bytes for each byte of the archive.
    """

    files: int = 10_000
    size: int = 100 * 10**9
    ratio: int = 100


@dataclass(frozen=True)
class Unpacked:
    """What became of an archive.

    Arguments:
        kind: `ZIP`, `TAR` or `7z`.
        date: when it was done.
        files: SHA-256 of each file, by its path in the archive's directory.
        leftovers: files that were left out; see `leftovers`.
        empty: directories in which there was nothing, which are left out: a package has none.
    """

    kind: str
    date: datetime
    files: Mapping[PurePosixPath, str]
    leftovers: tuple[PurePosixPath, ...]
    empty: tuple[PurePosixPath, ...]


def kind_of(path: Path, limits: Limits) -> str | None:
    """What kind of archive a file is that is to be unpacked: `ZIP`, `TAR`, `7z`, or None.

    The content decides. Documents of office programs and EPUB are ZIPs, and are none here. The suffix only keeps what
    is packed the same way to be one document, `.kmz` or `.key`, and what is compressed alone, from being taken apart;
    a file without a suffix (`.attachment`: without a name in the catalogue) may be an archive.

    Raises:
        OSError: it cannot be read.
    """
    found = _kind(path, limits)
    return found[0] if found else None


def unpack_in_place(
    archive: Path,
    scratch: Path,
    place: PurePosixPath,
    limits: Limits,
    *,
    sha256: str,
    allow_non_ascii: bool = False,
    leave_out_leftovers: bool = False,
) -> Unpacked:
    """Put a directory of the same name in the place of the archive. All is on disk when it returns.

    A kill at any point leaves the archive, nothing, or the complete directory under its name, and perhaps `scratch`.

    Arguments:
        archive: a file of which `kind_of` tells a kind.
        scratch: directory to work in, on the same file system; it is removed, before and after.
        place: path that the directory has in the package.
        limits: what the archive may become.
        sha256: lower-case hex digest of the archive, of when it was downloaded.
        allow_non_ascii: see `names.safe_name`.
        leave_out_leftovers: of operating systems; see `leftovers`.

    Raises:
        ContentProblem: it cannot be unpacked: the reason of the first fault, all in the detail. The archive stays.
        TransientFailure: it is not the file that was downloaded.
        OSError: the disk is full, or another fault of the file system.
    """
    found = _kind(archive, limits)
    if found is None:
        raise ValueError(f"{archive} is no archive")
    kind, members_of = found
    _remove(scratch)
    try:
        with open_regular(archive) as stream, _believed_if_unchanged(archive, place, sha256):
            plan = _looked_through(stream, members_of, place, limits, allow_non_ascii)
            files, left_out = _written(stream, members_of, scratch, plan, limits, leave_out_leftovers)
        archive.unlink()
        scratch.rename(archive)
        sync_directory(archive.parent)
    finally:
        _remove(scratch)
    empty = plan.directories - _parents([*files, *left_out])
    return Unpacked(kind, datetime.now(timezone.utc), files, tuple(sorted(left_out)), tuple(sorted(empty)))


@contextmanager
def _believed_if_unchanged(archive: Path, place: PurePosixPath, sha256: str) -> Iterator[None]:
    """What is done with the archive counts, for good or ill, if it is still the one that was downloaded."""
    problem = None
    try:
        yield
    except ContentProblem as found:
        problem = found
    if durable.sha256_of(archive) != sha256:
        raise TransientFailure(f"{place} is no longer the file that was downloaded; it is downloaded again")
    if problem is not None:
        raise problem


def _remove(scratch: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(scratch)


def _kind(path: Path, limits: Limits) -> tuple[str, MembersOf] | None:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        return None
    with open_regular(path) as stream:
        head = stream.read(8)
        if head.startswith((b"PK\3\4", b"PK\5\6")):
            document = zips.is_document(stream, limits.files)
            # A ZIP that is not whole may have been anything: then its name tells.
            is_archive = not document if document is not None else suffix == ".zip"
            return ("ZIP", zips.members) if is_archive else None
        if head.startswith(sevenzips.MAGIC):
            return "7z", sevenzips.members
        return ("TAR", tars.members) if tars.is_tar(stream) else None


class _Faults:
    """All that is wrong with an archive."""

    def __init__(self) -> None:
        self._found: list[ContentProblem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, problem: ContentProblem, member: Member | None = None) -> None:
        """Remember a problem, and the member whose content it is about."""
        if member is not None:
            detail = f"{member.name!r} {problem.detail}".rstrip()
            problem = ContentProblem(problem.reason, detail, code=problem.code, advice=problem.advice)
        self._found.append(problem)

    def raise_any(self) -> None:
        """Together: the reason is the first one's."""
        if self._found:
            first = self._found[0]
            lines = [first.detail] if len(self._found) == 1 else [str(problem) for problem in self._found]
            detail = problems.told(lines)
            raise ContentProblem(first.reason, detail, code=first.code, advice=first.advice)


class _Plan:
    """Where the members of an archive go: each file under a name that is its own on every file system."""

    def __init__(self, place: PurePosixPath, allow_non_ascii: bool) -> None:
        self._place, self._allow_non_ascii = place, allow_non_ascii
        self._spelt: dict[str, PurePosixPath] = {}
        self.files: set[PurePosixPath] = set()
        self.directories: set[PurePosixPath] = set()

    def add(self, member: Member) -> None:
        """Check a member's path, and remember it.

        Raises:
            ContentProblem: it leaves the directory, or cannot be kept apart from another one's, or is not allowed.
        """
        path = self.path(member)
        if path is None:
            return
        check_path(self._place / path, allow_non_ascii=self._allow_non_ascii)
        if len(path.parts) > MAX_DEPTH or len(str(path).encode()) > MAX_PATH_BYTES:
            raise problems.NAME_NOT_ALLOWED.found(f"{member.name!r} is too long, or too deep")
        for parent in [*reversed(path.parents)][1:]:
            self._claim(parent, member, directory=True)
        self._claim(path, member, directory=member.directory)

    def _claim(self, path: PurePosixPath, member: Member, *, directory: bool) -> None:
        spelt = self._spelt.setdefault(unicodedata.normalize("NFC", str(path).casefold()), path)
        if spelt != path:
            raise problems.ARCHIVE_SAME_NAMES.found(f"{member.name!r} and {str(spelt)!r}")
        if path in self.files or (path in self.directories and not directory):
            raise problems.ARCHIVE_SAME_NAMES.found(f"{member.name!r} is there twice")
        (self.directories if directory else self.files).add(path)

    @staticmethod
    def path(member: Member) -> PurePosixPath | None:
        """The path of a member, in NFC; None: it is the directory of the archive itself."""
        name = unicodedata.normalize("NFC", member.name)
        if name.startswith("/") or _DRIVE.match(name):
            raise problems.ARCHIVE_PATH.found(f"{member.name!r} is absolute")
        if member.directory:
            name = name.rstrip("/")
        parts = name.split("/")
        while parts and parts[0] == ".":
            del parts[0]
        if ".." in parts or ".." in name.split("\\"):
            raise problems.ARCHIVE_PATH.found(f"{member.name!r} leaves its directory")
        if not parts:
            return None
        if any(part in ("", ".") for part in parts):
            raise problems.NAME_NOT_ALLOWED.found(f"{member.name!r} has a part without a name")
        return PurePosixPath(*parts)


def _looked_through(
    stream: BinaryIO, members_of: MembersOf, place: PurePosixPath, limits: Limits, allow_non_ascii: bool
) -> _Plan:
    """Everything that the archive tells is checked; nothing is written yet."""
    plan, faults = _Plan(place, allow_non_ascii), _Faults()
    packed, size = os.fstat(stream.fileno()).st_size, 0
    try:
        for number, member in enumerate(members_of(stream, limits.files), 1):
            try:
                if member.problem is not None:
                    raise member.problem
                plan.add(member)
            except ContentProblem as problem:
                faults.add(problem)
            # Of the directories above a member the archive need not tell.
            if max(number, len(plan.files) + len(plan.directories)) > limits.files:
                raise problems.ARCHIVE_TOO_MANY_FILES.found(
                    f"more than {limits.files} files and directories (sip.archive_max_files)"
                )
            size += member.size
            if size > limits.size:
                raise problems.ARCHIVE_TOO_LARGE.found(f"more than {limits.size} bytes (sip.archive_max_bytes)")
            if size > max(_HARMLESS, packed * limits.ratio):
                raise problems.ARCHIVE_RATIO.found(f"{size} bytes of {packed} (sip.archive_max_ratio)")
    except ContentProblem as problem:  # there is no going on
        faults.add(problem)
    else:
        if not plan.files and not faults:
            faults.add(problems.ARCHIVE_EMPTY.found())
    faults.raise_any()
    return plan


def _written(
    stream: BinaryIO, members_of: MembersOf, target: Path, plan: _Plan, limits: Limits, leave_out_leftovers: bool
) -> tuple[dict[PurePosixPath, str], list[PurePosixPath]]:
    """Every file on disk, with its digest, and the leftovers that are not."""
    digests: dict[PurePosixPath, str] = {}
    left_out: list[PurePosixPath] = []
    faults = _Faults()
    directories = sorted(_parents(plan.files))
    for directory in directories:  # one sorts before what is in it
        (target / directory).mkdir()
    try:
        for member in members_of(stream, limits.files):
            path = plan.path(member)
            if path is None or member.directory:
                continue
            try:
                digest = _write(member, target / path)
                if leave_out_leftovers and is_leftover(target / path):
                    (target / path).unlink()
                    left_out.append(path)
                    continue
                digests[path] = digest
                if _kind(target / path, limits) is not None:
                    raise problems.ARCHIVE_NESTED.found()
            except ContentProblem as problem:
                faults.add(problem, member)
    except ContentProblem as problem:
        faults.add(problem)
    if not digests and not faults:
        faults.add(problems.ARCHIVE_EMPTY.found("but for leftovers of operating systems"))
    faults.raise_any()
    kept = _parents(digests)
    for directory in reversed(directories):
        if directory in kept:
            sync_directory(target / directory)
        else:
            (target / directory).rmdir()
    return digests, left_out


def _parents(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """All directories that these files are in."""
    return {parent for path in paths for parent in path.parents}


def _write(member: Member, path: Path) -> str:
    """A new file with the member's content; returns its digest."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        for chunk in member.read():
            size += len(chunk)
            if size > member.size:
                break
            stream.write(chunk)
            digest.update(chunk)
        if size != member.size:
            raise problems.ARCHIVE_DAMAGED.found(f"has not the {member.size} bytes that the archive tells of")
        stream.flush()
        if member.modified is not None and 0 < member.modified < _LATEST:
            os.utime(descriptor, (member.modified, member.modified))
        os.fsync(descriptor)
    return digest.hexdigest()
