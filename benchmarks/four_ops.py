"""Definitions for `run_queue.py`: a job of four ops that do nothing, in many partitions, beside the product's own."""

from __future__ import annotations

import functools

import dagster as dg

from passari_dagster.defs import build_defs
from passari_dagster.settings import load

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


@dg.definitions
@functools.cache
def defs() -> dg.Definitions:
    """The product's, with its sensors, and the job. A fork has its parent's, as with the product's own."""
    return dg.Definitions.merge(build_defs(load()), dg.Definitions(jobs=[four_ops]))
