"""Words that the stories share: objects as a museum would have them, what the DPS got, and crashes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from passari_dagster.catalogue.models import MuseumPackage
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.simulation.museum_files import content
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged, PreservationToolkit
from passari_dagster_tests.house import House, package_rows, synchronise_all

LONG_AGO = datetime(2019, 1, 1, tzinfo=timezone.utc)
JPEG, TEXT, PSD = content("jpeg", 1), content("text", 1), content("psd", 1)
ENTITY_BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<a>&c;</a>
"""


def quiet(line: str) -> None:
    """A log that nobody reads."""


def old_object(house: House, *attachments: tuple[str, bytes | Path | None], created: datetime | None = LONG_AGO) -> int:
    """An object that has been in the museum for long, with these files."""
    return house.museum.add_object(created=created, modified=LONG_AGO, attachments=attachments)


def eligible_object(
    house: House, env: Environment, *attachments: tuple[str, bytes | Path | None], created: datetime | None = LONG_AGO
) -> int:
    """Such an object, and the database knows it."""
    object_id = old_object(house, *attachments, created=created)
    synchronise_all(env)
    return object_id


def received(house: House) -> list[Path]:
    """Every package that the DPS took, in their order."""
    return sorted(house.dps.received.iterdir())


def in_transfer(house: House) -> list[str]:
    """What lies in the DPS's `transfer/`."""
    return sorted(path.name for path in (house.dps.home / "transfer").iterdir())


def package(env: Environment, object_id: int) -> MuseumPackage:
    """The object's only package."""
    (row,) = package_rows(env, object_id)
    return row


def name_of(env: Environment, object_id: int) -> str:
    """File name of the object's only package."""
    name = package(env, object_id).sip_filename
    assert name is not None
    return name


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that happens in the DPS."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def later(env: Environment, wait: timedelta) -> Environment:
    """The same environment after a while."""
    return dataclasses.replace(env, now=lambda: datetime.now(timezone.utc) + wait)


def with_toolkit(env: Environment, toolkit: PreservationToolkit) -> Environment:
    """The same environment with another toolkit."""
    return dataclasses.replace(env, toolkit=toolkit)


class Killed(BaseException):
    """As a kill, it is handled by nobody."""


Point = Literal["before the upload", "before the intent", "after the intent", "after the rename", "after confirming"]
POINTS_OF_SUBMIT: Sequence[Point] = ("before the upload", "before the intent", "after the intent", "after the rename")


class KilledAt:
    """The real toolkit, whose process dies at a point."""

    def __init__(self, real: PreservationToolkit, point: Point) -> None:
        self._real, self._point = real, point

    def _reach(self, point: Point) -> None:
        if point == self._point:
            raise Killed(point)

    def download(self, package: PackageFacts, root: Path, log: Log) -> Downloaded:
        return self._real.download(package, root, log)

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        return self._real.package(package, root, log)

    def submit(self, package: PackageFacts, root: Path, intend: Callable[[], None], log: Log) -> None:
        def dying() -> None:
            self._reach("before the intent")
            intend()
            self._reach("after the intent")

        self._reach("before the upload")
        self._real.submit(package, root, dying, log)
        self._reach("after the rename")

    def confirm(self, package: PackageFacts, root: Path, log: Log) -> None:
        self._real.confirm(package, root, log)
        self._reach("after confirming")


def killed_at(env: Environment, point: Point) -> Environment:
    """The same environment, in a process that dies at a point."""
    return with_toolkit(env, KilledAt(env.toolkit, point))
