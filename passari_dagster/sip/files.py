"""Opening the files of a package, which came from outside, and so did their names; and what it is if they changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from passari_dagster.errors import PermanentFailure


class FilesChanged(PermanentFailure):
    """The files are not those that were downloaded: a new download helps, trying again does not."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file opened for reading, never through a symbolic link.

    Raises:
        OSError: not there, a link, or not a regular file.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    stream = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise OSError(f"{path} is not a regular file")
    return stream
