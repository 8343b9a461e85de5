"""Why objects are frozen, as the page of the asset tells it: a picture and a table."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from passari_dagster.catalogue.statistics import FrozenReason
from passari_dagster.workflow import frozen

ODD = [
    FrozenReason("costs $100, or $200_a^b|c", 868_000, 1),
    FrozenReason("", 500, 0),
    FrozenReason("lent\nout\x1b[2J", 400, 400),
    FrozenReason("斧 is not in the font", 3, 0),
    FrozenReason("W" * 3000, 1, 0),
]


def pixels(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        return image.width, image.height


@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_reason_has_a_bar_whatever_is_written_in_it(number: int) -> None:
    width, height = pixels(frozen.draw(ODD[:number]))
    assert width < 800
    assert height < 30 * number + 30


def test_the_picture_has_ten_reasons_and_the_table_a_hundred() -> None:
    many = [FrozenReason(f"reason {number} with all of its {number} words", 200 - number, 0) for number in range(150)]
    assert pixels(frozen.draw(many)) == pixels(frozen.draw(many[:11])), "ten, and a bar for the others"
    assert pixels(frozen.draw(many[:10]))[1] < pixels(frozen.draw(many[:11]))[1]
    shown, text = frozen.drawn(many), frozen.table(many)
    assert shown.startswith("![frozen objects by reason](data:image/png;base64,")
    assert "| 101 | 0 | reason 99 with all of its 99 words |" in text
    assert "reason 100 " not in text
    assert len(shown) < 15_000, "it is kept for each hour of a year"


def test_the_table_has_the_whole_of_a_reason_and_none_is_said_to_be_none() -> None:
    text = frozen.table([FrozenReason("x" * 150, 2, 1), FrozenReason("", 1, 0)])
    assert f"| 2 | 1 | {'x' * 150} |" in text
    assert "| 1 | 0 | (none given) |" in text
    assert frozen.drawn([]) == "no object is frozen"
