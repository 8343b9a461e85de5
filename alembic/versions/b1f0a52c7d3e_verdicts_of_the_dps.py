"""What was sent, what the DPS said of it, and what was done about it

Revision ID: b1f0a52c7d3e
Revises: 156f33fadc35
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "b1f0a52c7d3e"
down_revision = "156f33fadc35"
branch_labels = None
depends_on = None

VERDICT = sa.Enum("ACCEPTED", "REJECTED", name="verdict")


def upgrade() -> None:
    """Add the columns, and say in them what passari-workflow's rows mean."""
    VERDICT.create(op.get_bind())
    time = sa.DateTime(timezone=True)
    for column in (
        sa.Column("sip_size", sa.BigInteger()),
        sa.Column("sip_sha256", sa.String(64)),
        sa.Column("submission_date", time),
        sa.Column("verdict", VERDICT),
        sa.Column("verdict_date", time),
        sa.Column("report_day", sa.Date()),
        sa.Column("transfer_id", sa.String(512)),
        sa.Column("confirm_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("confirm_requested_date", time),
        sa.Column("confirmed_date", time),
    ):
        op.add_column("museum_packages", column)
    # A package that passari-workflow has made may be with the DPS, even if it does not say so: it recorded a send
    # only after it. Such a package is watched, and never sent by us.
    op.execute(
        "UPDATE museum_packages SET submission_date = coalesce(created_date, now()) "
        "WHERE packaged AND cancelled IS NOT TRUE"
    )
    # It set a package's verdict before what follows from it was done: what was not done is not called done.
    # An accepted package without this date is watched, as one that waits for its verdict, and confirmed here.
    op.execute(
        "UPDATE museum_packages SET confirmed_date = coalesce(museum_packages.created_date, now()) "
        "FROM museum_objects WHERE museum_objects.id = museum_packages.museum_object_id "
        "AND (museum_packages.rejected OR (museum_packages.preserved AND museum_objects.preserved))"
    )
    # An object is preserved if at least one of its packages was accepted.
    op.execute(
        "UPDATE museum_objects SET preserved = true FROM museum_packages "
        "WHERE museum_packages.museum_object_id = museum_objects.id AND museum_packages.preserved"
    )
    op.create_index(
        "ix_museum_packages_with_the_dps",
        "museum_packages",
        ["id"],
        postgresql_where=sa.text("submission_date IS NOT NULL AND confirmed_date IS NULL"),
    )


def downgrade() -> None:
    """Remove the columns: what they hold is lost."""
    op.drop_index("ix_museum_packages_with_the_dps", "museum_packages")
    for name in (
        "confirmed_date",
        "confirm_requested_date",
        "confirm_attempts",
        "transfer_id",
        "report_day",
        "verdict_date",
        "verdict",
        "submission_date",
        "sip_sha256",
        "sip_size",
    ):
        op.drop_column("museum_packages", name)
    VERDICT.drop(op.get_bind())
