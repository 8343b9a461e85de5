"""What goes wrong between us and the DPS, beyond the three kinds that every service shares."""

from __future__ import annotations

from passari_dagster.errors import PermanentFailure, TransientFailure


class DpsUnreachableError(TransientFailure):
    """The connection could not be made, was lost, or went silent."""


class NoConnectionError(DpsUnreachableError):
    """The connection could not be made: no use to ask for the next package."""


class PackageExistsError(PermanentFailure):
    """`transfer/` already has a package of this name; it is never overwritten."""


def quote(text: object) -> str:
    """A text that the DPS gave, made safe for a log line: one line, printable, at most 200 characters."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:200]
