"""The life of a package: guarded transitions, each of which refuses to be made out of order.

    begin → downloaded → packaged → submitting (the intent) → uploaded → verdict → closed → confirmed
                                                                     ╲ cancelled (the object was frozen)

Each function changes rows of the session it is given and leaves the commit to the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.orm import Session

from passari_dagster.catalogue.eligibility import is_open
from passari_dagster.catalogue.models import (
    MuseumAttachment,
    MuseumObject,
    MuseumPackage,
    Verdict,
    package_attachments,
)
from passari_dagster.errors import PermanentFailure


class TransitionRefusedError(PermanentFailure):
    """The package is not in the state that the transition starts from."""


@dataclass(frozen=True)
class PackageFacts:
    """What a step needs to know of a package; plain values, free of the database session."""

    object_id: int
    package_id: int
    sip_id: str
    sip_filename: str
    created: datetime
    """When this package was begun."""
    object_modified: datetime | None
    first_preserved: datetime | None
    """When the object's first accepted package was begun; None: no package was accepted yet."""
    downloaded: bool
    packaged: bool
    uploaded: bool
    rest: str | None
    """How the package left the workflow: preserved, rejected or cancelled; None: it is in it."""
    sip_size: int | None
    sip_sha256: str | None
    submission_date: datetime | None
    verdict: Verdict | None
    verdict_date: datetime | None
    report_day: date | None
    transfer_id: str | None
    confirmed: bool

    @property
    def open(self) -> bool:
        """Whether the package is in the workflow."""
        return self.rest is None

    @property
    def begun_here(self) -> bool:
        """Whether we have begun it; passari-workflow's sip id is a time alone."""
        return self.sip_id.endswith(f"-{self.package_id}")

    @property
    def intended(self) -> bool:
        """Whether the intent to send is recorded: the DPS may have the package."""
        return self.uploaded or self.submission_date is not None


def object_row(session: Session, object_id: int, *, lock: bool = False) -> MuseumObject:
    """The object's row.

    Arguments:
        lock: keep others from changing it until the transaction's end.

    Raises:
        PermanentFailure: there is none.
    """
    row = session.get(MuseumObject, object_id, with_for_update=True if lock else None)
    if row is None:
        raise PermanentFailure(f"object {object_id} is not in the database: run sync_objects first")
    return row


def latest(session: Session, object_id: int) -> PackageFacts | None:
    """The object's latest package, or None where it never had one."""
    package = object_row(session, object_id).latest_package
    return None if package is None else facts(session, package)


def first_preserved(session: Session, object_id: int, package_id: int) -> datetime | None:
    """When the object's first accepted package was begun, apart from this package; None: there is none."""
    return session.scalar(
        select(func.min(MuseumPackage.created_date)).where(
            MuseumPackage.museum_object_id == object_id,
            MuseumPackage.id != package_id,
            or_(MuseumPackage.preserved.is_(True), MuseumPackage.verdict == Verdict.ACCEPTED),
        )
    )


def facts(session: Session, package: MuseumPackage) -> PackageFacts:
    """The plain values of a package."""
    if package.museum_object_id is None or package.sip_filename is None or package.created_date is None:
        raise PermanentFailure(f"package {package.id} lacks its object, file name or creation date")
    return PackageFacts(
        object_id=package.museum_object_id,
        package_id=package.id,
        sip_id=package.sip_id or "",
        sip_filename=package.sip_filename,
        created=package.created_date,
        object_modified=package.object_modified_date,
        first_preserved=first_preserved(session, package.museum_object_id, package.id),
        downloaded=bool(package.downloaded),
        packaged=bool(package.packaged),
        uploaded=bool(package.uploaded),
        rest=package.rest,
        sip_size=package.sip_size,
        sip_sha256=package.sip_sha256,
        submission_date=package.submission_date,
        verdict=package.verdict,
        verdict_date=package.verdict_date,
        report_day=package.report_day,
        transfer_id=package.transfer_id,
        confirmed=package.confirmed_date is not None,
    )


def begin(session: Session, object_id: int, *, object_modified: datetime | None, now: datetime) -> PackageFacts:
    """Open a package for the object, or go on with the one that is open and was not sent.

    From here on the object is in the workflow. The name sent to the DPS is
    `YYYYMMDD_Object_<id>-<sip id>.tar`, as the original's; the sip id ends in the row's number, so that no two
    packages ever share it.

    Arguments:
        object_modified: modification date of the version being packaged.

    Raises:
        TransitionRefusedError: the open package may be with the DPS already.
    """
    row = object_row(session, object_id, lock=True)
    package = row.latest_package
    if package is None or not package.is_open:
        package = MuseumPackage(museum_object_id=object_id, created_date=now)
        session.add(package)
        session.flush()
        package.sip_id = f"{now:%Y%m%d-%H%M%S}-{package.id}"
        row.latest_package_id = package.id
    elif package.uploaded or package.submission_date is not None:
        raise TransitionRefusedError(f"package {package.sip_filename} may have been sent, it cannot begin anew")
    if package.sip_size is None:  # once it was made, part of it may lie at the DPS under its name
        package.sip_filename = f"{object_modified or now:%Y%m%d}_Object_{object_id}-{package.sip_id}.tar"
    package.downloaded = package.packaged = False
    package.object_modified_date = object_modified
    package.metadata_hash = row.metadata_hash
    package.attachment_metadata_hash = row.attachment_metadata_hash
    session.flush()
    return facts(session, package)


def _open_package(session: Session, package_id: int) -> MuseumPackage:
    package = session.get(MuseumPackage, package_id, with_for_update=True)
    if package is None:
        raise PermanentFailure(f"package {package_id} is not in the database")
    if not package.is_open:
        raise TransitionRefusedError(f"package {package.sip_filename} is no longer in the workflow")
    return package


def mark_downloaded(
    session: Session, package_id: int, *, object_modified: datetime | None, attachment_ids: Iterable[int]
) -> None:
    """The object's files are all here.

    Arguments:
        object_modified: newest modification date of the documents downloaded.
        attachment_ids: the attachments that are part of this version.
    """
    package = _open_package(session, package_id)
    package.downloaded = True
    package.packaged = False
    package.object_modified_date = object_modified
    ids = sorted(set(attachment_ids))
    session.execute(delete(package_attachments).where(package_attachments.c.museum_package_id == package_id))
    if ids:
        session.execute(
            postgresql_insert(MuseumAttachment).values([{"id": id_} for id_ in ids]).on_conflict_do_nothing()
        )
        session.execute(
            insert(package_attachments),
            [{"museum_package_id": package_id, "museum_attachment_id": id_} for id_ in ids],
        )


def mark_packaged(session: Session, package_id: int, *, size: int, sha256: str) -> None:
    """The SIP is made; size in bytes and digest are the tar's."""
    package = _open_package(session, package_id)
    if not package.downloaded:
        raise TransitionRefusedError(f"package {package.sip_filename} is not downloaded yet")
    package.packaged, package.sip_size, package.sip_sha256 = True, size, sha256


def mark_submitting(session: Session, package_id: int, *, now: datetime) -> None:
    """The intent: from now on the SIP may be with the DPS, whatever happens to us."""
    package = _open_package(session, package_id)
    if not package.packaged:
        raise TransitionRefusedError(f"package {package.sip_filename} is not made yet")
    if package.uploaded:
        raise TransitionRefusedError(f"package {package.sip_filename} was sent already")
    package.submission_date = now


def mark_uploaded(session: Session, package_id: int, *, now: datetime) -> None:
    """The SIP was sent, or found to have been sent."""
    package = _open_package(session, package_id)
    package.uploaded = True
    package.submission_date = package.submission_date or now


@dataclass(frozen=True)
class Awaiting:
    """A package that was, or may have been, sent, and of which the DPS has said nothing yet."""

    package_id: int
    object_id: int
    sip_filename: str
    created: datetime


def awaiting_verdict(session: Session) -> list[Awaiting]:
    """Packages that wait for a verdict: from the intent on, since whoever died after it may have sent.

    Also those that passari-workflow found accepted or rejected and did not confirm: it kept nothing of the report.
    """
    rows = session.execute(
        select(
            MuseumPackage.id, MuseumPackage.museum_object_id, MuseumPackage.sip_filename, MuseumPackage.created_date
        ).where(
            MuseumPackage.submission_date.is_not(None),
            MuseumPackage.confirmed_date.is_(None),
            MuseumPackage.verdict.is_(None),
            MuseumPackage.cancelled.is_not(True),
        )
    )
    return [
        Awaiting(package_id, object_id, sip_filename, created)
        for package_id, object_id, sip_filename, created in rows
        # passari-workflow's tables allow a row without these; there is nothing to ask the DPS about it.
        if object_id is not None and sip_filename is not None and created is not None
    ]


def record_verdict(
    session: Session, package_id: int, *, verdict: Verdict, reported: datetime, day: date, transfer_id: str
) -> bool:
    """What the DPS said; the first word stands.

    Arguments:
        reported: when the ingest report was made.
        day: the date folder that holds it.
        transfer_id: the DPS's name of the transfer.

    Returns:
        whether it was news.
    """
    package = session.get(MuseumPackage, package_id, with_for_update=True)
    # One that has come to rest and is not confirmed is passari-workflow's; see `awaiting_verdict`.
    waits = package is not None and package.rest != "cancelled" and package.confirmed_date is None
    if package is None or not waits or package.verdict is not None:
        return False
    package.uploaded = True
    package.verdict, package.verdict_date = verdict, reported
    package.report_day, package.transfer_id = day, transfer_id
    return True


def unconfirmed(session: Session, object_id: int) -> PackageFacts | None:
    """The object's oldest package that has a verdict and is not confirmed, if there is one."""
    package = session.scalars(
        select(MuseumPackage)
        .where(MuseumPackage.museum_object_id == object_id, *_UNCONFIRMED)
        .order_by(MuseumPackage.id)
        .limit(1)
    ).one_or_none()
    return None if package is None else facts(session, package)


_UNCONFIRMED = (
    MuseumPackage.submission_date.is_not(None),
    MuseumPackage.confirmed_date.is_(None),
    MuseumPackage.verdict.is_not(None),
    MuseumPackage.cancelled.is_not(True),
)


def unconfirmed_among(session: Session, object_ids: Collection[int]) -> dict[int, list[int]]:
    """Those of the objects with a verdict that is not confirmed; with the packages of each."""
    found: dict[int, list[int]] = {}
    query = select(MuseumPackage.museum_object_id, MuseumPackage.id).where(
        MuseumPackage.museum_object_id.in_(object_ids), *_UNCONFIRMED
    )
    for object_id, package_id in session.execute(query.order_by(MuseumPackage.id)):
        if object_id is not None:
            found.setdefault(object_id, []).append(package_id)
    return found


def latest_open(session: Session, object_ids: Collection[int]) -> dict[int, bool]:
    """Those of the objects whose latest package is in the workflow; and whether it was sent to its end."""
    query = (
        select(MuseumObject.id, MuseumPackage)
        .join(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(MuseumObject.id.in_(object_ids))
    )
    return {object_id: bool(package.uploaded) for object_id, package in session.execute(query) if package.is_open}


def confirmations_due(session: Session, *, now: datetime, backoff: timedelta, limit: int) -> dict[int, int]:
    """Packages that have a verdict, are not confirmed, and may be tried (again) now; with the object of each.

    Arguments:
        backoff: wait after the first attempt; doubles with each, up to 64 times.
    """
    wait = backoff * func.power(2, func.least(MuseumPackage.confirm_attempts - 1, 6))
    rows = session.execute(
        select(MuseumPackage.id, MuseumPackage.museum_object_id)
        .where(
            *_UNCONFIRMED,
            or_(
                MuseumPackage.confirm_requested_date.is_(None),
                MuseumPackage.confirm_requested_date + wait <= now,
            ),
        )
        .order_by(MuseumPackage.verdict_date, MuseumPackage.id)
        .limit(limit)
    )
    return {package_id: object_id for package_id, object_id in rows if object_id is not None}


def mark_confirm_requested(session: Session, package_ids: Collection[int], *, now: datetime) -> None:
    """Confirmations of these packages are being launched."""
    session.execute(
        update(MuseumPackage)
        .where(MuseumPackage.id.in_(package_ids))
        .values(confirm_attempts=MuseumPackage.confirm_attempts + 1, confirm_requested_date=now)
    )


def close(session: Session, package_id: int) -> None:
    """The verdict takes effect: the package is preserved or rejected, and the object with it."""
    package = session.get(MuseumPackage, package_id, with_for_update=True)
    if package is None or package.museum_object_id is None:
        raise PermanentFailure(f"package {package_id} is not in the database")
    if package.verdict is None:
        raise TransitionRefusedError(f"package {package.sip_filename} has no verdict yet")
    if package.cancelled:
        raise TransitionRefusedError(f"package {package.sip_filename} was cancelled")
    package.preserved = package.verdict is Verdict.ACCEPTED
    package.rejected = package.verdict is Verdict.REJECTED
    if package.preserved:
        object_row(session, package.museum_object_id, lock=True).preserved = True


def mark_confirmed(session: Session, package_id: int, *, now: datetime) -> None:
    """Everything that follows a verdict is done."""
    package = session.get(MuseumPackage, package_id, with_for_update=True)
    if package is None or package.is_open:
        raise TransitionRefusedError(f"package {package_id} is not closed yet")
    package.confirmed_date = now


def cancel(session: Session, package_id: int) -> None:
    """Take the package out of the workflow; its object may be enqueued anew.

    Raises:
        TransitionRefusedError: it has a verdict, or is no longer in the workflow.
    """
    package = _open_package(session, package_id)
    if package.verdict is not None:
        raise TransitionRefusedError(
            f"package {package.sip_filename} was {package.verdict.value}; it is being confirmed"
        )
    package.cancelled = True


def not_sent(session: Session, *, after: int, limit: int) -> list[PackageFacts]:
    """Some packages, by their number, that are in the workflow and of which we do not know that the DPS has them.

    Arguments:
        after: only packages with a greater number.
    """
    rows = session.scalars(
        select(MuseumPackage)
        .where(
            MuseumPackage.id > after,
            MuseumPackage.museum_object_id.is_not(None),
            MuseumPackage.sip_filename.is_not(None),
            MuseumPackage.created_date.is_not(None),
            MuseumPackage.uploaded.is_not(True),
            MuseumPackage.verdict.is_(None),
            is_open(MuseumPackage),
        )
        .order_by(MuseumPackage.id)
        .limit(limit)
    )
    return [facts(session, package) for package in rows]


def by_number(session: Session, package_id: int) -> PackageFacts:
    """A package as it is now.

    Raises:
        PermanentFailure: there is none.
    """
    package = session.get(MuseumPackage, package_id, populate_existing=True)
    if package is None:
        raise PermanentFailure(f"package {package_id} is not in the database")
    return facts(session, package)


def in_the_workflow(session: Session, among: Collection[int]) -> set[int]:
    """Those of the objects with a package that is not done with: open, or with the DPS and not confirmed."""
    query = select(MuseumPackage.museum_object_id).where(
        MuseumPackage.museum_object_id.in_(among),
        or_(
            and_(
                MuseumPackage.submission_date.is_not(None),
                MuseumPackage.confirmed_date.is_(None),
                MuseumPackage.cancelled.is_not(True),
            ),
            is_open(MuseumPackage),
        ),
    )
    return {id_ for id_ in session.scalars(query) if id_ is not None}


def unfinished_ids(session: Session, *, limit: int | None = None, among: Collection[int] | None = None) -> list[int]:
    """Objects whose latest package was begun and not sent: launched again, they go on.

    Arguments:
        limit: most ids to answer.
        among: consider these only.
    """
    query = (
        select(MuseumObject.id)
        .join(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(
            MuseumObject.frozen.is_not(True),
            MuseumPackage.submission_date.is_(None),
            is_open(MuseumPackage),
        )
        .order_by(MuseumObject.id)
        .limit(limit)
    )
    return list(session.scalars(query if among is None else query.where(MuseumObject.id.in_(among))))
