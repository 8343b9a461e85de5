"""A running system in which something of everything went wrong, as an administrator may find it in the morning."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import create_engine, text

from passari_dagster.catalogue.models import MuseumObject
from passari_dagster_tests.running import Running

REASON = "On loan | until 2027"


@dataclass(frozen=True)
class Trouble:
    """Which object has which.

    Arguments:
        preserved: nothing is wrong with it.
        permanent: its run failed, and was not tried again.
        spent: its run failed after all retries.
        unforeseen: its run failed for a file that no detector knows anything of.
        overdue: sent 20 days ago, without a verdict.
        frozen: by a person; two for one reason, and a third for another.
        unsupported: frozen by the workflow.
    """

    preserved: int
    permanent: int
    spent: int
    unforeseen: int
    overdue: int
    rejected: int
    frozen: tuple[int, int, int]
    unsupported: int


def make_trouble(system: Running) -> Trouble:
    """One object is preserved, the others are in trouble, and two syncs are late."""
    good = system.good_objects()
    unforeseen = next(id_ for id_ in reversed(good) if system.house.museum.object(id_).multimedia_ids)
    preserved, permanent, spent, overdue, rejected, *frozen = good[:8]
    house = system.house
    unsupported = next(
        object_id
        for object_id in house.museum.object_ids
        for id_ in house.museum.object(object_id).multimedia_ids
        if (house.museum.attachment(id_).filename or "").endswith(".psd")
    )
    trouble = Trouble(
        preserved, permanent, spent, unforeseen, overdue, rejected, (frozen[0], frozen[1], frozen[2]), unsupported
    )
    house.dps.delays[f"Object_{overdue}-"] = 3600
    system.enqueue(preserved, unsupported, overdue)
    system.wait_until("preserved", preserved)
    system.wait_until("frozen", unsupported)
    assert last_status(system, overdue) == "SUCCESS"

    key = house.directory / "sign.pem"
    kept = key.read_bytes()
    key.write_bytes(b"no key\n")
    system.enqueue(permanent)
    assert last_status(system, permanent) == "FAILURE"
    key.write_bytes(kept)
    with _speechless_tool(system):
        system.enqueue(unforeseen)
        assert last_status(system, unforeseen) == "FAILURE"
    house.museum.faults.path_contains, house.museum.faults.error_rate = f"/{spent}", 1.0
    system.enqueue(spent)
    assert last_status(system, spent) == "FAILURE"
    house.museum.faults.error_rate = 0.0
    house.dps.damage_next()
    system.enqueue(rejected)
    system.wait_until("rejected", rejected)
    for reason, object_ids in ((REASON, frozen[:2]), ("Asked by the museum", frozen[2:])):
        config = {"object_ids": object_ids, "reason": reason}
        system.run("freeze_objects", {"ops": {"freeze": {"config": config}}})

    with system.environment() as env, env.transaction() as session:
        package = session.get_one(MuseumObject, overdue).latest_package
        assert package is not None
        assert package.submission_date is not None
        package.submission_date -= timedelta(days=20)
    _made_late(system, "museum_attachments", "metadata_hashes")
    return trouble


@contextlib.contextmanager
def _speechless_tool(system: Running) -> Iterator[None]:
    """Have file-scraper asked about each file, and break down over it: it has no verdict, and nobody knows why."""
    tool = system.house.directory / "scraper"
    tool.write_text("#!/bin/sh\necho 'Traceback: list index out of range' >&2; exit 1\n")
    tool.chmod(0o755)
    config = system.house.directory / "passari.toml"  # read anew by each run
    kept = config.read_text(encoding="utf-8")
    config.write_text(f'{kept}\n[sip.tools]\nscraper = "{tool}"\n', encoding="utf-8")
    yield
    config.write_text(kept, encoding="utf-8")


def _made_late(system: Running, *assets: str) -> None:
    """Have Dagster believe that the assets were materialized long ago, as they are when nothing is done any more."""
    engine = create_engine(system.system.environment["DAGSTER_PG_URL"])
    with engine.begin() as connection:
        for asset in assets:
            connection.execute(
                text(
                    r"""UPDATE asset_keys SET last_materialization = regexp_replace(
                        last_materialization, '"timestamp": [0-9.]+', '"timestamp": 1700000000.0')
                    WHERE asset_key = :key"""
                ),
                {"key": json.dumps([asset])},
            )
    engine.dispose()


def last_status(system: Running, object_id: int) -> str:
    """How the object's run ended."""

    def ended() -> str | None:
        runs = system.runs_of(object_id)
        return runs[-1]["status"] if runs and runs[-1]["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    return system.wait(ended, f"the run of {object_id} to end")


def freshness(system: Running, asset: str) -> str | None:
    """What Dagster thinks of an asset with a freshness policy: HEALTHY, WARNING, DEGRADED or UNKNOWN."""
    data = system.webserver.ask(
        """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ...on AssetNode {
            freshnessStatusInfo { freshnessStatus } } } }""",
        key={"path": [asset]},
    )
    info = data["assetNodeOrError"]["freshnessStatusInfo"]
    return str(info["freshnessStatus"]) if info else None
