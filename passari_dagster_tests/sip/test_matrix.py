"""Every format, under every kind of name: the independent judge accepts the SIP. Every fault has its reason."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from passari_dagster.sip.build import Signer, build_sip
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip import samples
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, look
from passari_dagster_tests.sip.samples.sample import Broken, Sample

NAMES = ("{}", "Äyräpää {}", "50%+1 & {}", "kesa\u0308 {}", "a/b/c/d/e/f/g/{}")
"""As they are, not ASCII, with signs that mean something in a URL, decomposed (NFD), deep."""


def of_all(kind: str) -> Iterator[Any]:
    """The samples of all families."""
    for module in sorted(entry.name for entry in pkgutil.iter_modules(samples.__path__)):
        yield from getattr(importlib.import_module(f"{samples.__name__}.{module}"), kind, [])


SAMPLES: list[Sample] = list(of_all("SAMPLES"))
BROKEN: list[Broken] = list(of_all("BROKEN"))
SIPS = 64
GROUPS = [SAMPLES[number::SIPS] for number in range(SIPS)]
"""Samples that share a SIP: of different families, since they are far from each other."""


@pytest.mark.parametrize("samples_", GROUPS, ids=lambda group: ", ".join(sample.filename for sample in group))
def test_the_judge_accepts_a_sip_with_them_under_every_kind_of_name(
    samples_: list[Sample], sip: Path, tmp_path: Path, signer: Signer, judge: Callable[[Path], list[str]]
) -> None:
    contents = [sample.make() for sample in samples_]
    files = {"reports/Object.xml": MODULE_XML, "reports/lido.xml": LIDO}
    for number, (sample, data) in enumerate(zip(samples_, contents, strict=True)):
        files |= {f"attachments/{number}{kind}/{name.format(sample.filename)}": data for kind, name in enumerate(NAMES)}
    rules = Rules(non_ascii_filenames=True, multi_page_tiff=True)
    tar, lines = tmp_path / "20260301_Object_1.tar", list[str]()
    build_sip(sip, tar, describe(fill(sip, files), rules=rules), signer, log=lines.append)
    assert judge(tar) == []
    for number, (sample, data) in enumerate(zip(samples_, contents, strict=True)):
        assert f"attachments/{number}0/{sample.filename}: {sample.format}, {len(data)} bytes" in lines


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.filename}: {broken.fault}")
def test_a_broken_file_has_its_reason(broken: Broken) -> None:
    suffix = PurePosixPath(broken.filename).suffix
    found = look(broken.make(), suffix)
    assert not isinstance(found, FileFormat), f"it is taken for {found.name}"
    assert found.reason == broken.reason
