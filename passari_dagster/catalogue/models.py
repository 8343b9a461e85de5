"""The tables: those of passari-workflow 1.1, with columns of ours.

Names, types and constraints are the original's, so that an institution's database is taken over in place. The
trigram indexes of the original are made by the first revision where the extension pg_trgm is to be had; they are
not declared here, so that a database without it is as good.
"""

from __future__ import annotations

import enum
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class FreezeSource(enum.Enum):
    """Who froze an object."""

    USER = "user"
    AUTOMATIC = "automatic"


class Verdict(enum.Enum):
    """What the DPS said of a package."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Base(DeclarativeBase):
    """Declarative base; constraint names follow the original's convention."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: dict[Any, Any] = {int: BigInteger, datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012


object_attachments = Table(
    "object_attachment_association",
    Base.metadata,
    Column("museum_object_id", BigInteger, ForeignKey("museum_objects.id"), index=True),
    Column("museum_attachment_id", BigInteger, ForeignKey("museum_attachments.id"), index=True),
    UniqueConstraint("museum_object_id", "museum_attachment_id"),
)

package_attachments = Table(
    "package_attachment_association",
    Base.metadata,
    Column("museum_package_id", BigInteger, ForeignKey("museum_packages.id"), index=True),
    Column("museum_attachment_id", BigInteger, ForeignKey("museum_attachments.id"), index=True),
    UniqueConstraint("museum_package_id", "museum_attachment_id"),
)


def _removed_index(table: str) -> Index:
    """The few removed items of a large table."""
    return Index(f"ix_{table}_removed_date", "removed_date", postgresql_where=text("removed_date IS NOT NULL"))


class MuseumAttachment(Base):
    """A Multimedia item of MuseumPlus. A row with an id only is a reference whose item was not read yet."""

    __tablename__ = "museum_attachments"

    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str | None]
    modified_date: Mapped[datetime | None]
    created_date: Mapped[datetime | None]
    metadata_hash: Mapped[str | None] = mapped_column(String(64))
    removed_date: Mapped[datetime | None]
    """When a scan of everything no longer found it in MuseumPlus."""

    __table_args__ = (_removed_index("museum_attachments"),)


class MuseumPackage(Base):
    """One SIP, made from one version of an object."""

    __tablename__ = "museum_packages"

    id: Mapped[int] = mapped_column(primary_key=True)
    sip_filename: Mapped[str | None] = mapped_column(String(255), index=True, unique=True)
    sip_id: Mapped[str | None] = mapped_column(String(255))
    object_modified_date: Mapped[datetime | None]
    """Modification date of the version packaged: the newest of the object's and its attachments'."""
    created_date: Mapped[datetime | None] = mapped_column(index=True)
    metadata_hash: Mapped[str | None] = mapped_column(String(64))
    attachment_metadata_hash: Mapped[str | None] = mapped_column(String(64))

    downloaded: Mapped[bool | None] = mapped_column(Boolean, default=False)
    packaged: Mapped[bool | None] = mapped_column(Boolean, default=False)
    uploaded: Mapped[bool | None] = mapped_column(Boolean, default=False)
    rejected: Mapped[bool | None] = mapped_column(Boolean, default=False)
    preserved: Mapped[bool | None] = mapped_column(Boolean, default=False)
    cancelled: Mapped[bool | None] = mapped_column(Boolean, default=False, server_default=false())

    sip_size: Mapped[int | None]
    """Bytes of the tar that is, or may have been, sent."""
    sip_sha256: Mapped[str | None] = mapped_column(String(64))
    submission_date: Mapped[datetime | None]
    """When the intent to send was recorded, which is before the package takes its final name at the DPS; from then on
    it may be there, and is watched."""
    verdict: Mapped[Verdict | None] = mapped_column(Enum(Verdict, name="verdict"))
    verdict_date: Mapped[datetime | None]
    """When the DPS reported it."""
    report_day: Mapped[date | None] = mapped_column(Date)
    """The DPS's date folder that holds the report; around midnight not the day of `verdict_date`."""
    transfer_id: Mapped[str | None] = mapped_column(String(512))
    """The DPS's own name of the transfer; its reports are found by it."""
    confirm_attempts: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    confirm_requested_date: Mapped[datetime | None]
    confirmed_date: Mapped[datetime | None]
    """When everything that follows a verdict was done."""

    museum_object_id: Mapped[int | None] = mapped_column(
        ForeignKey("museum_objects.id", name="fk_museum_package_museum_object"), index=True
    )
    museum_object: Mapped[MuseumObject | None] = relationship(
        back_populates="packages", foreign_keys=[museum_object_id]
    )

    __table_args__ = (
        # The few packages of a large table that wait for a verdict or for what follows it.
        Index(
            "ix_museum_packages_with_the_dps",
            "id",
            postgresql_where=text("submission_date IS NOT NULL AND confirmed_date IS NULL"),
        ),
        # Those that were begun and not sent.
        Index(
            "ix_museum_packages_begun",
            "id",
            postgresql_where=text(
                "submission_date IS NULL AND preserved IS NOT TRUE AND rejected IS NOT TRUE AND cancelled IS NOT TRUE"
            ),
        ),
    )

    @property
    def rest(self) -> str | None:
        """How the package left the workflow; None: it is still in it."""
        if self.preserved:
            return "preserved"
        if self.rejected:
            return "rejected"
        return "cancelled" if self.cancelled else None

    @property
    def is_open(self) -> bool:
        """Whether the package is still in the workflow."""
        return self.rest is None


class MuseumObject(Base):
    """An Object of MuseumPlus."""

    __tablename__ = "museum_objects"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    preserved: Mapped[bool | None] = mapped_column(Boolean, default=False)
    """Whether the DPS accepted at least one package of the object."""
    frozen: Mapped[bool | None] = mapped_column(Boolean, default=False, index=True)
    freeze_reason: Mapped[str | None]
    freeze_source: Mapped[FreezeSource | None] = mapped_column(Enum(FreezeSource, name="freezesource"))
    created_date: Mapped[datetime | None]
    modified_date: Mapped[datetime | None]
    """The newest modification date of the object and its attachments."""
    metadata_hash: Mapped[str | None] = mapped_column(String(64))
    attachment_metadata_hash: Mapped[str | None] = mapped_column(String(64))
    """Hash over the attachments' hashes; empty: no attachments; NULL: not known."""
    removed_date: Mapped[datetime | None]
    """When a scan of everything no longer found it in MuseumPlus."""

    settled: Mapped[bool | None] = mapped_column(Boolean)
    """Whether it was found unchanged since its latest package, which left the workflow. Triggers of the database set it
    to false when a date, a hash or a package of the object changes; until it is found again, it is not true."""

    latest_package_id: Mapped[int | None] = mapped_column(
        ForeignKey("museum_packages.id", name="fk_museum_object_latest_package", use_alter=True), index=True
    )
    latest_package: Mapped[MuseumPackage | None] = relationship(foreign_keys=[latest_package_id], post_update=True)
    packages: Mapped[list[MuseumPackage]] = relationship(
        back_populates="museum_object",
        foreign_keys="MuseumPackage.museum_object_id",
        order_by="MuseumPackage.created_date",
    )

    __table_args__ = (
        _removed_index("museum_objects"),
        # Those of which only a package, or a date, can say that they are not eligible. A query says all of this, too.
        Index(
            "ix_museum_objects_worth_a_look",
            "id",
            postgresql_where=text(
                "removed_date IS NULL AND frozen IS NOT TRUE AND metadata_hash IS NOT NULL "
                "AND attachment_metadata_hash IS NOT NULL AND settled IS NOT TRUE"
            ),
        ),
    )


class SyncStatus(Base):
    """A scrape of MuseumPlus, or another work over all rows: when it started, and when it was finished last."""

    __tablename__ = "sync_statuses"

    name: Mapped[str] = mapped_column(primary_key=True)
    start_sync_date: Mapped[datetime | None]
    """When the scrape that is under way started; NULL: none is."""
    prev_start_sync_date: Mapped[datetime | None]
    """When the last finished scrape started, by MuseumPlus's clock: the next one asks for what changed since."""
    offset: Mapped[int | None] = mapped_column(default=0, server_default=text("0"))
    """Items that passari-workflow had read of the scrape that is under way; ours are counted in `SyncRange`."""
    since_date: Mapped[datetime | None]
    """The scrape that is under way asks for what changed since; NULL: for everything."""
    total: Mapped[int | None]
    """Items that MuseumPlus spoke of when it started."""


class SyncRange(Base):
    """A part of the id space in a scrape that is under way, and how far it was read."""

    __tablename__ = "sync_ranges"

    name: Mapped[str] = mapped_column(primary_key=True)
    """The scrape's, in `SyncStatus`."""
    first_id: Mapped[int] = mapped_column(primary_key=True)
    last_id: Mapped[int | None]
    """The greatest id of the range; NULL: it has no end."""
    read_id: Mapped[int]
    """All items up to this id were read; `first_id` - 1 at the beginning."""
    items: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many were read."""
    done: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())


class UnseenItem(Base):
    """An item that the database has, and that a scan of everything did not find where it should be."""

    __tablename__ = "unseen_items"

    name: Mapped[str] = mapped_column(primary_key=True)
    """The scan's, in `SyncStatus`."""
    item_id: Mapped[int] = mapped_column(primary_key=True)


class StaleAttachmentHash(Base):
    """An object whose attachment hash is to be computed anew: its links changed, or an attachment's hash did."""

    __tablename__ = "stale_attachment_hashes"

    museum_object_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


audit_event_objects = Table(
    "audit_event_objects",
    Base.metadata,
    Column("audit_event_id", BigInteger, ForeignKey("audit_events.id"), primary_key=True),
    # No foreign key: what is told stays told.
    Column("museum_object_id", BigInteger, primary_key=True, index=True),
)


class AuditEvent(Base):
    """Something that a person, or a schedule in their place, did to objects."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    date: Mapped[datetime] = mapped_column(index=True)
    who: Mapped[str]
    action: Mapped[str]
    """Name of the job or command."""
    reason: Mapped[str]
    """Why, in that person's words; empty where none is asked for."""
    details: Mapped[str]
    """What exactly, in a few words."""
    run_id: Mapped[str | None]
    """Dagster's run that did it; NULL: the command line."""
