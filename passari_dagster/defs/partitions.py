"""The partitions: one for each object that may be enqueued or is in the workflow, never for all objects."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

museum_objects = dg.DynamicPartitionsDefinition(name="museum_object")


def object_id_of(key: str) -> int:
    """The object's id.

    Raises:
        Failure: the key is not a number; whoever launched this made a slip.
    """
    if not (key.isascii() and key.isdigit()):
        raise dg.Failure(f"partition {key!r} is not the id of a museum object", allow_retries=False)
    return int(key)


def ids_of(keys: Iterable[str]) -> set[int]:
    """Ids of the objects; keys that are none are left out."""
    return {int(key) for key in keys if key.isascii() and key.isdigit()}
