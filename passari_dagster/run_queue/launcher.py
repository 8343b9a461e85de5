"""The run launcher: what Dagster asks about runs that execute. Launching itself is the workers' affair."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import redis

from passari_dagster.run_queue import runs
from passari_dagster.run_queue.coordinator import REDIS_URL
from passari_dagster.run_queue.dagster_internals import (
    CheckRunHealthResult,
    ConfigurableClass,
    ConfigurableClassData,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
)
from passari_dagster.run_queue.ledger import Ledger, connect

GRACE = 10.0
"""Seconds that a lease may be missing, after Redis has forgotten it, until its holder has renewed it for sure."""


class RedisRunLauncher(RunLauncher[dg.DagsterInstance], ConfigurableClass):
    """A `RunLauncher` over the leases in Redis; named in dagster.yaml.

    Arguments:
        redis_url: the Redis that holds the leases.
    """

    def __init__(self, redis_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self.ledger = Ledger(connect(redis_url))
        self._missing: dict[str, float] = {}
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
    ) -> RedisRunLauncher:
        """Made by Dagster."""
        return cls(redis_url=config_value["redis_url"], inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Put the run in the queue: for callers that pass the coordinator by."""
        if runs.admit(self._instance, self.ledger, context.dagster_run):
            runs.enqueue(self.ledger, context.dagster_run)

    def terminate(self, run_id: str) -> bool:
        """Have the run's process end it; False: it has ended."""
        return runs.cancel(self._instance, self.ledger, run_id)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Leases tell."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING while somebody has the run's lease, and while nobody can tell."""
        try:
            lease = self.ledger.lease_of(run.run_id)
        except redis.RedisError as error:
            # With Redis away no process can renew its lease. The clock of those that are missing begins anew.
            self._missing.clear()
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"Redis cannot be asked: {type(error).__name__}")
        if lease is not None:
            self._missing.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=lease.worker)
        since = self._missing.setdefault(run.run_id, time.monotonic())
        if time.monotonic() - since < GRACE:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no worker has its lease; one may renew it yet")
        del self._missing[run.run_id]
        return CheckRunHealthResult(WorkerStatus.FAILED, "no worker executes it any more: killed or cut off")

    def dispose(self) -> None:
        """Close the connections."""
        self.ledger.close()
