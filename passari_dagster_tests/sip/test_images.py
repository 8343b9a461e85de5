"""Images: other libraries and tools agree with what we tell of them, and the memory of a decoder is bounded."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.formats import images, jp2, jpeg
from passari_dagster.sip.formats.facts import FileFormat, ImageFacts
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.formats.images import BadImageError
from passari_dagster.sip.formats.opened import Opened
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip import content
from passari_dagster_tests.sip.content import look
from passari_dagster_tests.sip.samples.images import BROKEN, SAMPLES, dng, endless_packet_lengths, saved
from passari_dagster_tests.sip.samples.sample import Sample

RULES = Rules(multi_page_tiff=True)


def facts_of(data: bytes, suffix: str = "") -> tuple[ImageFacts, ...]:
    found = look(data, suffix, RULES)
    assert isinstance(found, FileFormat), found
    return found.images or tuple(stream.facts for stream in found.streams if isinstance(stream.facts, ImageFacts))


def every(*mimetypes: str) -> pytest.MarkDecorator:
    chosen = [sample for sample in SAMPLES if sample.format.split()[0] in mimetypes]
    return pytest.mark.parametrize("sample", chosen, ids=lambda sample: sample.filename)


ALL = ("image/png", "image/gif", "image/webp", "image/jp2", "image/jpeg", "image/tiff")


@every(*ALL)
def test_pillow_sees_the_same_size(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    with Image.open(path) as image:
        assert image.get_format_mimetype() == sample.format.split()[0]
        first = facts_of(sample.make())[0]
        assert image.size == (first.width, first.height)


@every(*(kind for kind in ALL if kind != "image/jp2"))
def test_libvips_sees_the_same_size(sample: Sample, tmp_path: Path) -> None:
    import pyvips

    if sample.filename == "lab.tif":
        with pytest.raises(pyvips.Error):  # so we leave it to Pillow
            pyvips.Image.new_from_buffer(sample.make(), "")
        return
    image = pyvips.Image.new_from_buffer(sample.make(), "")
    first = facts_of(sample.make())[0]
    assert (image.width, image.height) == (first.width, first.height)


@every("image/tiff", "image/x-adobe-dng")
def test_tifffile_sees_the_same_tags(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    told = facts_of(sample.make())
    with tifffile.TiffFile(path) as tiff:
        pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
        if sample.filename.endswith(".dng"):
            pages = [page for page in pages[0].pages or [] if isinstance(page, tifffile.TiffPage)]
            assert sample.format.endswith(".".join(map(str, tiff.pages.first.tags["DNGVersion"].value[:2])))
        assert len(pages) == len(told)
        for page, facts in zip(pages, told, strict=True):
            assert (page.imagewidth, page.imagelength) == (facts.width, facts.height)
            assert (page.bitspersample, page.samplesperpixel) == (facts.bits_per_sample[0], len(facts.bits_per_sample))
            assert (tiff.byteorder == "<") == (facts.byte_order == "little endian")


@every("image/jp2")
def test_jpylyzer_on_the_file_itself_agrees(sample: Sample, tmp_path: Path) -> None:
    """We give it a window on the file in place of the file."""
    from jpylyzer import jpylyzer

    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    result = jpylyzer.checkOneFile(str(path))
    assert result.findtext("isValid") == "True"
    (facts,) = facts_of(sample.make())
    header = result.find("properties/jp2HeaderBox/imageHeaderBox")
    assert header.findtext("width") == str(facts.width)
    assert header.findtext("height") == str(facts.height)
    assert header.findtext("nC") == str(len(facts.bits_per_sample))
    coding = result.find("properties/contiguousCodestreamBox/cod")
    assert facts.jpeg2000 is not None
    assert coding.findtext("layers") == str(facts.jpeg2000.quality_layers)
    assert coding.findtext("levels") == str(facts.jpeg2000.resolution_levels - 1)
    assert (coding.findtext("transformation") == "9-7 irreversible") == (facts.compression == "JPEG 2000 Lossy")


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)


@every(*ALL, "image/x-adobe-dng")
def test_exiftool_agrees(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    result = run("exiftool", "-json", "-n", "-FileType", "-MIMEType", "-all", str(path))
    (told,) = json.loads(result.stdout)
    mimetype, _, version = sample.format.partition(" ")
    assert told["MIMEType"] == mimetype
    first = facts_of(sample.make())[0]
    if mimetype != "image/x-adobe-dng":  # of that it tells the preview
        assert (told["ImageWidth"], told["ImageHeight"]) == (first.width, first.height)
    if mimetype == "image/gif":
        assert f"19{told['GIFVersion']}" == version
    if mimetype == "image/png":
        assert told["BitDepth"] == first.bits_per_sample[0]
    if mimetype == "image/x-adobe-dng":
        assert str(told["DNGVersion"]).replace(" ", ".").startswith(version)


@every("image/png")
def test_pngcheck_agrees(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    assert run("pngcheck", str(path)).returncode == 0


@every("image/tiff")
def test_tiffinfo_agrees(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    told = run("tiffinfo", str(path)).stdout
    for facts in facts_of(sample.make()):
        assert f"Image Width: {facts.width} Image Length: {facts.height}" in told
        assert f"Bits/Sample: {facts.bits_per_sample[0]}\n" in told


@pytest.mark.parametrize(
    ("exif", "rule", "expected"),
    [
        (b"0220", "freeze", "2.2"),
        (b"0230", "exif", "2.3"),
        (b"0231", "jfif", "1.01"),
        (b"0300", "jfif", "1.01"),
        (b"0300", "exif", None),
        (b"0230", "freeze", None),
    ],
)
def test_exif_23_is_told_by_the_rule(exif: bytes, rule: Any, expected: str | None) -> None:
    data = content.jpeg(exif=exif)
    both = content.jpeg()[:20] + data[data.index(b"\xff\xe1") :]
    found = look(both, ".jpg", Rules(jpeg_exif_23=rule))
    if expected is None:
        assert isinstance(found, ContentProblem)
        assert found.reason == "JPEG version not supported"
    else:
        assert isinstance(found, FileFormat)
        assert found.version == expected


def test_without_jfif_there_is_nothing_else_to_tell() -> None:
    data = content.jpeg(exif=b"0230")
    only_exif = data if b"JFIF" not in data else content.without_jfif(data)
    found = look(only_exif, ".jpg", Rules(jpeg_exif_23="jfif"))
    assert isinstance(found, ContentProblem)
    assert found.reason == "JPEG version not supported"


def test_each_page_of_a_tiff_is_told() -> None:
    found = look(content.multi_page_tiff(), ".tif", RULES)
    assert isinstance(found, FileFormat)
    assert not found.images
    assert [stream.mimetype for stream in found.streams] == [None, None]


def test_the_raw_image_of_a_dng_is_told_not_the_preview() -> None:
    (facts,) = facts_of(dng())
    assert (facts.width, facts.height, facts.color_space, facts.bits_per_sample) == (64, 48, "CFA", (16,))


def large(path: Path, kind: str, height: int) -> None:
    """An image of 3,000 pixels across, of noise, which no compression makes small."""
    pixels = np.random.default_rng(1).integers(0, 256, (height, 3000, 3), dtype="u1")
    if kind == "tiles":
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), compression="zlib", metadata=None)
    elif kind == "zlib":
        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=64, compression="zlib", metadata=None)
    else:
        Image.fromarray(pixels).save(path, kind, compress_level=1, compression="tiff_lzw" if kind == "TIFF" else None)


def _peak(path: Path, out: Any) -> None:
    def high() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status[status.index("VmHWM:") :].split()[1]) * 1024

    idle = high()
    found = examine(path, Rules()).format
    out.put((str(getattr(found, "mimetype", found)), high() - idle))


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["zlib", "tiles", "TIFF", "PNG", "JPEG"])
def test_a_large_image_takes_no_more_memory_than_a_small_one(kind: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    peaks = []
    for height in (2000, 12_000):
        path = tmp_path / f"{height}"
        large(path, kind, height)
        out: Any = context.Queue()
        process = context.Process(target=_peak, args=(path, out))
        process.start()
        mimetype, peak = out.get(timeout=120)
        process.join()
        assert mimetype == f"image/{'tiff' if kind in ('zlib', 'tiles') else kind.lower()}"
        peaks.append(peak)
    assert max(peaks) < 60_000_000
    assert peaks[1] - peaks[0] < 20_000_000


@pytest.mark.parametrize("kind", ["zlib", "tiles", "TIFF"])
def test_damage_in_the_last_strip_of_a_large_tiff_is_found(kind: str, tmp_path: Path) -> None:
    """The whole image is decoded, to its last row and column."""
    path = tmp_path / "kuva.tif"
    large(path, kind, 2000)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        at, size = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(path.read_bytes())
    data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    found = examine(path, Rules()).format
    assert isinstance(found, ContentProblem)
    assert found.reason == "TIFF file failed JHOVE validation"


def test_a_tag_that_nobody_knows_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "kuva.tif"
    extra = [(65000, "s", 7, "kirves", True)]
    pixels = np.zeros((2100, 2100, 3), dtype="u1")
    tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", metadata=None, extratags=extra)
    assert isinstance(examine(path, Rules()).format, FileFormat)


def test_what_can_only_be_decoded_whole_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_MEMORY", 1000)
    for data in (
        saved("JPEG", progressive=True),
        saved("WEBP", lossless=True),
        saved("GIF"),
    ):
        found = look(data)
        assert isinstance(found, ContentProblem), found
        assert found.reason == "Image too large to be checked"
    assert isinstance(look(saved("JPEG")), FileFormat)
    assert isinstance(look(saved("WEBP")), FileFormat)


def test_jpylyzer_does_not_look_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jp2, "_MAX_LOOKS", 10_000)
    found = look(endless_packet_lengths())
    assert isinstance(found, ContentProblem)
    assert "too intricate" in found.detail
    assert isinstance(look(saved("JPEG2000")), FileFormat)


def test_subsampled_colours_take_less_memory() -> None:
    assert jpeg._coefficient_bytes(100, 100, ((1, 1), (1, 1), (1, 1))) == 60_000
    assert jpeg._coefficient_bytes(100, 100, ((2, 2), (1, 1), (1, 1))) == 30_000


SEEDS = [sample.make() for sample in SAMPLES] + [broken.make()[:100_000] for broken in BROKEN]


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(SEEDS))
def test_damaged_images_are_a_format_or_a_content_problem(data: st.DataObject, seed: bytes) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    look(bytes(damaged[:cut] if data.draw(st.booleans()) else damaged), "", RULES)


def test_a_fault_of_the_disk_is_no_fault_of_the_image() -> None:
    """A file that is there, and cannot be read."""
    path = Path("/proc/self/mem")
    with path.open("rb") as stream, pytest.raises(OSError, match=os.strerror(errno.EIO)):
        images.decode_in_strips(Opened(stream, path, b"", ".tif", [], RULES), "tiffload_source", (1, 1))


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ("unable to call avg\n  vips_tracked: out of memory -- size == 9MB\n", OSError),
        ("unable to call avg\n  glib: Error creating thread: Resource temporarily unavailable\n", OSError),
        ("unable to call avg\n  vips__seek: unable to seek\nsystem error: Invalid argument\n", BadImageError),
        ("unable to call avg\n  tiff2vips: read error\n", BadImageError),
    ],
)
def test_a_machine_without_memory_blames_no_image(
    told: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the words of libvips 8.18, under a limit of memory."""
    import pyvips

    def fail(*_source: object, **_options: object) -> None:
        raise pyvips.Error(told)

    path = tmp_path / "kuva.tif"
    path.write_bytes(b"")
    monkeypatch.setattr(pyvips.Image, "tiffload_source", fail, raising=False)
    with path.open("rb") as stream, pytest.raises(error):
        images.decode_in_strips(Opened(stream, path, b"", ".tif", [], RULES), "tiffload_source", (1, 1))


def shared_directories(pages: int, *, dng: bool) -> bytes:
    """A TIFF of many pages of one pixel, which share an array of 200,000 places; as a DNG each has 100 times the same
    directory of 60,000 entries below it.
    """
    strips, entries = 200_000, 60_000
    long_at = 8
    sizes_at = long_at + 4 * strips
    below_at = sizes_at + 4 * strips
    big_at = below_at + 400
    first_at = big_at + 2 + 12 * entries + 4
    big = struct.pack("<H", entries)
    numbers = [tag for tag in range(1, entries + 5) if tag not in (322, 323, 324, 325)]  # no tiles
    big += b"".join(struct.pack("<HHII", tag, 1, 1, 1) for tag in numbers) + bytes(4)
    tags = [(256, 4, 1, 1), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    tags += [(273, 4, strips, long_at), (278, 4, 1, 1), (279, 4, strips, sizes_at)]
    tags += [(330, 4, 100, below_at), (50706, 1, 4, 0x0401)] if dng else []
    size = 2 + 12 * len(tags) + 4
    packed = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    chain = b"".join(
        packed + struct.pack("<I", first_at + size * (number + 1) if number < pages - 1 else 0)
        for number in range(pages)
    )
    begin = b"II*\0" + struct.pack("<I", first_at)
    return begin + struct.pack("<I", 8) * strips + bytes(4 * strips) + struct.pack("<I", big_at) * 100 + big + chain


@pytest.mark.parametrize("dng", [False, True])
def test_directories_that_share_what_they_have_are_not_endless(dng: bool) -> None:
    data = shared_directories(1000, dng=dng)
    assert len(data) < 3_000_000
    begun = time.process_time()
    found = look(data, ".dng" if dng else ".tif", RULES)
    assert isinstance(found, ContentProblem)
    assert "too many, or too long" in found.detail
    assert time.process_time() - begun < 30
