"""What the DPS preserves of the museum: a search, and which objects its packages are of. `retrieve` fetches them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from passari_dagster.catalogue.models import MuseumPackage
from passari_dagster.dps.dissemination import MAX_LIMIT, Dissemination
from passari_dagster.errors import PermanentFailure, SettingsError
from passari_dagster.settings import RestSettings, Settings
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.museum_toolkit import objid
from passari_dagster.workflow.shown import in_markdown, plain

COLUMNS = ("AIP id", "object", "SIP", "created", "changed")
_OBJECT = re.compile(r"(?:Passari_)?Object_(\d{1,18})")
"""OBJID and CONTENTID of our packages, and of passari's."""


@dataclass(frozen=True)
class Row:
    """A package that the DPS preserves.

    Arguments:
        aip_id: the DPS's id of it.
        kind: AIP; or DIP, where the search was for those too.
        object_id: the object; None: not known.
        sip_filename: its SIP that was preserved last, as our database has it; None: not known.
        created: when the DPS made it.
        modified: when the DPS changed it; None: never.
    """

    aip_id: str
    kind: str
    object_id: int | None
    sip_filename: str | None
    created: str
    modified: str | None


@dataclass(frozen=True)
class Found:
    """A page of a search.

    Arguments:
        query: what was asked.
        page: its number, from 1.
        rows: the packages.
        more: whether there is a next page.
    """

    query: str
    page: int
    rows: tuple[Row, ...]
    more: bool

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{len(self.rows)} packages on page {self.page}"
        return f"{text}; there are more: page {self.page + 1}" if self.more else text


def search(env: Environment, *, query: str = "", object_id: int | None = None, page: int = 1, limit: int = 50) -> Found:
    """A page of the packages that the DPS preserves.

    Arguments:
        query: in Solr's dialect of Lucene; empty: all.
        object_id: instead of a query: the packages of this object.
        page: from 1.
        limit: packages in a page, at most 1000.

    Raises:
        SettingsError: there is no [dps.rest].
        PermanentFailure: what is asked makes no sense.
        TransientFailure: the DPS does not answer as it should.
    """
    rest = rest_of(env.settings)
    if page < 1 or not 1 <= limit <= MAX_LIMIT:
        raise PermanentFailure(f"page should be 1 or greater, and limit from 1 to {MAX_LIMIT}")
    if query.strip() and object_id is not None:
        raise PermanentFailure("give a query or the id of an object, not both")
    if object_id is not None:
        query = f"OBJID:{objid(object_id)}"
    elif not query.strip() and rest.access == "2.0":
        query = "pkg_type:AIP"
    with Dissemination(rest, env.settings.dps.contract_id) as service:
        preserved, more = service.search(query.strip(), page=page, limit=limit)
    objects = [object_of(package.content_id) or object_id for package in preserved]
    names = _sip_filenames(env, {known for known in objects if known is not None})
    rows = tuple(
        Row(
            aip_id=plain(package.aip_id),
            kind=plain(package.kind),
            object_id=known,
            sip_filename=names.get(known) if known is not None else None,
            created=_date(package.created, env.settings.time_zone),
            modified=_date(package.modified, env.settings.time_zone) if package.modified else None,
        )
        for package, known in zip(preserved, objects, strict=True)
    )
    return Found(query=query, page=page, rows=rows, more=more)


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table with `COLUMNS`."""
    number = "" if row.object_id is None else str(row.object_id)
    return row.aip_id, number, row.sip_filename or "", row.created[:10], (row.modified or "")[:10]


def markdown(found: Found) -> str:
    """The table as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(in_markdown(cell) for cell in cells(row))} |" for row in found.rows]
    return "\n".join([*lines, "", in_markdown(str(found))])


def object_of(identifier: str | None) -> int | None:
    """The object of a package by its OBJID or CONTENTID; None: it is none of ours."""
    match = _OBJECT.fullmatch(identifier or "")
    return int(match[1]) if match else None


def _sip_filenames(env: Environment, object_ids: set[int]) -> dict[int, str]:
    """The SIP of each object that was preserved last."""
    query = (
        select(MuseumPackage.museum_object_id, MuseumPackage.sip_filename)
        .where(MuseumPackage.museum_object_id.in_(object_ids), MuseumPackage.preserved.is_(True))
        .order_by(MuseumPackage.id)
    )
    with env.transaction() as session:
        return {number: name for number, name in session.execute(query) if number is not None and name}


def _date(text: str, zone: str) -> str:
    try:
        # Python 3.10 does not know the Z.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return plain(text)
    return moment.astimezone(ZoneInfo(zone)).isoformat(sep=" ", timespec="minutes") if moment.tzinfo else plain(text)


def rest_of(settings: Settings) -> RestSettings:
    """How the DPS is asked.

    Raises:
        SettingsError: the settings do not say.
    """
    if settings.dps.rest is None:
        raise SettingsError(
            "what the DPS preserves is searched and fetched over REST: [dps.rest] is missing (url, username, password)"
        )
    return settings.dps.rest
