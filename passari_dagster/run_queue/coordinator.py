"""The run coordinator: whatever launches a run, the UI, a backfill, the command line, it stands in Redis's queue next.

One live run per object is kept here, at the door, and once more by the worker. When Redis is away, a run is QUEUED in
Dagster's database all the same, and `reconcile.py` brings it to the queue.
"""

from __future__ import annotations

import logging

import dagster as dg
import redis

from passari_dagster.run_queue import runs
from passari_dagster.run_queue.configured import OnRedis
from passari_dagster.run_queue.dagster_internals import RunCoordinator, SubmitRunContext, report_queued

log = logging.getLogger(__name__)


class RedisRunCoordinator(OnRedis, RunCoordinator[dg.DagsterInstance]):
    """A `RunCoordinator` over Redis; named in dagster.yaml."""

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
