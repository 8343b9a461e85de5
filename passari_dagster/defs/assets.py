"""The sync assets: what the database knows of MuseumPlus, brought up to date, and what may be enqueued after that.

No `from __future__ import annotations` in this package where Dagster reads a context's annotation: it wants the class.
"""

from collections.abc import Callable, Sequence

import dagster as dg
from pydantic import Field, model_validator

from passari_dagster.defs import lateness, launch
from passari_dagster.workflow import explain, hashes, synchronise
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.synchronise import Options, SyncResult

GROUP = "museumplus"
POOL = "museumplus_sync"
"""Of limit 1: the two scrapes never run at once. A lock in Redis makes sure."""
HOW = (
    "Reads what changed, and everything once in a while. At the end of the nightly window it ends well, marked "
    "partial, and goes on the next time."
)


class SyncConfig(dg.Config):
    """How a sync reads MuseumPlus. Without any of it: what changed, and everything when that is due."""

    full: bool = Field(default=False, description="read everything now, and see what MuseumPlus does not have any more")
    limit: int | None = Field(default=None, gt=0, description="stop after so many items; the next sync goes on there")
    offset: int = Field(
        default=0, ge=0, description="leave out so many items, by ascending id; only with save_progress: false"
    )
    save_progress: bool = Field(
        default=True,
        description="go on where the last sync stopped, and let the next one go on here; false: read from the "
        "beginning, or from the offset, and leave saved progress as it is",
    )
    stop_at_window_end: bool = Field(
        default=True, description="stop at the end of the nightly window (workflow.sync_window); the next sync goes on"
    )
    accept_removals: bool = Field(
        default=False,
        description="mark what MuseumPlus does not have any more, even if it is more than workflow.sync_most_removed",
    )

    @model_validator(mode="after")
    def _leaves_no_gap(self) -> "SyncConfig":
        if self.offset and self.save_progress:
            raise ValueError("offset leaves items out: set save_progress: false with it")
        return self

    def options(self) -> Options:
        """The same in the workflow's words."""
        return Options(
            full=self.full,
            limit=self.limit,
            offset=self.offset,
            save_progress=self.save_progress,
            window=self.stop_at_window_end,
            accept_removals=self.accept_removals,
        )


def _materialize(
    context: dg.AssetExecutionContext, sync: Callable[[Environment, Log], SyncResult], changed: str
) -> dg.MaterializeResult[None]:
    env: Environment = context.resources.environment
    result = sync(env, context.log.info)
    metadata: dict[str, float | int | str] = {
        "items": result.items,
        changed: result.new,
        "unreadable": result.unreadable,
        "removed": result.removed,
        "items_per_second": round(result.rate, 1),
        "duration_s": round(result.seconds, 2),
        "partial": int(result.partial),
        "candidates": launch.register_candidates(env, context.instance),
    }
    if result.since is not None:
        metadata["changes_since"] = result.since.isoformat()
    if result.partial:
        metadata["done"] = result.done
        metadata["total"] = "not known" if result.total is None else result.total
        metadata["nights_left"] = "not known" if result.nights_left is None else result.nights_left
    return dg.MaterializeResult(metadata=metadata)


def _scrape(
    name: str,
    what: str,
    sync: Callable[[Environment, Log, Options, Sequence[float]], SyncResult],
    changed: str,
    allowed: lateness.Allowed,
) -> dg.AssetsDefinition:
    """The asset of a module of MuseumPlus.

    Arguments:
        what: of what it tells.
        changed: name of the number of new ones.
        allowed: how late it may be.
    """

    @dg.asset(
        name=name,
        description=f"{what}\n\n{HOW}",
        group_name=GROUP,
        required_resource_keys={"environment"},
        kinds={"postgres"},
        pool=POOL,
        freshness_policy=allowed.policy,
    )
    def scrape(context: dg.AssetExecutionContext, config: SyncConfig) -> dg.MaterializeResult[None]:
        return _materialize(context, lambda env, log: sync(env, log, config.options(), synchronise.PATIENCE), changed)

    return scrape


museum_objects = _scrape(
    "museum_objects",
    "Objects of MuseumPlus: title, dates, metadata hash, and which attachments each has.",
    synchronise.sync_objects,
    "new_objects",
    lateness.OBJECTS,
)
museum_attachments = _scrape(
    "museum_attachments",
    "Attachments (Multimedia) of MuseumPlus: file name, dates, metadata hash, and whose they are.",
    synchronise.sync_attachments,
    "new_attachments",
    lateness.ATTACHMENTS,
)


class HashesConfig(dg.Config):
    """Which hashes to compute."""

    full: bool = Field(
        default=False,
        description="Compute the hashes of all objects anew, not only of those whose attachments have changed. It is "
        "done by itself the first time, and each week (setting workflow.hash_recount_interval).",
    )


@dg.asset(
    group_name=GROUP,
    required_resource_keys={"environment"},
    deps=[museum_objects, museum_attachments],
    kinds={"postgres"},
    freshness_policy=lateness.HASHES.policy,
)
def metadata_hashes(context: dg.AssetExecutionContext, config: HashesConfig) -> dg.MaterializeResult[None]:
    """Each object's hash over its attachments: with it, and its own, a change is seen."""
    env: Environment = context.resources.environment
    result = hashes.sync_hashes(env, context.log.info, full=config.full)
    return dg.MaterializeResult(
        metadata={
            "items": result.items,
            "changed_hashes": result.new,
            "items_per_second": round(result.rate, 1),
            "duration_s": round(result.seconds, 2),
            "partial": int(result.partial),
            "kind": "all hashes" if result.full else "stale hashes only",
            "full": int(result.full),
            "stale": result.stale,
            "candidates": launch.register_candidates(env, context.instance),
        }
    )


@dg.asset(group_name=GROUP, required_resource_keys={"environment"}, deps=[metadata_hashes], kinds={"postgres"})
def eligible_objects(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """How many objects may be enqueued now, and how many may not for which reason; each counts under its first reason.

    Why a single object may or may not, and from when on, tells the job `explain`.
    """
    env: Environment = context.resources.environment
    counts = explain.count(env, context.log.info)
    return dg.MaterializeResult(
        metadata={
            **counts,
            "objects": sum(counts.values()),
            "by_reason": dg.MetadataValue.md(explain.markdown_counts(counts)),
        }
    )
