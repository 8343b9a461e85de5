"""A code location that knows no museum: what the processes do is the same."""

import time
from pathlib import Path

import dagster as dg


@dg.op(config_schema={"marks": str})
def leave_a_mark(context: dg.OpExecutionContext) -> None:
    """Leave a mark, and be slow the first time."""
    marks = Path(context.op_config["marks"])
    first = not marks.exists()
    with marks.open("a") as stream:
        stream.write(f"{context.run_id}\n")
    time.sleep(120 if first else 0)


@dg.op
def break_down() -> None:
    """Fail."""
    raise ValueError("the roof leaks")


@dg.job
def slow_at_first() -> None:
    """A run that will be interrupted."""
    leave_a_mark()


@dg.job
def broken() -> None:
    """A run that fails."""
    break_down()


defs = dg.Definitions(jobs=[slow_at_first, broken], executor=dg.in_process_executor)
