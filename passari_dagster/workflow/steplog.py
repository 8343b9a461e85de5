"""The log of one step of one package: lines in a file of the package, and told to whoever launched it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path


@contextlib.contextmanager
def step_log(path: Path, title: str, sink: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """A function that logs a line. The attempts of a step follow one another in its file.

    Arguments:
        path: the log file; its directory exists.
        title: which step of which package.
        sink: told every line as well.
    """
    with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:

        def write(message: str) -> None:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            stream.write(f"{now} {message}\n")
            stream.flush()

        def say(message: str) -> None:
            write(message)
            sink(message)

        write(f"--- {title}")
        try:
            yield say
        except Exception as error:
            write(f"failed: {type(error).__name__}: {error}")
            raise
