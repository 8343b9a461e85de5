"""What the caller tells about a package: its files, the events of its past, and the data of its contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

from passari_dagster.sip.rules import Rules


@dataclass(frozen=True)
class SourceFile:
    """One digital object of the package.

    Arguments:
        path: relative to the directory of the package's content: `attachments/7/kuva.jpg`.
        identifier: unique in the package, of type `museumplus`: `Multimedia:7:kuva.jpg`.
        sha256: digest known from the download, in lower-case hexadecimal; the file must still have it.
    """

    path: PurePosixPath
    identifier: str
    sha256: str | None = None


@dataclass(frozen=True)
class PackageEvent:
    """Something that happened before the packaging.

    Arguments:
        event_type: of the PREMIS vocabulary: `creation`, `transfer`, `decompression`.
        date: with a time zone.
        detail: what was done.
        outcome_note: what came out of it.
        target: the file or directory it is about; None: the whole package.
    """

    event_type: str
    date: datetime
    detail: str
    outcome_note: str
    target: PurePosixPath | None = None


@dataclass(frozen=True)
class SipDescription:
    """One package.

    Arguments:
        objid: the organisation's id of the package, printable ASCII; an update bears that of the first one.
        content_id: id of the content, printable ASCII.
        contract_id: `urn:uuid:` and a lower-case UUID.
        organization: name of the museum.
        created: when the first package of the object was made, with a time zone.
        modified: when this one is made, where it updates a preserved one; None: a first submission.
        lido: path of the LIDO document, 1.0 or 1.1, among `files`; it is also embedded as descriptive metadata.
        files: every file of the package.
        events: what happened before.
        rules: what the installation lets pass.
    """

    objid: str
    content_id: str
    contract_id: str
    organization: str
    created: datetime
    modified: datetime | None
    lido: PurePosixPath
    files: tuple[SourceFile, ...]
    events: tuple[PackageEvent, ...] = ()
    rules: Rules = field(default_factory=Rules)
