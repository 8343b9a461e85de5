"""Small pictures for Dagster's pages: paper, colours, and how a page carries one. What is drawn is not known here."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, LETTERS = "#5b6678", "#2d3748"
FROZEN = "#d6e6f7"
_WIDTH, _DPI, _COLOURS = 9.2, 80, 24
"""Inches, dots in each, and colours that are kept."""


def paper(height: float) -> Figure:
    """An empty picture.

    Arguments:
        height: in inches; all are as wide.
    """
    # Here and nowhere else: runs are forks of a small parent, and few of them draw.
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), dpi=_DPI)


def png(figure: Figure) -> bytes:
    """The picture as a PNG of some kilobytes."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # A letter of a script that the font has not is drawn as an empty box, which is all there is to say.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(full, format="png")
    reduced = Image.open(full).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    reduced.save(small, format="png", optimize=True)
    return small.getvalue()


def in_markdown(picture: bytes, words: str) -> str:
    """The picture in a page of Markdown.

    Arguments:
        picture: PNG.
        words: what it shows, for who cannot see it.
    """
    return f"![{words}](data:image/png;base64,{base64.b64encode(picture).decode()})"
