"""Text that comes from outside, as it is shown to people: it is text and nothing else.

No commands of a terminal, no markup of a page. What a table or a sentence says is not known here.
"""

from __future__ import annotations

import re

_CELL = 200
"""Characters that a person is shown of one text, unless all of it is wanted."""
_MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|<>~&$:@]|(?<=www)\.")


def in_markdown(text: str, *, whole: bool = False) -> str:
    """The text as `plain` leaves it, in which Markdown finds no markup."""
    return _MARKUP.sub(lambda sign: f"\\{sign[0]}", plain(text, whole=whole))


def plain(text: str, *, whole: bool = False) -> str:
    """One line of letters that can be seen; a terminal, or a page, finds nothing to obey in it.

    Arguments:
        whole: a long text is not cut, for instance since a person is to copy it.
    """
    text = " ".join(text.split())
    return visible(text if whole or len(text) <= _CELL else f"{text[:_CELL]}…")


def visible(text: str) -> str:
    """The text with its lines, in which a terminal finds nothing to obey."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )
