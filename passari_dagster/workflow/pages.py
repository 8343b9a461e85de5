"""Reading one part of a module of MuseumPlus, page by page, by key: what a thread of a scrape does.

Nothing is written here, and no database is known: pages are handed to the scrape, which writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from sqlalchemy.orm import Session

from passari_dagster.catalogue import synchronisation as tables
from passari_dagster.catalogue.scrapes import Part
from passari_dagster.errors import TransientFailure
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.museumplus.search import Record, SearchModule, SearchPage

FEW = 5
"""So many items more than one in a hundred may leave the catalogue while it is read, without a doubt of the reading."""
MOST_PARTS = 64


@dataclass(frozen=True)
class Source(Generic[Record]):
    """A module of MuseumPlus, and where it goes.

    Arguments:
        name: of its scrapes of changes in the database, and of all in the log.
        scan: of its scans in the database.
        module: MuseumPlus's name of it.
        item: its table.
        search: keywords as those of `MuseumPlus.search`.
        upsert: writes records; answers how many of them are new.
    """

    name: str
    scan: str
    module: SearchModule
    item: tables.Item
    search: Callable[..., SearchPage[Record]]
    upsert: Callable[[Session, Sequence[Record]], int]


@dataclass(frozen=True)
class Page(Generic[Record]):
    """A page of a part: what there is between two ids.

    Arguments:
        upto_id: None: to the end of all ids.
        last: whether the part is read to its end.
    """

    part: Part
    after_id: int
    upto_id: int | None
    records: tuple[Record, ...]
    unreadable: tuple[int, ...]
    last: bool

    @property
    def ids(self) -> list[int]:
        """Of all items on the page."""
        return [*(record.id for record in self.records), *self.unreadable]


class Reader(Generic[Record]):
    """Reads a module for any number of threads, each of which reads a part.

    Arguments:
        page_size: most items of a page.
        limit: most items in all, for one thread only; None: all.
        offset: so many items are left out at the beginning of a part.
    """

    def __init__(
        self, museum: MuseumPlus, source: Source[Record], *, page_size: int, limit: int | None, offset: int
    ) -> None:
        self._museum, self._page_size, self._limit, self._offset = museum, page_size, limit, offset
        self._source: Source[Record] = source
        self._asked = 0

    def pages(self, part: Part, since: datetime | None, *, counted: bool) -> Iterator[Page[Record]]:
        """The pages of a part, read ahead of those who write them, in a thread of their own.

        Arguments:
            counted: what MuseumPlus says of how many match can be believed.
        """
        after_id, left, offset = part.read_id, 0, self._offset
        while (limit := self._allowed()) > 0:
            page = self._page(after_id, part.last_id, since, limit, offset)
            if page.last_id is None:
                if left > FEW:
                    raise TransientFailure(
                        f"{self._source.name}: MuseumPlus has nothing more after id {after_id}, though it spoke of "
                        f"{left} more items; the next sync goes on there"
                    )
                yield Page(part, after_id, part.last_id, (), (), last=True)
                return
            count = len(page.records) + len(page.unreadable)
            self._asked += count
            left = page.total - count if counted and page.total is not None else 0
            last = counted and page.total is not None and left <= 0
            upto_id = part.last_id if last else page.last_id
            yield Page(part, after_id, upto_id, page.records, page.unreadable, last)
            if last:
                return
            after_id, offset = page.last_id, 0

    def _page(
        self, after_id: int, upto_id: int | None, since: datetime | None, limit: int, offset: int
    ) -> SearchPage[Record]:
        """A page. An empty one is the end, or a moment's slip that would lose the rest: it is asked for again."""
        for _ in range(2):
            page = self.search(after_id=after_id, upto_id=upto_id, modified_since=since, limit=limit, offset=offset)
            if page.last_id is not None:
                break
        return page

    def search(self, **query: Any) -> SearchPage[Record]:
        """One search; keywords as those of `MuseumPlus.search`."""
        page: SearchPage[Record] = self._source.search(self._museum, **query)
        return page

    def _allowed(self) -> int:
        """How many items the next page may have."""
        size = self._page_size
        return size if self._limit is None else min(size, self._limit - self._asked)


def cut(lowest: int, greatest: int, number: int) -> list[Part]:
    """The whole id space in parts of the same width between two ids; the first and the last one have no end.

    Arguments:
        lowest, greatest: of the ids that there are now.
        number: of parts, at most; 64 are enough for all.
    """
    width = -(-(greatest - lowest + 1) // min(number, MOST_PARTS))
    borders = [1, *range(lowest + width, greatest + 1, width)]
    ends: list[int | None] = [border - 1 for border in borders[1:]]
    return [Part(first, last, first - 1) for first, last in zip(borders, [*ends, None], strict=True)]
