"""Definitions for `run_queue.py`: a job of four ops that do nothing, in many partitions."""

from __future__ import annotations

import dagster as dg

KEYS = [str(number) for number in range(20_000)]


@dg.op
def first() -> None:
    """Nothing."""


@dg.op(ins={"start": dg.In(dg.Nothing)})
def second() -> None:
    """Nothing."""


@dg.op(ins={"start": dg.In(dg.Nothing)})
def third() -> None:
    """Nothing."""


@dg.op(ins={"start": dg.In(dg.Nothing)})
def fourth() -> None:
    """Nothing."""


@dg.job(partitions_def=dg.StaticPartitionsDefinition(KEYS))
def four_ops() -> None:
    """Four times nothing."""
    fourth(third(second(first())))


defs = dg.Definitions(jobs=[four_ops], executor=dg.in_process_executor)
