"""The sync assets: what the database knows of MuseumPlus, brought up to date.

No `from __future__ import annotations` in this package where Dagster reads a context's annotation: it wants the class.
"""

from collections.abc import Callable

import dagster as dg

from passari_dagster.defs import launch
from passari_dagster.workflow import synchronise
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.synchronise import SyncResult

GROUP = "museumplus"
POOL = "museumplus_sync"
"""Of limit 1: the two scrapes never run at once. A lock in Redis makes sure."""


def _materialize(
    context: dg.AssetExecutionContext, sync: Callable[[Environment, Log], SyncResult], changed: str
) -> dg.MaterializeResult[None]:
    env: Environment = context.resources.environment
    result = sync(env, context.log.info)
    metadata: dict[str, float | int | str] = {
        "items": result.items,
        changed: result.new,
        "unreadable": result.unreadable,
        "items_per_second": round(result.rate, 1),
        "duration_s": round(result.seconds, 2),
        "partial": int(result.partial),
        "candidates": launch.register_candidates(env, context.instance),
    }
    if result.since is not None:
        metadata["changes_since"] = result.since.isoformat()
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(group_name=GROUP, required_resource_keys={"environment"}, kinds={"postgres"}, pool=POOL)
def museum_objects(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Objects of MuseumPlus: title, dates, metadata hash, and which attachments each has."""
    return _materialize(context, synchronise.sync_objects, "new_objects")


@dg.asset(group_name=GROUP, required_resource_keys={"environment"}, kinds={"postgres"}, pool=POOL)
def museum_attachments(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Attachments (Multimedia) of MuseumPlus: file name, dates, metadata hash, and whose they are."""
    return _materialize(context, synchronise.sync_attachments, "new_attachments")


@dg.asset(
    group_name=GROUP,
    required_resource_keys={"environment"},
    deps=[museum_objects, museum_attachments],
    kinds={"postgres"},
)
def metadata_hashes(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Each object's hash over its attachments: with it, and its own, a change is seen."""
    return _materialize(context, synchronise.sync_hashes, "changed_hashes")
