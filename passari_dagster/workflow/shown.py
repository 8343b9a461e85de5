"""Text that comes from outside, as it is shown to people: it is text and nothing else.

No commands of a terminal, no markup of a page. What a table or a sentence says is not known here.
"""

from __future__ import annotations

import re

_CELL = 200
"""Characters that a person is shown of one text."""
_MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|<>~&$:@]|(?<=www)\.")


def in_markdown(text: str) -> str:
    """The text as `plain` leaves it, in which Markdown finds no markup."""
    return _MARKUP.sub(lambda sign: f"\\{sign[0]}", plain(text))


def plain(text: str) -> str:
    """One line of letters that can be seen; a terminal, or a page, finds nothing to obey in it."""
    text = " ".join(text.split())
    text = text if len(text) <= _CELL else f"{text[:_CELL]}…"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
