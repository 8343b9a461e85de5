"""The schedules: of the sync jobs when MuseumPlus is least used, never two scrapes in one night; of housekeeping."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from passari_dagster.run_queue.dagster_internals import UnresolvedAssetJobDefinition
from passari_dagster.settings import Settings

CRON = {
    "sync_objects": "0 20 1-31/2 * *",  # odd days
    "sync_attachments": "0 20 2-30/2 * *",  # even days
    "sync_hashes": "0 5 * * *",
}


def build_schedules(
    settings: Settings, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.ScheduleDefinition]:
    """One running schedule for each of the jobs, in the settings' time zone."""
    start = settings.housekeeping.start
    crons = {**CRON, "housekeeping": f"{start.minute} {start.hour} * * *"}
    return [
        dg.ScheduleDefinition(
            name=f"{name}_schedule",
            job=jobs[name],
            cron_schedule=cron,
            execution_timezone=settings.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for name, cron in crons.items()
    ]
