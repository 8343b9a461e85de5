"""DNG, a camera's raw image in a TIFF: version, and the technical metadata of the raw image.

The raw data are not developed: no library of ours can. Every strip and tile must be there; those without compression
are measured, those in JPEG must begin as a JPEG. Source: DNG 1.5 (Adobe, 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from PIL import TiffImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts
from passari_dagster.sip.formats.images import MAX_PIXELS_WHOLE, BadImageError, opened_by_pillow, require_same_size
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.formats.tiff_tags import COMPRESSION, PHOTOMETRIC, Directory, Tiff

_SUB_FILE_TYPE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706
_MAX_SUB_DIRECTORIES = 100
_RAW = 0  # of NewSubfileType: the image in full resolution

_COLOR_SPACES: Mapping[int, str] = {
    # PhotometricInterpretation of a raw image or a preview; MIX takes any word
    0: "WhiteIsZero",
    1: "BlackIsZero",
    2: "RGB",
    6: "YCbCr",
    32803: "CFA",
    34892: "LinearRaw",
}
_COMPRESSIONS: Mapping[int, str] = {
    1: "Uncompressed",
    7: "JPEG",
    8: "ZIP",
    34892: "JPEG",  # lossy, of linear raw
}
_IN_JPEG = frozenset({7, 34892})


def is_dng(directory: Directory) -> bool:
    """Whether this first directory of a TIFF makes it a DNG."""
    return _DNG_VERSION in directory.entries


def read(file: Opened, tiff: Tiff) -> FileFormat:
    """The format of a DNG file.

    Raises:
        ContentProblem: damaged, or without a raw image that we know.
    """
    try:
        first = next(tiff.pages())
        version = first.integers(_DNG_VERSION)
        if len(version) != 4:
            raise BadImageError("the version is not told")
        facts = _raw_image(tiff)
        _decode_preview(file, first)
    except BadImageError as error:
        raise problems.DNG_DAMAGED.found(str(error)) from error
    return FileFormat("image/x-adobe-dng", f"{version[0]}.{version[1]}", images=(facts,))


def _raw_image(tiff: Tiff) -> ImageFacts:
    """The largest image in full resolution. The data of all images are checked."""
    found: list[ImageFacts] = []
    for directory in _directories(tiff):
        kind = directory.integer(_SUB_FILE_TYPE, _RAW)
        photometric, compression = directory.integer(PHOTOMETRIC), directory.integer(COMPRESSION, 1)
        measured = compression == 1 and photometric != 6
        directory.require_data(measured=measured)
        if compression in _IN_JPEG:
            _require_jpeg(directory)
        if kind == _RAW:
            found.append(_facts(directory, photometric, compression))
    if not found:
        raise BadImageError("there is no image in full resolution")
    return max(found, key=lambda facts: facts.width * facts.height)


def _directories(tiff: Tiff) -> Iterator[Directory]:
    """Those of the chain, and those below them."""
    for directory in tiff.pages():
        yield directory
        below = directory.integers(_SUB_DIRECTORIES)
        if len(below) > _MAX_SUB_DIRECTORIES:
            raise BadImageError("there are too many directories")
        for offset in below:
            yield Directory(tiff, offset)


def _facts(directory: Directory, photometric: int, compression: int) -> ImageFacts:
    width, height = directory.size()
    if photometric not in _COLOR_SPACES or compression not in _COMPRESSIONS:
        raise problems.UNSUPPORTED.found(
            f"a DNG with PhotometricInterpretation {photometric}, Compression {compression}", format="dng"
        )
    bits = directory.bits()
    color_space = _COLOR_SPACES[photometric]
    base = {"RGB": 3, "YCbCr": 3, "WhiteIsZero": 1, "BlackIsZero": 1}.get(color_space, len(bits))
    if len(bits) < base:
        raise BadImageError(f"{len(bits)} samples per pixel, {color_space} needs {base}")
    return ImageFacts(
        width=width,
        height=height,
        color_space=color_space,
        bits_per_sample=bits,
        compression=_COMPRESSIONS[compression],
        sample_unit=directory.sample_unit(),
        byte_order=directory.tiff.byte_order,
        extra_samples=("unspecified data",) * (len(bits) - base),
    )


def _require_jpeg(directory: Directory) -> None:
    for offset, size in zip(*directory.parts(), strict=True):
        if size < 4 or directory.tiff.read(offset, 3) != b"\xff\xd8\xff":
            raise BadImageError("a tile does not begin as a JPEG does")


def _decode_preview(file: Opened, first: Directory) -> None:
    """The first image, where it is not the raw one itself."""
    size = first.size()
    if first.integer(PHOTOMETRIC) in (32803, 34892) or size[0] * size[1] > MAX_PIXELS_WHOLE:
        return
    with opened_by_pillow(file, TiffImagePlugin.TiffImageFile) as image:
        require_same_size(size, image.size)
        image.load()
