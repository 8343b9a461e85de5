"""JPEG 2000 (JP2): jpylyzer, which the DPS runs, tells whether the file is valid; Pillow decodes it.

Sources: ISO/IEC 15444-1 (JP2 boxes in Annex I, codestream in Annex A); the properties that jpylyzer names.

OpenJPEG holds a whole tile in memory, so that an image with large tiles is decoded at a lower resolution: all packets
are read, the finest detail is not rebuilt. Where the coded data of a single tile are too many even for that, jpylyzer's
word stands alone.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Jpeg2KImagePlugin

from passari_dagster.sip import problems
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts, Jpeg2000Coding
from passari_dagster.sip.formats.images import (
    MAX_MEMORY,
    MAX_PIXELS_WHOLE,
    BadImageError,
    opened_by_pillow,
    require_decodable_size,
    require_memory,
    require_same_size,
)
from passari_dagster.sip.formats.opened import Opened

_BRAND = slice(20, 24)  # of the file type box, which follows the signature box
_MAX_LOOKS = 3_000_000
_MAX_TILES = 10_000
_MAX_COPIED = 4 * 1024 * 1024  # bytes of a box or segment other than the codestream
_BYTES_PER_BLOCK = 400  # of memory, for OpenJPEG's notes on a code block; measured
_COLOR_SPACES = {16: ("sRGB", 3), 17: ("BlackIsZero", 1), 18: ("sYCC", 3)}
"""Of an enumerated colour space (ISO/IEC 15444-1, I.5.3.3): MIX colour space, channels that it needs."""
_ALPHA = {1: "unassociated alpha data", 2: "associated alpha data (with pre-multiplied color)"}
"""By the type of a channel (I.5.3.6)."""


class _Budget:
    """How often jpylyzer may still look into the file: damaged lengths can make it go on for ever."""

    def __init__(self) -> None:
        self.left = _MAX_LOOKS

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise BadImageError("the file is too intricate to be checked")


class _Bytes(bytes):
    """Bytes of the file; each look into them, and into what was cut out of them, is counted."""

    budget: _Budget

    def __getitem__(self, key: Any) -> Any:
        self.budget.spend()
        found = super().__getitem__(key)
        return _counted(found, self.budget) if isinstance(found, bytes) else found


def _counted(data: bytes, budget: _Budget) -> _Bytes:
    found = _Bytes(data)
    found.budget = budget
    return found


class _Window:
    """A part of the file, as jpylyzer reads it: like bytes, but a large part of it is not copied into memory."""

    def __init__(self, stream: BinaryIO, start: int, size: int, budget: _Budget) -> None:
        self._stream, self._start, self._size, self._budget = stream, start, size, budget

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice) -> _Bytes | _Window:
        self._budget.spend()
        first, last, _ = key.indices(self._size)
        size = max(0, last - first)
        if size > _MAX_COPIED:
            return _Window(self._stream, self._start + first, size, self._budget)
        self._stream.seek(self._start + first)
        return _counted(self._stream.read(size), self._budget)


@dataclass(frozen=True)
class _Found:
    """What jpylyzer found, by the names of its properties."""

    properties: Any
    size: int  # of the file

    def number(self, path: str, default: int | None = None) -> int:
        value = self.properties.findElementText(path)
        if isinstance(value, int):
            return value
        if default is None:
            raise BadImageError(f"{path.rpartition('/')[2]} is not told")
        return default

    def numbers(self, path: str) -> list[int]:
        return [element.text for element in self.properties.findall(path) if isinstance(element.text, int)]

    def least(self, name: str, most: int = 1024) -> int:
        """The least value wherever it is told: in general, for a component, for a tile."""
        values = (element.text for element in self.properties.iter(name))
        return min((value for value in values if isinstance(value, int)), default=most)

    def has(self, path: str) -> bool:
        return self.properties.find(path) is not None


def read(file: Opened) -> FileFormat:
    """The format of a JP2 file. See `Reader`."""
    if file.head[_BRAND] in (b"jpx ", b"jpxb", b"jpm ", b"jph "):
        raise problems.UNSUPPORTED.found("of the JPEG 2000 family, but not a JP2", format="jpx")
    try:
        found = _validated(file.stream)
        facts = _facts(found)
        _decode(file, found, facts)
    except BadImageError as error:
        raise problems.JP2_DAMAGED.found(str(error), identified=FileFormat("image/jp2")) from error
    return FileFormat("image/jp2", images=(facts,))


def _validated(stream: BinaryIO) -> _Found:
    """jpylyzer's findings of a valid file."""
    from jpylyzer.boxvalidator import BoxValidator  # only here: most packages have no JP2

    size = stream.seek(0, 2)
    _require_few_tiles(stream)
    options = {"validationFormat": "jp2", "verboseFlag": False, "nullxmlFlag": False, "packetmarkersFlag": False}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where it tells about boxes that it does not know
            result = BoxValidator(options, "JP2", _Window(stream, 0, size, _Budget())).validate()
    except (BadImageError, MemoryError):
        raise
    except OSError:
        raise
    except Exception as error:  # hostile bytes find every way to fail
        raise BadImageError(f"jpylyzer cannot read it: {type(error).__name__}: {error}") from error
    if not result.isValid:
        failed = [element.tag for element in result.tests.iter() if element.text is False]
        raise BadImageError(f"jpylyzer finds it not valid: {', '.join(map(str, failed[:5]))}")
    return _Found(result.characteristics, size)


def _require_few_tiles(stream: BinaryIO) -> None:
    """jpylyzer's time grows with the square of their number."""
    stream.seek(0)
    head = stream.read(64 * 1024)
    at = head.find(b"\xff\x4f\xff\x51")  # start of codestream, size segment; where it is elsewhere, the budget holds
    fields = [int.from_bytes(head[at + n : at + n + 4], "big") for n in range(8, 40, 4)]
    width, height, left, top, across, down, _, _ = fields
    if at >= 0 and across and down and -(-(width - left) // across) * -(-(height - top) // down) > _MAX_TILES:
        raise problems.IMAGE_TOO_LARGE.found(f"more than {_MAX_TILES} tiles")


def _facts(found: _Found) -> ImageFacts:
    header, stream = "jp2HeaderBox/", "contiguousCodestreamBox/"
    depths = tuple(found.numbers(f"{stream}siz/ssizDepth"))
    if not depths:
        raise BadImageError("there are no components")
    if found.has(f"{header}paletteBox"):
        color_space, needed = "PaletteColor", 1
        depths = depths[:1]
    else:
        told = found.number(f"{header}colourSpecificationBox/enumCS", 0)
        by_count = ("BlackIsZero", 1) if len(depths) < 3 else ("RGB", 3)  # the profile that is told instead is one of
        color_space, needed = _COLOR_SPACES.get(told, by_count)
    if len(depths) < needed:
        raise BadImageError(f"{len(depths)} components, {color_space} needs {needed}")
    kinds = found.numbers(f"{header}channelDefinitionBox/cTyp")
    lossy = found.number(f"{stream}cod/transformation") == 0
    return ImageFacts(
        width=found.number(f"{header}imageHeaderBox/width"),
        height=found.number(f"{header}imageHeaderBox/height"),
        color_space=color_space,
        bits_per_sample=depths,
        compression="JPEG 2000 Lossy" if lossy else "JPEG 2000 Lossless",
        extra_samples=tuple(
            _ALPHA.get(kinds[n] if n < len(kinds) else 0, "unspecified data") for n in range(needed, len(depths))
        ),
        jpeg2000=Jpeg2000Coding(
            quality_layers=found.number(f"{stream}cod/layers"),
            resolution_levels=found.number(f"{stream}cod/levels") + 1,
            tile_width=found.number(f"{stream}siz/xTsiz"),
            tile_height=found.number(f"{stream}siz/yTsiz"),
        ),
    )


def _decode(file: Opened, found: _Found, facts: ImageFacts) -> None:
    pixels = facts.width * facts.height
    require_decodable_size(pixels)
    coded = 2 * _coded_bytes_of_a_tile(found)
    if coded > MAX_MEMORY // 2:
        return
    components = len(found.numbers("contiguousCodestreamBox/siz/ssizDepth"))
    # A code block reaches no farther than its precinct, of which a band has half.
    across = min(found.least("codeBlockWidth"), max(1, found.least("precinctSizeX") // 2))
    down = min(found.least("codeBlockHeight"), max(1, found.least("precinctSizeY") // 2))
    width = min(facts.width, found.number("contiguousCodestreamBox/siz/xTsiz"))
    height = min(facts.height, found.number("contiguousCodestreamBox/siz/yTsiz"))
    fixed = coded + _BYTES_PER_BLOCK * components * -(-width // across) * -(-height // down)
    levels = found.least("levels")

    def memory(reduction: int) -> int:
        return fixed + (5 * components * width * height + 4 * pixels >> 2 * reduction)

    reduction = 0
    while reduction < levels and (pixels >> 2 * reduction > MAX_PIXELS_WHOLE or memory(reduction) > MAX_MEMORY):
        reduction += 1
    require_memory(memory(reduction), "a JPEG 2000 with large tiles, small blocks or few resolutions")
    with opened_by_pillow(file, Jpeg2KImagePlugin.Jpeg2KImageFile) as image:
        require_same_size((facts.width, facts.height), image.size)
        image.reduce = reduction  # type: ignore[method-assign, assignment]
        image.load()


def _coded_bytes_of_a_tile(found: _Found) -> int:
    """Of the largest one; a last part of a tile may leave its length untold, and reaches to the end then."""
    sizes: Counter[int] = Counter()
    for part in found.properties.findall("contiguousCodestreamBox/tileParts/tilePart/sot"):
        sizes[part.findElementText("isot")] += part.findElementText("psot") or found.size
    return max(sizes.values(), default=found.size)
