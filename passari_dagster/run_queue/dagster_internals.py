"""The names of Dagster's inside that are needed, by the run queue and in `defs/`; imported here and nowhere else.

`test_dagster_internals.py` tells of each what is relied on; the supported range of versions is in `pyproject.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._cli.api import _execute_run_command_body
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.events import DagsterEventType, RunFailureReason
from dagster._core.execution import job_backfill
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.remote_origin import RemotePartitionSetOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import partition_set_snap_name_for_job_name
from dagster._core.run_coordinator.base import RunCoordinator, SubmitRunContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord as CheckRecord
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.dagster_run import (
    FINISHED_STATUSES,
    NOT_FINISHED_STATUSES,
    JobBucket,
    RunPartitionData,
    TagBucket,
)
from dagster._core.storage.event_log import EventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs import RunStorage
from dagster._core.storage.schedules import ScheduleStorage
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    BACKFILL_ID_TAG,
    MAX_RETRIES_TAG,
    PARENT_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    PARTITION_SET_TAG,
    PRIORITY_TAG,
    REPOSITORY_LABEL_TAG,
    RETRY_NUMBER_TAG,
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG,
    ROOT_RUN_ID_TAG,
    RUN_FAILURE_REASON_TAG,
    RUN_KEY_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.utils import make_new_backfill_id
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster._utils import ensure_file
from dagster._utils.concurrency import ConcurrencyClaimStatus, ConcurrencySlotStatus
from dagster._utils.interrupts import capture_interrupts
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from dagster_postgres.utils import set_pg_statement_timeout
from dagster_shared.record import copy as copy_record

__all__ = [
    "AUTO_RETRY_RUN_ID_TAG",
    "BACKFILL_ID_TAG",
    "ENDED_BACKFILLS",
    "FINISHED",
    "MAX_RETRIES_TAG",
    "PARENT_RUN_ID_TAG",
    "PARTITION_NAME_TAG",
    "PARTITION_SET_TAG",
    "PRIORITY_TAG",
    "REPOSITORY_LABEL_TAG",
    "RETRY_NUMBER_TAG",
    "RETRY_ON_ASSET_OR_OP_FAILURE_TAG",
    "ROOT_RUN_ID_TAG",
    "RUN_FAILURE_REASON_TAG",
    "RUN_KEY_TAG",
    "SCHEDULE_NAME_TAG",
    "SENSOR_NAME_TAG",
    "SINGLETON_REPOSITORY_NAME",
    "UNFINISHED",
    "WILL_RETRY_TAG",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CapturedLogContext",
    "CheckRecord",
    "CheckRunHealthResult",
    "ComputeIOType",
    "ConcurrencyClaimStatus",
    "ConcurrencySlotStatus",
    "ConfigurableClass",
    "ConfigurableClassData",
    "DagsterEventType",
    "DagsterStorage",
    "EventLogStorage",
    "JobBucket",
    "LaunchRunContext",
    "LocalComputeLogManager",
    "PartitionBackfill",
    "PostgresEventLogStorage",
    "PostgresRunStorage",
    "PostgresScheduleStorage",
    "RemotePartitionSetOrigin",
    "RemoteRepositoryOrigin",
    "RunCoordinator",
    "RunFailureReason",
    "RunLauncher",
    "RunPartitionData",
    "RunStorage",
    "ScheduleStorage",
    "SubmitRunContext",
    "TagBucket",
    "UnresolvedAssetJobDefinition",
    "WorkerStatus",
    "WorkspaceRequestContext",
    "auto_reexecution_should_retry_run",
    "copy_record",
    "ensure_file",
    "execute",
    "failures_read_to",
    "latest_check_records",
    "location_origins_from_yaml_paths",
    "make_new_backfill_id",
    "partition_set_snap_name_for_job_name",
    "redirect_to_file",
    "report_queued",
    "report_starting",
    "set_pg_statement_timeout",
    "submit_at_once",
]

UNFINISHED = [*NOT_FINISHED_STATUSES]
FINISHED = [*FINISHED_STATUSES]
ENDED_BACKFILLS = [*BULK_ACTION_TERMINAL_STATUSES]


def submit_at_once(runs: int) -> None:
    """Have this process, if it is the daemon, submit so many runs of a backfill between two looks at the backfill.

    Dagster's number is 25, and after each look its daemon sleeps for a second, which was nearly half of its time.
    """
    job_backfill.CHECKPOINT_COUNT = runs


def failures_read_to(instance: dg.DagsterInstance) -> int | None:
    """Number of the last event that Dagster's run retries have read of failures: they look at none before it again."""
    key = f"EVENT_LOG_CONSUMER_CURSOR-{DagsterEventType.RUN_FAILURE.value}"
    read_to = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    return None if read_to is None else int(read_to)


def latest_check_records(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, CheckRecord]:
    """The last record of each asset check that was looked at, or is; without an evaluation while it is."""
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)


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
