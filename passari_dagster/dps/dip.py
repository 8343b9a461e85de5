"""Whether a DIP is whole: its archive read to the end, and its files compared with its METS.

What is not verified is told as clearly as what is: only a digest that the METS has of a file says that the file is
the one that was preserved. How a DIP comes here is known by `dissemination`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote_plus

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.dps.faults import quote
from passari_dagster.errors import PassariError

MAX_MEMBERS = 200_000
SAMPLE = 20
MIB = 1024 * 1024
METS = "mets.xml"
_DIGESTS = {"MD5": "md5", "SHA-1": "sha1", "SHA-224": "sha224", "SHA-256": "sha256", "SHA-384": "sha384"} | {
    "SHA-512": "sha512"
}
_METS = "{http://www.loc.gov/METS/}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_CONTENT_ID = "{http://digitalpreservation.fi/schemas/mets/fi-extensions}CONTENTID"
_ROOT = re.compile(r"^(?:\.?/)*")
# The DPS's own, of packages: signed or made by it, and not named in the METS.
_BESIDES = ("signature.sig", "varmiste.sig")


class DamagedDipError(PassariError):
    """The file is not a whole DIP; the message says where."""


@dataclass
class Verified:
    """What was verified.

    Arguments:
        archive: how completeness was seen.
        members: files in the archive, all read to their end.
        content_bytes: of all of them.
        objid: OBJID of the METS.
        content_id: CONTENTID of the METS; empty where it has none.
        digests: files that have the digest that the METS tells, by algorithm.
        without_digest: files of the METS for which it tells none that is known here; the first of them.
        not_in_mets: members that the METS does not name, besides itself and a signature; the first of them.
    """

    archive: str
    members: int = 0
    content_bytes: int = 0
    objid: str = ""
    content_id: str = ""
    digests: Counter[str] = field(default_factory=Counter)
    without_digest: list[str] = field(default_factory=list)
    number_without_digest: int = 0
    not_in_mets: list[str] = field(default_factory=list)
    number_not_in_mets: int = 0

    def sentences(self) -> list[str]:
        """What was verified, and what was not, for people."""
        told = [f"{self.archive}: {self.members} files, {self.content_bytes} bytes"]
        found = ", ".join(f"{number} by {name}" for name, number in sorted(self.digests.items()))
        told.append(f"files with the digest that {METS} tells: {found or 'none'}")
        if self.number_without_digest:
            files = _sample(self.without_digest, self.number_without_digest)
            told.append(f"not verified, since {METS} tells no digest: {files}")
        if self.number_not_in_mets:
            files = _sample(self.not_in_mets, self.number_not_in_mets)
            told.append(f"not verified, since {METS} does not name them: {files}")
        told.append(f"{METS} itself has no digest in a DIP")
        return told


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


def verify(path: Path, archive: str, *, max_bytes: int) -> Verified:
    """Read a DIP to its end, and compare it with its METS.

    Arguments:
        path: the file.
        archive: `zip` or `tar`.
        max_bytes: most bytes of all files in it together.

    Raises:
        DamagedDipError: it is not whole, or a file is missing or is not the one that the METS tells of.
    """
    opened = _zip if archive == "zip" else _tar
    try:
        with opened(path) as (members, verified):
            return _compare(members, verified, max_bytes)
    except (
        *(zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, zlib.error, EOFError, ValueError),
        RuntimeError,  # a compression or an encryption that Python does not know
    ) as error:
        raise DamagedDipError(f"not a whole {archive} file: {quote(error)}") from error


@contextlib.contextmanager
def _zip(path: Path) -> Iterator[tuple[list[_Member], Verified]]:
    with zipfile.ZipFile(path) as file:
        _require_few(len(file.infolist()))
        members = [
            # Read to its end, a member that has not the CRC of the directory is refused.
            _Member(info.filename, info.file_size, lambda info=info: file.open(info))  # type: ignore[misc]
            for info in file.infolist()
            if not info.is_dir()
        ]
        yield members, Verified("whole zip file, each file of it with its CRC-32")


@contextlib.contextmanager
def _tar(path: Path) -> Iterator[tuple[list[_Member], Verified]]:
    with tarfile.open(path, "r:") as file:
        members = []
        for count, info in enumerate(file, 1):
            _require_few(count)
            if not info.isfile() and not info.isdir():
                raise DamagedDipError(f"{quote(info.name)} is neither a file nor a directory")
            if info.isfile():
                members.append(_Member(info.name, info.size, lambda info=info: _extracted(file, info)))  # type: ignore[misc]
        # tarfile takes what ends behind a member for a whole file. [POSIX.1-2017, pax: empty blocks are its end]
        with path.open("rb") as stream:
            stream.seek(file.offset)
            if len(end := stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE or end.strip(b"\0"):
                raise DamagedDipError("the end of the tar file is missing")
        yield members, Verified("whole tar file, which has no checksums of its own")


def _extracted(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = file.extractfile(info)
    assert stream is not None, "a regular file"
    return stream


def _require_few(count: int) -> None:
    if count > MAX_MEMBERS:
        raise DamagedDipError(f"more than {MAX_MEMBERS} files")


def _compare(members: list[_Member], verified: Verified, max_bytes: int) -> Verified:
    by_name: dict[str, _Member] = {}
    for member in members:
        name = _safe(member.name)
        if name in by_name:
            raise DamagedDipError(f"{quote(name)} is there twice")
        by_name[name] = member
    verified.members, verified.content_bytes = len(members), sum(member.size for member in members)
    if verified.content_bytes > max_bytes:
        raise DamagedDipError(f"its content is larger than dps.rest.max_dip_bytes, {max_bytes} bytes: not read")
    # At the root; or below it, where the DPS wraps the package in a directory of its own.
    places = sorted((name for name in by_name if PurePosixPath(name).name == METS), key=lambda name: name.count("/"))
    if not places:
        raise DamagedDipError(f"there is no {METS}")
    root = PurePosixPath(places[0]).parent
    mets = _parse(by_name[places[0]])
    verified.objid, verified.content_id = mets.get("OBJID") or "", mets.get(_CONTENT_ID) or ""
    told: dict[str, dict[str, str]] = {}
    for name, pairs in _claims(mets):
        known = told.setdefault(str(root / name), {})
        for algorithm, digest in pairs:
            if known.setdefault(algorithm, digest) != digest:
                raise DamagedDipError(f"{METS} tells two digests of {quote(name)} by {algorithm}")
    missing = sorted(set(told) - set(by_name))
    if missing:
        raise DamagedDipError(
            f"{_sample([quote(name) for name in missing[:SAMPLE]], len(missing))}: in {METS}, and not there"
        )
    for name, member in by_name.items():
        claims = told.get(name, {})
        _require_digests(name, member, claims)
        verified.digests.update(list(claims))
        if name not in told and name not in {str(root / beside) for beside in (METS, *_BESIDES)}:
            verified.number_not_in_mets += 1
            verified.not_in_mets += [quote(name)] * (len(verified.not_in_mets) < SAMPLE)
        elif name in told and not claims:
            verified.number_without_digest += 1
            verified.without_digest += [quote(name)] * (len(verified.without_digest) < SAMPLE)
    if not told:
        raise DamagedDipError(f"{METS} names no file: that the DIP is whole cannot be verified")
    return verified


def _require_digests(name: str, member: _Member, claims: dict[str, str]) -> None:
    """Read a file to its end."""
    actual = {algorithm: hashlib.new(_DIGESTS[algorithm], usedforsecurity=False) for algorithm in claims}
    size = 0
    with member.open() as stream:
        while block := stream.read(MIB):
            size += len(block)
            for digest in actual.values():
                digest.update(block)
    if size != member.size:
        raise DamagedDipError(f"{quote(name)} has {size} bytes instead of {member.size}")
    for algorithm, claim in claims.items():
        if actual[algorithm].hexdigest() != claim:
            raise DamagedDipError(
                f"{quote(name)} has the {algorithm} {actual[algorithm].hexdigest()}, and {METS} tells {quote(claim)}"
            )


def _parse(member: _Member) -> etree._Element:
    with member.open() as stream:
        data = stream.read(safe_xml.MAX_DOCUMENT_BYTES + 1)
    try:
        return safe_xml.parse(data, source=METS)
    except safe_xml.UnsafeXmlError as error:
        raise DamagedDipError(str(error)) from error


def _claims(mets: etree._Element) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each file that the METS names, and the digests that it tells of it, each with its algorithm."""
    technical = {element.get("ID"): element for element in mets.iterfind(f".//{_METS}techMD")}
    for element in mets.iterfind(f".//{_METS}fileSec//{_METS}file"):
        location = element.find(f"{_METS}FLocat")
        href = (location.get(_HREF) or "") if location is not None else ""
        # Without a root, and without the dot of "./"; a name that begins with a dot keeps it.
        name = _ROOT.sub("", unquote_plus(href).removeprefix("file://"))
        if not href.startswith("file://") or not name:
            raise DamagedDipError(f"{METS} names {quote(href)!r}, which is no file of the package")
        claims = []
        if element.get("CHECKSUM"):
            claims.append(((element.get("CHECKSUMTYPE") or "").upper(), (element.get("CHECKSUM") or "").lower()))
        for section in (technical[i] for i in (element.get("ADMID") or "").split() if i in technical):
            # PREMIS 2 or 3, whichever the DPS writes.
            for fixity in section.iterfind(".//{*}fixity"):
                algorithm = (fixity.findtext("{*}messageDigestAlgorithm") or "").strip().upper()
                claims.append((algorithm, (fixity.findtext("{*}messageDigest") or "").strip().lower()))
        yield _safe(name), [claim for claim in claims if claim[0] in _DIGESTS]


def _safe(name: str) -> str:
    """A name as it is compared; nothing is written to it, but whoever unpacks the DIP should know."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise DamagedDipError(f"{quote(name)!r} leads out of the package")
    return str(path)


def _sample(names: list[str], number: int) -> str:
    return f"{number} files ({', '.join(names)}{', …' if number > len(names) else ''})"
