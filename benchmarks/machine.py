"""What every benchmark has: its command line, its figures as printed, and what they were measured on."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any


def describe() -> dict[str, object]:
    """Cores, Python, and how busy the machine is just now."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def run(
    description: str | None,
    quick: str,
    measure: Callable[..., dict[str, Any]],
    options: Mapping[str, str] | None = None,
) -> int:
    """Measure and print.

    Arguments:
        description: what is measured, for `--help`.
        quick: what `--quick` means.
        measure: answers with the figures; told whether to be quick, and what was given for each of the options.
        options: further ones, such as `--name`, each with its help.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    for name, help_ in (options or {}).items():
        parser.add_argument(name, help=help_)
    given = parser.parse_args()
    before = describe()
    values = [getattr(given, name.lstrip("-").replace("-", "_")) for name in options or {}]
    figures = {**measure(given.quick, *values), "machine_before": before, "machine_after": describe()}
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if given.json:
        print(json.dumps(figures))
    return 0
