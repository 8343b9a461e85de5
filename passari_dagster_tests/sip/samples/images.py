"""Images: PNG, GIF, WebP, JPEG 2000, DNG, and TIFF and JPEG as `content` makes them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable

import numpy as np
import tifffile
from PIL import Image

from passari_dagster_tests.sip import content
from passari_dagster_tests.sip.content import picture
from passari_dagster_tests.sip.samples.sample import Broken, Sample


def saved(name: str, mode: str = "RGB", **options: object) -> bytes:
    """An image as Pillow writes it."""
    out = io.BytesIO()
    picture(mode).save(out, name, **options)
    return out.getvalue()


# PNG


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int = 16,
    height: int = 16,
    *,
    depth: int = 8,
    kind: int = 0,
    pixels: bytes | None = None,
    before: Iterable[bytes] = (),
    interlaced: bool = False,
) -> bytes:
    """A PNG of our own making; `pixels` are its rows with their filters."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    rows = (b"\0" + bytes(-(-width * depth * samples // 8))) * height if pixels is None else pixels
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    packed = zlib.compress(rows, 9)
    parts = [png_chunk(b"IHDR", header), *before, png_chunk(b"IDAT", packed), png_chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def interlaced_png(width: int = 11, height: int = 9) -> bytes:
    """8-bit grey in seven passes."""
    rows = b""
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        columns, lines = len(range(left, width, across)), len(range(top, height, down))
        rows += (b"\0" + bytes(range(columns))) * lines if columns else b""
    return png(width, height, pixels=rows, interlaced=True)


def animated_png() -> bytes:
    """Two frames."""
    out = io.BytesIO()
    picture().save(out, "PNG", save_all=True, append_images=[picture("L").convert("RGB").rotate(90)])
    return out.getvalue()


# GIF


def animated_gif() -> bytes:
    """Three frames."""
    out = io.BytesIO()
    frames = [Image.new("P", (20, 20), color) for color in (1, 2, 3)]
    for frame in frames:
        frame.putpalette(bytes(range(256)) * 3)
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return out.getvalue()


def changed(data: bytes, at: int, value: bytes) -> bytes:
    """The bytes with some of them replaced."""
    return data[:at] + value + data[at + len(value) :]


# WebP


def animated_webp() -> bytes:
    """Two frames."""
    out = io.BytesIO()
    picture().save(out, "WEBP", save_all=True, append_images=[picture().rotate(90)], duration=100)
    return out.getvalue()


# JPEG 2000


def damaged_tile() -> bytes:
    """A JP2 whose tile says that it is longer than it is."""
    data = saved("JPEG2000")
    at = data.index(b"\xff\x90") + 6
    return changed(data, at, (int.from_bytes(data[at : at + 4], "big") + 3).to_bytes(4, "big"))


def endless_packet_lengths() -> bytes:
    """A JP2 with a list of packet lengths whose last one goes on beyond its end."""
    data = saved("JPEG2000")
    part, coded, box = data.index(b"\xff\x90") + 6, data.index(b"\xff\x93"), data.index(b"jp2c") - 4
    lengths = b"\xff\x58" + (8).to_bytes(2, "big") + b"\0\x81\x82\x83\x84\xff"
    longer = data[:coded] + lengths + data[coded:]
    for at in (part, box):
        size = int.from_bytes(data[at : at + 4], "big")
        longer = changed(longer, at, (size + len(lengths) if size else 0).to_bytes(4, "big"))
    return longer


# DNG


def dng(version: tuple[int, int] = (1, 4), *, cut: int = 0) -> bytes:
    """A preview of 16 by 12 pixels, and below it a raw image of 64 by 48 with 16 bits, uncompressed."""
    preview, raw = bytes(16 * 12 * 3), bytes(64 * 48 * 2)

    def directory(entries: list[tuple[int, int, int, int]], at: int) -> bytes:
        packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
        return struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)

    def image(width: int, height: int, bits: int, samples: int, photometric: int, at: int) -> list[tuple[int, ...]]:
        size = width * height * samples * bits // 8
        fields = {256: width, 257: height, 259: 1, 262: photometric, 273: at, 277: samples, 278: height, 279: size}
        return [(tag, 4, 1, value) for tag, value in fields.items()]

    first_at, second_at, bits_at, preview_at = 8, 200, 400, 408
    raw_at = preview_at + len(preview)
    below = int.from_bytes(bytes((*version, 0, 0)), "little")
    first = [*image(16, 12, 8, 3, 2, preview_at), (254, 4, 1, 1), (258, 3, 3, bits_at), (330, 4, 1, second_at)]
    first.append((50706, 1, 4, below))
    second = [*image(64, 48, 16, 1, 32803, raw_at), (254, 4, 1, 0), (258, 3, 1, 16)]
    second += [(33421, 3, 2, 2 | 2 << 16), (33422, 1, 4, int.from_bytes(b"\0\1\1\2", "little"))]
    data = b"II*\0" + struct.pack("<I", first_at) + directory(first, first_at)  # type: ignore[arg-type]
    data = data.ljust(second_at, b"\0") + directory(second, second_at)  # type: ignore[arg-type]
    data = data.ljust(bits_at, b"\0") + struct.pack("<HHHH", 8, 8, 8, 0) + preview + raw
    return data[: len(data) - cut]


# TIFF


def lab_tiff() -> bytes:
    """CIELab."""
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((12, 10, 3), dtype="u1"), photometric="cielab", metadata=None)
    return out.getvalue()


def circular_tiff() -> bytes:
    """The directory that follows the first is the first."""
    data = content.tiff()
    at = int.from_bytes(data[4:8], "little")
    end = at + 2 + 12 * int.from_bytes(data[at : at + 2], "little")
    return changed(data, end, data[4:8])


def _images(name: str, fmt: str, modes: dict[str, str], mimetype: str, **options: object) -> list[Sample]:
    def made(mode: str) -> Callable[[], bytes]:
        return lambda: saved(fmt, mode, **options)

    return [Sample(f"{what}.{name}", made(mode), mimetype) for what, mode in modes.items()]


_PNG_MODES = {
    "1bit": "1",
    "grey": "L",
    "grey-alpha": "LA",
    "rgb": "RGB",
    "rgba": "RGBA",
    "palette": "P",
    "16bit": "I;16",
}
_VERSIONS = {
    name: f"image/jpeg {version}"
    for name, version in {
        "jfif101.jpg": "1.01",
        "jfif100.jpg": "1.00",
        "jfif102.JPEG": "1.02",
        "gray.jpg": "1.01",
        "cmyk.jpg": "2.2",
        "exif20.jpg": "2.0",
        "exif21.jpg": "2.1",
        "exif22.jpg": "2.2",
        "exif221.jpg": "2.2.1",
        "exif23.jpg": "2.3",
        "exif231.jpg": "2.3.1",
        "exif232.jpg": "2.3.2",
    }.items()
}

SAMPLES = [
    *(
        Sample(name, lambda data=data: data, _VERSIONS.get(name, "image/tiff 6.0"))  # type: ignore[misc]
        for name, data in content.ACCEPTED_IMAGES.items()
    ),
    Sample("sivuja.tif", content.multi_page_tiff, "image/tiff 6.0"),
    Sample("lab.tif", lab_tiff, "image/tiff 6.0"),
    Sample("progressive.jpg", lambda: saved("JPEG", progressive=True), "image/jpeg 1.01"),
    *_images("png", "PNG", _PNG_MODES, "image/png 1.2"),
    Sample("interlaced.png", interlaced_png, "image/png 1.2"),
    Sample("rgb16.png", lambda: png(kind=2, depth=16), "image/png 1.2"),
    Sample("rgba16.png", lambda: png(kind=6, depth=16), "image/png 1.2"),
    Sample("87a.gif", lambda: saved("GIF"), "image/gif 1987a"),
    Sample("89a.gif", lambda: saved("GIF", "L", comment=b"kirves"), "image/gif 1989a"),
    Sample("kaksi-varia.gif", lambda: saved("GIF", "1"), "image/gif 1987a"),
    Sample("liikkuva.gif", animated_gif, "image/gif 1989a"),
    *_images("webp", "WEBP", {"rgb": "RGB", "rgba": "RGBA"}, "image/webp"),
    *_images("webp", "WEBP", {"lossless": "RGB", "lossless-alpha": "RGBA"}, "image/webp", lossless=True),
    Sample("liikkuva.webp", animated_webp, "image/webp"),
    *_images(
        "jp2", "JPEG2000", {"grey": "L", "grey-alpha": "LA", "rgb": "RGB", "rgba": "RGBA", "16bit": "I;16"}, "image/jp2"
    ),
    Sample("lossy.jp2", lambda: saved("JPEG2000", irreversible=True, quality_layers=[20, 5]), "image/jp2"),
    Sample("tiles.jp2", lambda: saved("JPEG2000", tile_size=(16, 16), num_resolutions=1), "image/jp2"),
    *(Sample(f"1{v}.dng", lambda v=v: dng((1, v)), f"image/x-adobe-dng 1.{v}") for v in range(1, 6)),  # type: ignore[misc]
]

_PNG, _GIF, _WEBP, _JP2, _TIFF, _JPEG, _DNG = (
    f"{name} file is damaged" if name != "TIFF" else "TIFF file failed JHOVE validation"
    for name in ("PNG", "GIF", "WebP", "JPEG 2000", "TIFF", "JPEG", "DNG")
)
_LARGE = "Image too large to be checked"
_WHITE = png_chunk(b"gAMA", b"\0\1\2\3")

BROKEN = [
    Broken("kuva.png", lambda: saved("PNG")[:-1], _PNG, "the last byte is missing"),
    Broken("kuva.png", lambda: saved("PNG")[:-12], _PNG, "the end chunk is missing"),
    Broken("kuva.png", lambda: saved("PNG")[:60], _PNG, "cut off"),
    Broken("kuva.png", lambda: changed(saved("PNG"), 29, b"\0\0\0\0"), _PNG, "a wrong checksum"),
    Broken("kuva.png", lambda: saved("PNG") + b"x", _PNG, "something after the end"),
    Broken("kuva.png", lambda: png(before=[_WHITE, _WHITE]), _PNG, "a second chunk"),
    Broken("kuva.png", lambda: png(before=[png_chunk(b"PLTE", bytes(3)), _WHITE], kind=2), _PNG, "chunks out of order"),
    Broken("kuva.png", lambda: png(before=[png_chunk(b"ABCD")]), _PNG, "an unknown critical chunk"),
    Broken("kuva.png", lambda: png(kind=3), _PNG, "no palette"),
    Broken("kuva.png", lambda: png(pixels=b"\0" * 100), _PNG, "too few pixels"),
    Broken("kuva.png", lambda: png(pixels=b"\0" * 1000), _PNG, "too many pixels"),
    Broken("kuva.png", lambda: png(pixels=(b"\7" + bytes(16)) * 16), _PNG, "an unknown filter"),
    Broken("kuva.png", lambda: png(depth=3), _PNG, "a depth that there is not"),
    Broken("kuva.png", lambda: png(50_000, 50_000, pixels=b""), _LARGE, "huge dimensions"),
    Broken("kuva.png", lambda: png(16, 16, pixels=bytes(50_000_000)), _PNG, "a decompression bomb"),
    Broken("kuva.png", lambda: b"\x01\x02\x03\x04", _PNG, "another beginning"),
    Broken("kuva.png", animated_png, "Unsupported file format: apng", "an animation"),
    Broken("kuva.gif", lambda: saved("GIF")[:-1], _GIF, "the trailer is missing"),
    Broken("kuva.gif", lambda: saved("GIF")[:-40], _GIF, "cut off"),
    Broken("kuva.gif", lambda: saved("GIF") + b"x", _GIF, "something after the end"),
    Broken("kuva.gif", lambda: b"GIF89a\1\0\1\0\0\0\0;", _GIF, "no image"),
    Broken("kuva.gif", lambda: changed(saved("GIF"), 6, b"\xff\xff\xff\xff"), _LARGE, "huge dimensions"),
    Broken("kuva.webp", lambda: saved("WEBP")[:-10], _WEBP, "cut off"),
    Broken("kuva.webp", lambda: saved("WEBP") + b"x", _WEBP, "something after the end"),
    Broken("kuva.webp", lambda: changed(saved("WEBP"), 23, b"xxx"), _WEBP, "another start of the coded data"),
    Broken("kuva.webp", lambda: b"RIFF\4\0\0\0WEBP", _WEBP, "no image"),
    Broken("kuva.jp2", lambda: saved("JPEG2000")[:-20], _JP2, "cut off"),
    Broken("kuva.jp2", damaged_tile, _JP2, "a tile of a wrong length"),
    Broken("kuva.jp2", lambda: saved("JPEG2000", no_jp2=True), _JP2, "a codestream without its boxes"),
    Broken("kuva.jp2", lambda: changed(saved("JPEG2000"), 20, b"jpx "), "Unsupported file format: jpx", "a JPX"),
    Broken("kuva.dng", lambda: dng(cut=100), _DNG, "cut off"),
    Broken("kuva.dng", lambda: dng((1, 6)), "Version of file format not supported: dng", "DNG 1.6"),
    Broken(
        "kuva.dng",
        lambda: dng().replace(struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 2**31)),
        _DNG,
        "more samples in a pixel than memory holds",
    ),
    Broken("kuva.dng", lambda: b"rubbish", _DNG, "another beginning"),
    Broken("kuva.dpx", lambda: b"SDPX\0\0\x08\0V2.0" + bytes(2048), "File format not yet packaged: dpx", "a film scan"),
    Broken("kuva.tif", content.multi_page_tiff, "Multi-page TIFF not allowed", "two pages"),
    Broken("kuva.tif", content.big_tiff, "TIFF variant not supported", "BigTIFF"),
    Broken("kuva.tif", circular_tiff, "Multi-page TIFF not allowed", "its directories go in a circle"),
    Broken("kuva.tif", lambda: content.tiff()[:-10], _TIFF, "cut off"),
    Broken("kuva.tif", lambda: content.tiff("RGB", "tiff_lzw")[:-10], _TIFF, "compressed, and cut off"),
    Broken("kuva.tif", content.bomb_tiff, _LARGE, "a decompression bomb"),
    Broken("kuva.tif", lambda: content.tiff_with_tag(306, "s", "yesterday", 20), _TIFF, "a date that is none"),
    Broken("kuva.jpg", lambda: content.jpeg()[:-1], _JPEG, "the last byte is missing"),
    Broken("kuva.jpg", lambda: content.jpeg() + b"something", _JPEG, "something after the end"),
    Broken("kuva.jpg", content.mpo, "MPO JPEG files not supported", "two images"),
    Broken("kuva.jpg", lambda: content.without_jfif(content.jpeg()), "JPEG version not supported", "no version"),
    Broken("kuva.jpg", lambda: b"\x01\x02rubbish", "JPEG MIME type detection failed", "another beginning"),
]
