"""What a person looks at in a museum database of a million objects: the overview, packages, frozen objects.

    python benchmarks/look.py [--quick] [--json] [--url postgresql+psycopg2://…]

Each object has a package and two attachments; every hundredth package was rejected, every fiftieth object is frozen.
The embedded PostgreSQL has no trigram indexes; `--url` names an empty database of a server that has pg_trgm.

| figure | is |
|---|---|
| trigrams | whether the database has them |
| overview_s | all objects counted by place, as the asset workflow_overview does each hour |
| standing_s | the rejected and the overdue ones |
| frozen_by_reason_s | the table of the asset frozen_objects |
| packages_s | the first page of all packages |
| packages_state_s | the first page of the rejected ones |
| packages_id_s | those of an object |
| packages_title_s, packages_file_s | those with a word in the title, or in the name of an attachment; a few have it |
| packages_nothing_s | those with a word that nothing has |
| frozen_search_s | frozen objects with a word |
| history_s | versions of an object, for its dossier |

Seconds of wall time, medians of five, in a transaction of their own as the commands have it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import big_catalogue, machine
from passari_dagster.catalogue import database, eligibility, history
from passari_dagster.catalogue import statistics as counts
from passari_dagster.catalogue.search import State, find_packages

PAGE = 26
_PACKAGES = (
    """
    INSERT INTO museum_packages (id, museum_object_id, sip_filename, object_modified_date, created_date, metadata_hash,
        attachment_metadata_hash, downloaded, packaged, uploaded, preserved, rejected, submission_date, confirmed_date)
    SELECT id, id, '20200101_Object_' || id || '-x.tar', modified_date, '2020-02-01', metadata_hash, '', true, true,
        true, id % 100 <> 0, id % 100 = 0, '2020-02-01', '2020-02-01'
    FROM museum_objects
    """,
    """
    INSERT INTO package_attachment_association (museum_package_id, museum_attachment_id)
    SELECT museum_object_id, museum_attachment_id FROM object_attachment_association
    """,
    """
    UPDATE museum_objects SET latest_package_id = id, preserved = id % 100 <> 0, attachment_metadata_hash = '',
        frozen = id % 50 = 1, freeze_reason = CASE WHEN id % 50 = 1 THEN 'Unsupported file format' END,
        freeze_source = CASE WHEN id % 50 = 1 THEN 'AUTOMATIC'::freezesource END,
        title = CASE WHEN id % 100000 = 7 THEN 'Kirves ' || id ELSE title END
    """,
)


def fill(engine: Engine, objects: int) -> None:
    """The catalogue that the module tells of; what rests is settled, as the asset eligible_objects does it."""
    big_catalogue.fill(engine, objects)
    for statement in _PACKAGES:
        with engine.begin() as connection:
            connection.execute(text(statement))
    after = 0
    while True:
        with database.transaction(engine) as session:
            ids = eligibility.settle(session, after=after, limit=10_000)
        if not ids:
            break
        after = ids[-1]
    big_catalogue.settle(engine)


def seconds(engine: Engine, work: Callable[[Session], object]) -> float:
    """The median of five."""
    times = []
    for _ in range(5):
        begun = time.monotonic()
        with database.transaction(engine) as session:
            work(session)
        times.append(time.monotonic() - begun)
    return round(statistics.median(times), 4)


def measure(quick: bool, url: str | None) -> dict[str, Any]:
    """All figures."""
    objects = 100_000 if quick else 1_000_000
    now = datetime.now(timezone.utc)
    delays = eligibility.Delays(timedelta(days=30), timedelta(days=30))

    def overview(session: Session) -> None:
        counts.objects_by_stage(session)
        eligibility.count_eligible(session, now=now, delays=delays)

    def standing(session: Session) -> None:
        assert counts.rejected(session, most=20).number
        counts.without_verdict(session, before=now, most=20)

    def packages(number: int | None = None, **asked: Any) -> Callable[[Session], None]:
        def look(session: Session) -> None:
            found = len(find_packages(session, limit=PAGE, **asked))
            assert found == (PAGE if number is None else number), (found, asked)

        return look

    looks: dict[str, Callable[[Session], object]] = {
        "overview_s": overview,
        "standing_s": standing,
        "frozen_by_reason_s": counts.frozen_by_reason,
        "packages_s": packages(),
        "packages_state_s": packages(states=[State.REJECTED]),
        "packages_id_s": packages(1, search=str(objects // 2)),
        "packages_title_s": packages(objects // 100_000, search="kirves"),
        "packages_file_s": packages(1, search=f"kuva_{objects}."),
        "packages_nothing_s": packages(0, search="harppu"),
        "frozen_search_s": lambda session: counts.frozen_objects(session, search="harppu", limit=PAGE),
        "history_s": lambda session: history.object_history(session, objects // 2, most_packages=20),
    }
    with big_catalogue.museum_database(url) as engine:
        fill(engine, objects)
        with engine.connect() as connection:
            trigrams = connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'")) == 1
        return {"trigrams": trigrams, **{name: seconds(engine, look) for name, look in looks.items()}}


if __name__ == "__main__":
    sys.exit(machine.run(__doc__, "100,000 objects", measure, {"--url": "an empty database of another server"}))
