"""Verdicts and ingest reports over SFTP."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Iterable
from datetime import date, timedelta
from pathlib import Path

import asyncssh
import pytest

from passari_dagster.dps import Dps, DpsUnreachableError, Verdict, Waiting
from passari_dagster.dps.verdicts import (
    CLOCK_TOLERANCE,
    MAX_FAULTS,
    OLDER_FOLDERS,
    RECENT_FOLDERS,
    is_safe_name,
    parse_report_name,
)
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.simulation.dps_sftp import Home
from passari_dagster_tests.dps.site import Site, authorize, make_key, now, today

NAME, OTHER = "20261123_Object_1.tar", "20261123_Object_2.tar"
REPORT = f"{NAME}-5af8f577-ingest-report"


def waiting(name: str = NAME, *, ago: timedelta = timedelta(seconds=1)) -> Waiting:
    return Waiting(name, "Passari_Object_1", now() - ago)


def numbered(count: int) -> list[Waiting]:
    return [waiting(f"object-{number}.tar") for number in range(count)]


def publish_all(site: Site, packages: Iterable[Waiting]) -> None:
    for package in packages:
        site.publish("accepted", today(), package.name, f"{package.name}-1-ingest-report.xml")


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: verdict.name)


def looked_into(site: Site) -> list[str]:
    """Names whose directories have been listed."""
    return [request.rpartition("/")[2] for request in site.dps.requests if request.endswith(".tar")]


def spoil(monkeypatch: pytest.MonkeyPatch, site: Site, *names: str, silent: bool = False) -> None:
    """Have the listing of these packages' directories fail, or get no answer."""
    scan = Home.scandir

    async def bad(self: Home, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        if path.decode().rpartition("/")[2] in names:
            site.dps.requests.append(f"list {path.decode()}")
            if silent:
                await asyncio.sleep(60)
            raise asyncssh.SFTPFailure("Input/output error")
        async for entry in scan(self, path):
            yield entry

    monkeypatch.setattr(Home, "scandir", bad)


def given_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look into the packages in the order in which their directories were found."""
    monkeypatch.setattr("passari_dagster.dps.verdicts.random.sample", lambda items, count: items[:count])


def day(ago: int) -> str:
    return str(now().date() - timedelta(days=ago))


def test_accepted_and_rejected_packages_get_their_verdicts(site: Site, client: Dps) -> None:
    first = site.send(client, NAME)
    second = site.send(client, OTHER, objid="Passari_Object_2", record_status="update")
    good, bad = in_order(client.verdicts([first, second]))
    assert (good.name, good.status, good.date) == (NAME, "accepted", now().date())
    assert (bad.name, bad.status, bad.objid) == (OTHER, "rejected", "Passari_Object_2")
    assert good.transfer_id == site.dps.verdicts()[0].transfer_id
    assert good.reported >= first.since - timedelta(seconds=1)


def test_no_packages_no_questions(site: Site, client: Dps) -> None:
    assert list(client.verdicts([])) == []
    assert site.dps.requests == []


def test_only_the_needed_days_and_directories_are_listed(site: Site, client: Dps) -> None:
    for ago in range(6):
        site.publish("accepted", day(ago), f"other-{ago}.tar", f"other-{ago}.tar-1-ingest-report.xml")
    site.publish("accepted", day(1), NAME, f"{REPORT}.xml")
    verdicts = list(client.verdicts([waiting(ago=timedelta(days=2))]))
    assert [verdict.date for verdict in verdicts] == [date.fromisoformat(day(1))]
    listed = [request for request in site.dps.requests if request.startswith("list ")]
    assert listed == [
        "list accepted",
        "list rejected",
        *(f"list accepted/{day(ago)}" for ago in range(4)),
        f"list accepted/{day(1)}/{NAME}",
    ]


def listed_days(site: Site) -> list[str]:
    """Date folders that have been listed, in order."""
    return [request.removeprefix("list accepted/") for request in site.dps.requests if "accepted/" in request]


def test_lately_sent_packages_are_found_in_each_look_and_old_ones_in_some_while_no_look_lists_all_the_years(
    site: Site, client: Dps
) -> None:
    days = RECENT_FOLDERS + 3 * OLDER_FOLDERS
    for ago in range(days):
        (site.dps.home / "accepted" / day(ago)).mkdir()
    old, new = waiting(ago=timedelta(days=days)), waiting(OTHER)
    site.publish("accepted", day(days - 20), NAME, f"{REPORT}.xml", age=timedelta(days=days - 20))
    site.publish("accepted", day(0), OTHER, f"{OTHER}-1-ingest-report.xml")
    looks = 0
    found: list[str] = []
    while NAME not in found:
        before, looks = len(listed_days(site)), looks + 1
        assert looks < 200
        found = [verdict.name for verdict in client.verdicts([old, new])]
        assert OTHER in found
        folders = [name for name in listed_days(site)[before:] if "/" not in name]
        assert folders[:RECENT_FOLDERS] == [day(ago) for ago in range(RECENT_FOLDERS)], "newest first"
        assert len(folders) == RECENT_FOLDERS + OLDER_FOLDERS


def test_a_look_ends_in_time_among_folders_that_hold_nothing_and_still_tells_what_it_found(
    site: Site, client: Dps
) -> None:
    for ago in range(30):
        (site.dps.home / "accepted" / day(ago)).mkdir()
    site.publish("accepted", day(0), NAME, f"{REPORT}.xml")
    site.dps.faults.latency = 0.1
    begin = time.monotonic()
    found = list(client.verdicts([waiting(ago=timedelta(days=40))], until=begin + 1.5))
    assert [verdict.name for verdict in found] == [NAME]
    assert time.monotonic() - begin < 3
    assert 1 <= len([name for name in listed_days(site) if "/" not in name]) < 15


def test_a_look_ends_in_time_among_packages_without_a_report(site: Site, client: Dps) -> None:
    for package in numbered(60):
        site.publish("accepted", today(), package.name)
    client.check()
    site.dps.faults.latency = 0.05
    begin = time.monotonic()
    assert list(client.verdicts(numbered(60), until=begin + 1)) == []
    assert time.monotonic() - begin < 2.5
    assert 0 < len(looked_into(site)) < 30


def test_the_newest_of_several_reports_wins(site: Site, client: Dps) -> None:
    site.publish("rejected", today(), NAME, f"{NAME}-old-ingest-report.xml", age=timedelta(minutes=30))
    site.publish("rejected", today(), NAME, f"{NAME}-new-ingest-report.html", age=timedelta(minutes=10))
    site.publish("accepted", today(), NAME, f"{NAME}-mid-ingest-report.xml", age=timedelta(minutes=20))
    (verdict,) = client.verdicts([waiting(ago=timedelta(hours=1))])
    assert (verdict.status, verdict.transfer_id) == ("rejected", f"{NAME}-new")


def test_a_report_older_than_the_send_does_not_count(site: Site, client: Dps) -> None:
    site.publish("rejected", today(), NAME, f"{REPORT}.xml", age=timedelta(hours=1))
    assert list(client.verdicts([waiting()])) == []


def test_unless_the_clocks_differ_by_less_than_the_tolerance(site: Site, client: Dps) -> None:
    site.publish("accepted", today(), NAME, f"{REPORT}.xml", age=CLOCK_TOLERANCE - timedelta(seconds=30))
    assert len(list(client.verdicts([waiting()]))) == 1


def test_a_directory_without_a_report_is_no_verdict_yet(
    site: Site, client: Dps, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = site.publish("accepted", today(), NAME)
    assert list(client.verdicts([waiting()])) == []
    assert f"accepted/{today()}/{NAME} has no ingest report" in caplog.text
    (folder / f"{REPORT}.html").write_text("first the HTML")
    assert [verdict.transfer_id for verdict in client.verdicts([waiting()])] == [f"{NAME}-5af8f577"]


def test_hostile_names_of_reports_and_folders_are_ignored(
    site: Site, client: Dps, caplog: pytest.LogCaptureFixture
) -> None:
    folder = site.publish("accepted", today(), NAME, f"{REPORT}.xml")
    for name in ("..\\x-ingest-report.xml", ".x-ingest-report.xml", "a b-ingest-report.html", "x\n-ingest-report.xml"):
        (folder / name).write_text("hostile")
    (site.dps.home / "accepted" / "2026-13-45").mkdir()
    (site.dps.home / "accepted" / "not-a-day").mkdir()
    (verdict,) = client.verdicts([waiting()])
    assert verdict.transfer_id == f"{NAME}-5af8f577"
    assert caplog.text.count("no name of a report") == 4


@pytest.mark.parametrize("name", ["../x-ingest-report.xml", "/x-ingest-report.xml", "-ingest-report.xml", "x.xml"])
def test_a_name_that_leads_out_is_no_report(name: str) -> None:
    assert parse_report_name(name) is None
    assert not is_safe_name("../x")


def test_a_name_that_is_not_utf8_does_not_spoil_the_listing(site: Site, client: Dps) -> None:
    site.publish("accepted", today(), NAME, f"{REPORT}.xml")
    Path(f"{site.dps.home}/accepted/{today()}/\udcff").mkdir()
    assert len(list(client.verdicts([waiting()]))) == 1


@pytest.mark.parametrize("silent", [False, True])
def test_packages_that_fail_or_get_no_answer_do_not_stop_the_others(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    packages = numbered(6)
    publish_all(site, packages)
    given_order(monkeypatch)
    # More than MAX_FAULTS, but never so many in a row.
    bad = [packages[number].name for number in (0, 1, 3, 5)]
    spoil(monkeypatch, site, *bad, silent=silent)
    with site.client(sftp={"timeout": 0.5 if silent else 10}) as client:
        assert [verdict.name for verdict in client.verdicts(packages)] == [packages[2].name, packages[4].name]
    for name in bad:
        assert f"{name} is left for the next look" in caplog.text


def test_a_request_that_got_no_answer_leaves_nothing_behind(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A record would hold the fault, and that its task.
    monkeypatch.setattr(logging.getLogger("passari_dagster.dps.verdicts"), "disabled", True)
    publish_all(site, numbered(1))
    spoil(monkeypatch, site, numbered(1)[0].name, silent=True)
    with site.client(sftp={"timeout": 0.5}) as client:
        assert list(client.verdicts(numbered(1))) == []
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("silent", [False, True])
def test_several_that_fail_in_a_row_end_the_look_after_what_was_found(
    site: Site, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    packages = numbered(3 + MAX_FAULTS)
    publish_all(site, packages)
    given_order(monkeypatch)
    spoil(monkeypatch, site, *(package.name for package in packages[2:-1]), silent=silent)
    with site.client(sftp={"timeout": 0.5 if silent else 10}) as client:
        verdicts = client.verdicts(packages)
        assert [next(verdicts).name, next(verdicts).name] == [packages[0].name, packages[1].name]
        with pytest.raises(TransientFailure, match=rf"list accepted/.*/{packages[-2].name}"):
            next(verdicts)
    assert packages[-1].name not in looked_into(site)


def test_a_few_that_always_fail_do_not_hide_the_others_for_ever(
    site: Site, client: Dps, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = numbered(MAX_FAULTS + 1)
    publish_all(site, packages)
    spoil(monkeypatch, site, *(package.name for package in packages[:MAX_FAULTS]))
    for _ in range(200):
        try:
            found = list(client.verdicts(packages))
        except TransientFailure:  # these were the first
            continue
        if found:
            break
    assert [verdict.name for verdict in found] == [packages[-1].name]


def test_a_package_with_a_directory_that_cannot_be_read_waits_for_the_whole(
    site: Site, client: Dps, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish("rejected", today(), NAME, f"{NAME}-old-ingest-report.xml", age=timedelta(minutes=30))
    site.publish("accepted", today(), NAME, f"{NAME}-new-ingest-report.xml")
    package = waiting(ago=timedelta(hours=1))
    monkeypatch.setattr(site.dps._sftp, "unlistable", f"accepted/{today()}/{NAME}")
    assert list(client.verdicts([package])) == []
    monkeypatch.undo()
    assert [verdict.transfer_id for verdict in client.verdicts([package])] == [f"{NAME}-new"]


def test_verdicts_found_before_the_connection_was_lost_for_good_are_told(site: Site, client: Dps) -> None:
    publish_all(site, numbered(2))
    verdicts = client.verdicts(numbered(2))
    first = next(verdicts)
    site.dps.stop()
    with pytest.raises(DpsUnreachableError):
        next(verdicts)
    assert looked_into(site) == [first.name]


def test_a_key_that_is_refused_after_a_lost_connection_ends_the_look(site: Site, client: Dps) -> None:
    publish_all(site, numbered(2))
    verdicts = client.verdicts(numbered(2))
    next(verdicts)
    authorize(site.authorized_keys, make_key(site.directory / "another", "ssh-ed25519"))
    site.dps.drop_connections()
    with pytest.raises(PermanentFailure, match="refused the key"):
        next(verdicts)


def test_a_connection_that_is_lost_and_had_again_costs_one_package(site: Site, client: Dps) -> None:
    packages = numbered(4)
    publish_all(site, packages)
    verdicts = client.verdicts(packages)
    found = {next(verdicts).name}
    site.dps.drop_connections()
    found |= {verdict.name for verdict in verdicts}
    assert len(found) == 3
    assert {verdict.name for verdict in client.verdicts(packages)} > found


def test_one_look_is_bounded_and_repeated_looks_find_all(site: Site, client: Dps) -> None:
    packages = numbered(12)
    publish_all(site, packages[:6])
    for package in packages[6:]:  # never get a report
        site.publish("rejected", today(), package.name)
    left = {package.name: package for package in packages}
    for _ in range(200):
        before = len(looked_into(site))
        found = list(client.verdicts([*left.values()], limit=4))
        assert len(looked_into(site)) - before == 4
        for verdict in found:
            del left[verdict.name]
        if len(left) == 6:
            break
    assert set(left) == {package.name for package in packages[6:]}


def test_a_listing_that_failed_is_never_an_empty_answer(
    site: Site, client: Dps, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish("accepted", today(), NAME, f"{REPORT}.xml")
    for place in ("accepted", f"accepted/{today()}"):
        monkeypatch.setattr(site.dps._sftp, "unlistable", place)
        with pytest.raises(TransientFailure, match=f"list {place}"):
            list(client.verdicts([waiting()]))
    site.dps.stop()
    with pytest.raises(DpsUnreachableError):
        list(client.verdicts([waiting()]))


def test_both_reports_are_fetched_whole(site: Site, client: Dps, tmp_path: Path) -> None:
    (verdict,) = client.verdicts([site.send(client, NAME)])
    archive = tmp_path / "archive"
    archive.mkdir()
    for _ in range(2):  # what was fetched before is replaced
        paths = client.fetch_reports(verdict, archive)
    assert [path.name for path in paths] == [
        f"{verdict.transfer_id}-ingest-report.xml",
        f"{verdict.transfer_id}-ingest-report.html",
    ]
    assert b"success" in paths[0].read_bytes()
    assert sorted(archive.iterdir()) == sorted(paths)


@pytest.mark.parametrize("missing", ["html", "xml"])
def test_a_missing_report_is_named_and_the_other_one_is_kept(
    site: Site, client: Dps, tmp_path: Path, missing: str
) -> None:
    setattr(site.dps.faults, f"missing_{missing}", True)
    (verdict,) = client.verdicts([site.send(client, NAME)])
    archive = tmp_path / "archive"
    archive.mkdir()
    with pytest.raises(TransientFailure, match=f"{verdict.transfer_id}-ingest-report.{missing} of the accepted"):
        client.fetch_reports(verdict, archive)
    assert len(list(archive.iterdir())) == 1
    setattr(site.dps.faults, f"missing_{missing}", False)
    assert len(client.fetch_reports(verdict, archive)) == 2


def test_a_report_that_never_ends_is_not_fetched(
    site: Site, client: Dps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passari_dagster.dps.sftp.MAX_REPORT_BYTES", 1000)
    folder = site.publish("accepted", today(), NAME, f"{REPORT}.html")
    (folder / f"{REPORT}.xml").write_bytes(b"x" * 5000)
    (verdict,) = client.verdicts([waiting()])
    archive = tmp_path / "archive"
    archive.mkdir()
    with pytest.raises(Exception, match="larger than 1000 bytes"):
        client.fetch_reports(verdict, archive)
    assert list(archive.iterdir()) == []


def test_a_verdict_with_a_hostile_transfer_id_writes_nothing(site: Site, client: Dps, tmp_path: Path) -> None:
    verdict = Verdict(NAME, "x", "accepted", now().date(), now(), "../evil")
    with pytest.raises(ValueError, match="not a safe file name"):
        client.fetch_reports(verdict, tmp_path / "archive")


def test_the_content_of_a_rejected_package_is_removed_and_its_reports_stay(site: Site, client: Dps) -> None:
    folder = site.publish("rejected", today(), NAME, f"{REPORT}.xml", f"{REPORT}.html", content=True)
    assert client.remove_rejected(NAME, now().date())
    assert sorted(path.name for path in folder.iterdir()) == [f"{REPORT}.html", f"{REPORT}.xml"]
    assert not client.remove_rejected(NAME, now().date())
    assert not client.remove_rejected(OTHER, now().date())


def test_also_when_its_folder_lies_on_the_other_side_of_midnight(site: Site, client: Dps) -> None:
    folder = site.publish("rejected", day(1), NAME, content=True)
    assert client.remove_rejected(NAME, now().date())
    assert list(folder.iterdir()) == []


def test_a_link_in_it_is_removed_and_not_followed(site: Site, client: Dps, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    folder = site.publish("rejected", today(), NAME, content=True)
    (folder / NAME / "link").symlink_to(outside)
    client.remove_rejected(NAME, now().date())
    assert (outside / "precious").exists()
    assert list(folder.iterdir()) == []
