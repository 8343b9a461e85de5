"""Whether this process was asked to come to a good end soon, as when its host is shut down.

Long work that can stop early and go on another time looks here between two of its parts.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNAL = signal.SIGUSR1
"""What a worker sends the process of its run when it is asked to stop."""
_asked = threading.Event()


def is_asked() -> bool:
    """Whether to stop at the next good place."""
    return _asked.is_set()


def listen() -> None:
    """Take the signal from now on; to be called in a process's main thread."""
    _asked.clear()
    signal.signal(SIGNAL, _on_signal)


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    _asked.set()
