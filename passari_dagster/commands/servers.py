"""PostgreSQL and Redis as commands meet them: whether they answer, and what their errors mean, in words.

No message has a password or a statement. Is imported when it is needed: SQLAlchemy takes a while.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import redis
from sqlalchemy import create_engine, select
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from passari_dagster.catalogue.models import MuseumObject
from passari_dagster.errors import SettingsError, TransientFailure
from passari_dagster.run_queue.ledger import connect
from passari_dagster.services.migrations import psycopg2_url
from passari_dagster.workflow.environment import Environment

_NO_SUCH_TABLE_OR_COLUMN = ("42P01", "42703")
_TOO_LARGE = "22003"
_TIMEOUT = 15


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a server.

    Arguments:
        text: what it is, and what to do.
        code: the exit code of a command that met it first of all.
    """

    text: str
    code: int


def trouble(error: BaseException) -> Trouble | None:
    """What an error, or the one that it was raised from, says of a server; None: it is about something else."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DBAPIError):
            return _of_postgresql(found)
        if isinstance(found, (redis.ConnectionError, redis.TimeoutError)):
            return Trouble(f"Redis cannot be reached: {_one_line(found)}. See REDIS_URL", 2)
        found = found.__cause__
    return None


def _of_postgresql(error: DBAPIError) -> Trouble | None:
    code = getattr(error.orig, "pgcode", None)
    if code in _NO_SUCH_TABLE_OR_COLUMN:
        return Trouble(
            f"the museum database does not have the schema of this version ({_one_line(error.orig)}): make a backup, "
            "and run `passari-dagster migrate`",
            2,
        )
    if code == _TOO_LARGE:
        return Trouble("an id or a number that was given is too large for the database", 1)
    if not isinstance(error, OperationalError):
        return None  # a fault of ours: its traceback is wanted
    if error.statement is None:
        return Trouble(f"the museum database cannot be reached: {_one_line(error.orig)}. See PASSARI_DB_URL", 2)
    return Trouble(f"PostgreSQL did not do what it was asked: {_one_line(error.orig)}. Run the command again", 1)


def _one_line(error: BaseException | None) -> str:
    """PostgreSQL's first line has what is wrong; those that follow quote the statement, or guess."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".")


def reach(env: Environment, environment: Mapping[str, str]) -> None:
    """Make sure that all servers answer, before a command that changes something begins.

    Arguments:
        environment: has DAGSTER_PG_URL, if Dagster's database is wanted.

    Raises:
        SettingsError: Dagster's database or Redis does not.
        SQLAlchemyError: the museum database does not, or has another schema.
    """
    with env.transaction() as session:
        session.execute(select(MuseumObject).limit(0))
    if url := environment.get("DAGSTER_PG_URL"):
        _reach_dagster(url)
    client = connect(env.settings.redis_url.get_secret_value())
    try:
        client.ping()
    except redis.RedisError as error:
        raise SettingsError(f"Redis cannot be reached: {_one_line(error)}. See REDIS_URL") from error
    finally:
        client.close()


def _reach_dagster(url: str) -> None:
    """Dagster itself would try for a quarter of a minute, and write a warning each time."""
    engine = create_engine(psycopg2_url(url), connect_args={"connect_timeout": _TIMEOUT})
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        reason = _one_line(getattr(error, "orig", None) or error)
        raise SettingsError(f"Dagster's database cannot be reached: {reason}. See DAGSTER_PG_URL") from error
    finally:
        engine.dispose()


@contextlib.contextmanager
def lost_halfway() -> Iterator[None]:
    """A server that answered before and does not any more: something may be done, so the exit code is another one.

    Raises:
        TransientFailure: a server is gone.
    """
    try:
        yield
    except Exception as error:
        found = trouble(error)
        if found is None:
            raise
        raise TransientFailure(f"{found.text}. What was done before stays done") from error
