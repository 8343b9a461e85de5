"""TIFF 6.0, of one page or several: the technical metadata of each page, and its pixels.

Sources: TIFF 6.0 (Adobe, 1992), TIFF Technical Notes 1 and 2, GeoTIFF 1.1; what JHOVE's TIFF module requires of a valid
file (a well-formed date; see also `tiff_tags`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from PIL import TiffImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats import dng
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts, Stream
from passari_dagster.sip.formats.images import (
    MAX_PIXELS_WHOLE,
    BadImageError,
    decode_in_strips,
    opened_by_pillow,
    require_decodable_size,
    require_memory,
    require_same_size,
)
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.formats.tiff_tags import COMPRESSION, PHOTOMETRIC, Directory, Tiff

_DATE_TIME, _COLOR_MAP, _EXTRA_SAMPLES, _GEO_KEYS = 306, 320, 338, 34735

_COLOR_SPACES: Mapping[int, tuple[str, int]] = {
    # PhotometricInterpretation: MIX colour space, samples that it needs
    0: ("WhiteIsZero", 1),
    1: ("BlackIsZero", 1),
    2: ("RGB", 3),
    3: ("PaletteColor", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
    8: ("CIELab", 3),
}
_COMPRESSIONS: Mapping[int, str] = {
    1: "Uncompressed",
    2: "CCITT 1D",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    5: "LZW",
    6: "JPEG",
    7: "JPEG",
    8: "ZIP",
    32773: "PackBits",
    32946: "ZIP",
}
_EXTRA: Mapping[int, str] = {
    0: "unspecified data",
    1: "associated alpha data (with pre-multiplied color)",
    2: "unassociated alpha data",
}
_STRIP_COPIES = 2  # libtiff has a compressed strip in memory, and libvips what it unpacks
_DATE = re.compile(rb"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d\0")


def read(file: Opened) -> FileFormat:
    """The format of a TIFF file, which may be a DNG. See `Reader`."""
    try:
        tiff = Tiff(file.stream)
        if dng.is_dng(next(tiff.pages())):
            return dng.read(file, tiff)
        pages = _read_pages(file, tiff)
    except BadImageError as error:
        raise problems.TIFF_DAMAGED.found(str(error), identified=FileFormat("image/tiff", "6.0")) from error
    if len(pages) == 1:
        return FileFormat("image/tiff", "6.0", images=pages)
    return FileFormat("image/tiff", "6.0", streams=tuple(Stream(page) for page in pages))


def _read_pages(file: Opened, tiff: Tiff) -> tuple[ImageFacts, ...]:
    """Technical metadata of each page; the pages are decoded as well.

    Without compression there is nothing to decode: such a page is measured, every row must be there.

    Raises:
        BadImageError: truncated, damaged, or not valid.
        ContentProblem: several pages where one is allowed, a variant that is not accepted, or too large to be decoded.
    """
    facts: list[ImageFacts] = []
    in_strips: list[tuple[int, bool]] = []
    whole: list[int] = []
    pixels = 0
    for number, page in enumerate(tiff.pages()):
        if _GEO_KEYS in page.entries:
            raise problems.TIFF_VARIANT.found("GeoTIFF; the DPS does not take it yet")
        if page.next and not file.rules.multi_page_tiff:
            raise problems.MULTI_PAGE_TIFF.found("save each page as a file of its own")
        image = _facts(page)
        facts.append(image)
        # Rows of subsampled YCbCr have no length that is known beforehand.
        measured = image.compression == _COMPRESSIONS[1] and image.color_space != "YCbCr"
        page.require_data(measured=measured)
        date = page.text(_DATE_TIME)
        if date is not None and not _DATE.fullmatch(date):
            raise BadImageError("the date (tag 306) is not written as YYYY:MM:DD HH:MM:SS")
        if measured:
            continue
        pixels += image.width * image.height
        require_decodable_size(pixels)
        if image.width * image.height <= MAX_PIXELS_WHOLE or image.color_space == "CIELab":
            require_memory(4 * image.width * image.height, "a TIFF in CIELab")  # which libvips reads in part only
            whole.append(number)
        else:
            require_memory(_STRIP_COPIES * max(page.parts()[1]), "a TIFF with long strips")
            in_strips.append((number, not page.tiled))
    with opened_by_pillow(file, TiffImagePlugin.TiffImageFile) as opened:
        for number, image in enumerate(facts):
            # Opened in any case: what Pillow does not know, the DPS refuses.
            opened.seek(number)
            require_same_size((image.width, image.height), opened.size)
            if number in whole:
                opened.load()
    for number, first_column in in_strips:
        size = facts[number].width, facts[number].height
        decode_in_strips(file, "tiffload_source", size, first_column=first_column, page=number)
    return tuple(facts)


def _facts(page: Directory) -> ImageFacts:
    width, height = page.size()
    photometric, compression = page.integer(PHOTOMETRIC), page.integer(COMPRESSION, 1)
    if photometric not in _COLOR_SPACES:
        raise problems.TIFF_VARIANT.found(f"PhotometricInterpretation {photometric}")
    if compression not in _COMPRESSIONS:
        raise problems.TIFF_VARIANT.found(f"Compression {compression}")
    color_space, needed = _COLOR_SPACES[photometric]
    bits = page.bits()
    if len(bits) < needed:
        raise BadImageError(f"{len(bits)} samples per pixel, {color_space} needs {needed}")
    if color_space == "PaletteColor":
        if _COLOR_MAP not in page.entries:
            raise BadImageError("the palette is missing")
        if len(bits) > 1:
            # MIX as the DPS wants it has no way to say this.
            raise problems.TIFF_VARIANT.found("a palette with extra samples")
    extra = page.integers(_EXTRA_SAMPLES)
    return ImageFacts(
        width=width,
        height=height,
        color_space=color_space,
        bits_per_sample=bits,
        compression=_COMPRESSIONS[compression],
        sample_unit=page.sample_unit(),
        byte_order=page.tiff.byte_order,
        extra_samples=tuple(
            _EXTRA.get(extra[n] if n < len(extra) else 0, _EXTRA[0]) for n in range(len(bits) - needed)
        ),
    )
