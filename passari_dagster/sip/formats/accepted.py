"""Which formats and versions the DPS accepts, and which of them we package: data, in two tables beside this file.

`accepted.csv`:

| column | is |
|---|---|
| name | of the format, as reasons of frozen objects tell it |
| mimetype, version | as the METS tells them; no version: `(:unap)` in the registry, formatVersion is left out |
| grade | `recommended` or `acceptable` |
| ingest | whether the DPS takes it now |
| packaged | whether we do; what we do not is recognised and freezes the object, by its name |

`streams.csv`: what sound and pictures a container may carry. One of AVC with sound as MPEG audio is as good as its
weaker stream. MIME types of streams are in lower case, as the DPS's own tools write them.

[Source: the DPS's file format registry (dpres-file-formats 1.2.0), specification 1.13.0.]
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

SPECIFICATION = "1.13.0"


@dataclass(frozen=True)
class AcceptedFormat:
    """One row of the table."""

    name: str
    mimetype: str
    version: str | None
    grade: str
    ingest: bool
    packaged: bool


@cache
def table() -> Mapping[tuple[str, str | None], AcceptedFormat]:
    """The whole table, by MIME type and version."""
    with resources.files(__package__).joinpath("accepted.csv").open(encoding="utf-8") as file:
        rows = [
            AcceptedFormat(
                name=row["name"],
                mimetype=row["mimetype"],
                version=row["version"] or None,
                grade=row["grade"],
                ingest=row["ingest"] == "yes",
                packaged=row["packaged"] == "yes",
            )
            for row in csv.DictReader(file)
        ]
    return {(row.mimetype, row.version): row for row in rows}


@cache
def streams(container: str) -> frozenset[tuple[str, str | None]]:
    """MIME types and versions of the streams that the DPS now takes in a container of this MIME type."""
    with resources.files(__package__).joinpath("streams.csv").open(encoding="utf-8") as file:
        return frozenset(
            (row["mimetype"], row["version"] or None)
            for row in csv.DictReader(file)
            if row["container"] == container and row["ingest"] == "yes"
        )


def name_of(mimetype: str) -> str:
    """What a format is called, whatever its version."""
    return next((row.name for row in table().values() if row.mimetype == mimetype), mimetype)
