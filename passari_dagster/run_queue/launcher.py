"""The run launcher: what Dagster asks about runs that execute. Launching itself is the workers' affair."""

from __future__ import annotations

import time

import dagster as dg
import redis

from passari_dagster.run_queue import runs
from passari_dagster.run_queue.configured import OnRedis
from passari_dagster.run_queue.dagster_internals import (
    CheckRunHealthResult,
    ConfigurableClassData,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
)
from passari_dagster.run_queue.ledger import LEASE_GRACE


class RedisRunLauncher(OnRedis, RunLauncher[dg.DagsterInstance]):
    """A `RunLauncher` over the leases in Redis; named in dagster.yaml."""

    def __init__(self, redis_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._missing: dict[str, float] = {}
        super().__init__(redis_url, inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Refuse: for callers that pass the coordinator by, such as Dagster's own coordinators.

        Raises:
            DagsterInvariantViolationError: always.
        """
        raise dg.DagsterInvariantViolationError(
            f"run {context.dagster_run.run_id} cannot be launched: runs reach the workers through RedisRunCoordinator, "
            "which dagster.yaml has to name as the run_coordinator"
        )

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
        if time.monotonic() - since < LEASE_GRACE:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no worker has its lease; one may renew it yet")
        del self._missing[run.run_id]
        return CheckRunHealthResult(WorkerStatus.FAILED, "no worker executes it any more: killed or cut off")
