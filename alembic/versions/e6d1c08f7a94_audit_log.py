"""The audit log: who did what to which objects, when and why

Revision ID: e6d1c08f7a94
Revises: d4b8f3a61c27
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "e6d1c08f7a94"
down_revision = "d4b8f3a61c27"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index(op.f("ix_audit_events_date"), "audit_events", ["date"])
    op.create_table(
        "audit_event_objects",
        sa.Column("audit_event_id", sa.BigInteger(), nullable=False),
        sa.Column("museum_object_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_event_id"], ["audit_events.id"], name=op.f("fk_audit_event_objects_audit_event_id_audit_events")
        ),
        sa.PrimaryKeyConstraint("audit_event_id", "museum_object_id", name=op.f("pk_audit_event_objects")),
    )
    op.create_index(op.f("ix_audit_event_objects_museum_object_id"), "audit_event_objects", ["museum_object_id"])


def downgrade() -> None:
    """Remove them: who did what is forgotten."""
    op.drop_table("audit_event_objects")
    op.drop_table("audit_events")
