"""What a museum's own packages bring, by entry point: how it is found and loaded. What it is for is known elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

from passari_dagster.errors import PermanentFailure


def load(group: str, what: str) -> Iterator[tuple[metadata.EntryPoint, Any]]:
    """Each entry point of a group, and what it names.

    Arguments:
        what: what it should be, for the message: `the detector`.

    Raises:
        PermanentFailure: one cannot be loaded.
    """
    for entry in metadata.entry_points(group=group):
        try:
            yield entry, entry.load()
        except Exception as error:
            raise PermanentFailure(f"{what} {entry.value} cannot be loaded: {error}") from error
