"""What Dagster loads."""

from __future__ import annotations

import dagster as dg

from passari_dagster import settings
from passari_dagster.defs import build_defs

_last: tuple[settings.Settings, dg.Definitions] | None = None


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions, from the settings as they are when the code location is loaded.

    Dagster asks for them in each run; while the settings are the same, so are they, and a fork has its parent's.
    """
    global _last
    now = settings.load()
    if _last is None or _last[0] != now:
        _last = now, build_defs(now)
    return _last[1]
