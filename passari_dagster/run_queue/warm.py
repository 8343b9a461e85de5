"""Bringing into a worker's memory what its runs need, so that each run is a fork and not a start of Python."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Sequence

import dagster as dg


@dg.op
def nothing() -> None:
    """Takes the way of an op through Dagster."""


@dg.job(executor_def=dg.in_process_executor)
def warm_up_job() -> None:
    """Executed once before workers are forked."""
    nothing()


def warm_up(modules: Sequence[str]) -> None:
    """Import modules, and execute a run on an instance of its own.

    Arguments:
        modules: what the code of runs imports only when it is needed.
    """
    for module in modules:
        importlib.import_module(module)
    with dg.DagsterInstance.ephemeral() as instance:
        warm_up_job.execute_in_process(instance=instance)
    # What is here now is never garbage: not to be looked at, nor copied, by the forks.
    gc.collect()
    gc.freeze()
