"""Why objects are frozen: the reasons as a table, and the most frequent of them drawn."""

from __future__ import annotations

from collections.abc import Sequence

from passari_dagster.catalogue.freezing import NONE_GIVEN
from passari_dagster.catalogue.statistics import FrozenReason
from passari_dagster.workflow import picture
from passari_dagster.workflow.shown import in_markdown, plain

REASONS = 100
"""Most reasons of the table; they are counted exactly beyond."""
DRAWN = 10
"""Most reasons of the picture."""
_LETTERS = 48
"""Of a reason in the picture; the table has all of it."""
_BAR, _MARGIN = 0.27, 0.14
"""Inches that a bar takes of the height, and what is left free above and below all of them."""


def table(reasons: Sequence[FrozenReason]) -> str:
    """The reasons, for Dagster's pages.

    Arguments:
        reasons: those of most objects first.
    """
    lines = ["| objects | frozen by people | reason |", "|---|---|---|"]
    for each in reasons[:REASONS]:
        lines.append(f"| {each.objects} | {each.by_people} | {in_markdown(each.reason, whole=True) or NONE_GIVEN} |")
    return "\n".join(lines)


def drawn(reasons: Sequence[FrozenReason]) -> str:
    """The picture, for Dagster's pages. It is not with the table, which is short enough to be shown without a click."""
    return picture.in_markdown(draw(reasons), "frozen objects by reason") if reasons else "no object is frozen"


def draw(reasons: Sequence[FrozenReason]) -> bytes:
    """The reasons of most objects as a picture (PNG, some kilobytes): a bar for each, and one for all others.

    Arguments:
        reasons: those of most objects first; at least one.
    """
    bars = [(_short(each.reason), each.objects, picture.FROZEN) for each in reasons[:DRAWN]]
    if others := reasons[DRAWN:]:
        bars.append((f"other reasons: {len(others):,}", sum(each.objects for each in others), "white"))
    height = len(bars) * _BAR + 2 * _MARGIN
    figure = picture.paper(height)
    axes = figure.add_axes((0.42, _MARGIN / height, 0.49, len(bars) * _BAR / height))
    axes.set_axis_off()
    axes.set_xlim(0, 1.01 * max(objects for _, objects, _ in bars))
    axes.set_ylim(len(bars) - 0.5, -0.5)  # the first one is on top
    across = axes.get_yaxis_transform()  # a part of the axes; down it is the row
    for row, (reason, objects, colour) in enumerate(bars):
        axes.barh(row, objects, 0.7, color=colour, edgecolor=picture.INK)
        letters = axes.text(-0.015, row, reason, ha="right", va="center", transform=across)
        letters.set_parse_math(False)  # signs of a formula are signs here
        number = axes.annotate(f"{objects:,}", (objects, row), (4, 0), textcoords="offset points", va="center")
        for text in (letters, number):
            text.set(fontsize=8, color=picture.LETTERS)
    return picture.png(figure)


def _short(reason: str) -> str:
    text = plain(reason) or NONE_GIVEN
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1].rstrip()}…"
