"""`off_clock.py PROGRAM ARGUMENT…` runs a Python program whose clock is off: its environment names libfaketime.

Since Python 3.11 `time.sleep` waits for a reading of the monotonic clock, which libfaketime 0.9.10 takes for one of the
false clock, and refuses. Here it waits for so many seconds, as it did before; nothing else needs help.
"""

from __future__ import annotations

import runpy
import select
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsIndex


def library() -> Path | None:
    """libfaketime for programs with threads; None: Debian's package `faketime` is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def variables(seconds: int) -> Mapping[str, str]:
    """Environment of processes whose clock is ahead, or behind, by so many seconds. It runs as fast as the true one."""
    return {"LD_PRELOAD": str(library()), "FAKETIME": f"{seconds:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


if __name__ == "__main__":
    time.sleep = _sleep
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
