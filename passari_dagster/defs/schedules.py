"""The schedules: syncs when MuseumPlus is least used, never two scrapes in one night; housekeeping; overview."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import dagster as dg

from passari_dagster.run_queue.dagster_internals import UnresolvedAssetJobDefinition
from passari_dagster.settings import Settings

ANY_DAY = date(2000, 1, 1)
HOURLY = "0 * * * *"
ODD_DAYS, EVEN_DAYS, EVERY_DAY = "1-31/2", "2-30/2", "*"


def crons(settings: Settings) -> dict[str, str]:
    """When each job runs: scrapes at the window's beginning, hashes an hour after its end."""
    workflow = settings.workflow
    begin = workflow.sync_begin
    night = workflow.sync_night or timedelta(hours=8)
    after = datetime.combine(ANY_DAY, begin) + night + timedelta(hours=1)
    keeping = settings.housekeeping.start
    return {
        "sync_objects": f"{begin.minute} {begin.hour} {ODD_DAYS} * *",
        "sync_attachments": f"{begin.minute} {begin.hour} {EVEN_DAYS} * *",
        "sync_hashes": f"{after.minute} {after.hour} {EVERY_DAY} * *",
        "housekeeping": f"{keeping.minute} {keeping.hour} {EVERY_DAY} * *",
        "overview": HOURLY,
    }


def build_schedules(
    settings: Settings, jobs: Mapping[str, UnresolvedAssetJobDefinition]
) -> list[dg.ScheduleDefinition]:
    """One running schedule for each of the jobs, in the settings' time zone."""
    return [
        dg.ScheduleDefinition(
            name=f"{name}_schedule",
            job=jobs[name],
            cron_schedule=cron,
            execution_timezone=settings.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for name, cron in crons(settings).items()
    ]
