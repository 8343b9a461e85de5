"""How long the way back took, case by case, and the table that is made of it for `docs/reference/faults.md`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import filelock


@dataclass(frozen=True)
class Times:
    """Of one case.

    Arguments:
        fault: what broke.
        point: where the object's run stood.
        ended: seconds from the fault's end until that run had ended.
        preserved: seconds until the object was preserved.
    """

    fault: str
    point: str
    ended: float
    preserved: float


def record(table: Path, times: Times, required: Mapping[str, float]) -> None:
    """Add a case to those that stand beside the table, and write the table anew. Several processes may.

    Arguments:
        table: its file; the cases are in one of the same name that ends in `.jsonl`.
        times: of the case.
        required: seconds that each fault's run has to end in; the table has its order.
    """
    cases = table.with_suffix(".jsonl")
    with filelock.FileLock(cases.with_suffix(".lock")):
        with cases.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(times)) + "\n")
        lines = cases.read_text(encoding="utf-8").splitlines()
        table.write_text(_as_table([Times(**json.loads(line)) for line in lines], required), encoding="utf-8")


def _as_table(cases: list[Times], required: Mapping[str, float]) -> str:
    by_kind: dict[tuple[str, str], list[Times]] = {}
    for case in cases:
        by_kind.setdefault((case.fault, case.point), []).append(case)
    rounds = sorted({len(kind) for kind in by_kind.values()})
    times = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    made = f"{datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores"
    lines = [
        "# Faults, and how long the way back takes",
        "",
        "Made by `PASSARI_FAULT_TABLE=docs/reference/faults.md make faults` (`PASSARI_FAULT_ROUNDS=5`: five of each):",
        f"{len(cases)} cases, each of the rows {times} times ({made}). Seconds from the end of the fault, median",
        "and longest. Each time the object was preserved once, its SIP uploaded once, and no lock or lease was left.",
        "",
        "A lock expires after 6 seconds here; by default it does after 60 (`workflow.lock_expiry`), so that the object",
        "of a killed run goes on up to a minute later.",
        "",
        "| fault | while the run stands | cases | the run has ended | required | the object is preserved |",
        "|---|---|---|---|---|---|",
    ]
    order = list(required)
    for (fault, point), kind in sorted(by_kind.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        ended, preserved = [case.ended for case in kind], [case.preserved for case in kind]
        lines.append(
            f"| {fault} | {point} | {len(kind)} | {median(ended):.0f}, {max(ended):.0f} | {required[fault]:.0f} | "
            f"{median(preserved):.0f}, {max(preserved):.0f} |"
        )
    return "\n".join(lines) + "\n"
