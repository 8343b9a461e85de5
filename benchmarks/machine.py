"""What a figure was measured on; printed with every benchmark."""

from __future__ import annotations

import os
import platform


def describe() -> dict[str, object]:
    """Cores, Python, and how busy the machine is just now."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }
