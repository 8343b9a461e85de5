"""The proof that the pixels of an image can be decoded. The structure of each format is read in a module of its own."""

from __future__ import annotations

import warnings
from typing import BinaryIO

from PIL import ImageFile

from passari_dagster.sip import problems

MAX_PIXELS = 250_000_000
"""Most pixels of an image that is decoded, for Pillow 1 GB of memory. An uncompressed TIFF has no such limit."""


class BadImageError(Exception):
    """The file breaks its format; the message says how, as a sentence without the name of the file."""


def require_decodable_size(width: int, height: int) -> None:
    """Refuse a decompression bomb before it is opened.

    Raises:
        ContentProblem: more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise problems.IMAGE_TOO_LARGE.found(
            f"{width} × {height} pixels, the limit is {MAX_PIXELS}; an uncompressed TIFF of any size is accepted",
        )


def decode(
    stream: BinaryIO,
    plugin: type[ImageFile.ImageFile],
    size: tuple[int, int],
    *,
    pixels: bool = True,
    reduced: bool = False,
) -> None:
    """Let Pillow open the image, as the DPS does, and decode it.

    Arguments:
        stream: the file; where it stands does not matter.
        plugin: Pillow's class for the format. Called directly: `Image.open` would try every format it knows,
            and its bomb guard is a setting of the whole process.
        size: width and height that the structure of the file tells.
        pixels: decode the pixels too, not the header only.
        reduced: decode all data but build only a small image (JPEG).

    Raises:
        BadImageError: Pillow cannot open or decode it, or sees another size.
        OSError: a fault of the file system.
    """
    stream.seek(0)
    with warnings.catch_warnings():
        # Pillow warns about odd metadata that it passes over; the DPS does not mind it.
        warnings.simplefilter("ignore")
        try:
            with plugin(stream) as image:
                seen = image.size
                if pixels and seen == size:
                    if reduced:
                        image.draft(image.mode, (1, 1))
                    image.load()
        except MemoryError:
            raise
        except OSError as error:
            if error.errno is not None:  # the disk's fault, not the file's
                raise
            raise BadImageError(f"the image cannot be decoded: {error}") from error
        except Exception as error:  # hostile bytes find every way to fail
            raise BadImageError(f"the image cannot be decoded: {type(error).__name__}: {error}") from error
    if seen != size:
        raise BadImageError(f"the size is {size[0]} × {size[1]} in one place, {seen[0]} × {seen[1]} in another")
