"""Where is the package?"""

from __future__ import annotations

import time
from datetime import date, timedelta

import pytest

from passari_dagster.dps import Dps, Finding, Place, Waiting
from passari_dagster.errors import TransientFailure
from passari_dagster_tests.dps.site import OBJID, Site, now, today

NAME = "20261123_Object_1.tar"


def test_nowhere(client: Dps) -> None:
    assert client.find(NAME, OBJID, now()) == Finding(Place.NOWHERE)


def test_incomplete_with_its_size(site: Site, client: Dps) -> None:
    (site.dps.home / "transfer" / f"{NAME}.incomplete").write_bytes(b"12345")
    assert client.find(NAME, OBJID, now()) == Finding(Place.INCOMPLETE, size=5)


def test_in_transfer(site: Site, client: Dps) -> None:
    site.dps.paused = True
    (site.dps.home / "transfer" / NAME).write_bytes(b"12345")
    assert client.find(NAME, OBJID, now()) == Finding(Place.TRANSFER, size=5)


@pytest.mark.parametrize(("status", "place"), [("accepted", Place.ACCEPTED), ("rejected", Place.REJECTED)])
def test_accepted_and_rejected_with_the_day(site: Site, client: Dps, status: str, place: Place) -> None:
    site.publish(status, today(), NAME)
    assert client.find(NAME, OBJID, now()) == Finding(place, date=date.fromisoformat(today()))


def test_the_newest_of_two_days_counts(site: Site, client: Dps) -> None:
    site.publish("rejected", str(now().date() - timedelta(days=1)), NAME)
    site.publish("accepted", today(), NAME)
    assert client.find(NAME, OBJID, now()).place is Place.ACCEPTED


def test_the_place_furthest_on_holds(site: Site, client: Dps) -> None:
    """A request of a killed process may leave an .incomplete behind a package that went its way."""
    site.dps.paused = True
    (site.dps.home / "transfer" / f"{NAME}.incomplete").write_bytes(b"late")
    (site.dps.home / "transfer" / NAME).write_bytes(b"whole")
    assert client.find(NAME, OBJID, now()) == Finding(Place.TRANSFER, size=5)
    site.publish("accepted", today(), NAME)
    assert client.find(NAME, OBJID, now()).place is Place.ACCEPTED


def test_days_before_the_send_are_not_looked_at(site: Site, client: Dps) -> None:
    site.publish("accepted", str(now().date() - timedelta(days=2)), NAME)
    assert client.find(NAME, OBJID, now()).place is Place.NOWHERE


def test_a_package_that_moves_on_while_we_look_is_found(site: Site, client: Dps) -> None:
    """The DPS takes it just after we found transfer/ empty of it, many times over."""
    site.dps.processing = 0.0
    for number in range(20):
        name = f"race-{number}.tar"
        client.submit(site.package(name, objid=f"race-{number}"), name, before_rename=lambda: None)
        place = client.find(name, f"race-{number}", now()).place
        assert place in (Place.TRANSFER, Place.ACCEPTED, Place.NOWHERE)
        if place is Place.NOWHERE:  # between pick-up and verdict SFTP cannot tell
            assert site.dps.wait_for(name).status == "accepted"


def test_it_is_looked_for_in_the_order_in_which_it_moves_and_twice(site: Site, client: Dps) -> None:
    client.find(NAME, OBJID, now())
    look = [f"lstat transfer/{NAME}.incomplete", f"lstat transfer/{NAME}", "list accepted", "list rejected"]
    assert site.dps.requests == look * 2


def test_a_status_directory_that_cannot_be_listed_is_no_answer(site: Site, client: Dps) -> None:
    (site.dps.home / "rejected").rmdir()
    with pytest.raises(TransientFailure, match="refused to look"):
        client.find(NAME, OBJID, now())


def test_rest_tells_of_a_package_at_work(site: Site) -> None:
    site.dps.processing = 3600
    with site.client(verdicts="rest-3.0") as client:
        since = now()
        client.submit(site.package(), NAME, before_rename=lambda: None)
        while (site.dps.home / "transfer" / NAME).exists():
            time.sleep(0.01)
        assert client.find(NAME, OBJID, since).place is Place.TRANSFER


@pytest.mark.parametrize("verdicts", ["rest-2.0", "rest-3.0"])
def test_rest_is_asked_when_sftp_knows_nothing(site: Site, verdicts: str) -> None:
    with site.client(verdicts=verdicts) as client:
        waiting = site.send(client, NAME)
        for folder in (site.dps.home / "accepted").iterdir():
            folder.rename(site.directory / "away")
        assert client.find(NAME, OBJID, waiting.since) == Finding(Place.ACCEPTED, date=now().date())
        assert client.find("other.tar", "other", waiting.since).place is Place.NOWHERE


def test_many_are_found_in_one_look(site: Site, client: Dps) -> None:
    site.dps.paused = True
    transfer = site.dps.home / "transfer"
    (transfer / "part.tar.incomplete").write_bytes(b"12")
    (transfer / "whole.tar.incomplete").write_bytes(b"late")
    (transfer / "whole.tar").write_bytes(b"12345")
    (transfer / "judged.tar").write_bytes(b"again")
    yesterday = str(now().date() - timedelta(days=1))
    site.publish("rejected", yesterday, "judged.tar")
    site.publish("accepted", today(), "judged.tar")
    site.publish("rejected", today(), "refused.tar")
    site.publish("accepted", str(now().date() - timedelta(days=3)), "older.tar")
    site.publish("accepted", today(), "of-somebody-else.tar")
    wanted = ["part.tar", "whole.tar", "judged.tar", "refused.tar", "older.tar", "lost.tar"]
    site.dps.requests.clear()
    assert client.places([Waiting(name, OBJID, now()) for name in wanted]) == {
        "part.tar": Place.INCOMPLETE,
        "whole.tar": Place.TRANSFER,
        "judged.tar": Place.ACCEPTED,
        "refused.tar": Place.REJECTED,
        "older.tar": Place.NOWHERE,
        "lost.tar": Place.NOWHERE,
    }
    folders = sum(request.startswith("list ") for request in site.dps.requests)
    assert folders == 6, "transfer, two of status, and their three days, however many packages there are"
    assert client.places([]) == {}


def test_a_folder_that_cannot_be_listed_is_no_answer_for_many_either(site: Site, client: Dps) -> None:
    (site.dps.home / "rejected").rmdir()
    with pytest.raises(TransientFailure, match="refused to list rejected"):
        client.places([Waiting(NAME, OBJID, now())])


@pytest.mark.parametrize("verdicts", ["rest-2.0", "rest-3.0"])
def test_where_verdicts_come_over_rest_it_is_asked_for_what_sftp_does_not_show(site: Site, verdicts: str) -> None:
    name = "over-rest.tar"
    with Dps(site.settings(verdicts=verdicts)) as client:
        client.submit(site.package(name, objid="over-rest"), name, before_rename=lambda: None)
        assert site.dps.wait_for(name).status == "accepted"
        for day in (site.dps.home / "accepted").iterdir():
            (day / name).rename(site.dps.home / "cleared-up")
        assert client.places([Waiting(name, "over-rest", now())]) == {name: Place.ACCEPTED}
