"""What happened to an object before it was packaged, told as PREMIS events: by ours, and by a museum's own creators.

A package names its creators under the entry point `passari_dagster.premis_events`; the value is a function of a
`Content`. What the packager itself does is told by `sip/mets.py`. [dps-sip §5.1]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import PurePosixPath

from passari_dagster.errors import PermanentFailure
from passari_dagster.museumplus import items
from passari_dagster.sip import plugins
from passari_dagster.sip.description import PackageEvent
from passari_dagster.sip.files import FilesChanged
from passari_dagster.workflow import content
from passari_dagster.workflow.content import Content

GROUP = "passari_dagster.premis_events"
_MOST_NAMED = 100
EventCreator = Callable[[Content], Iterable[PackageEvent]]


def events(found: Content) -> tuple[PackageEvent, ...]:
    """All events, in the order of their creators: ours, then those that are installed, by name.

    Raises:
        FilesChanged: a document is not the one that was downloaded.
        PermanentFailure: a creator of a museum's own failed.
    """
    ours = (
        origin_of_object,
        origin_of_attachments,
        unpacking_of_archives,
        origin_of_activities,
        creation_of_lido,
        changes_of_documents,
    )
    told = [event for creator in ours for event in creator(found)]
    for name, creator in installed():
        try:
            theirs = list(creator(found))
            for event in theirs:
                _require_sound(event, found)
        except FilesChanged:
            raise
        except Exception as error:
            raise PermanentFailure(
                f"object {found.object_id}: the creator of events {name!r} failed: {type(error).__name__}: {error}; "
                "correct or uninstall its package"
            ) from error
        told += theirs
    return tuple(told)


@cache
def installed() -> tuple[tuple[str, EventCreator], ...]:
    """A museum's own creators, by name.

    Raises:
        PermanentFailure: one cannot be loaded.
    """
    creators = [(entry.name, creator) for entry, creator in plugins.load(GROUP, "the creator of events")]
    return tuple(sorted(creators, key=lambda creator: creator[0]))


def origin_of_object(found: Content) -> Iterator[PackageEvent]:
    """When the object came into MuseumPlus; without a date there is no event."""
    item = found.item
    yield from _origin("Object", None, item.created, migrated=item.migrated_from_musketti)


def origin_of_attachments(found: Content) -> Iterator[PackageEvent]:
    """When each attachment did."""
    for attachment_id in found.item.attachment_ids:
        path = content.attachment_document(attachment_id)
        attachment = items.read_attachment(found.read(path))
        yield from _origin("Multimedia", path, attachment.created, migrated=attachment.migrated_from_musketti)


def unpacking_of_archives(found: Content) -> Iterator[PackageEvent]:
    """When each archive was unpacked, and the digest by which it is known again: MuseumPlus has it still."""
    for path, archive in sorted(found.manifest.archives.items()):
        target = PurePosixPath(path)
        yield PackageEvent(
            event_type="decompression",
            date=archive.unpacked,
            detail="Archive extraction",
            outcome_note=f"Extracted from the original archive {target.name} ({archive.kind}, {archive.size} bytes, "
            f"SHA-256 {archive.sha256}), which is not in the package{_without(archive.left_out)}",
            target=target,
        )


def _without(left_out: Sequence[str]) -> str:
    if not left_out:
        return ""
    names = ", ".join(left_out[:_MOST_NAMED])
    more = f" and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
    return f"; left out were files that operating systems had put there for themselves: {names}{more}"


def origin_of_activities(found: Content) -> Iterator[PackageEvent]:
    """When each collection activity did."""
    for activity_id in found.item.collection_activity_ids:
        path = content.activity_document(activity_id)
        activity = items.read_collection_activity(found.read(path))
        yield from _origin("CollectionActivity", path, activity.created, migrated=False)


def creation_of_lido(found: Content) -> Iterator[PackageEvent]:
    """When the LIDO document was made, which is when it was downloaded."""
    found.read(content.LIDO)
    yield PackageEvent(
        event_type="creation",
        date=datetime.fromtimestamp((found.directory / content.LIDO).stat().st_mtime, timezone.utc),
        detail="LIDO document creation",
        outcome_note="The LIDO document was made by MuseumPlus from its export template",
        target=content.LIDO,
    )


def changes_of_documents(found: Content) -> Iterator[PackageEvent]:
    """What was removed from documents when they were downloaded."""
    for name, note in sorted(found.manifest.changes.items()):
        yield PackageEvent(
            event_type="modification",
            date=datetime.fromtimestamp((found.directory / name).stat().st_mtime, timezone.utc),
            detail="Removal of references to XML schemas that the digital preservation service does not have",
            outcome_note=note,
            target=PurePosixPath(name),
        )


def _origin(
    module: str, target: PurePosixPath | None, created: datetime | None, *, migrated: bool
) -> Iterator[PackageEvent]:
    if created is None:
        return
    if migrated:
        # `transfer`, not `migration`: to the DPS a migration is a conversion of files (dps-sip §5.1).
        yield PackageEvent(
            event_type="transfer",
            date=created,
            detail=f"{module} Musketti migration",
            outcome_note=f"The {module} was carried over from Musketti to MuseumPlus",
            target=target,
        )
    detail = "Object database entry creation" if module == "Object" else f"{module} creation"
    yield PackageEvent(
        event_type="creation",
        date=created,
        detail=detail,
        outcome_note=f"The date is when the {module} was created in MuseumPlus",
        target=target,
    )


def _require_sound(event: PackageEvent, found: Content) -> None:
    if event.date.tzinfo is None:
        raise ValueError(f"the event {event.detail!r} has a date without a time zone")
    if event.target is not None and event.target not in found.places:
        raise ValueError(f"the event {event.detail!r} is about {event.target}, which is not in the package")
