"""The jobs `search_dps` and `retrieve_dip`: what the DPS preserves, found and fetched.

No `from __future__ import annotations` here: Dagster reads the annotations of context and config.
"""

from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field, field_validator

from passari_dagster.defs.actors import actor_of
from passari_dagster.defs.jobs import RETRY_RUN_TAG
from passari_dagster.dps.dissemination import MAX_LIMIT
from passari_dagster.errors import PassariError, TransientFailure
from passari_dagster.settings import Settings
from passari_dagster.workflow import preserved
from passari_dagster.workflow import retrieve as use_case
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.shown import in_markdown


class SearchConfig(dg.Config):
    """What to search for. Without any of it: the first page of everything."""

    query: str = Field(
        default="",
        description="What to search for, in the DPS's query language (Lucene), such as OBJID:Passari_Object_123. "
        "Empty: everything that is preserved.",
    )
    object_id: int | None = Field(
        default=None, description="Instead of a query: the id of an object, whose packages are searched for."
    )
    page: int = Field(default=1, ge=1, description="Which page of the answer to show, from 1.")
    limit: int = Field(default=50, ge=1, le=MAX_LIMIT, description="How many packages a page has, at most 1000.")


@dg.op(name="search", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def search_op(context: dg.OpExecutionContext, config: SearchConfig) -> None:
    """Ask the DPS which packages it preserves, and show a page of them as a table. Nothing is changed."""
    env: Environment = context.resources.environment
    try:
        found = preserved.search(
            env, query=config.query, object_id=config.object_id, page=config.page, limit=config.limit
        )
    except PassariError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(str(found))
    context.add_output_metadata(
        {
            "packages": len(found.rows),
            "page": found.page,
            "there_are_more": found.more,
            "found": dg.MetadataValue.md(preserved.markdown(found)),
        }
    )


@dg.job
def search_dps() -> None:
    """Search the packages that the DPS preserves: their ids, objects, SIPs and dates."""
    search_op()


class RetrieveConfig(dg.Config):
    """Which package to fetch, and where to."""

    aip_id: str = Field(
        min_length=1,
        description="The DPS's id of the package (AIP), as the job search_dps shows it in its first column.",
    )
    output: str = Field(
        default="",
        description="Directory, on the worker's host, that the DIP goes to; it must exist. Empty: as dip_dir in the "
        "settings.",
    )
    format: Literal["zip", "tar"] = Field(default="zip", description="The form of the DIP: zip or tar.")
    hours: float = Field(
        default=24.0,
        gt=0,
        le=240,
        description="Longest that all of it may take, in hours. The DPS may take hours; the next run goes on "
        "where one gave up.",
    )
    reason: str = Field(default="", description="Why it is fetched; kept in the audit log. May be left empty.")
    dry_run: bool = Field(default=False, description="Only say what would be done.")

    @field_validator("output")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError("output should be an absolute path, such as /var/lib/passari/dips")
        return value


def build_retrieve_dip(settings: Settings) -> dg.JobDefinition:
    """The job `retrieve_dip`, with the retries that the settings want."""
    policy = dg.RetryPolicy(
        max_retries=settings.workflow.step_retries,
        delay=settings.workflow.step_retry_wait,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )

    @dg.op(name="retrieve", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing), retry_policy=policy)
    def retrieve_op(context: dg.OpExecutionContext, config: RetrieveConfig) -> None:
        """Request a DIP of a package, wait for it, download and verify it, and have the DPS delete its copy."""
        try:
            _retrieve(context, config)
        except TransientFailure:
            raise
        except use_case.StoppedError as error:
            # The host is shut down: the run is started again elsewhere, and goes on.
            context.instance.add_run_tags(context.run_id, {RETRY_RUN_TAG: "true"})
            raise dg.Failure(str(error), allow_retries=False) from error
        except PassariError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        except dg.DagsterExecutionInterruptedError as error:
            # Somebody cancels the run: the retry policy would have the op begin again all the same.
            raise dg.Failure("cancelled", allow_retries=False) from error

    @dg.job(
        description="Fetches one preserved package from the DPS as a DIP: requested, waited for, downloaded, verified, "
        "and deleted at the DPS. A run that ended before is gone on with by the next one of the same package."
    )
    def retrieve_dip() -> None:
        retrieve_op()

    return retrieve_dip


def _retrieve(context: dg.OpExecutionContext, config: RetrieveConfig) -> None:
    env: Environment = context.resources.environment
    output = Path(config.output) if config.output else None
    if config.dry_run:
        plan = use_case.plan(env, config.aip_id, output=output, archive=config.format)
        context.log.info(str(plan))
        context.add_output_metadata({"plan": str(plan), "retrieved": 0})
        return
    retrieved = use_case.retrieve(
        env,
        actor_of(context),
        config.aip_id,
        context.log.info,
        output=output,
        archive=config.format,
        hours=config.hours,
        reason=config.reason,
    )
    context.add_output_metadata(
        {
            "retrieved": 1,
            "file": dg.MetadataValue.path(str(retrieved.file)),
            "bytes": retrieved.size,
            "sha256": retrieved.sha256,
            "object": "not one of ours" if retrieved.object_id is None else str(retrieved.object_id),
            "verified": dg.MetadataValue.md("\n".join(f"* {in_markdown(each)}" for each in retrieved.verified)),
            "deleted_at_the_dps": retrieved.deleted,
        }
    )
