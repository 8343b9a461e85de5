"""Dagster's pools: how many runs may be in a step at once, over all hosts. The UI shows and edits them."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg


def apply(instance: dg.DagsterInstance, limits: Mapping[str, int]) -> None:
    """Give the pools their limits; what was edited in the UI since the last start goes.

    Arguments:
        limits: by pool.
    """
    storage = instance.event_log_storage
    current = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    for pool, limit in limits.items():
        if current.get(pool) != limit:
            storage.set_concurrency_slots(pool, limit)
