"""Searches in the simulated museum: the request, the conditions, which ids match and in which order.

As far as the ria-ws search schema is used by clients of ours and of the original: `__id`, `__created` and
`__lastModified`, in comparisons joined by and, or, not.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice, takewhile
from math import inf

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.simulation.museum_store import ModuleName, Row, Store, first_rows

Condition = Callable[[Row], bool]
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "greater": lambda a, b: a > b,
    "greaterEquals": lambda a, b: a >= b,
    "less": lambda a, b: a < b,
    "lessEquals": lambda a, b: a <= b,
    "equalsField": lambda a, b: a == b,
}
_MOST_CACHED = 4
_GREATEST_ID = 1 << 40


class BadSearchError(Exception):
    """The request is malformed, or asks for what is not simulated."""


@dataclass(frozen=True)
class Request:
    """A search request.

    Arguments:
        after_id, upto_id: taken out of the conditions, since all who page by key have them there.
        key: the other conditions as text; the same text means the same condition. Empty: none.
        ids: where the conditions leave no others; None: they do not name ids.
    """

    after_id: int
    upto_id: float
    condition: Condition
    key: str
    limit: int | None
    offset: int
    descending: bool
    ids: list[int] | None


def parse(body: bytes, module: ModuleName) -> Request:
    """Read a request; children of `search` may have no namespace, as the original writes them.

    Raises:
        BadSearchError: as it says.
    """
    try:
        root = safe_xml.parse(body, source="search request")
        search = next(s for m in root.iter("{*}module") if m.get("name") == module for s in m.iterchildren("{*}search"))
        limit, offset = int(search.get("limit", "-1")), int(search.get("offset", "0"))
        sort = [(f.get("fieldPath"), f.get("direction")) for s in search.iterchildren("{*}sort") for f in s]
        if sort and sort[0][0] != "__id":
            raise BadSearchError(f"sort by {sort[0][0]} is not simulated")
        terms = [term for expert in search.iterchildren("{*}expert") for term in expert]
        if len(terms) > 1:
            raise BadSearchError("more than one condition in expert")
        if terms and _name(terms[0]) == "and":
            terms = list(terms[0])
        of_id = [t for t in terms if t.get("fieldPath") == "__id"]
        after = [int(t.get("operand", "")) for t in of_id if _name(t) == "greater"]
        upto = [int(t.get("operand", "")) for t in of_id if _name(t) == "lessEquals"]
        others = [t for t in terms if t not in of_id or _name(t) not in ("greater", "lessEquals")]
        conditions = [_condition(term) for term in others]
    except (safe_xml.UnsafeXmlError, StopIteration, ValueError) as error:
        raise BadSearchError(f"malformed: {error}") from error
    return Request(
        after_id=max(after, default=0),
        upto_id=min(upto, default=inf),
        condition=lambda row: all(holds(row) for holds in conditions),
        key=" ".join(etree.tostring(term, encoding="unicode", with_tail=False) for term in others),
        limit=limit if limit >= 0 else None,
        offset=offset,
        descending=bool(sort) and sort[0][1] == "Descending",
        ids=next((ids for term in others if (ids := _ids(term))), None),
    )


class Searcher:
    """Answers searches. What was there at first never changes, so which of it matches is remembered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._matches: dict[tuple[ModuleName, str], list[int]] = {}

    def run(self, module: ModuleName, request: Request) -> tuple[list[int], int]:
        """The ids of the page, and how many match in all."""
        changed = [row for row in self._store.changed(module, request.after_id) if row.id <= request.upto_id]
        changed_ids = {row.id for row in changed}
        hits = [row.id for row in changed if not row.deleted and request.condition(row)]
        wanted = None if request.limit is None else request.offset + request.limit
        if request.key:
            matches = self._first_matches(module, request)
            begin, end = bisect_right(matches, request.after_id), bisect_right(matches, request.upto_id)
            total = end - begin - sum(_contains(matches, item) for item in changed_ids)
            first: Iterator[int] = islice(matches, begin, end)
        else:
            museum = self._store.museum
            has = museum.has_object if module == "Object" else museum.has_attachment
            above = museum.objects_above if module == "Object" else museum.attachments_above
            beyond = above(int(request.upto_id)) if request.upto_id < inf else 0
            after = request.after_id
            if request.descending and wanted is not None:
                # Only the end of a large museum is looked at.
                while above(middle := (after + _GREATEST_ID) // 2) > beyond + wanted + len(changed_ids):
                    after = middle
            total = above(request.after_id) - beyond - sum(map(has, changed_ids))
            rows = first_rows(museum, module, after)
            first = takewhile(lambda item: item <= request.upto_id, (row.id for row in rows))
        ids: Iterator[int] = heapq.merge((item for item in first if item not in changed_ids), hits)
        if request.descending:
            ids = reversed(list(ids))
        return list(islice(ids, request.offset, wanted)), total + len(hits)

    def _first_matches(self, module: ModuleName, request: Request) -> list[int]:
        if request.ids is not None:
            rows = ((id_, next(first_rows(self._store.museum, module, id_ - 1), None)) for id_ in request.ids)
            return [id_ for id_, row in rows if row and row.id == id_ and request.condition(row)]
        found = self._matches.get((module, request.key))
        if found is None:
            found = [row.id for row in first_rows(self._store.museum, module, 0) if request.condition(row)]
            while len(self._matches) >= _MOST_CACHED:
                self._matches.pop(next(iter(self._matches)), None)
            self._matches[module, request.key] = found
        return found


def _contains(ids: list[int], item: int) -> bool:
    at = bisect_right(ids, item)
    return at > 0 and ids[at - 1] == item


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname


def _ids(element: etree._Element) -> list[int]:
    """The ids of which a condition wants one, ascending; none: it is another condition."""
    terms = list(element) if _name(element) == "or" else [element]
    if not all(_name(term) == "equalsField" and term.get("fieldPath") == "__id" for term in terms):
        return []
    return sorted({int(term.get("operand", "")) for term in terms})


def _condition(element: etree._Element) -> Condition:
    name = _name(element)
    if name in ("and", "or", "not"):
        parts = [_condition(child) for child in element]
        if name == "not" and len(parts) == 1:
            return lambda row: not parts[0](row)
        if name == "not" or len(parts) < 2:
            raise BadSearchError(f"<{name}> with {len(parts)} conditions")
        combine = all if name == "and" else any
        return lambda row: combine(part(row) for part in parts)
    value = _field(element.get("fieldPath", ""))
    if name in ("isNull", "isNotNull"):
        return lambda row: (value(row) is None) == (name == "isNull")
    if name not in _OPERATORS:
        raise BadSearchError(f"<{name}> is not simulated")
    compare, operand = _OPERATORS[name], _operand(element)

    def holds(row: Row) -> bool:
        found = value(row)
        return found is not None and compare(found, operand)

    return holds


def _field(path: str) -> Callable[[Row], float | None]:
    if path == "__id":
        return lambda row: row.id
    if path == "__created":
        return lambda row: _seconds(row.created)
    if path == "__lastModified":
        return lambda row: _seconds(row.modified)
    raise BadSearchError(f"field {path!r} is not simulated")


def _seconds(time: datetime | None) -> float | None:
    return time.timestamp() if time else None


def _operand(element: etree._Element) -> float:
    text = element.get("operand", "")
    if element.get("fieldPath") == "__id":
        return int(text)
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
