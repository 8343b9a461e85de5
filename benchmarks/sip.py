"""What a package costs: CPU of a small one, packing against `sha256sum` and `tar`, memory, and the checks of formats.

    python benchmarks/sip.py [--quick] [--json]

How often a byte is read. The workflow knows the digest of each file from its download, so a file is read once by the
packer, which digests it, digests the tar, and writes; and before that as far as the check of its format needs: whole
where there is something to decode or to parse (JPEG, PNG, compressed TIFF, XML, text), its directory only where not
(uncompressed TIFF). A file of unknown digest is read once more. The tar is read twice when it is sent: for the digest
that is compared first, and by the upload. `sha256sum` and `tar` read every byte twice.

`pack_ratio_…` is the throughput of `build_sip` without the checks of formats, divided by that of `sha256sum` followed
by `tar` and an fsync, over the same files, which are in the page cache, in turns, medians. `…_with_checks` counts the
checks too, `…_openssl` compares with `openssl dgst -sha256` instead, which uses the processor's instructions for
SHA-256; Python's digest does, Debian's `sha256sum` does not. The original needed 17.8 CPU seconds for the small
package.
"""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

import numpy as np
import tifffile
from cryptography.hazmat.primitives.asymmetric import rsa
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from passari_dagster.durable import sha256_of
from passari_dagster.sip import build
from passari_dagster.sip.build import Signer, SipDescription, SourceFile, build_sip, load_signer
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, certificate, describe, jpeg, private_pem, tiff

MB = 1_000_000
_NOISE = np.random.default_rng(1)


def square_tiff(path: Path, size: int) -> None:
    """An uncompressed RGB image of about `size` bytes, in strips as scanners write them."""
    side, rows = int((size / 3) ** 0.5), 64
    strip = _NOISE.integers(0, 256, (rows, side, 3), dtype="u1")
    strips = (strip[: min(rows, side - top)] for top in range(0, side, rows))
    options: dict[str, Any] = {"shape": (side, side, 3), "dtype": "u1", "rowsperstrip": rows, "photometric": "rgb"}
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, strips, metadata=None, **options)


def with_documents(sip: Path) -> SipDescription:
    """The content of a package, to which the catalogue's documents are added, described as after a download."""
    (sip / "reports").mkdir(parents=True, exist_ok=True)
    (sip / "reports/Object.xml").write_bytes(MODULE_XML)
    (sip / "reports/lido.xml").write_bytes(LIDO)
    paths = sorted(path for path in sip.rglob("*") if path.is_file())
    names = [path.relative_to(sip).as_posix() for path in paths]
    return describe(
        tuple(
            SourceFile(PurePosixPath(name), f"Object:50000000:{name}", sha256_of(path))
            for name, path in zip(names, paths, strict=True)
        )
    )


def make_signer(directory: Path) -> Signer:
    """A signer with a key of its own."""
    key, pem = rsa.generate_private_key(public_exponent=65537, key_size=2048), directory / "sign.pem"
    pem.write_bytes(private_pem(key) + certificate(key))
    return load_signer(pem)


def small_package(directory: Path, times: int) -> dict[str, float]:
    """CPU and wall seconds of a package with two small images, warm."""
    sip = directory / "sip"
    for number, (name, data) in enumerate({"kuva.jpg": jpeg(), "kuva.tif": tiff()}.items()):
        folder = sip / f"attachments/{number}"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(data)
        (folder / "Multimedia.xml").write_bytes(MODULE_XML)
    description, signer = with_documents(sip), make_signer(directory)
    cpu, wall = [], []
    for _ in range(times + 1):
        before, begun = time.process_time(), time.perf_counter()
        build_sip(sip, directory / "x.tar", description, signer)
        cpu.append(time.process_time() - before)
        wall.append(time.perf_counter() - begun)
    return {"create_sip_cpu_s": round(median(cpu[1:]), 4), "create_sip_wall_s": round(median(wall[1:]), 4)}


def packing(directory: Path, files: int, size: int, times: int) -> dict[str, float]:
    """Figures of one package with so many uncompressed TIFF files of so many bytes."""
    sip, tar = directory / "sip", directory / "x.tar"
    for number in range(files):
        square_tiff(sip / f"attachments/{number}/kuva.tif", size)
    description, signer = with_documents(sip), make_signer(directory)
    names = [str(file.path) for file in description.files]
    digesters = {"sha256sum": ["sha256sum", "--"], "openssl": ["openssl", "dgst", "-sha256"]}
    digesters = {name: command for name, command in digesters.items() if shutil.which(command[0])}

    def ours() -> None:
        build_sip(sip, tar, description, signer)

    def theirs(digest: list[str]) -> Callable[[], None]:
        def pack() -> None:
            subprocess.run([*digest, *names], cwd=sip, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["tar", "-cf", tar, "--", *names], cwd=sip, check=True)
            subprocess.run(["sync", tar], check=True)

        return pack

    ways = {"ours": ours, **{name: theirs(command) for name, command in digesters.items()}}
    wall: dict[str, list[float]] = {name: [] for name in (*ways, "packing", "checks")}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(times + 1):  # the first turn warms the page cache
        for name, way in ways.items():
            tar.unlink(missing_ok=True)
            os.sync()
            with checks_timed() as checks:
                before, begun = cpu_seconds(), time.perf_counter()
                way()
                took, used = time.perf_counter() - begun, cpu_seconds() - before
            if not turn:
                continue
            wall[name].append(took)
            cpu[name].append(used)
            if name == "ours":
                wall["checks"].append(sum(checks))
                wall["packing"].append(took - sum(checks))
    tar.unlink()
    megabytes = sum((sip / name).stat().st_size for name in names) / MB
    seconds = {name: median(values) for name, values in wall.items()}
    figures = {
        "pack_ratio": seconds["sha256sum"] / seconds["packing"],
        "pack_ratio_with_checks": seconds["sha256sum"] / seconds["ours"],
        "pack_mb_per_s": megabytes / seconds["packing"],
        "pack_checks_s": seconds["checks"],
    }
    if "openssl" in seconds:
        figures["pack_ratio_openssl"] = seconds["openssl"] / seconds["packing"]
    for name in ways:
        figures |= {f"{name}_wall_s": seconds[name], f"{name}_cpu_s": median(cpu[name])}
    return {name: round(value, 3) for name, value in figures.items()}


class checks_timed:  # noqa: N801  # read as a verb: `with checks_timed() as seconds`
    """Within the block, the wall seconds of each call of `examine` by the packager."""

    def __enter__(self) -> list[float]:
        seconds: list[float] = []

        def timed(*args: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return examine(*args, **named)
            finally:
                seconds.append(time.perf_counter() - begun)

        build.__dict__["examine"] = timed
        return seconds

    def __exit__(self, *_: object) -> None:
        build.__dict__["examine"] = examine


def cpu_seconds() -> float:
    """Of this process and of its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_over_idle(sip: Path) -> float:
    """Peak of the resident memory (MB) of a process that packs the directory, over what it has before that."""
    command = [sys.executable, __file__, "--peak-of", str(sip)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.splitlines()[-1])


def print_peak(sip: Path) -> None:
    """What the process does that `peak_over_idle` starts."""
    description, signer = with_documents(sip), make_signer(sip.parent)
    examine(sip / "reports/Object.xml", Rules())
    # The peak so far is forgotten, so that what follows is told alone.
    Path("/proc/self/clear_refs").write_text("5")
    idle = _status("VmRSS")
    build_sip(sip, sip.with_name("x.tar"), description, signer)
    print(round((_status("VmHWM") - idle) / 1000, 1))


def _status(name: str) -> int:
    """In kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def memory(directory: Path, sizes: dict[str, int]) -> dict[str, float]:
    """Peaks for one uncompressed TIFF of each size, and for one whose pixels must be decoded."""
    figures = {}
    for name, size in sizes.items():
        square_tiff(directory / name / "sip/attachments/1/kuva.tif", size)
        figures[f"peak_over_idle_mb_{name}"] = peak_over_idle(directory / name / "sip")
        shutil.rmtree(directory / name)
    kind = "deflated_500mb"
    path = directory / kind / "sip/attachments/1/kuva.tif"
    path.parent.mkdir(parents=True)
    tifffile.imwrite(path, picture(13_000), photometric="rgb", compression="zlib", rowsperstrip=64, metadata=None)
    figures[f"peak_over_idle_mb_{kind}"] = peak_over_idle(directory / kind / "sip")
    return figures


def picture(side: int) -> Any:
    """Pixels that compress as those of a photograph do: a gradient with a little noise."""
    gradient = np.linspace(0, 200, side, dtype="u1")[:, None, None]
    return gradient + _NOISE.integers(0, 16, (side, side, 3), dtype="u1")


def check_samples(quick: bool) -> Iterator[tuple[str, bytes]]:
    """A file name for each kind of check, and what is in the file."""
    image = Image.fromarray(picture(1500 if quick else 4000))
    for name, format_, options in (
        ("kuva.jpg", "JPEG", {"quality": 92}),
        ("kuva.png", "PNG", {"compress_level": 1}),
        ("lzw.tif", "TIFF", {"compression": "tiff_lzw"}),
        ("deflate.tif", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("plain.tif", "TIFF", {}),
    ):
        stream = io.BytesIO()
        image.save(stream, format_, **options)
        yield name, stream.getvalue()
    rows = (20 if quick else 60) * MB // 40
    yield "luettelo.xml", b"<a>" + b"<b c='1'>t\xc3\xa4m\xc3\xa4 on yksi rivi</b>\n" * rows + b"</a>"
    yield "muistio.txt", "tämä on yksi rivi, ja siinä on tekstiä\n".encode() * rows


def validation(directory: Path, quick: bool) -> dict[str, float | None]:
    """MB of file per second of wall through the checks alone, for each kind, and for all whose bytes are all seen."""
    figures: dict[str, float | None] = {}
    total = spent = 0.0
    for name, data in check_samples(quick):
        path = directory / name
        path.write_bytes(data)
        digest, seconds = sha256_of(path), []
        for _ in range(2 if quick else 3):
            begun = time.perf_counter()
            found = examine(path, Rules(), digest)
            seconds.append(time.perf_counter() - begun)
        key = f"validate_mb_per_s_{name}"
        if not isinstance(found.format, FileFormat):
            figures[key] = None  # not packaged, so that nothing is checked
            continue
        figures[key] = round(len(data) / MB / median(seconds), 1)
        if name != "plain.tif":
            total += len(data) / MB
            spent += median(seconds)
    return {"validate_mb_per_s": round(total / spent, 1), **figures}


def measure(quick: bool) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {"began": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    large, times, files = (200 * MB, 3, 100) if quick else (2000 * MB, 5, 1000)
    with tempfile.TemporaryDirectory(prefix="passari-benchmark-") as name:

        def place(part: str) -> Path:
            for old in Path(name).iterdir():
                shutil.rmtree(old)
            (Path(name) / part).mkdir()
            return Path(name) / part

        figures |= small_package(place("small"), 5 if quick else 21)
        figures["original_create_sip_cpu_s"] = 17.8
        for kind, count, size in (("2gb", 1, large), ("1000x1mb", files, MB)):
            for key, value in packing(place(kind), count, size, times).items():
                figures[f"{key}_{kind}" if key.startswith("pack_ratio") else f"{kind}_{key}"] = value
        figures |= memory(place("memory"), {"20mb": 20 * MB, "2gb": large})
        figures |= validation(place("checks"), quick)
    return figures


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak-of"]:
        print_peak(Path(sys.argv[2]))
    else:
        sys.exit(machine.run(__doc__, "200 MB instead of 2 GB, 100 files instead of 1,000, fewer turns", measure))
