"""Connections to the museum database."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from pydantic import SecretStr
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from passari_dagster.connections import ping_when_idle, postgres_arguments


@functools.lru_cache(maxsize=4)
def connect(url: SecretStr) -> Engine:
    """This process's engine of a database, with a small pool; close its connections with `dispose()`.

    It is the same each time, since it keeps the statements that it compiled, which are dear: a fork has its parent's.
    The parent's connections it must not have: see to it that they are closed before.

    Arguments:
        url: as in the settings; SQLAlchemy itself hides its password in messages.
    """
    # Where the planner thinks that a statement over a thousand objects is dear, compiling it costs more than it does.
    arguments = postgres_arguments(url.get_secret_value(), "passari_dagster", jit="off")
    engine = create_engine(url.get_secret_value(), pool_size=2, max_overflow=3, connect_args=arguments)
    ping_when_idle(engine)
    return engine


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session whose changes are committed together when the block ends well, or not at all."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
