"""`file`, which the DPS asks as well, agrees with us on the encoding of texts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from passari_dagster_tests.sip.samples.sample import Sample
from passari_dagster_tests.sip.test_matrix import SAMPLES

TOLD = {
    "us-ascii": {"UTF-8", "ISO-8859-15"},
    "utf-8": {"UTF-8"},
    "iso-8859-1": {"ISO-8859-15"},
    "utf-16le": {"UTF-16"},
    "utf-16be": {"UTF-16"},
    "utf-32le": {"UTF-32"},
    "utf-32be": {"UTF-32"},
}
"""What `file` calls the encodings of the specification; what has ASCII only is all of them."""
TEXTS = [sample for sample in SAMPLES if "charset=" in sample.format]


@pytest.mark.parametrize("sample", TEXTS, ids=lambda sample: f"{sample.filename}: {sample.format}")
def test_file_agrees_on_the_encoding(sample: Sample, tmp_path: Path) -> None:
    if shutil.which("file") is None:
        pytest.skip("file is not installed")
    path = tmp_path / sample.filename
    path.write_bytes(sample.make())
    told = subprocess.run(
        ["file", "--brief", "--mime-encoding", path], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    charset = re.search(r"charset=([\w-]+)", sample.format)
    assert charset is not None
    assert charset[1] in TOLD[told], f"file says {told}"
