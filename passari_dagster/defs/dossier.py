"""The dossier of an object in Dagster: a job that tells all that is known of it, as Markdown.

No `from __future__ import annotations` here: Dagster reads the annotations of context and config.
"""

import dagster as dg
from pydantic import Field

from passari_dagster.errors import PermanentFailure
from passari_dagster.workflow import dossier as use_case
from passari_dagster.workflow import dossier_words as words
from passari_dagster.workflow.dossier_markdown import markdown
from passari_dagster.workflow.environment import Environment


class DossierConfig(dg.Config):
    """Which object."""

    object_id: int = Field(gt=0, description="Id of the object whose dossier is made.")


@dg.op(name="make_dossier", required_resource_keys={"environment"}, out=dg.Out(dg.Nothing))
def make_dossier(context: dg.OpExecutionContext, config: DossierConfig) -> None:
    """Tell on one page all that is known of an object: in this step's output, as `dossier`. Nothing is changed."""
    env: Environment = context.resources.environment
    try:
        made = use_case.dossier(env, config.object_id)
    except PermanentFailure as failure:
        raise dg.Failure(str(failure), allow_retries=False) from failure
    told = made.history
    context.log.info(f"object {told.object_id}: {told.older_packages + len(made.packages)} packages")
    for package in made.packages:
        context.log.info(f"{package.facts.sip_filename}: {package.facts.state}")
        for step in words.steps(package, made.time_zone):
            context.log.info(f"{step.step}, attempt {step.attempt}: began {step.began}, took {step.took}. {step.ended}")
    context.add_output_metadata(
        {
            "dossier": dg.MetadataValue.md(markdown(made)),
            "packages": told.older_packages + len(made.packages),
            "attachments": told.attachments.number,
            "runs": dg.MetadataValue.url(made.runs_page),
        }
    )


@dg.job
def object_dossier() -> None:
    """Make the dossier of an object: what it is, its packages and what changed between them, each step with its
    duration, logs, ingest reports, who did what to it, and a link to its runs. Nothing is changed.
    """
    make_dossier()
