"""The names of Dagster's inside that the run queue needs, imported here and nowhere else in it.

`test_dagster_internals.py` tells of each what is relied on; the supported range of versions is in `pyproject.toml`.
"""

from __future__ import annotations

import dagster as dg
from dagster._cli.api import _execute_run_command_body
from dagster._core.events import DagsterEventType
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.run_coordinator.base import RunCoordinator, SubmitRunContext
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.tags import PARTITION_NAME_TAG, PRIORITY_TAG
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster._utils import ensure_file
from dagster._utils.interrupts import capture_interrupts

__all__ = [
    "PARTITION_NAME_TAG",
    "PRIORITY_TAG",
    "UNFINISHED",
    "CapturedLogContext",
    "CheckRunHealthResult",
    "ComputeIOType",
    "ConfigurableClass",
    "ConfigurableClassData",
    "LaunchRunContext",
    "LocalComputeLogManager",
    "RunCoordinator",
    "RunLauncher",
    "SubmitRunContext",
    "WorkerStatus",
    "ensure_file",
    "execute",
    "redirect_to_file",
    "report_queued",
    "report_starting",
]

UNFINISHED = [*NOT_FINISHED_STATUSES]


def report_queued(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """NOT_STARTED becomes QUEUED."""
    instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)


def report_starting(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """QUEUED becomes STARTING: a run in another state does not execute."""
    event = dg.DagsterEvent(event_type_value=DagsterEventType.PIPELINE_STARTING.value, job_name=run.job_name)
    instance.report_dagster_event(event, run_id=run.run_id)


def execute(instance: dg.DagsterInstance, run_id: str) -> None:
    """Execute a run in this process, as `dagster api execute_run` does: all that happens is in its events."""
    with capture_interrupts():
        _execute_run_command_body(run_id, instance, lambda _event: None, set_exit_code_on_failure=False)
