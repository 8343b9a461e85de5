"""What operating systems put into folders by themselves, and archivers take along: nobody's work.

Its name and its first bytes must both say so. Whether it is left out is an installation's choice.
"""

from __future__ import annotations

from pathlib import Path

from passari_dagster.sip.files import open_regular

_APPLE_DOUBLE = b"\0\5\x16\7"
"""What macOS knows of a file beside its content, as `._kuva.jpg`: in a ZIP under `__MACOSX/`. [RFC 1740, appendix B]"""
_DS_STORE = b"\0\0\0\1Bud1"
"""How the Finder shows a folder."""
_THUMBNAILS = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Small pictures that Windows makes of a folder's own, in an OLE file. [MS-CFB §2.2]"""


def is_leftover(path: Path) -> bool:
    """Whether a file on disk is a leftover.

    Raises:
        OSError: it cannot be read.
    """
    name = path.name.lower()
    if name == ".ds_store":
        expected = _DS_STORE
    elif name == "thumbs.db":
        expected = _THUMBNAILS
    elif name.startswith("._"):
        expected = _APPLE_DOUBLE
    else:
        return False
    with open_regular(path) as stream:
        return stream.read(len(expected)) == expected
