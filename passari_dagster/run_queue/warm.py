"""Bringing into a worker's memory what its runs need, so that each run is a fork and not a start of Python."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import dagster as dg

log = logging.getLogger(__name__)


@dg.op
def nothing() -> None:
    """Takes the way of an op through Dagster."""


@dg.job(executor_def=dg.in_process_executor)
def warm_up_job() -> None:
    """Executed once before workers are forked."""
    nothing()


def warm_up(rehearse: Callable[[], None]) -> None:
    """Bring it all in, by a run on an instance of its own.

    Arguments:
        rehearse: does what runs do of their own; that it fails makes the first steps of each run slower, no more.
    """
    try:
        rehearse()
    except Exception as error:
        log.warning("runs will start slower, since what they do could not be rehearsed: %s", error)
    with dg.DagsterInstance.ephemeral() as instance:
        warm_up_job.execute_in_process(instance=instance)
    # What is here now is never garbage: not to be looked at, nor copied, by the forks.
    gc.collect()
    gc.freeze()
