"""The page of the documentation that lists all kinds of content problems; written by `passari-dagster problems`."""

from __future__ import annotations

from collections.abc import Iterable

from passari_dagster.sip.problems import Kind

_BEGINNING = """# Content problems

What the packager may find wrong with an object's files. Such an object is frozen with the reason, which is the key by
which it is unfrozen, and nothing of it is sent. All problems of an object are found in one go: its step's log has them
file by file, with what exactly was found.

This page is written by `passari-dagster problems --markdown`; where a museum's own detectors are installed, the
command tells of those as well.

| reason | what to do | for example | code |
|---|---|---|---|
"""


def markdown(kinds: Iterable[Kind]) -> str:
    """The page, in Markdown."""
    rows = ([kind.reason, kind.advice, kind.example, f"`{kind.code}`"] for kind in kinds)
    return _BEGINNING + "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
