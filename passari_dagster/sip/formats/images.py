"""The proof that the pixels of an image can be decoded. The structure of each format is read in a module of its own.

Memory is bounded whatever the size of the file. A small image is decoded whole by Pillow; a large one in strips by
libvips, where its format can be; where it cannot (progressive JPEG, lossless WebP), `require_memory` sets the limit.
"""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import ImageFile

from passari_dagster.sip import problems
from passari_dagster.sip.files import open_regular
from passari_dagster.sip.formats.opened import Opened

MAX_PIXELS = 1_000_000_000
"""Most pixels of a file that is decoded, of all its pages or frames together; bounds the time, to about a minute. An
uncompressed TIFF has no such limit."""
MAX_MEMORY = 100 * 1024 * 1024
"""Most bytes that a decoder may need at once. The worker's own limit is 150 MB over its idle state."""
MAX_PIXELS_WHOLE = 4_000_000
"""Most pixels that are decoded whole, 4 bytes each: below, Pillow is cheaper than to load libvips."""

# libvips has one kind of error, which says where it comes from. It calls an image's own bad places "Invalid argument".
_SYSTEM_ERROR = "system error: "
_NO_MEMORY = re.compile("out of memory|creating thread", re.I)


class BadImageError(Exception):
    """The file breaks its format; the message says how, as a sentence without the name of the file."""


def require_decodable_size(pixels: int) -> None:
    """Refuse a decompression bomb before it is opened.

    Raises:
        ContentProblem: more than `MAX_PIXELS`.
    """
    if pixels > MAX_PIXELS:
        raise problems.IMAGE_TOO_LARGE.found(
            f"{pixels} pixels, the limit is {MAX_PIXELS}; an uncompressed TIFF of any size is accepted",
        )


def require_memory(size: int, why: str) -> None:
    """Refuse what no decoder can read in pieces, and what is too large to be read at once.

    Arguments:
        size: bytes of memory that the decoder needs.
        why: what keeps the image from being decoded in pieces: `a progressive JPEG`.

    Raises:
        ContentProblem: more than `MAX_MEMORY`.
    """
    if size > MAX_MEMORY:
        raise problems.IMAGE_TOO_LARGE.found(
            f"{why} can only be decoded at once, which takes {size} bytes of memory; the limit is {MAX_MEMORY}"
        )


def take(stream: BinaryIO, size: int) -> bytes:
    """So many bytes of the file.

    Raises:
        BadImageError: there are fewer.
    """
    data = stream.read(size)
    if len(data) != size:
        raise BadImageError("truncated: the end of the image is missing")
    return data


@contextmanager
def opened_by_pillow(file: Opened, plugin: type[ImageFile.ImageFile]) -> Iterator[ImageFile.ImageFile]:
    """The image as Pillow opens it, as the DPS does. What fails inside the `with` block is the image's fault.

    Arguments:
        plugin: Pillow's class for the format. Called directly: `Image.open` would try every format it knows,
            and its bomb guard is a setting of the whole process.

    Raises:
        BadImageError: Pillow cannot open or decode it.
        OSError: a fault of the file system.
    """
    # Opened anew: decoders in C move in the file while a stream of Python believes to know where it is.
    with open_regular(file.path) as stream, warnings.catch_warnings():
        # Pillow warns about odd metadata that it passes over; the DPS does not mind it.
        warnings.simplefilter("ignore")
        try:
            with plugin(stream) as image:
                yield image
        except (BadImageError, MemoryError):
            raise
        except OSError as error:
            if error.errno is not None:  # the disk's fault, not the file's
                raise
            raise BadImageError(f"the image cannot be decoded: {error}") from error
        except Exception as error:  # hostile bytes find every way to fail
            raise BadImageError(f"the image cannot be decoded: {type(error).__name__}: {error}") from error


def require_same_size(told: tuple[int, int], seen: tuple[int, int]) -> None:
    """The structure of the file and the decoder agree on width and height.

    Raises:
        BadImageError: they do not.
    """
    if told != seen:
        raise BadImageError(f"the size is {told[0]} × {told[1]} in one place, {seen[0]} × {seen[1]} in another")


def decode_in_strips(
    file: Opened, loader: str, size: tuple[int, int], *, first_column: bool = False, **options: object
) -> None:
    """Decode an image from its top to its bottom by libvips, holding only a strip of it.

    Arguments:
        loader: name of libvips' loader, such as `tiffload_source`; called directly, so that no other one is tried.
        size: width and height that the structure of the file tells.
        first_column: look at the first column only, which is cheaper. Where whole rows are coded together they are all
            decoded for that; of tiles only the first of each row would be.
        options: of the loader.

    Raises:
        BadImageError: it cannot be decoded, or has another size.
        OSError: a fault of the file system, or there is not enough memory.
    """
    # Only here: it takes 20 ms and 11 MB, which most packages need not pay; and its threads do not survive a fork.
    import pyvips

    pyvips.cache_set_max(0)
    pyvips.concurrency_set(1)
    with open_regular(file.path) as stream:
        try:
            source = pyvips.Source.new_from_descriptor(stream.fileno())
            load = getattr(pyvips.Image, loader)
            # With less than "warning" a tile that cannot be unpacked is black, and nothing is said.
            image = load(source, access="sequential", fail_on="warning", **options)
            require_same_size(size, (image.width, image.height))
            (image.crop(0, 0, 1, image.height) if first_column else image).avg()
        except pyvips.Error as error:
            told = " ".join(str(error).split())
            if _NO_MEMORY.search(told) or (_SYSTEM_ERROR in told and os.strerror(errno.EINVAL) not in told):
                raise OSError(f"{file.path}: {told}") from error
            raise BadImageError(f"the image cannot be decoded: {told}") from error
