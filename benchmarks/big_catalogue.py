"""A large catalogue in the museum database, made by the database itself: where benchmarks of a million rows begin."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import Engine, text

from passari_dagster.catalogue import database
from passari_dagster.services.embedded import EmbeddedPostgres

ATTACHMENTS = 2
"""Of each object."""
_PROJECT = Path(__file__).resolve().parent.parent
_HASH = "md5(({0})::text) || md5(({0} + 1)::text)"


@contextlib.contextmanager
def museum_database(url: str | None = None) -> Iterator[Engine]:
    """An empty museum database, for as long as the block runs.

    Arguments:
        url: of an empty database of another server; None: the embedded PostgreSQL.
    """
    with contextlib.ExitStack() as stack:
        if url is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="passari-benchmark-")))
            directory.chmod(0o755)  # run as root, the server is another user's
            url = stack.enter_context(EmbeddedPostgres(directory / "pg" / "data")).url("passari")
        os.environ["PASSARI_DB_URL"] = url
        command.upgrade(Config(str(_PROJECT / "alembic.ini")), "head")
        engine = database.connect(SecretStr(url))
        try:
            yield engine
        finally:
            engine.dispose()


def fill(engine: Engine, objects: int) -> None:
    """Objects 1 to `objects` with their attachments, read long ago; no attachment hash of an object is known yet."""
    statements = (
        f"""
        INSERT INTO museum_objects (id, title, created_date, modified_date, metadata_hash, frozen, preserved)
        SELECT n, 'Esine ' || n, '2019-01-01'::timestamptz + n * interval '1 second', '2020-01-01', {_HASH.format("n")},
            false, false
        FROM generate_series(1, {objects}) AS n
        """,
        f"""
        INSERT INTO museum_attachments (id, filename, created_date, modified_date, metadata_hash)
        SELECT n, 'kuva_' || n || '.jpg', '2019-01-01', '2020-01-01', {_HASH.format("-n")}
        FROM generate_series(1, {objects * ATTACHMENTS}) AS n
        """,
        f"""
        INSERT INTO object_attachment_association (museum_object_id, museum_attachment_id)
        SELECT (n - 1) / {ATTACHMENTS} + 1, n FROM generate_series(1, {objects * ATTACHMENTS}) AS n
        """,
    )
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    settle(engine)


def settle(engine: Engine) -> None:
    """What the server does by itself sooner or later."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
