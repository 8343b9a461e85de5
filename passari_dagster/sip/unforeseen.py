"""Failures of what reads content, and which no detector foresaw. What the world does wrong is no matter of this."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from lxml import etree

from passari_dagster.errors import UnforeseenContent

_SURPRISES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    etree.LxmlError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)
"""What the same content brings about each time; a disk, a network or a lack of memory fails otherwise."""


@contextmanager
def unforeseen(what: object) -> Iterator[None]:
    """Within the block, content is read.

    Arguments:
        what: it is, for the message, such as a file's path.

    Raises:
        UnforeseenContent: that failed, as it would the next time.
    """
    try:
        yield
    except _SURPRISES as error:
        raise UnforeseenContent(
            f"{what} cannot be read, and no detector knows why: {type(error).__name__}: {error}. Look at the file; "
            "freeze the object if it cannot be mended, and tell the developers: docs/guides/detectors-and-events.md"
        ) from error
