"""Rows of packages that were sent and that the database does not know any more: an older backup of it was restored.

What a row said is taken down as a record, and put back from it. Where records are kept is not this module's affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import MuseumAttachment, MuseumPackage, Verdict, package_attachments
from passari_dagster.catalogue.packages import object_row
from passari_dagster.errors import PermanentFailure


class SentPackage(BaseModel):
    """What the database said of a package that was, or may have been, sent; fields are columns of `MuseumPackage`.

    Records are kept for ever, and read by releases older and newer than the one that wrote them: a field that comes
    later has a default, and one that is not known is passed over.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True, extra="ignore")

    museum_object_id: int
    sip_filename: str
    sip_id: str | None
    created_date: datetime
    object_modified_date: datetime | None
    metadata_hash: str | None
    attachment_metadata_hash: str | None
    sip_size: int | None
    sip_sha256: str | None
    submission_date: datetime
    verdict: Verdict | None
    verdict_date: datetime | None
    report_day: date | None
    transfer_id: str | None
    confirmed_date: datetime | None


class Record(BaseModel):
    """A package, and the attachments that are in it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    package: SentPackage
    attachment_ids: tuple[int, ...]


@dataclass(frozen=True)
class Restored:
    """What was put back of an object's packages; false: nothing.

    Arguments:
        names: packages whose rows are new, or say more than before.
        given_up: packages that were begun and not sent, and make room for those.
    """

    names: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names)

    def __str__(self) -> str:
        told = ", ".join(self.names)
        return f"{told}; cancelled, since begun and not sent: {', '.join(self.given_up)}" if self.given_up else told


def record(session: Session, package_id: int) -> Record:
    """Take down what the database says of a package.

    Raises:
        PermanentFailure: there is none, or it was never sent.
    """
    package = session.get(MuseumPackage, package_id)
    if package is None or package.submission_date is None:
        raise PermanentFailure(f"package {package_id} was never sent")
    attachments = session.scalars(
        select(package_attachments.c.museum_attachment_id)
        .where(package_attachments.c.museum_package_id == package_id)
        .order_by(package_attachments.c.museum_attachment_id)
    )
    return Record(package=SentPackage.model_validate(package), attachment_ids=tuple(attachments))


def restore(session: Session, object_id: int, records: Iterable[Record]) -> Restored:
    """Put back what the database has lost of an object's packages.

    A package that was begun and is not among the records is cancelled, if anything was put back: the database took the
    object for one that was not sent, and would send it twice. What was changed meanwhile is eligible again later.

    Arguments:
        records: of packages of this object.
    """
    row = object_row(session, object_id, lock=True)
    known = {package.sip_filename: package for package in row.packages}
    records = sorted(records, key=lambda record: record.package.created_date)
    restored: list[str] = []
    given_up: list[str] = []
    for entry in records:
        package = known.get(entry.package.sip_filename)
        if package is None:
            package = known[entry.package.sip_filename] = MuseumPackage(museum_object_id=object_id)
            session.add(package)
            session.flush()
        elif not _says_more(entry.package, package):
            continue
        _fill(package, entry.package)
        _restore_attachments(session, package.id, entry.attachment_ids)
        row.preserved = bool(row.preserved or package.preserved)
        restored.append(entry.package.sip_filename)
    if restored:
        sent = {entry.package.sip_filename for entry in records}
        for package in known.values():
            if package.is_open and package.submission_date is None and package.sip_filename not in sent:
                package.cancelled = True
                given_up.append(package.sip_filename or f"package {package.id}")
        newest = max(
            (package for package in known.values() if not package.cancelled and package.created_date is not None),
            key=lambda package: (package.created_date, package.id),
        )
        row.latest_package_id = newest.id
    session.flush()
    return Restored(tuple(restored), tuple(given_up))


def _says_more(sent: SentPackage, package: MuseumPackage) -> bool:
    if not package.is_open or package.confirmed_date is not None:
        return False
    return package.submission_date is None or sent.confirmed_date is not None


def _fill(package: MuseumPackage, sent: SentPackage) -> None:
    for column, value in sent.model_dump().items():
        setattr(package, column, value)
    package.downloaded = package.packaged = True
    if sent.confirmed_date is not None:
        package.uploaded = True
        package.preserved = sent.verdict is Verdict.ACCEPTED
        package.rejected = sent.verdict is Verdict.REJECTED


def _restore_attachments(session: Session, package_id: int, attachment_ids: Iterable[int]) -> None:
    session.execute(delete(package_attachments).where(package_attachments.c.museum_package_id == package_id))
    for id_ in attachment_ids:
        session.execute(insert(MuseumAttachment).values(id=id_).on_conflict_do_nothing())
        session.execute(insert(package_attachments).values(museum_package_id=package_id, museum_attachment_id=id_))
