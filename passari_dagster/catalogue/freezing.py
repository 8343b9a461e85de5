"""Keeping objects out of the workflow."""

from __future__ import annotations

from sqlalchemy.orm import Session

from passari_dagster.catalogue.models import FreezeSource
from passari_dagster.catalogue.packages import object_row


def freeze(session: Session, object_id: int, *, reason: str, source: FreezeSource) -> None:
    """Freeze the object and cancel its open package, unless that was sent: what the DPS has stays watched.

    Whoever freezes removes what a send that was cut short left at the DPS before: of that nothing is known here.

    Arguments:
        reason: stable text; objects are unfrozen by it.
    """
    row = object_row(session, object_id, lock=True)
    row.frozen, row.freeze_reason, row.freeze_source = True, reason, source
    package = row.latest_package
    if package is not None and package.is_open and not package.uploaded and package.submission_date is None:
        package.cancelled = True
