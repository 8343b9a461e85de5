"""What every use case is given: settings, the database, the toolkit, a clock."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from passari_dagster import locks
from passari_dagster.catalogue import database
from passari_dagster.catalogue.eligibility import Delays
from passari_dagster.errors import SettingsError
from passari_dagster.settings import Settings
from passari_dagster.workflow.toolkit import Log, PreservationToolkit

__all__ = ["Environment", "Log", "load_toolkit", "open_environment", "utc_now"]


def utc_now() -> datetime:
    """The present moment, with its zone."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Environment:
    """What the use cases work with.

    Arguments:
        settings: all settings.
        engine: the museum database.
        toolkit: the steps' way to the outside.
        now: the clock.

    One run, tick or command has one environment, and with it the locks that it holds: its transactions check them.
    """

    settings: Settings
    engine: Engine
    toolkit: PreservationToolkit
    now: Callable[[], datetime] = field(default=utc_now)
    # Over all threads, and shared with the copies that `dataclasses.replace` makes: a lock is held for each of them.
    _held: list[locks.Held] = field(default_factory=list, repr=False, compare=False)

    @property
    def delays(self) -> Delays:
        """How old versions must be, from the settings."""
        workflow = self.settings.workflow
        return Delays(preservation=workflow.preservation_delay, update=workflow.update_delay)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when its block ends well and every lock that is held here is ours still.

        Raises:
            LockLostError: a lock is not; nothing is committed.
            TransientFailure: Redis does not say; nothing is committed.
        """
        with database.transaction(self.engine) as session:
            yield session
            # The rows are written first, which may take a wait for somebody else's: only the commit is left then.
            session.flush()
            for held in tuple(self._held):
                held.check()

    @contextlib.contextmanager
    def undone(self) -> Iterator[Session]:
        """A session whose changes are undone when its block ends: to find out what they would bring about."""
        with self.transaction() as session, contextlib.ExitStack() as stack:
            stack.callback(session.begin_nested().rollback)
            yield session

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: float) -> Iterator[locks.Held]:
        """Hold one of the locks of `passari_dagster.locks`; `wait` in seconds."""
        expiry = self.settings.workflow.lock_expiry
        with locks.hold(self.settings.redis_url, name, expiry=expiry, wait=wait) as held:
            self._held.append(held)
            try:
                yield held
            finally:
                self._held.remove(held)


def load_toolkit(settings: Settings) -> PreservationToolkit:
    """The toolkit that the settings name as `module:function`.

    Raises:
        SettingsError: there is no such function.
    """
    module, _, function = settings.toolkit.partition(":")
    try:
        build: Callable[[Settings], PreservationToolkit] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"toolkit = {settings.toolkit!r}: {error}") from error
    return build(settings)


@contextlib.contextmanager
def open_environment(settings: Settings) -> Iterator[Environment]:
    """An environment for a while: its database connections are closed at the end."""
    engine = database.connect(settings.database_url)
    try:
        yield Environment(settings=settings, engine=engine, toolkit=load_toolkit(settings))
    finally:
        engine.dispose()
