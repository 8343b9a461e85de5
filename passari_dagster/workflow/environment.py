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
    """

    settings: Settings
    engine: Engine
    toolkit: PreservationToolkit
    now: Callable[[], datetime] = field(default=utc_now)

    @property
    def delays(self) -> Delays:
        """How old versions must be, from the settings."""
        workflow = self.settings.workflow
        return Delays(preservation=workflow.preservation_delay, update=workflow.update_delay)

    def transaction(self) -> contextlib.AbstractContextManager[Session]:
        """A session that commits when its block ends well."""
        return database.transaction(self.engine)

    def lock(self, name: str, *, wait: float) -> contextlib.AbstractContextManager[None]:
        """Hold one of the locks of `passari_dagster.locks`; `wait` in seconds."""
        expiry = self.settings.workflow.lock_expiry
        return locks.hold(self.settings.redis_url, name, expiry=expiry, wait=wait)


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
