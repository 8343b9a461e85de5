"""Where Alembic finds the database and the models."""

from __future__ import annotations

from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import create_engine, pool

from passari_dagster import settings
from passari_dagster.catalogue import older_revisions
from passari_dagster.catalogue.models import Base

WEB_UI = {"user", "role", "roles_users"}
"""Tables that passari-web-ui keeps in the same database."""


def include_object(_object: Any, name: str | None, type_: str, reflected: bool, _compare_to: Any) -> bool:
    """Trigram indexes exist only where pg_trgm does, tables of passari-web-ui where it was: they are no difference."""
    if type_ == "table" and reflected and name in WEB_UI:
        return False
    return not (type_ == "index" and (name or "").endswith("_trgm_gin"))


def run() -> None:
    """Migrate over a connection of its own."""
    engine = create_engine(settings.load_database().database_url.get_secret_value(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=include_object,
            compare_server_default=True,
        )
        with context.begin_transaction():
            refusal = older_revisions.refusal(context.get_context().get_current_heads())
            if refusal is not None:
                raise CommandError(refusal)
            context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    run()
