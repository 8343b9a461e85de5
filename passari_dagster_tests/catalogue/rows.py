"""Rows for tests: an object as a museum would have it, with what the test is about changed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy.orm import Session

from passari_dagster.catalogue.eligibility import Delays
from passari_dagster.catalogue.models import MuseumObject, MuseumPackage

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
DELAYS = Delays(preservation=timedelta(days=30), update=timedelta(days=30))
LONG_AGO = datetime(2019, 1, 1, tzinfo=timezone.utc)


def add_object(session: Session, object_id: int = 1, **values: Any) -> MuseumObject:
    """An object that is eligible unless `values` say otherwise."""
    row = MuseumObject(
        **{
            "id": object_id,
            "title": "Kirves",
            "created_date": LONG_AGO,
            "modified_date": LONG_AGO,
            "metadata_hash": "a" * 64,
            "attachment_metadata_hash": "",
            **values,
        }
    )
    session.add(row)
    session.flush()
    return row


def add_package(session: Session, row: MuseumObject, **values: Any) -> MuseumPackage:
    """The object's latest package, as the original leaves it after acceptance unless `values` say otherwise."""
    package = MuseumPackage(
        **{
            "museum_object_id": row.id,
            "sip_filename": f"20190101_Object_{row.id}-x{len(row.packages)}.tar",
            "sip_id": "x",
            "created_date": LONG_AGO,
            "object_modified_date": row.modified_date,
            "metadata_hash": row.metadata_hash,
            "attachment_metadata_hash": row.attachment_metadata_hash,
            "downloaded": True,
            "packaged": True,
            "uploaded": True,
            "submission_date": LONG_AGO,
            "preserved": True,
            **values,
        }
    )
    session.add(package)
    session.flush()
    row.latest_package_id = package.id
    session.flush()
    session.refresh(row)
    return package
