"""What the simulated museum holds: any number of objects, each made from the seed and its id when asked for.

Facts only; how they look as documents is in `museum_documents`, what was changed since in `museum_store`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import Random

from passari_dagster.simulation.museum_files import SUFFIX, Kind

FIRST_OBJECT = 1_000_000
FIRST_MULTIMEDIA = 50_000_000
FIRST_ACTIVITY = 70_000_000
MOST_ATTACHMENTS = 3
PERIOD = 20
"""Among so many consecutive objects exactly one has an unsupported attachment, and one a JPEG that is damaged."""

LOG_FIELD = "ObjPreservationLogClb"
"""The museum's field for the preservation log."""
USER = "SIM_käyttäjä"
MUSKETTI_USER = "ZET_DÜ"
_BEGIN = datetime(2019, 1, 1, tzinfo=timezone.utc)
_MUSKETTI_BEGIN = datetime(2018, 11, 1, tzinfo=timezone.utc)
_DAY_LATER = timedelta(days=1, milliseconds=171)
_GOOD: tuple[Kind, ...] = ("jpeg", "exif", "tiff", "jpeg", "xml", "tiff", "text")
_NAME: dict[Kind, str] = {
    "jpeg": "kuva",
    "exif": "valokuva",
    "tiff": "skannaus",
    "xml": "luettelo",
    "text": "kuvaus",
    "damaged_jpeg": "skannaus",
    "psd": "muokattu",
}
_TITLES = (
    "Kahvipannu",
    "Röijy, sininen",
    "Valokuva: Hämeenlinnan asema",
    "Käärintäliina",
    "Öljyvärimaalaus",
    "Lyijykynä",
)


@dataclass(frozen=True)
class ObjectFacts:
    """An object as it is now. Times are aware, in UTC.

    Arguments:
        fields: further data fields by name, such as the preservation log.
        truncated: answered with system fields only, as to a user without read permission.
        deleted: not there any more.
    """

    id: int
    title: str
    created: datetime | None
    created_user: str
    modified: datetime | None
    multimedia_ids: tuple[int, ...] = ()
    activity_ids: tuple[int, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)
    truncated: bool = False
    deleted: bool = False


@dataclass(frozen=True)
class AttachmentFacts:
    """An attachment as it is now; `kind` is None where its content was given."""

    id: int
    object_id: int
    filename: str
    created: datetime | None
    created_user: str
    modified: datetime | None
    kind: Kind | None
    deleted: bool = False


class Museum:
    """The museum as it was before anybody changed anything.

    Arguments:
        objects: how many.
        seed: another seed, another museum.
    """

    def __init__(self, objects: int, seed: int) -> None:
        self.size = objects
        self.seed = seed
        random = Random(seed)
        self.psd_at, self.damaged_at = random.sample(range(PERIOD), 2)
        # A fixed number of attachments in every period, so that they are counted without looking at each object.
        counts = [0, 0, 0, *[1] * 6, *[2] * 7, *[3] * 4]
        random.shuffle(counts)
        for special in (self.psd_at, self.damaged_at):
            if counts[special] == 0:
                other = next(i for i, n in enumerate(counts) if n > 1 and i not in (self.psd_at, self.damaged_at))
                counts[special], counts[other] = counts[other], 0
        self._counts = counts
        self._musketti_at = random.randrange(50)
        self._undated_at = random.randrange(97)

    def has_object(self, object_id: int) -> bool:
        """Whether it was there from the beginning."""
        return 0 <= object_id - FIRST_OBJECT < self.size

    def has_attachment(self, multimedia_id: int) -> bool:
        """Whether it was there from the beginning."""
        index, place = divmod(multimedia_id - FIRST_MULTIMEDIA, MOST_ATTACHMENTS)
        return 0 <= index < self.size and place < self._counts[index % PERIOD]

    def object(self, object_id: int) -> ObjectFacts:
        """An object that was there from the beginning."""
        index = object_id - FIRST_OBJECT
        created, modified = self.dates(index)
        first = FIRST_MULTIMEDIA + index * MOST_ATTACHMENTS
        drawn = self._draw(object_id)
        return ObjectFacts(
            id=object_id,
            title=f"SIM{object_id}:{drawn % 9 + 1}, {_TITLES[drawn % len(_TITLES)]}",
            created=created,
            created_user=self._creator(index),
            modified=modified,
            multimedia_ids=tuple(range(first, first + self._counts[index % PERIOD])),
            activity_ids=(FIRST_ACTIVITY + index // 10,) if drawn % 4 == 0 else (),
        )

    def dates(self, index: int) -> tuple[datetime | None, datetime | None]:
        """When the object of that number (from 0) and its attachments were created and last modified."""
        if index % 97 == self._undated_at:
            return None, None
        if index % 50 == self._musketti_at:
            created = _MUSKETTI_BEGIN + timedelta(seconds=index % 2_500_000)
        else:
            created = _BEGIN + timedelta(seconds=30 * index)
        return created, created + _DAY_LATER

    def attachment(self, multimedia_id: int) -> AttachmentFacts:
        """An attachment that was there from the beginning."""
        index, place = divmod(multimedia_id - FIRST_MULTIMEDIA, MOST_ATTACHMENTS)
        object_id = FIRST_OBJECT + index
        created, modified = self.dates(index)
        kind = self._kind(index, place)
        return AttachmentFacts(
            id=multimedia_id,
            object_id=object_id,
            filename=f"{_NAME[kind]}_{multimedia_id}.{SUFFIX[kind]}",
            created=created,
            created_user=self._creator(index),
            modified=modified,
            kind=kind,
        )

    def _kind(self, index: int, place: int) -> Kind:
        if place == 0 and index % PERIOD == self.psd_at:
            return "psd"
        if place == 0 and index % PERIOD == self.damaged_at:
            return "damaged_jpeg"
        return _GOOD[self._draw(index * MOST_ATTACHMENTS + place) % len(_GOOD)]

    def _creator(self, index: int) -> str:
        return MUSKETTI_USER if index % 50 == self._musketti_at else USER

    def _draw(self, number: int) -> int:
        digest = hashlib.blake2b(f"{self.seed}:{number}".encode(), digest_size=6).digest()
        return int.from_bytes(digest, "big")

    def objects_above(self, object_id: int) -> int:
        """How many of the first objects have a greater id."""
        return self.size - min(max(object_id + 1 - FIRST_OBJECT, 0), self.size)

    def attachments_above(self, multimedia_id: int) -> int:
        """How many of the first attachments have a greater id."""
        index, place = divmod(max(multimedia_id + 1 - FIRST_MULTIMEDIA, 0), MOST_ATTACHMENTS)
        if index >= self.size:
            return 0
        begun = min(place, self._counts[index % PERIOD])
        return self._attachments_of_first(self.size) - self._attachments_of_first(index) - begun

    def _attachments_of_first(self, objects: int) -> int:
        periods, rest = divmod(objects, PERIOD)
        return periods * sum(self._counts) + sum(self._counts[:rest])
