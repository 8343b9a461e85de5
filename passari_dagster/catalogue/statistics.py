"""How many objects are where."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from passari_dagster.catalogue.eligibility import is_open
from passari_dagster.catalogue.models import MuseumObject, MuseumPackage

STAGES = (
    "downloading",
    "downloaded",
    "packaged",
    "submitted",
    "confirming",
    "preserved",
    "rejected",
    "frozen",
    "other",
)
"""Every object with a package, or frozen, is in exactly one; "confirming" has a verdict that is not confirmed yet."""


def _stage() -> ColumnElement[str]:
    open_ = is_open(MuseumPackage)
    return case(
        (MuseumObject.frozen.is_(True), "frozen"),
        (MuseumObject.latest_package_id.is_(None), "other"),
        (open_ & MuseumPackage.verdict.is_not(None), "confirming"),
        (open_ & MuseumPackage.uploaded.is_(True), "submitted"),
        (open_ & MuseumPackage.packaged.is_(True), "packaged"),
        (open_ & MuseumPackage.downloaded.is_(True), "downloaded"),
        (open_, "downloading"),
        (MuseumPackage.preserved.is_(True), "preserved"),
        (MuseumPackage.rejected.is_(True), "rejected"),
        else_="other",
    )


def objects_by_stage(session: Session) -> dict[str, int]:
    """Number of objects in each stage; those that never entered the workflow, or left it cancelled, are "other"."""
    stage = _stage()
    rows = session.execute(
        select(stage, func.count())
        .select_from(MuseumObject)
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .group_by(stage)
    )
    return dict.fromkeys(STAGES, 0) | {row[0]: row[1] for row in rows}


def objects_in_stages(session: Session, stages: Collection[str]) -> list[tuple[int, str]]:
    """The objects that are in one of the stages, by id, each with its stage."""
    stage = _stage()
    rows = session.execute(
        select(MuseumObject.id, stage)
        .outerjoin(MuseumPackage, MuseumPackage.id == MuseumObject.latest_package_id)
        .where(stage.in_(stages))
        .order_by(MuseumObject.id)
    )
    return [(row[0], row[1]) for row in rows]
