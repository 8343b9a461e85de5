"""Jobs that know no museum, for runs that are queued, executed, cancelled and killed."""

import os
import sys
import time
from pathlib import Path

import dagster as dg


@dg.op(config_schema={"gate": str})
def wait_at_the_gate(context: dg.OpExecutionContext) -> None:
    """Tell that it is there, and wait until the gate is open."""
    gate = Path(context.op_config["gate"])
    gate.with_suffix(f".{context.run_id}").touch()
    while not gate.exists():
        time.sleep(0.05)


@dg.op(config_schema={"gate": str})
def hear_nothing(context: dg.OpExecutionContext) -> None:
    """Go on whatever interrupts it."""
    gate = Path(context.op_config["gate"])
    gate.with_suffix(f".{context.run_id}").touch()
    while not gate.exists():
        try:
            time.sleep(0.05)
        except BaseException:
            continue


@dg.op(config_schema={"gate": str})
def speak(context: dg.OpExecutionContext) -> None:
    """Say something by each way, and wait at the gate."""
    os.write(1, b"from below\n")
    print("from Python", flush=True)  # noqa: T201
    print("trouble", file=sys.stderr, flush=True)  # noqa: T201
    gate = Path(context.op_config["gate"])
    gate.with_suffix(f".{context.run_id}").touch()
    while not gate.exists():
        time.sleep(0.05)


@dg.op
def break_down() -> None:
    """Fail."""
    raise ValueError("the roof leaks")


@dg.op(pool="narrow")
def squeeze_through() -> None:
    """Take a moment, in a pool."""
    time.sleep(0.5)


@dg.job(executor_def=dg.in_process_executor)
def gated() -> None:
    """Waits."""
    wait_at_the_gate()


@dg.job(executor_def=dg.in_process_executor)
def stubborn() -> None:
    """Cannot be interrupted."""
    hear_nothing()


@dg.job(executor_def=dg.in_process_executor)
def talkative() -> None:
    """Speaks."""
    speak()


@dg.job(executor_def=dg.in_process_executor)
def broken() -> None:
    """Fails."""
    break_down()


@dg.job(executor_def=dg.in_process_executor)
def narrow() -> None:
    """Of which few execute at once."""
    squeeze_through()


defs = dg.Definitions(jobs=[gated, stubborn, talkative, broken, narrow])
