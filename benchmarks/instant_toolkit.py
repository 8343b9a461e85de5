"""A toolkit whose steps return at once: what is left is the price of Dagster and of our own bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.settings import Settings
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged, PreservationToolkit


class InstantToolkit:
    """Does nothing, successfully."""

    def download(self, package: PackageFacts, root: Path, log: Log) -> Downloaded:
        """Bring one empty document, which tells that the download is complete."""
        (root / "sip" / "reports" / "Object.xml").touch()
        return Downloaded(object_modified=package.object_modified, attachment_ids=())

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        """Make an empty file."""
        (root / package.sip_filename).touch()
        return Packaged(size=0, sha256="0" * 64)

    def submit(self, package: PackageFacts, root: Path, intend: Callable[[], None], log: Log) -> None:
        """Record the intent, and send nothing."""
        intend()

    def confirm(self, package: PackageFacts, root: Path, log: Log) -> None:
        """Tell nobody."""


def build(settings: Settings) -> PreservationToolkit:
    """What the setting `toolkit` names."""
    return InstantToolkit()
