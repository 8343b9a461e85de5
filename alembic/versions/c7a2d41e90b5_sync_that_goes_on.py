"""How far a scrape of MuseumPlus has come, what it no longer has, and whose attachment hash is stale

Revision ID: c7a2d41e90b5
Revises: b1f0a52c7d3e
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c7a2d41e90b5"
down_revision = "b1f0a52c7d3e"
branch_labels = None
depends_on = None

FLAGS = ("preserved", "frozen")
TABLES = ("museum_objects", "museum_attachments")


def upgrade() -> None:
    """Add columns and tables. All attachment hashes are counted anew by the first run: none is stale by name."""
    for table in TABLES:
        op.add_column(table, sa.Column("removed_date", sa.DateTime(timezone=True)))
        op.create_index(
            f"ix_{table}_removed_date",
            table,
            ["removed_date"],
            postgresql_where=sa.text("removed_date IS NOT NULL"),
        )
    # Rows are written by the database alone, too; passari-workflow looks for objects that are false here, not NULL.
    for flag in FLAGS:
        op.alter_column("museum_objects", flag, server_default=sa.false())
    op.add_column("sync_statuses", sa.Column("since_date", sa.DateTime(timezone=True)))
    op.add_column("sync_statuses", sa.Column("total", sa.BigInteger()))
    op.create_table(
        "sync_ranges",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger()),
        sa.Column("read_id", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("done", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("name", "first_id", name=op.f("pk_sync_ranges")),
    )
    op.create_table(
        "unseen_items",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "item_id", name=op.f("pk_unseen_items")),
    )
    op.create_table(
        "stale_attachment_hashes",
        sa.Column("museum_object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("museum_object_id", name=op.f("pk_stale_attachment_hashes")),
    )


def downgrade() -> None:
    """Remove them: a scrape that is under way begins again, and removals are forgotten."""
    for table in ("stale_attachment_hashes", "unseen_items", "sync_ranges"):
        op.drop_table(table)
    op.drop_column("sync_statuses", "total")
    op.drop_column("sync_statuses", "since_date")
    for flag in FLAGS:
        op.alter_column("museum_objects", flag, server_default=None)
    for table in TABLES:
        op.drop_index(f"ix_{table}_removed_date", table)
        op.drop_column(table, "removed_date")
