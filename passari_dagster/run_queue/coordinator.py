"""The run coordinator: whatever launches a run, the UI, a backfill, the command line, it stands in Redis's queue next.

One live run per object is kept here, at the door, and once more by the worker. When Redis is away, a run is QUEUED in
Dagster's database all the same, and `reconcile.py` brings it to the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
import redis

from passari_dagster.run_queue import runs
from passari_dagster.run_queue.dagster_internals import (
    ConfigurableClass,
    ConfigurableClassData,
    RunCoordinator,
    SubmitRunContext,
    report_queued,
)
from passari_dagster.run_queue.ledger import Ledger, connect

log = logging.getLogger(__name__)
REDIS_URL = {
    "redis_url": dg.Field(
        dg.StringSource, description="the Redis that holds the run queue, such as redis://host:6379/0"
    )
}


class RedisRunCoordinator(RunCoordinator[dg.DagsterInstance], ConfigurableClass):
    """A `RunCoordinator` over Redis; named in dagster.yaml.

    Arguments:
        redis_url: the Redis that holds the queue.
    """

    def __init__(self, redis_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self.ledger = Ledger(connect(redis_url))
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What it was made of."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Any:
        """What dagster.yaml may say."""
        return REDIS_URL

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> RedisRunCoordinator:
        """Made by Dagster."""
        return cls(redis_url=config_value["redis_url"], inst_data=inst_data)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """QUEUED in the database first, then in Redis; or CANCELED, if another run of the object is queued or live."""
        run, instance = context.dagster_run, self._instance
        if run.status is dg.DagsterRunStatus.NOT_STARTED:
            try:
                admitted = runs.admit(instance, self.ledger, run)
            except redis.RedisError as error:
                log.warning("run %s is claimed later, Redis is away: %s", run.run_id, error)
                admitted = True
            if admitted:
                report_queued(instance, run)
                self._enqueue(run)
        reloaded = instance.get_run_by_id(run.run_id)
        return reloaded or run

    def _enqueue(self, run: dg.DagsterRun) -> None:
        try:
            runs.enqueue(self.ledger, run)
        except redis.RedisError as error:
            log.warning("run %s is enqueued later, Redis is away: %s", run.run_id, error)

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run, queued or live; False: it has ended."""
        return runs.cancel(self._instance, self.ledger, run_id)

    def dispose(self) -> None:
        """Close the connections."""
        self.ledger.close()
