"""What can be made to go wrong in the simulated DPS, and places where a request can be stopped.

Only the knobs are here; the servers turn to them at each request.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Literal

Point = Literal["open", "write", "rename-before", "rename-after"]


@dataclass
class Faults:
    """Knobs; each may be turned at any time.

    Arguments:
        latency: seconds before each SFTP and REST request is looked at.
        drop_after_bytes: cut the connection when so many bytes of an upload have been written.
        drops: how many times.
        disk_full: writes to `transfer/` fail with SSH_FX_FAILURE.
        no_fsync: the server does not know fsync@openssh.com.
        rest_failures: so many next REST requests are answered with 500.
        missing_html: no HTML ingest report can be seen, over SFTP or REST.
        missing_xml: no XML ingest report can be seen.
        damage: so many next packages have a byte flipped as they are taken in; what is kept in `received/` is
            what was sent.
        dip_delay: seconds between the request of a DIP and its being ready.
        dip_never: no DIP is ever ready.
        dip_damage: so many next DIPs have a file that is not the one that their METS tells of.
        dip_cut_after_bytes: cut the connection when so many bytes of a DIP have been sent.
        dip_cuts: how many times.
        dip_no_ranges: a DIP is sent whole each time, and has no tag.
    """

    latency: float = 0.0
    drop_after_bytes: int = 0
    drops: int = 0
    disk_full: bool = False
    no_fsync: bool = False
    rest_failures: int = 0
    missing_html: bool = False
    missing_xml: bool = False
    damage: int = 0
    dip_delay: float = 0.0
    dip_never: bool = False
    dip_damage: int = 0
    dip_cut_after_bytes: int = 0
    dip_cuts: int = 0
    dip_no_ranges: bool = False

    def hides(self, name: str) -> bool:
        """Whether a file of this name is not to be seen."""
        return (self.missing_html and name.endswith("-ingest-report.html")) or (
            self.missing_xml and name.endswith("-ingest-report.xml")
        )


class Hold:
    """A place where a request is stopped until `release`.

    Attributes:
        reached: set when a request stands there.
        after_bytes: for `write`: so many bytes of the file are written before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, point: Point, name_contains: str, after_bytes: int) -> None:
        self.reached = threading.Event()
        self.after_bytes = after_bytes
        self._loop = loop
        self._point = point
        self._name_contains = name_contains
        self._released = asyncio.Event()
        self._over = False

    def release(self) -> None:
        """Let the request, and all later ones, pass."""
        self._over = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._released.set)

    def stops(self, point: Point, name: str) -> bool:
        """Whether a request for the file at this point is stopped here."""
        return not self._over and point == self._point and self._name_contains in name

    async def wait(self) -> None:
        """Stand here until released."""
        self.reached.set()
        await self._released.wait()
