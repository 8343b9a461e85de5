"""What an administrator looks at first: the overview, frozen objects, the audit log, and the standing list as checks.

What is counted, and what it means, is in `workflow`. No `from __future__ import annotations` here: Dagster reads the
annotations of contexts.
"""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from passari_dagster.catalogue import statistics
from passari_dagster.catalogue.statistics import Listed
from passari_dagster.defs import assets, failures, launch
from passari_dagster.run_queue.dagster_internals import UNFINISHED, UnresolvedAssetJobDefinition
from passari_dagster.workflow import audit, frozen, overview, standing
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.shown import in_markdown

JOB_NAME = "overview"
GROUP = "workbench"
EVENTS = 200


@dg.asset(
    group_name=GROUP,
    required_resource_keys={"environment"},
    deps=[assets.museum_objects, assets.museum_attachments, assets.metadata_hashes],
    kinds={"postgres"},
)
def workflow_overview(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """How many objects are where in the workflow: eligible, in each step, with the DPS, preserved, rejected, frozen.

    Counted each hour. The numbers are plotted over time; the picture shows the way of the objects.
    """
    env: Environment = context.resources.environment
    counted = counts(env, context.instance)
    return dg.MaterializeResult(
        metadata={
            "overview": dg.MetadataValue.md(overview.markdown(counted)),
            **counted,
            "runs_queued_or_live": unfinished_runs(context.instance),
        }
    )


def counts(env: Environment, instance: dg.DagsterInstance) -> dict[str, int]:
    """How many objects are in each place of `overview.KEYS`."""
    return {**overview.count(env), "failed": len(failures.left(env, instance))}


def unfinished_runs(instance: dg.DagsterInstance) -> int:
    """How many runs of objects are queued or execute."""
    return instance.get_runs_count(dg.RunsFilter(job_name=launch.JOB_NAME, statuses=UNFINISHED))


@dg.asset(group_name=GROUP, required_resource_keys={"environment"}, kinds={"postgres"})
def frozen_objects(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Objects that are kept out of the workflow, by reason, with a picture; how many were frozen by people.

    Which they are tells passari-dagster frozen.
    """
    env: Environment = context.resources.environment
    with env.transaction() as session:
        reasons = statistics.frozen_by_reason(session)
    return dg.MaterializeResult(
        metadata={
            "by_reason": dg.MetadataValue.md(frozen.table(reasons)),
            "picture": dg.MetadataValue.md(frozen.drawn(reasons)),
            "frozen": sum(each.objects for each in reasons),
            "frozen_by_people": sum(each.by_people for each in reasons),
            "reasons": len(reasons),
        }
    )


@dg.asset(group_name=GROUP, required_resource_keys={"environment"}, kinds={"postgres"})
def audit_log(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Who did what, when, why, and to which objects: the last 200 events. The database keeps all of them."""
    env: Environment = context.resources.environment
    with env.transaction() as session:
        events = audit.events(session, limit=EVENTS)
        lately = audit.count(session, since=env.now() - timedelta(days=1))
    lines = ["| when (UTC) | who | what | objects | why |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(event))} |" for event in events]
    return dg.MaterializeResult(
        metadata={"last_events": dg.MetadataValue.md("\n".join(lines)), "events_last_24_hours": lately}
    )


def _cells(event: audit.Event) -> Sequence[str]:
    what = in_markdown(event.what)
    return (
        f"{event.date:%Y-%m-%d %H:%M:%S}",
        in_markdown(event.who),
        f"[{what}](/runs/{event.run_id})" if event.run_id else what,
        event.which or "none",
        in_markdown(event.reason),
    )


@dg.asset_check(asset=workflow_overview, required_resource_keys={"environment"})
def no_objects_left_failed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """No object's last run failed for good: its retries are spent, and the object is in the workflow or eligible still.

    Failures are gathered by what they say. Those of what reads the content are content problems which no detector knows
    yet: candidates for a detector.
    """
    env: Environment = context.resources.environment
    left = failures.left(env, context.instance)
    clusters = standing.clustered(failures.read(context.instance, left))
    candidates = [cluster for cluster in clusters if cluster.candidate]
    return dg.AssetCheckResult(
        passed=not left,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(left)} objects are left failed",
        metadata={
            "objects": len(left),
            "first_ids": ", ".join(str(each.object_id) for each in left[: standing.SAMPLE]),
            "by_message": dg.MetadataValue.md(standing.markdown_clusters(clusters)),
            "detector_candidates": dg.MetadataValue.md(standing.markdown_clusters(candidates)),
            "candidates": len(candidates),
            "messages_read": min(len(left), failures.READ),
            "what_to_do": "open the runs and do what their messages say, then launch the objects again: job "
            "requeue_failed, or passari-dagster requeue-failed --reason. Each new run is linked to the failed one, and "
            "objects whose confirmation failed are taken, too. What fails for what the objects themselves are may be "
            "frozen, and wants a detector: docs/guides/detectors-and-events.md",
        },
    )


@dg.asset_check(asset=workflow_overview, required_resource_keys={"environment"})
def no_rejections_unhandled(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """No object's latest package is rejected, unless the object was frozen: somebody has to decide about each."""
    return _standing(
        standing.rejections(context.resources.environment),
        "are rejected",
        "read the ingest report, in the archive among the package's logs. Put the object right in MuseumPlus (it is "
        "sent again when the change was read), send it again unchanged (job reenqueue_objects), or freeze it",
    )


@dg.asset_check(asset=workflow_overview, required_resource_keys={"environment"})
def no_submission_overdue(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """No package waits for the DPS's verdict longer than overdue_days of [workflow]."""
    env: Environment = context.resources.environment
    days = env.settings.workflow.overdue_days
    return _standing(
        standing.overdue(env),
        f"have waited for a verdict for more than {days} days",
        "ask the DPS about these packages, by their file names; one that it does not have is given up by "
        "passari-dagster cancel --resend",
    )


def _standing(listed: Listed, are: str, what_to_do: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=listed.number == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{listed.number} objects {are}",
        metadata={
            "objects": listed.number,
            "first_ids": ", ".join(map(str, listed.first_ids)),
            "what_to_do": what_to_do,
        },
    )


def build_overview_job() -> UnresolvedAssetJobDefinition:
    """The job: each hour, and by hand."""
    late = dg.AssetSelection.checks(
        *(
            dg.AssetCheckKey(dg.AssetKey(asset), "not_late")
            for asset in ("museum_objects", "museum_attachments", "metadata_hashes", "dps_poll")
        )
    )
    return dg.define_asset_job(
        JOB_NAME,
        dg.AssetSelection.assets(workflow_overview, frozen_objects, audit_log) | late,
        description="Counts the objects in each place of the workflow, those that are frozen, and what was done; looks "
        "whether something is left failed, rejected, overdue or late. Nothing is changed.",
    )
