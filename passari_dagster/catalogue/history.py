"""All that the database knows of one object: what it is, and its packages, with what changed between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import (
    MuseumAttachment,
    MuseumPackage,
    object_attachments,
    package_attachments,
)
from passari_dagster.catalogue.packages import object_row
from passari_dagster.catalogue.search import state_of

SAMPLE = 20
"""Attachments that are told by id and name; all are counted."""


@dataclass(frozen=True)
class Attachments:
    """Some attachments: exactly how many, and the first of them with the names of their files."""

    number: int
    first: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Changes:
    """What is different from the package before that was downloaded, as far as the database knows.

    Arguments:
        metadata: whether the object's own metadata changed; None: a hash is not known.
        attachment_metadata: whether the attachments' did, taken together; None: a hash is not known.
        came: attachments that the one before did not have.
        went: attachments that it had, and this one has not.
        changed: attachments of both that were changed in MuseumPlus between the two versions. One that was changed
            once more since then is not among them: only its last date is known.
    """

    metadata: bool | None
    attachment_metadata: bool | None
    came: Attachments
    went: Attachments
    changed: Attachments


@dataclass(frozen=True)
class PackageHistory:
    """One package; times with zone, sizes in bytes. None: not known, or not yet."""

    package_id: int
    sip_filename: str
    sip_id: str
    state: str
    begun: datetime | None
    object_modified: datetime | None
    metadata_hash: str | None
    attachment_metadata_hash: str | None
    attachments: int
    sip_size: int | None
    sip_sha256: str | None
    submitted: datetime | None
    verdict: str | None
    verdict_date: datetime | None
    transfer_id: str | None
    confirmed: datetime | None
    changes: Changes | None
    """None: it was not downloaded, or no package before it was."""


@dataclass(frozen=True)
class ObjectHistory:
    """One object, and its packages from the oldest to the newest.

    Arguments:
        older_packages: how many packages before those are not told.
    """

    object_id: int
    title: str
    created: datetime | None
    modified: datetime | None
    removed: datetime | None
    metadata_hash: str | None
    attachment_metadata_hash: str | None
    preserved: bool
    frozen: bool
    freeze_reason: str
    freeze_source: str
    attachments: Attachments
    older_packages: int
    packages: tuple[PackageHistory, ...]


def object_history(session: Session, object_id: int, *, most_packages: int) -> ObjectHistory:
    """All that is known of an object.

    Arguments:
        most_packages: the newest ones are told, so many.

    Raises:
        PermanentFailure: the database has no such object.
    """
    row = object_row(session, object_id)
    of_object = MuseumPackage.museum_object_id == object_id
    number = session.scalar(select(func.count()).select_from(MuseumPackage).where(of_object)) or 0
    newest = select(MuseumPackage).where(of_object).order_by(MuseumPackage.id.desc()).limit(most_packages + 1)
    packages = list(session.scalars(newest))[::-1]
    with_previous = list(_with_previous(packages))[-most_packages:]
    return ObjectHistory(
        object_id=object_id,
        title=row.title or "",
        created=row.created_date,
        modified=row.modified_date,
        removed=row.removed_date,
        metadata_hash=row.metadata_hash,
        attachment_metadata_hash=row.attachment_metadata_hash,
        preserved=bool(row.preserved),
        frozen=bool(row.frozen),
        freeze_reason=row.freeze_reason or "",
        freeze_source=row.freeze_source.value if row.freeze_source is not None else "",
        attachments=_attachments(
            session,
            select(object_attachments.c.museum_attachment_id).where(object_attachments.c.museum_object_id == object_id),
        ),
        older_packages=number - len(with_previous),
        packages=tuple(_package(session, package, previous) for previous, package in with_previous),
    )


def _with_previous(packages: Sequence[MuseumPackage]) -> Iterator[tuple[MuseumPackage | None, MuseumPackage]]:
    """Each with the one to compare it with: what was not downloaded whole is compared with nothing."""
    previous = None
    for package in packages:
        yield (previous if package.downloaded else None), package
        previous = package if package.downloaded else previous


def _package(session: Session, package: MuseumPackage, previous: MuseumPackage | None) -> PackageHistory:
    return PackageHistory(
        package_id=package.id,
        sip_filename=package.sip_filename or "",
        sip_id=package.sip_id or "",
        state=state_of(package),
        begun=package.created_date,
        object_modified=package.object_modified_date,
        metadata_hash=package.metadata_hash,
        attachment_metadata_hash=package.attachment_metadata_hash,
        attachments=session.scalar(select(func.count()).select_from(_of(package.id).subquery())) or 0,
        sip_size=package.sip_size,
        sip_sha256=package.sip_sha256,
        submitted=package.submission_date,
        verdict=package.verdict.value if package.verdict is not None else None,
        verdict_date=package.verdict_date,
        transfer_id=package.transfer_id,
        confirmed=package.confirmed_date,
        changes=_changes(session, previous, package) if previous is not None else None,
    )


def _changes(session: Session, before: MuseumPackage, after: MuseumPackage) -> Changes:
    old, new = _of(before.id), _of(after.id)
    changed: ColumnElement[bool] = MuseumAttachment.modified_date.between(
        before.object_modified_date, after.object_modified_date
    ) & (MuseumAttachment.modified_date > before.object_modified_date)
    return Changes(
        metadata=_differ(before.metadata_hash, after.metadata_hash),
        attachment_metadata=_differ(before.attachment_metadata_hash, after.attachment_metadata_hash),
        came=_attachments(session, new, [MuseumAttachment.id.not_in(old)]),
        went=_attachments(session, old, [MuseumAttachment.id.not_in(new)]),
        changed=_attachments(session, new, [MuseumAttachment.id.in_(old), changed]),
    )


def _differ(one: str | None, other: str | None) -> bool | None:
    return None if one is None or other is None else one != other


def _of(package_id: int) -> Select[Any]:
    return select(package_attachments.c.museum_attachment_id).where(
        package_attachments.c.museum_package_id == package_id
    )


def _attachments(session: Session, ids: Select[Any], conditions: Sequence[ColumnElement[bool]] = ()) -> Attachments:
    where = [MuseumAttachment.id.in_(ids), *conditions]
    number = session.scalar(select(func.count()).select_from(MuseumAttachment).where(*where)) or 0
    first = session.execute(
        select(MuseumAttachment.id, MuseumAttachment.filename).where(*where).order_by(MuseumAttachment.id).limit(SAMPLE)
    )
    return Attachments(number, tuple((id_, name or "") for id_, name in first))
