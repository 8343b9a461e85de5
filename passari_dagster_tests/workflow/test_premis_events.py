"""What happened to an object before it was packaged, and what a museum's own package tells besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from passari_dagster.errors import PermanentFailure
from passari_dagster.simulation.museum_files import content as image
from passari_dagster.workflow import premis_events, preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.house import House, send
from passari_dagster_tests.plugins import SitePackages, example
from passari_dagster_tests.sip.content import mets_of
from passari_dagster_tests.workflow.stories import JPEG, eligible_object, name_of, quiet, received

Judge = Callable[[Path], list[str]]
NS = {"premis": "info:lc/xmlns/premis-v2"}
CREATOR = """
from datetime import datetime, timezone
from pathlib import PurePosixPath
from passari_dagster.sip.description import PackageEvent

def digitisation(content):
    for path in content.paths:
        if path.suffix == ".jpg":
            yield PackageEvent("capture", {date}, "Digitisation", "Scanned from the glass plate", {target})
"""
DATE, TARGET = "datetime(2015, 6, 1, tzinfo=timezone.utc)", "path"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SitePackages]:
    """Of the museum, with nothing installed yet."""
    premis_events.installed.cache_clear()
    yield SitePackages(tmp_path / "site-packages", monkeypatch)
    premis_events.installed.cache_clear()


def install(packages: SitePackages, *, date: str = DATE, target: str = TARGET) -> None:
    source = CREATOR.format(date=date, target=target)
    packages.install(premis_events.GROUP, source, "museum_rules:digitisation")


def told(tar: Path) -> list[tuple[str, str]]:
    """Type and date of the events of a package, as its METS has them."""
    return [
        (event.findtext("premis:eventType", "", NS), event.findtext("premis:eventDateTime", "", NS))
        for event in mets_of(tar).iterfind(".//premis:event", NS)
    ]


def test_a_museums_own_event_is_in_the_package(
    packages: SitePackages, house: House, env: Environment, judge: Judge
) -> None:
    install(packages)
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    (tar,) = received(house)
    assert ("capture", "2015-06-01T00:00:00+00:00") in told(tar)
    assert judge(tar) == []


def test_the_guides_example_does_what_it_says(packages: SitePackages, house: House, env: Environment) -> None:
    packages.install(premis_events.GROUP, example("museum_history.py"), "museum_rules:digitisation")
    object_id = eligible_object(house, env, ("kuva.tif", image("tiff", 1)), ("kuva.jpg", JPEG))
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    (tar,) = received(house)
    assert told(tar).count(("capture", "2015-06-01T00:00:00+00:00")) == 1


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"date": "1 / 0"}, "ZeroDivisionError"),
        ({"date": "datetime(2015, 6, 1)"}, "a date without a time zone"),
        ({"target": "PurePosixPath('attachments/none')"}, "which is not in the package"),
    ],
)
def test_a_creator_of_events_that_fails_stops_the_packaging_and_freezes_nothing(
    packages: SitePackages, house: House, env: Environment, event: dict[str, str], words: str
) -> None:
    install(packages, **event)
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(PermanentFailure, match=words) as caught:
        send(env, object_id)
    assert f"object {object_id}" in str(caught.value)
    assert "'ours' failed" in str(caught.value)
    assert received(house) == []
    assert "downloaded already" in preserve.download_object(env, object_id, quiet).message, "the files are well"
