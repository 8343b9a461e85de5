"""Packages that passari-workflow began: which of them are in the middle, and taking them in hand.

Its rows are told by their `sip_id`, which is a time; ours ends in the row's number. How it left files, queues and the
DPS is not this module's affair.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import MuseumObject, MuseumPackage
from passari_dagster.catalogue.packages import TransitionRefusedError

_OUR_SIP_ID = r"^\d+-\d+-\d+$"


@dataclass(frozen=True)
class Adopted:
    """A package of passari-workflow.

    Arguments:
        latest: it is its object's latest package.
        rest: how it left the workflow: preserved, rejected or cancelled; None: it is in it.
        watched: it may be with the DPS, and is looked for there.
        judged: our look at the DPS has found its verdict.
    """

    package_id: int
    object_id: int
    sip_filename: str
    created: datetime
    latest: bool
    packaged: bool
    uploaded: bool
    rest: str | None
    watched: bool
    judged: bool
    confirmed: bool


def _is_theirs() -> ColumnElement[bool]:
    return func.coalesce(MuseumPackage.sip_id, "").op("!~")(_OUR_SIP_ID)


def in_the_middle(session: Session, directories: Collection[int]) -> list[Adopted]:
    """Packages of passari-workflow that are not at rest, by object.

    That is: open ones; those with a verdict that is not confirmed; cancelled ones that were made and may have been
    sent; and an object's latest, whatever it is, if the object has a directory still.

    Arguments:
        directories: objects that have a directory in `package_dir`.
    """
    latest = MuseumObject.latest_package_id == MuseumPackage.id
    rows = session.execute(
        select(MuseumPackage, latest)
        .join(MuseumObject, MuseumObject.id == MuseumPackage.museum_object_id)
        .where(
            _is_theirs(),
            # It made a row when the download had ended; one that is begun anew, or made, is ours by now.
            MuseumPackage.downloaded.is_(True),
            MuseumPackage.sip_sha256.is_(None),
            # Its tables allow a row without these; nothing can be done about it.
            MuseumPackage.sip_filename.is_not(None),
            MuseumPackage.created_date.is_not(None),
            or_(
                and_(MuseumPackage.confirmed_date.is_(None), MuseumPackage.cancelled.is_not(True)),
                and_(
                    MuseumPackage.cancelled.is_(True),
                    MuseumPackage.packaged.is_(True),
                    MuseumPackage.submission_date.is_(None),
                ),
                and_(latest, MuseumObject.id.in_(directories)),
            ),
        )
        .order_by(MuseumPackage.museum_object_id, MuseumPackage.id)
    )
    return [_adopted(package, bool(is_latest)) for package, is_latest in rows]


def _adopted(package: MuseumPackage, latest: bool) -> Adopted:
    assert package.museum_object_id is not None
    assert package.sip_filename is not None
    assert package.created_date is not None
    return Adopted(
        package_id=package.id,
        object_id=package.museum_object_id,
        sip_filename=package.sip_filename,
        created=package.created_date,
        latest=latest,
        packaged=bool(package.packaged),
        uploaded=bool(package.uploaded),
        rest=package.rest,
        watched=package.submission_date is not None,
        judged=package.verdict is not None,
        confirmed=package.confirmed_date is not None,
    )


def again(session: Session, package_id: int, *, lock: bool = False) -> Adopted | None:
    """What the row says now, if it is passari-workflow's still: a package that we began anew from it is ours."""
    package = session.get(MuseumPackage, package_id, with_for_update=True if lock else None)
    if package is None or package.museum_object_id is None or not package.downloaded or package.sip_sha256 is not None:
        return None
    row = session.get_one(MuseumObject, package.museum_object_id)
    return _adopted(package, row.latest_package_id == package_id)


def watch(session: Session, package_id: int) -> None:
    """The package may be with the DPS, cancelled or not: its verdict is waited for.

    Raises:
        TransitionRefusedError: it was never made, or is watched, or at rest.
    """
    package = session.get_one(MuseumPackage, package_id, with_for_update=True)
    if not package.packaged or package.submission_date is not None or package.rest not in (None, "cancelled"):
        raise TransitionRefusedError(f"package {package.sip_filename} is not one to wait for any more")
    package.cancelled = False
    package.submission_date = package.created_date


def confirm_again(session: Session, package_id: int) -> None:
    """What follows the verdict was not all done: the verdict is looked for once more, and confirmed here.

    Raises:
        TransitionRefusedError: it has no verdict.
    """
    package = session.get_one(MuseumPackage, package_id, with_for_update=True)
    if package.rest not in ("preserved", "rejected"):
        raise TransitionRefusedError(f"package {package.sip_filename} has no verdict")
    package.submission_date = package.submission_date or package.created_date
    package.confirmed_date = None


@dataclass(frozen=True)
class Standing:
    """How an object stands.

    Arguments:
        latest: its latest package: none; theirs or ours, and open or at rest.
    """

    object_id: int
    frozen: bool
    has_package: bool
    ours: bool
    open: bool
    cancelled: bool


def standings(session: Session, object_ids: Collection[int]) -> dict[int, Standing]:
    """How objects stand; those that the database does not know are left out."""
    rows = session.execute(
        select(MuseumObject.id, MuseumObject.frozen, MuseumPackage, _is_theirs())
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(MuseumObject.id.in_(object_ids))
    )
    return {
        object_id: Standing(
            object_id=object_id,
            frozen=bool(frozen),
            has_package=package is not None,
            ours=package is not None and not theirs,
            open=package is not None and package.is_open,
            cancelled=package is not None and bool(package.cancelled),
        )
        for object_id, frozen, package, theirs in rows
    }
