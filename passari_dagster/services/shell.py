"""A Python shell for administrators, with what they need at hand. What it changes, they answer for."""

from __future__ import annotations

import code
import sys
from importlib.util import find_spec
from typing import Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.orm import Session

from passari_dagster.catalogue import audit as events
from passari_dagster.catalogue import models
from passari_dagster.workflow import audit, explain
from passari_dagster.workflow.dossier import dossier
from passari_dagster.workflow.environment import Environment


def run(env: Environment, *, write: bool, reason: str) -> None:
    """Open the shell; IPython where it is installed. A standard input that is no terminal is executed as a script.

    Arguments:
        write: whether rows may be changed; then the audit log has an event of it.
        reason: why, in the person's words.

    Raises:
        PermanentFailure: it may write, and no reason is given.
    """
    if write:
        with env.transaction() as session:
            audit.record(
                session,
                audit.on_the_command_line(),
                "shell",
                now=env.now(),
                reason=audit.require_reason(reason),
                details="a shell that may change anything",
            )
    else:
        _forbid_writing(env)
    names = _names(env)
    if not sys.stdin.isatty():
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), names)  # noqa: S102
    elif find_spec("IPython") is not None:
        from IPython import start_ipython

        sys.stdout.write(_banner(env, write=write) + "\n")
        start_ipython(argv=["--no-banner"], user_ns=names)  # type: ignore[no-untyped-call]
    else:
        code.interact(banner=_banner(env, write=write), local=names, exitmsg="")


def _forbid_writing(env: Environment) -> None:
    """Every transaction is read-only, unless a person says otherwise in it."""
    env.engine.dispose()

    @event.listens_for(env.engine, "connect")
    def read_only(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        connection.commit()  # a setting that was made in a transaction ends with its rollback


def _names(env: Environment) -> dict[str, Any]:
    def session() -> Session:
        """A session on the museum database. Use it as a context manager, and commit it yourself."""
        return Session(env.engine, expire_on_commit=False)

    return {
        "__name__": "__console__",
        "env": env,
        "session": session,
        "select": sqlalchemy.select,
        "func": sqlalchemy.func,
        "MuseumObject": models.MuseumObject,
        "MuseumAttachment": models.MuseumAttachment,
        "MuseumPackage": models.MuseumPackage,
        "SyncStatus": models.SyncStatus,
        "AuditEvent": models.AuditEvent,
        "FreezeSource": models.FreezeSource,
        "Verdict": models.Verdict,
        "models": models,
        "events": events.events,
        "explain": lambda *object_ids: explain.explain(env, object_ids),
        "dossier": lambda object_id: dossier(env, object_id),
    }


def _banner(env: Environment, *, write: bool) -> str:
    how = "MAY BE CHANGED; commit a session to change it" if write else "is read only; --write lets you change it"
    return f"""The museum database {env.engine.url.host or ""}/{env.engine.url.database} {how}.

  env             settings, engine, clock; env.transaction() also checks locks
  session()       with session() as s: s.scalars(select(MuseumObject).limit(3)).all()
  models          MuseumObject MuseumAttachment MuseumPackage SyncStatus AuditEvent, Verdict FreezeSource
  select, func    SQLAlchemy's
  explain(ID, …)  why objects are eligible or not
  dossier(ID)     all that is known of an object
  events          events(s, limit=20): the audit log
"""
