"""Objects that are known to be unchanged since they were packaged, so that the others are found fast

Revision ID: d4b8f3a61c27
Revises: c7a2d41e90b5
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "d4b8f3a61c27"
down_revision = "c7a2d41e90b5"
branch_labels = None
depends_on = None

INDEX = "ix_museum_objects_worth_a_look"
BEGUN = "ix_museum_packages_begun"
# Whoever writes, with whatever program: a note on an object is forgotten in the transaction that makes it untrue.
TRIGGERS = (
    """
    CREATE FUNCTION museum_object_is_unsettled() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.settled := false;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER museum_object_is_unsettled BEFORE UPDATE ON museum_objects FOR EACH ROW
    WHEN (OLD.settled AND (
        OLD.modified_date IS DISTINCT FROM NEW.modified_date
        OR OLD.metadata_hash IS DISTINCT FROM NEW.metadata_hash
        OR OLD.attachment_metadata_hash IS DISTINCT FROM NEW.attachment_metadata_hash
        OR OLD.latest_package_id IS DISTINCT FROM NEW.latest_package_id
    ))
    EXECUTE FUNCTION museum_object_is_unsettled()
    """,
    """
    CREATE FUNCTION museum_package_unsettles_its_object() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE museum_objects SET settled = false WHERE latest_package_id = NEW.id AND settled;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER museum_package_unsettles_its_object AFTER UPDATE ON museum_packages FOR EACH ROW
    WHEN (
        OLD.preserved IS DISTINCT FROM NEW.preserved
        OR OLD.rejected IS DISTINCT FROM NEW.rejected
        OR OLD.cancelled IS DISTINCT FROM NEW.cancelled
        OR OLD.object_modified_date IS DISTINCT FROM NEW.object_modified_date
        OR OLD.metadata_hash IS DISTINCT FROM NEW.metadata_hash
        OR OLD.attachment_metadata_hash IS DISTINCT FROM NEW.attachment_metadata_hash
    )
    EXECUTE FUNCTION museum_package_unsettles_its_object()
    """,
)


def upgrade() -> None:
    """Add the column, what keeps it true, and the index: all of it or nothing.

    Nothing is settled at first: the asset eligible_objects finds out, in short transactions. The index takes a second
    or two at a million objects, for which writers wait. Behind a transaction that stays open, for which everybody would
    wait with us, this fails, and is to be started again.
    """
    op.execute("SET LOCAL lock_timeout = '30s'")
    op.add_column("museum_objects", sa.Column("settled", sa.Boolean()))
    for statement in TRIGGERS:
        op.execute(statement)
    op.create_index(
        INDEX,
        "museum_objects",
        ["id"],
        postgresql_where=sa.text(
            "removed_date IS NULL AND frozen IS NOT TRUE AND metadata_hash IS NOT NULL "
            "AND attachment_metadata_hash IS NOT NULL AND settled IS NOT TRUE"
        ),
    )
    op.create_index(
        BEGUN,
        "museum_packages",
        ["id"],
        postgresql_where=sa.text(
            "submission_date IS NULL AND preserved IS NOT TRUE AND rejected IS NOT TRUE AND cancelled IS NOT TRUE"
        ),
    )


def downgrade() -> None:
    """Remove them: nothing is lost that could not be found out again."""
    op.execute("SET LOCAL lock_timeout = '30s'")
    op.drop_index(BEGUN, "museum_packages")
    op.drop_index(INDEX, "museum_objects")
    for table, name in (
        ("museum_packages", "museum_package_unsettles_its_object"),
        ("museum_objects", "museum_object_is_unsettled"),
    ):
        op.execute(f"DROP TRIGGER {name} ON {table}")
        op.execute(f"DROP FUNCTION {name}()")
    op.drop_column("museum_objects", "settled")
