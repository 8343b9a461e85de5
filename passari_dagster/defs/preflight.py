"""The preflight in Dagster: an asset whose materialization is the report, its check, and the job that makes it.

No `from __future__ import annotations` here: Dagster reads the annotations of context and config.
"""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from passari_dagster import durable
from passari_dagster.run_queue.dagster_internals import UnresolvedAssetJobDefinition
from passari_dagster.workflow import preflight
from passari_dagster.workflow import preflight_report as report
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preflight import Examined

JOB_NAME = "preflight"
NAME = "preflight_report"
CHECK = "no_content_problems"


class PreflightConfig(dg.Config):
    """Which objects to examine. Without any of it: twenty at random."""

    object_ids: list[int] = Field(
        default_factory=list,
        description="Ids of the objects to examine, whether or not they could be enqueued now. Empty: pick at random.",
    )
    object_count: int = Field(
        default=20,
        gt=0,
        description="How many objects to pick at random among those that could be enqueued now; counts for nothing "
        "when object_ids are given.",
    )


@dg.asset(
    name=NAME,
    group_name=JOB_NAME,
    required_resource_keys={"environment"},
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=NAME,
            description="No object of the last preflight has a content problem (a warning), and each could be examined "
            "to its end (an error).",
        )
    ],
)
def preflight_report(
    context: dg.AssetExecutionContext, config: PreflightConfig
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """What would freeze objects if they were enqueued: they are downloaded and packaged, and nothing is sent.

    Nothing about the objects changes. The table of all problems is a CSV file, which the metadata name.
    """
    env: Environment = context.resources.environment
    chosen = preflight.choose(env, count=config.object_count, object_ids=config.object_ids)
    durable.make_directory(env.settings.preflight_tables)
    table = env.settings.preflight_tables / f"preflight-{env.now():%Y%m%d-%H%M%S}-{context.run.run_id[:8]}.csv"
    summary = report.Summary()

    with report.csv_file(table) as write:

        def tell(examined: Examined) -> None:
            summary.add(examined)
            write(examined)
            (context.log.info if examined.failure is None else context.log.warning)(str(examined))

        summary.left = preflight.preflight(env, chosen, tell, context.log.info)
    context.log.info(str(summary))
    yield _check(summary)
    if summary.failed == summary.objects != 0 and not summary.problems:
        raise dg.Failure(
            f"none of the {summary.objects} objects could be examined; the first: {summary.failures[0]}",
            metadata={"failures": dg.MetadataValue.json(report.sample_of_failures(summary))},
            allow_retries=False,
        )
    yield dg.MaterializeResult(metadata=_metadata(summary, str(table)))


def _counts(summary: report.Summary) -> dict[str, int]:
    return {
        "objects": summary.objects,
        "good": summary.good,
        "with_problems": summary.with_problems,
        "problems": summary.problems,
        "could_not_be_examined": summary.failed,
        "left": summary.left,
    }


def _metadata(summary: report.Summary, table: str) -> dict[str, dg.MetadataValue | int]:
    return {
        **_counts(summary),
        "found": dg.MetadataValue.md(report.markdown(summary)),
        "by_reason": dg.MetadataValue.md(report.markdown_counts(summary)),
        "failures": dg.MetadataValue.json(report.sample_of_failures(summary)),
        "csv": dg.MetadataValue.path(table),
    }


def _check(summary: report.Summary) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not summary.problems and summary.complete,
        severity=dg.AssetCheckSeverity.WARN if summary.complete else dg.AssetCheckSeverity.ERROR,
        metadata={
            **_counts(summary),
            "sample": dg.MetadataValue.md(report.markdown(summary)),
            "by_reason": dg.MetadataValue.json(dict(summary.by_reason.most_common())),
            "failures": dg.MetadataValue.json(report.sample_of_failures(summary)),
            "what_to_do": "problems are put right in MuseumPlus, each as its advice says; objects that could not be "
            "examined have nothing wrong with them that is known: launch the job again for them, with object_ids",
        },
    )


def build_preflight_job() -> UnresolvedAssetJobDefinition:
    """The job, by hand only."""
    return dg.define_asset_job(
        JOB_NAME,
        [preflight_report],
        description="Downloads and packages objects without sending them, and reports what would freeze them. "
        "Nothing about the objects changes.",
    )
