"""Who does what a run does, for the audit log."""

from __future__ import annotations

import dagster as dg

from passari_dagster.run_queue.who import USER_TAG
from passari_dagster.workflow.audit import Actor


def actor_of(context: dg.OpExecutionContext) -> Actor:
    """Whoever launched the run of this op."""
    return Actor(who=context.run.tags.get(USER_TAG, "unknown (dagster)"), run_id=context.run_id)
