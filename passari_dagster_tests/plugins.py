"""A package that a museum installs beside ours: a module, and what pip writes down of it."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from passari_dagster_tests.conftest import PROJECT

MODULE = "museum_rules"


def example(heading: str) -> str:
    """The code of a module as the guide shows it, from the comment with its name to that with the next one."""
    guide = (PROJECT / "docs" / "guides" / "detectors-and-events.md").read_text(encoding="utf-8")
    block = guide.partition(f"    # {heading}\n")[2].partition("    # pyproject.toml")[0]
    assert block, f"the guide has no {heading}"
    return textwrap.dedent(block)


class SitePackages:
    """A directory of packages that Python looks into as long as the test lasts."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        directory.mkdir()
        monkeypatch.syspath_prepend(str(directory))
        monkeypatch.delitem(sys.modules, MODULE, raising=False)

    def install(self, group: str, source: str, value: str) -> None:
        """Put the module `museum_rules` there, with one entry point.

        Arguments:
            group: of the entry point.
            source: of the module.
            value: what the entry point names, `museum_rules:small`.
        """
        (self._directory / f"{MODULE}.py").write_text(source, encoding="utf-8")
        facts = self._directory / f"{MODULE}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: museum-rules\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[{group}]\nours = {value}\n")
