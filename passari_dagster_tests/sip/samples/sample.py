"""What is told of a sample file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A file that is packaged.

    Arguments:
        filename: as the museum has it.
        make: its content.
        format: MIME type, charset and version: `text/xml; charset=UTF-8 1.0`; without a version the first alone.
    """

    filename: str
    make: Callable[[], bytes]
    format: str


@dataclass(frozen=True)
class Broken:
    """A file that freezes its object.

    Arguments:
        filename: as the museum has it.
        make: its content.
        reason: the content problem.
        fault: what is wrong with it, in a few words.
    """

    filename: str
    make: Callable[[], bytes]
    reason: str
    fault: str
