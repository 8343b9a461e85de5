"""Where in a package each document and file lies, and how they are read back after the download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from passari_dagster.museumplus import items
from passari_dagster.workflow.manifest import Manifest

OBJECT, LIDO = PurePosixPath("reports/Object.xml"), PurePosixPath("reports/lido.xml")
ATTACHMENTS, ACTIVITIES = PurePosixPath("attachments"), PurePosixPath("collection_activities")


def attachment_document(attachment_id: int) -> PurePosixPath:
    """The Multimedia document of an attachment, whose file lies beside it."""
    return ATTACHMENTS / str(attachment_id) / "Multimedia.xml"


def activity_document(activity_id: int) -> PurePosixPath:
    """The document of a collection activity."""
    return ACTIVITIES / str(activity_id) / "CollectionActivity.xml"


def identifier(object_id: int, path: PurePosixPath) -> str:
    """Identifier value of a file, of type `museumplus`: the item that it belongs to, and its path (dps-sip §2.6)."""
    if path.parts[0] == ATTACHMENTS.name:
        return f"Multimedia:{path.parts[1]}:{path}"
    if path.parts[0] == ACTIVITIES.name:
        return f"CollectionActivity:{path.parts[1]}:{path}"
    return f"Object:{object_id}:{path}"


@dataclass(frozen=True)
class Content:
    """What a download brought.

    Arguments:
        object_id: the object.
        directory: where the files lie, by their paths in the package; to be read only.
        manifest: which files there are, with their digests.
    """

    object_id: int
    directory: Path
    manifest: Manifest

    @property
    def paths(self) -> tuple[PurePosixPath, ...]:
        """All files, by path."""
        return tuple(PurePosixPath(path) for path in sorted(self.manifest.digests))

    @cached_property
    def places(self) -> frozenset[PurePosixPath]:
        """All files, and the directories that they are in."""
        return frozenset(place for path in self.paths for place in (path, *path.parents))

    @cached_property
    def item(self) -> items.ObjectItem:
        """What MuseumPlus says of the object.

        Raises:
            FilesChanged: see `read`.
        """
        return items.read_object(self.read(OBJECT))

    def read(self, path: PurePosixPath) -> bytes:
        """A document, which is the one that was downloaded.

        Raises:
            FilesChanged: it is missing, not recorded, or another one.
        """
        return self.manifest.read(str(path), self.directory / path)
