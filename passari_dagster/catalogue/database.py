"""Connections to the museum database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import SecretStr
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from passari_dagster.connections import postgres_arguments


def connect(url: SecretStr) -> Engine:
    """An engine with a small pool; close it with `dispose()`.

    Arguments:
        url: as in the settings; SQLAlchemy itself hides its password in messages.
    """
    return create_engine(
        url.get_secret_value(),
        pool_size=2,
        max_overflow=3,
        pool_pre_ping=True,
        connect_args=postgres_arguments(url.get_secret_value(), "passari_dagster"),
    )


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session whose changes are committed together when the block ends well, or not at all."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
