"""A museum finds content problems of its own, by a package that it installs beside ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from typer.testing import CliRunner

from passari_dagster import cli
from passari_dagster.errors import ContentProblem, PermanentFailure
from passari_dagster.sip import detectors, problem_page, problems
from passari_dagster.sip.build import Signer, build_sip
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.plugins import SitePackages, example
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, jpeg

KIND = """
from passari_dagster.sip.detectors import Detector
from passari_dagster.sip.problems import Kind
small = Detector(
    Kind({code!r}, {reason!r}, "Upload the original.", "a preview of 100 pixels"),
    lambda file: {finding},
)
"""
SMALL = 'f"{file.size} bytes" if file.path.suffix == ".jpg" else None'
OBJECT = {
    "reports/Object.xml": MODULE_XML,
    "reports/lido.xml": LIDO,
    "attachments/1/kuva.jpg": jpeg(),
    "attachments/2/kuva.gif": b"GIF",
}


class Museum:
    """Installs a detector of its own."""

    def __init__(self, packages: SitePackages) -> None:
        self._packages = packages

    def installs_what_the_guide_shows(self) -> None:
        self._packages.install(detectors.GROUP, example("museum_rules.py"), "museum_rules:detector")

    def installs(
        self,
        *,
        code: str = "thumbnail",
        reason: str = "Image is a thumbnail",
        finding: str = SMALL,
        value: str = "museum_rules:small",
    ) -> None:
        self._packages.install(detectors.GROUP, KIND.format(code=code, reason=reason, finding=finding), value)


@pytest.fixture
def museum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Museum]:
    """With nothing installed yet, and nothing left of it afterwards."""
    detectors.installed.cache_clear()
    yield Museum(SitePackages(tmp_path / "site-packages", monkeypatch))
    detectors.installed.cache_clear()


def build(sip: Path, tmp_path: Path, signer: Signer, log: list[str]) -> None:
    build_sip(sip, tmp_path / "20260301_Object_1.tar", describe(fill(sip, OBJECT)), signer, log=log.append)


def test_a_museums_detector_freezes_with_its_own_reason(
    museum: Museum, sip: Path, tmp_path: Path, signer: Signer
) -> None:
    museum.installs()
    lines: list[str] = []
    with pytest.raises(ContentProblem) as caught:
        build(sip, tmp_path, signer, lines)
    assert (caught.value.reason, caught.value.code) == ("Image is a thumbnail", "thumbnail")
    assert caught.value.advice == "Upload the original."
    assert "'attachments/1/kuva.jpg': Image is a thumbnail: " in caught.value.detail
    assert "'attachments/2/kuva.gif': GIF file is damaged" in caught.value.detail, "all are told together"
    assert any("Image is a thumbnail" in line for line in lines)


def test_the_guides_example_does_what_it_says(museum: Museum, sip: Path, tmp_path: Path, signer: Signer) -> None:
    museum.installs_what_the_guide_shows()
    with pytest.raises(ContentProblem, match="Image is a thumbnail: 40 × 30 pixels"):
        build(sip, tmp_path, signer, [])


def test_a_detector_that_fails_stops_the_packaging_and_freezes_nothing(
    museum: Museum, sip: Path, tmp_path: Path, signer: Signer
) -> None:
    museum.installs(finding="1 / 0")
    with pytest.raises(PermanentFailure, match="the detector 'thumbnail' failed: ZeroDivisionError"):
        build(sip, tmp_path, signer, [])
    assert not list(tmp_path.glob("*.tar*"))


def test_the_command_lists_a_museums_kinds_after_ours(museum: Museum) -> None:
    museum.installs()
    result = CliRunner().invoke(cli.app, ["problems", "--json"])
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert [kind["code"] for kind in listed] == [*(kind.code for kind in problems.kinds()), "thumbnail"]
    assert all(kind["reason"] and kind["advice"] and kind["example"] for kind in listed)
    shown = CliRunner().invoke(cli.app, ["problems"]).stdout
    assert "Image is a thumbnail (thumbnail)" in shown


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        ({"code": "mpo"}, "bears the code 'mpo', as another"),
        ({"reason": "Image of {size} pixels"}, "museum_rules:small: the reason of 'thumbnail' has braces"),
        ({"reason": "Image } wrong"}, "museum_rules:small: the reason of 'thumbnail' has braces"),
        ({"value": "museum_rules:SMALL"}, "museum_rules:SMALL cannot be loaded"),
        ({"value": "museum_rules:__name__"}, "museum_rules:__name__ is no Detector"),
    ],
)
def test_what_is_no_detector_is_named(museum: Museum, installed: dict[str, str], words: str) -> None:
    museum.installs(**installed)
    with pytest.raises(PermanentFailure, match=words):
        detectors.installed()
    result = CliRunner().invoke(cli.app, ["problems"])
    assert result.exit_code == 1
    assert words in result.stderr


def test_every_kind_is_one_and_says_what_to_do() -> None:
    kinds = problems.kinds()
    for one in ("code", "reason"):
        assert len({getattr(kind, one) for kind in kinds}) == len(kinds), one
    assert all(kind.advice.endswith(".") and kind.example for kind in kinds)


def test_the_page_of_the_documentation_is_the_catalogue() -> None:
    page = PROJECT / "docs" / "reference" / "content-problems.md"
    assert page.read_text(encoding="utf-8") == problem_page.markdown(problems.kinds()), (
        "write it anew: passari-dagster problems --markdown > docs/reference/content-problems.md"
    )


@pytest.mark.parametrize(
    "reason",
    [
        "Filename 'Multimedia.xml' not allowed for attachment",
        "Filename contains non-ASCII characters",
        "Unsupported file format: {format}",
        "TIFF file failed JHOVE validation",
        "Multi-page TIFF not allowed",
        "JPEG MIME type detection failed",
        "MPO JPEG files not supported",
        "JPEG version not supported",
    ],
)
def test_reasons_of_passari_still_match(reason: str) -> None:
    """Objects that passari-workflow has frozen are unfrozen by the same words (dps-sip §5.2)."""
    assert reason in {kind.reason for kind in problems.kinds()}


def test_the_text_of_many_problems_has_an_end() -> None:
    """It goes to the database and to the log; each problem by itself is told all the same."""
    problem = problems.JPEG_DAMAGED.found("x" * 10_000)
    found = [(PurePosixPath(f"attachments/{number}/kuva.jpg"), problem) for number in range(10_000)]
    told = problems.together(found)
    assert len(told.problems) == len(found)
    assert len(told.detail) < 60_000
    assert told.detail.startswith("'attachments/0/kuva.jpg': JPEG file is damaged: xxx")
    assert told.detail.endswith("\nand 9900 more")
    assert problems.together(found[:2]).detail.count("\n") == 1
