"""A file that is being examined, as the readers of formats get it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.rules import Rules


@dataclass(frozen=True)
class Opened:
    """Where a reader finds what it needs. It may seek as it likes; memory must not depend on the size of the file.

    Arguments:
        stream: the file, seekable, from a place that is not told.
        path: of the file, for libraries that open it themselves.
        head: its first 4096 bytes, or all if there are fewer.
        suffix: lower-case suffix of its name, such as `.jpg`; only tells apart what the bytes leave open.
        chunks: the whole file from its beginning, in pieces; to be used once, by who wants to see every byte.
        rules: what the installation lets pass.
    """

    stream: BinaryIO
    path: Path
    head: bytes
    suffix: str
    chunks: Iterable[bytes]
    rules: Rules


Reader = Callable[[Opened], FileFormat]
"""Reads a file of one format.

Raises:
    ContentProblem: of a kind in `problems`: damaged, or a variant that the DPS does not take.
    OSError: a fault of the file system.
"""
