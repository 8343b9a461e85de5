"""`build_sip`: from a directory of files and a description to a signed package, in one process and one pass.

The order of things and what is refused belong here; formats, METS, signature and tar are modules of their own.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from passari_dagster import durable, safe_xml
from passari_dagster.errors import ContentProblem, UnforeseenContent
from passari_dagster.sip import detectors, lido, originals, problems
from passari_dagster.sip.archive import PART_SUFFIX, Member, changed, write_tar
from passari_dagster.sip.description import PackageEvent, SipDescription, SourceFile
from passari_dagster.sip.files import FilesChanged
from passari_dagster.sip.formats.facts import Examined, FileFormat
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.mets import PackedFile, mets_document
from passari_dagster.sip.names import check_path
from passari_dagster.sip.signature import Signer, load_signer
from passari_dagster.sip.unforeseen import unforeseen

__all__ = [
    "MAX_FILES",
    "BuiltSip",
    "PackageEvent",
    "Signer",
    "SipDescription",
    "SourceFile",
    "build_sip",
    "load_signer",
    "require_few_files",
    "require_sound",
]

MAX_FILES = 50_000
"""Of a package: the DPS unpacks no more, with `mets.xml` and `signature.sig` besides. [archive-helpers config.py]"""


@dataclass(frozen=True)
class BuiltSip:
    """A finished package: size of the tar in bytes, SHA-256 of the tar, number of digital objects in it."""

    size: int
    sha256: str
    files: int


def build_sip(
    source: Path,
    tar: Path,
    description: SipDescription,
    signer: Signer,
    *,
    log: Callable[[str], None] = lambda line: None,
    now: datetime | None = None,
) -> BuiltSip:
    """Make the package. Safe to repeat after a crash at any point: it starts anew.

    Arguments:
        source: directory with the files that the description names, and no others.
        tar: where the package shall be, outside `source`; there is nothing under that name until it is complete.
        description: the package.
        signer: see `load_signer`.
        log: gets one line for each file and one for the package.
        now: the time of the packaging; the present by default.

    Raises:
        ContentProblem: files that the DPS would refuse: the reason of the first by path, and all of them, one in a
            line in the detail, and each by itself in `problems`.
        FilesChanged: a file is missing, is not described, or is no longer the one that was downloaded.
        UnforeseenContent: a file is of a kind that fails what reads it; nobody knows more of it.
        PermanentFailure: an outside tool or a plug-in cannot do its work.
        TransientFailure: a file of unknown digest changed while it was packed.
        ValueError: the description contradicts itself.
        OSError: the disk is full, or another fault of the file system.
    """
    now = now or datetime.now(timezone.utc)
    tar.unlink(missing_ok=True)
    tar.with_name(tar.name + PART_SUFFIX).unlink(missing_ok=True)
    files, described = _examined(source, description, log)
    if described.left_out:
        log(f"{description.lido}: {described.note}")
    mets = mets_document(description, files, described, now=now)
    mets_sha256 = hashlib.sha256(mets).hexdigest()
    members = [
        _in_memory("mets.xml", mets),
        _in_memory("signature.sig", signer.sign(mets_sha256)),
        *(
            Member(
                file.source.path,
                source / file.source.path,
                file.examined.size,
                file.examined.sha256,
                downloaded=file.source.sha256 is not None,
            )
            for file in files
        ),
    ]
    size, sha256 = write_tar(tar, members, modified=now)
    log(f"{tar.name}: {len(files)} files, {size} bytes, sha256 {sha256}")
    return BuiltSip(size, sha256, len(files))


def require_sound(source: Path, description: SipDescription, log: Callable[[str], None]) -> None:
    """Examine the files as `build_sip` does, and raise what it raises of them; nothing is made."""
    _examined(source, description, log)


def _check(description: SipDescription) -> None:
    """Slips of the caller, not of the object."""
    for name in ("objid", "content_id"):
        value = getattr(description, name)
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError(f"{name} {value!r} is not printable ASCII")
    paths = [file.path for file in description.files]
    if len(set(paths)) != len(paths):
        raise ValueError("a path is listed twice")
    if description.lido not in paths:
        raise ValueError(f"the LIDO document {description.lido} is not among the files")
    identifiers = [file.identifier for file in description.files]
    if not all(identifiers) or len(set(identifiers)) != len(identifiers):
        raise ValueError("an identifier is empty or used twice")


def require_few_files(number: int) -> None:
    """Refuse an object that makes more digital objects than a package may have.

    Raises:
        ContentProblem: it does.
    """
    if number > MAX_FILES:
        raise problems.TOO_MANY_FILES.found(f"more than {MAX_FILES}")


def _require_same_files(source: Path, description: SipDescription) -> None:
    """The directory holds the described files and no others: nothing may be left out in silence."""
    found = {
        PurePosixPath((Path(directory) / name).relative_to(source).as_posix())
        for directory, directories, names in os.walk(source, onerror=_raise)
        for name in (*names, *(entry for entry in directories if (Path(directory) / entry).is_symlink()))
    }
    described = {file.path for file in description.files}
    if described - found:
        raise FilesChanged(f"missing from {source}: {_some(described - found)}; download the object again")
    if found - described:
        raise FilesChanged(f"in {source} but not described: {_some(found - described)}")


def _raise(error: OSError) -> None:
    raise error


def _some(paths: set[PurePosixPath]) -> str:
    names = sorted(map(repr, map(str, paths)))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _examined(
    source: Path, description: SipDescription, log: Callable[[str], None]
) -> tuple[tuple[PackedFile, ...], lido.Embedded]:
    """All files, by path, and the LIDO document. All content problems are found before the first is raised."""
    _check(description)
    require_few_files(len(description.files))
    _require_same_files(source, description)
    root = source.resolve()
    described = None
    # The DPS compares identifiers with their white space folded.
    alike = Counter(" ".join(file.identifier.split()) for file in description.files)
    packed: list[PackedFile] = []
    faulty: list[tuple[SourceFile, Examined | None, list[ContentProblem]]] = []
    for file in sorted(description.files, key=lambda file: file.path):
        examined, faults = None, list[ContentProblem]()
        if alike[" ".join(file.identifier.split())] > 1:
            faults.append(problems.SAME_NAMES.found(repr(file.identifier)))
        try:
            with unforeseen(repr(str(file.path))):
                examined = _examined_file(root, file, description)
                faults += _faults(root, file, examined, description, log)
                if file.path == description.lido and not faults:
                    described = _lido(root, file, examined)
        except ContentProblem as problem:
            faults.append(problem)
        except UnforeseenContent:
            _require_unchanged(root, file)
            raise
        if examined is not None and faults:
            _require_unchanged(root, file)
        if examined is not None and isinstance(examined.format, FileFormat) and not faults:
            packed.append(PackedFile(file, examined, examined.format))
            version = f" {examined.format.version}" if examined.format.version else ""
            log(f"{file.path}: {examined.format.name}{version}, {examined.size} bytes")
        else:
            faulty.append((file, examined, faults))
        for fault in faults:
            log(f"{str(file.path)!r}: {fault}")
    originals_kept, left = _kept_beside_copies(packed, faulty, description, log)
    if left or described is None:
        raise problems.together(left)
    return tuple(sorted([*packed, *originals_kept], key=lambda file: file.source.path)), described


def _require_unchanged(root: Path, file: SourceFile) -> None:
    """Refuse a file that is no longer the one that was downloaded: the problem is our disk's, not the object's."""
    if file.sha256 not in (None, durable.sha256_of(root / file.path)):
        raise changed(file.path, downloaded=True)


def _kept_beside_copies(
    packed: list[PackedFile],
    faulty: list[tuple[SourceFile, Examined | None, list[ContentProblem]]],
    description: SipDescription,
    log: Callable[[str], None],
) -> tuple[list[PackedFile], list[tuple[PurePosixPath, ContentProblem]]]:
    """The faulty files that are kept as originals, and the problems of all others."""
    whole = originals.by_stem(file.source.path for file in packed)
    kept: list[PackedFile] = []
    left: list[tuple[PurePosixPath, ContentProblem]] = []
    for file, examined, faults in faulty:
        original = originals.original(faults, description.rules)
        copies = originals.copies(file.path, whole) if original is not None else []
        if examined is None or original is None or not copies:
            left += [(file.path, fault) for fault in faults]
        else:
            kept.append(PackedFile(file, examined, original.format, original.use, tuple(copies)))
            log(f"{file.path}: {original.format.name}, kept as it is beside {', '.join(map(str, copies))}")
    return kept, left


def _examined_file(root: Path, file: SourceFile, description: SipDescription) -> Examined:
    """One file of the directory `root`, whose own path has no links."""
    check_path(file.path, allow_non_ascii=description.rules.non_ascii_filenames)
    path = root / file.path
    if path.resolve() != path:
        if file.sha256 is not None:
            raise changed(file.path, downloaded=True)
        raise problems.SYMBOLIC_LINK.found(str(file.path))
    return examine(path, description.rules, file.sha256)


def _faults(
    source: Path, file: SourceFile, examined: Examined, description: SipDescription, log: Callable[[str], None]
) -> Iterator[ContentProblem]:
    """What is wrong with a file: first what a museum's own detectors find, which know its files best."""
    path = source / file.path
    yield from detectors.detect(detectors.FoundFile(file.path, path, examined.size, examined.format))
    if isinstance(examined.format, ContentProblem):
        yield examined.format
    else:
        yield from description.rules.tools.check(path, examined.format, log)


def _lido(source: Path, file: SourceFile, examined: Examined) -> lido.Embedded:
    """The LIDO document, as it goes into the METS."""
    path = file.path
    too_large = examined.size > safe_xml.MAX_DOCUMENT_BYTES
    data = b"" if too_large else (source / path).read_bytes()
    sha256 = durable.sha256_of(source / path) if too_large else hashlib.sha256(data).hexdigest()
    if sha256 != examined.sha256:
        raise changed(path, downloaded=file.sha256 is not None)
    if too_large:
        raise problems.LIDO_INVALID.found(f"{path} has {examined.size} bytes")
    return lido.embedded(data, str(path))


def _in_memory(name: str, data: bytes) -> Member:
    return Member(PurePosixPath(name), data, len(data), hashlib.sha256(data).hexdigest())
