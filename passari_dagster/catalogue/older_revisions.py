"""Databases that are too old for us: those of a passari-workflow before its last revision, which is our first."""

from __future__ import annotations

from collections.abc import Collection

OLD_REVISIONS = (
    "109dd4123e16",
    "40e6c047955b",
    "346370256182",
    "b5fadcf5a383",
    "40f596b9631c",
    "5c449c1bc2f5",
    "b7bf3f1119f5",
    "a22e6a4b5597",
    "f16eb991c113",
    "54edccdf9dd8",
    "4e45489d8526",
    "b379b05d689b",
    "aa4d673fc82c",
)
"""Alembic revisions of passari-workflow, oldest first, without the last one, 156f33fadc35."""


def refusal(revisions: Collection[str]) -> str | None:
    """What to tell of a database of an older passari-workflow, which only that can upgrade; None: it is none.

    Arguments:
        revisions: what its `alembic_version` says.
    """
    old = sorted(set(revisions).intersection(OLD_REVISIONS))
    if not old:
        return None
    return (
        f"this is the database of an older passari-workflow (revision {', '.join(old)}), which only passari-workflow "
        "itself can upgrade: install its version 1.1, run its `alembic upgrade head`, and migrate again. Nothing was "
        "changed"
    )
