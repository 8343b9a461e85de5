"""What a step needs of the outside, as one small protocol, so that another toolkit can take ours' place.

The protocol and the choice belong here; ours, over MuseumPlus, our packager and the DPS, is `museum_toolkit`. A
toolkit knows nothing of the database: it is given plain facts, and what it may record it records by callbacks. Verdicts
are no step, and are read by `poll`, from the DPS of the settings, whatever the toolkit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.errors import ContentProblem
from passari_dagster.settings import Settings

Log = Callable[[str], None]


@dataclass(frozen=True)
class Downloaded:
    """What `download` brought.

    Arguments:
        object_modified: newest modification date of the object and its attachments; None: MuseumPlus has none.
        attachment_ids: attachments that are part of this version.
    """

    object_modified: datetime | None
    attachment_ids: tuple[int, ...]


@dataclass(frozen=True)
class Packaged:
    """What `package` made: the tar's size in bytes and its digest."""

    size: int
    sha256: str


class PreservationToolkit(Protocol):
    """The four steps. Each may be repeated after a crash at any point, on another host.

    `root` is the object's package directory. All raise `ContentProblem` for what is the object's fault,
    `PermanentFailure` for what a person must mend, anything else for what may go better next time.
    """

    def download(self, package: PackageFacts, root: Path, log: Log) -> Downloaded:
        """Bring the object's documents and files to `root/sip`."""
        ...

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        """Make the SIP `root/<sip_filename>` of what `download` brought."""
        ...

    def submit(self, package: PackageFacts, root: Path, intend: Callable[[], None], log: Log) -> None:
        """Send the SIP, once and never twice.

        Arguments:
            intend: to be called before the package can be taken by the DPS; it records that it may be.
        """
        ...

    def confirm(self, package: PackageFacts, root: Path, log: Log) -> None:
        """Do what follows a verdict: fetch the reports to `root/logs`, tell the museum, tidy up at the DPS."""
        ...


@runtime_checkable
class ThoroughToolkit(Protocol):
    """What a toolkit may have besides: with it a preflight tells what the download found also where the packager
    breaks. Without it `download` is used.
    """

    def download_all(self, package: PackageFacts, root: Path, log: Log) -> list[tuple[str, ContentProblem]]:
        """As `download`, but tell content problems instead of raising them, so that `package` can examine the files.

        Returns:
            the problems, each with its file: a path in the package.
        """
        ...


def build(settings: Settings) -> PreservationToolkit:
    """The toolkit of the product."""
    from passari_dagster.workflow.museum_toolkit import MuseumToolkit

    return MuseumToolkit(settings)
