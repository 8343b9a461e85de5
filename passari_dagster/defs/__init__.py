"""Dagster's side of the project: one module for each of its concepts, each a thin shell over `workflow`.

`build_defs` puts them together. What a museum or the DPS means does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from passari_dagster.defs import (
    alerts,
    assets,
    cancelling,
    checks,
    dossier,
    freezing,
    housekeeping,
    jobs,
    lateness,
    polling,
    preflight,
    recovering,
    requeue,
    reset,
    resources,
    retrieve,
    schedules,
    sensors,
    workbench,
)
from passari_dagster.settings import Settings


def build_defs(settings: Settings, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions.

    Arguments:
        settings: retry policies, intervals, time zone and caps come from here.
        resource_overrides: resources by key that take the place of ours.
    """
    preserve_object = jobs.build_preserve_object(settings)
    sync_jobs = jobs.build_sync_jobs()
    keeping = housekeeping.build_housekeeping_job()
    overview = workbench.build_overview_job()
    return dg.Definitions(
        assets=[
            assets.museum_objects,
            assets.museum_attachments,
            assets.metadata_hashes,
            assets.eligible_objects,
            preflight.preflight_report,
            housekeeping.dagster_records,
            workbench.workflow_overview,
            workbench.frozen_objects,
            workbench.audit_log,
            lateness.build_dps_poll(settings),
        ],
        asset_checks=[
            checks.no_package_without_a_run,
            checks.no_objects_removed,
            checks.no_attachments_removed,
            checks.partition_count_within_budget,
            checks.no_record_older_than_settings,
            workbench.no_objects_left_failed,
            workbench.no_rejections_unhandled,
            workbench.no_submission_overdue,
            *lateness.build_checks(settings),
        ],
        jobs=[
            preserve_object,
            jobs.enqueue_objects,
            freezing.freeze_objects,
            freezing.unfreeze_objects,
            freezing.reenqueue_objects,
            cancelling.cancel_objects,
            polling.poll_dps,
            requeue.requeue_failed,
            reset.reset_workflow,
            recovering.recover,
            jobs.explain,
            dossier.object_dossier,
            *sync_jobs.values(),
            preflight.build_preflight_job(),
            keeping,
            overview,
            retrieve.search_dps,
            retrieve.build_retrieve_dip(settings),
            *alerts.build_jobs(settings.mail),
        ],
        schedules=schedules.build_schedules(
            settings, {**sync_jobs, housekeeping.JOB_NAME: keeping, workbench.JOB_NAME: overview}
        ),
        sensors=[*sensors.build_sensors(settings, preserve_object), *alerts.build_sensors(settings.mail)],
        resources={**resources.build_resources(), **(resource_overrides or {})},
        executor=dg.in_process_executor,
    )
