"""The schema of passari-workflow 1.1

The id is that of the original's last revision: an existing passari-workflow database is at this one already, and goes
on from here.

Revision ID: 156f33fadc35
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "156f33fadc35"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "package_attachment_association",
    "object_attachment_association",
    "museum_packages",
    "museum_objects",
    "museum_attachments",
    "sync_statuses",
)
TRIGRAM_INDEXES = {
    "ix_museum_objects_freeze_reason_trgm_gin": ("museum_objects", "freeze_reason"),
    "ix_museum_objects_title_trgm_gin": ("museum_objects", "title"),
    "ix_museum_packages_sip_filename_trgm_gin": ("museum_packages", "sip_filename"),
}
INSUFFICIENT_PRIVILEGE = "42501"
"""PostgreSQL's code of an error. [PostgreSQL manual, appendix A]"""


def upgrade() -> None:
    """Create the tables of passari-workflow 1.1; the search indexes only where pg_trgm is to be had."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "museum_attachments",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.Text()),
        sa.Column("modified_date", time),
        sa.Column("created_date", time),
        sa.Column("metadata_hash", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_museum_attachments"),
    )
    op.create_table(
        "museum_objects",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("preserved", sa.Boolean()),
        sa.Column("created_date", time),
        sa.Column("modified_date", time),
        sa.Column("latest_package_id", sa.BigInteger()),
        sa.Column("freeze_reason", sa.Text()),
        sa.Column("frozen", sa.Boolean()),
        sa.Column("freeze_source", sa.Enum("USER", "AUTOMATIC", name="freezesource")),
        sa.Column("title", sa.Text()),
        sa.Column("attachment_metadata_hash", sa.String(64)),
        sa.Column("metadata_hash", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_museum_objects"),
    )
    op.create_table(
        "museum_packages",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("sip_filename", sa.String(255)),
        sa.Column("object_modified_date", time),
        sa.Column("created_date", time),
        sa.Column("downloaded", sa.Boolean()),
        sa.Column("packaged", sa.Boolean()),
        sa.Column("uploaded", sa.Boolean()),
        sa.Column("rejected", sa.Boolean()),
        sa.Column("preserved", sa.Boolean()),
        sa.Column("museum_object_id", sa.BigInteger()),
        sa.Column("sip_id", sa.String(255)),
        sa.Column("attachment_metadata_hash", sa.String(64)),
        sa.Column("metadata_hash", sa.String(64)),
        sa.Column("cancelled", sa.Boolean(), server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name="pk_museum_packages"),
        sa.ForeignKeyConstraint(["museum_object_id"], ["museum_objects.id"], name="fk_museum_package_museum_object"),
    )
    op.create_foreign_key(
        "fk_museum_object_latest_package", "museum_objects", "museum_packages", ["latest_package_id"], ["id"]
    )
    for table, (first, first_table), (second, second_table) in (
        (
            "object_attachment_association",
            ("museum_object_id", "museum_objects"),
            ("museum_attachment_id", "museum_attachments"),
        ),
        (
            "package_attachment_association",
            ("museum_package_id", "museum_packages"),
            ("museum_attachment_id", "museum_attachments"),
        ),
    ):
        op.create_table(
            table,
            sa.Column(first, sa.BigInteger()),
            sa.Column(second, sa.BigInteger()),
            # Over 63 characters: shortened with a digest by the naming convention, as the original's were.
            sa.ForeignKeyConstraint([first], [f"{first_table}.id"], name=op.f(_FOREIGN_KEYS[table, first])),
            sa.ForeignKeyConstraint([second], [f"{second_table}.id"], name=op.f(_FOREIGN_KEYS[table, second])),
            sa.UniqueConstraint(first, second, name=f"uq_{table}_{first}"),
        )
        op.create_index(f"ix_{table}_{first}", table, [first])
        op.create_index(f"ix_{table}_{second}", table, [second])
    op.create_table(
        "sync_statuses",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("start_sync_date", time),
        sa.Column("prev_start_sync_date", time),
        sa.Column("offset", sa.BigInteger(), server_default=sa.text("'0'::bigint")),
        sa.PrimaryKeyConstraint("name", name="pk_sync_statuses"),
    )
    op.create_index("ix_museum_objects_frozen", "museum_objects", ["frozen"])
    op.create_index("ix_museum_objects_latest_package_id", "museum_objects", ["latest_package_id"])
    op.create_index("ix_museum_packages_created_date", "museum_packages", ["created_date"])
    op.create_index("ix_museum_packages_museum_object_id", "museum_packages", ["museum_object_id"])
    op.create_index("ix_museum_packages_sip_filename", "museum_packages", ["sip_filename"], unique=True)

    if _has_trigrams():
        for name, (table, column) in TRIGRAM_INDEXES.items():
            op.create_index(name, table, [column], postgresql_using="gin", postgresql_ops={column: "gin_trgm_ops"})


def _has_trigrams() -> bool:
    """Whether the extension is there, or is made now: where it is not installed, or we may not, we do without."""
    bind = op.get_bind()
    if bind.scalar(sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'")):
        return True
    if not bind.scalar(sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")):
        return False
    try:
        with bind.begin_nested():
            bind.execute(sa.text("CREATE EXTENSION pg_trgm"))
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != INSUFFICIENT_PRIVILEGE:
            raise
        return False
    return True


_FOREIGN_KEYS = {
    (
        "object_attachment_association",
        "museum_object_id",
    ): "fk_object_attachment_association_museum_object_id_museu_3199",
    (
        "object_attachment_association",
        "museum_attachment_id",
    ): "fk_object_attachment_association_museum_attachment_id_m_0840",
    (
        "package_attachment_association",
        "museum_package_id",
    ): "fk_package_attachment_association_museum_package_id_mus_aa80",
    (
        "package_attachment_association",
        "museum_attachment_id",
    ): "fk_package_attachment_association_museum_attachment_id__88a1",
}


def downgrade() -> None:
    """Drop the tables, if they are all empty: this is the whole museum database.

    Raises:
        RuntimeError: a table has rows.
    """
    bind = op.get_bind()
    filled = [table for table in TABLES if bind.scalar(sa.text(f"SELECT EXISTS (SELECT 1 FROM {table})"))]  # noqa: S608
    if filled:
        raise RuntimeError(
            f"not going below revision {revision}: it would drop the museum database, and there are rows in "
            + ", ".join(filled)
        )
    op.drop_constraint("fk_museum_object_latest_package", "museum_objects", type_="foreignkey")
    for table in TABLES:
        op.drop_table(table)
    sa.Enum(name="freezesource").drop(bind)
