"""What the use cases need of the audit log; the log itself is the catalogue's."""

from __future__ import annotations

import os
import pwd
import socket

from passari_dagster.catalogue.audit import Actor, Deed, Event, count, events, last_time, objects_of_runs, record
from passari_dagster.errors import PermanentFailure

__all__ = [
    "Actor",
    "Deed",
    "Event",
    "count",
    "events",
    "last_time",
    "objects_of_runs",
    "on_the_command_line",
    "record",
    "require_reason",
]

_LONGEST = 100
"""Characters of a name."""


def on_the_command_line() -> Actor:
    """Whoever runs this process, by the operating system's word."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user id without a name
        user = f"user {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    if os.getuid() == 0 and behind.isprintable() and behind:
        user = f"{user}, by sudo for {behind[:_LONGEST]}"  # sudo's word, which root may have changed
    return Actor(who=f"{user}@{socket.gethostname()} (command line)")


def require_reason(reason: str) -> str:
    """The reason on one line, with single blanks: as it is shown, and copied.

    Raises:
        PermanentFailure: there is none.
    """
    if not reason.strip():
        raise PermanentFailure("a reason is needed: it is kept in the audit log, for those who ask later")
    return " ".join(reason.split())
