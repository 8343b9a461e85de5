"""What Dagster loads."""

from __future__ import annotations

import dagster as dg

from passari_dagster import settings
from passari_dagster.defs import build_defs


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions, from the settings as they are when the code location is loaded."""
    return build_defs(settings.load())
