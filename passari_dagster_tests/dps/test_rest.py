"""Verdicts and ingest reports over REST 2.0 and 3.0."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from passari_dagster.dps import DpsUnreachableError, Waiting
from passari_dagster.dps.faults import NoConnectionError
from passari_dagster.dps.rest_http import Http
from passari_dagster.dps.verdicts import MAX_FAULTS, counts, is_of
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.settings import RestSettings
from passari_dagster_tests.dps.fake_rest import FakeRest
from passari_dagster_tests.dps.site import Site, now
from passari_dagster_tests.dps.tiny_sip import CONTRACT, Signer

NAME, OTHER = "20261123_Object_1.tar", "20261123_Object_2.tar"
both = pytest.mark.parametrize("api", ["rest-2.0", "rest-3.0"])


@both
def test_verdicts_and_reports(site: Site, tmp_path: Path, api: str) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    with site.client(verdicts=api) as client:
        first = site.send(client, NAME)
        second = site.send(client, OTHER, objid="Object 2/ä:%", record_status="submission")
        third = Waiting("never-sent.tar", "Passari_Object_3", now())
        good, odd = sorted(client.verdicts([first, second, third]), key=lambda verdict: verdict.name)
        assert (good.name, good.status, good.date) == (NAME, "accepted", now().date())
        assert (odd.name, odd.status) == (OTHER, "rejected")
        assert good.reported >= first.since - timedelta(seconds=2)
        for verdict, word in ((good, b"success"), (odd, b"failure")):
            xml, html = client.fetch_reports(verdict, archive)
            assert word in xml.read_bytes()
            assert b"<!DOCTYPE html>" in html.read_bytes()
        assert client.remove_rejected(OTHER, odd.date)
    assert len(list(archive.iterdir())) == 4


@both
def test_no_reports_is_404_and_no_fault(site: Site, api: str) -> None:
    with site.client(verdicts=api) as client:
        assert list(client.verdicts([Waiting(NAME, "Passari_Object_1", now())])) == []


@both
def test_a_report_older_than_the_send_does_not_count(site: Site, api: str) -> None:
    with site.client(verdicts=api) as client:
        site.send(client, NAME)
        assert list(client.verdicts([Waiting(NAME, "Passari_Object_1", now() + timedelta(minutes=10))])) == []


@both
def test_server_errors_are_retried_with_a_growing_wait(site: Site, api: str) -> None:
    with site.client(verdicts=api, rest={"retry_wait": 0.05}) as client:
        waiting = site.send(client, NAME)
        site.dps.fail_next(3)
        begin = time.monotonic()
        assert len(list(client.verdicts([waiting]))) == 1
        assert time.monotonic() - begin > 0.75 * (0.05 + 0.1 + 0.2)


@both
def test_and_told_when_they_do_not_end(site: Site, api: str) -> None:
    with site.client(verdicts=api) as client:
        waiting = site.send(client, NAME)
        site.dps.fail_next(100)
        with pytest.raises(TransientFailure, match="status 500"):
            list(client.verdicts([waiting]))


def report_path(package: Waiting) -> str:
    return f"/api/2.0/{CONTRACT}/ingest/report/{package.objid}"


def reports(packages: Iterable[Waiting]) -> dict[str, list[object]]:
    """Answers of REST 2.0 with a verdict on each package."""
    return {
        report_path(package): [
            page({"id": f"{package.name}-1", "status": "accepted", "date": now().strftime("%Y-%m-%dT%H:%M:%SZ")})
        ]
        for package in packages
    }


def numbered(count: int) -> list[Waiting]:
    return [Waiting(f"object-{number}.tar", f"object-{number}", now()) for number in range(count)]


def given_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for the packages in the order in which they are given."""
    monkeypatch.setattr("passari_dagster.dps.verdicts.random.sample", lambda items, count: items[:count])


FAULTS = pytest.mark.parametrize("fault", ["no json", None], ids=["wrong", "cut"])


@FAULTS
def test_packages_that_fail_do_not_stop_the_others(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    given_order(monkeypatch)
    packages = numbered(6)
    # More than MAX_FAULTS, but never so many in a row.
    bad = [packages[number] for number in (0, 1, 3, 5)]
    with (
        FakeRest(reports(packages) | {report_path(package): [fault] for package in bad}) as fake,
        site.client(verdicts="rest-2.0", rest={"url": fake.url, "retries": 0}) as client,
    ):
        assert [verdict.name for verdict in client.verdicts(packages)] == [packages[2].name, packages[4].name]
    for package in bad:
        assert f"{package.name} is left for the next look" in caplog.text


@FAULTS
def test_several_that_fail_in_a_row_end_the_look_after_what_was_found(
    site: Site, monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    given_order(monkeypatch)
    packages = numbered(2 + MAX_FAULTS)
    with (
        FakeRest(reports(packages) | {report_path(package): [fault] for package in packages[1:-1]}) as fake,
        site.client(verdicts="rest-2.0", rest={"url": fake.url, "retries": 0}) as client,
    ):
        verdicts = client.verdicts(packages)
        assert next(verdicts).name == packages[0].name
        with pytest.raises(TransientFailure, match=packages[-2].objid):
            next(verdicts)
    assert len(fake.requests) == 1 + MAX_FAULTS


def test_all_of_a_few_that_fail_end_the_look_too(site: Site) -> None:
    packages = numbered(MAX_FAULTS - 1)
    with (
        FakeRest({report_path(package): ["no json"] for package in packages}) as fake,
        site.client(verdicts="rest-2.0", rest={"url": fake.url}) as client,
        pytest.raises(TransientFailure, match="something else than JSON"),
    ):
        list(client.verdicts(packages))
    assert len(fake.requests) == len(packages)


def test_verdicts_found_before_the_connection_was_lost_for_good_are_told(site: Site) -> None:
    packages = numbered(5)
    with FakeRest(reports(packages)) as fake:
        client = site.client(verdicts="rest-2.0", rest={"url": fake.url, "retries": 0})
        verdicts = client.verdicts(packages)
        next(verdicts)
    with client, pytest.raises(NoConnectionError):
        next(verdicts)
    assert len(fake.requests) == 1


def test_one_look_is_bounded_and_repeated_looks_find_all(site: Site) -> None:
    packages = numbered(12)
    left = {package.name: package for package in packages}
    with (
        FakeRest(reports(packages[:6])) as fake,  # the others never get a report
        site.client(verdicts="rest-2.0", rest={"url": fake.url}) as client,
    ):
        for _ in range(200):
            before = len(fake.requests)
            for verdict in client.verdicts([*left.values()], limit=4):
                del left[verdict.name]
            assert len(fake.requests) - before == 4
            if len(left) == 6:
                break
    assert set(left) == {package.name for package in packages[6:]}


def test_one_look_is_bounded_in_time_as_well(site: Site) -> None:
    with (
        FakeRest(reports(numbered(3))) as fake,
        site.client(verdicts="rest-2.0", rest={"url": fake.url}) as client,
    ):
        verdicts = client.verdicts(numbered(3), until=time.monotonic() + 0.5)
        next(verdicts)
        time.sleep(0.6)
        assert list(verdicts) == []
    assert len(fake.requests) == 1


def test_a_listing_that_takes_too_long_is_left_with_what_was_found(site: Site) -> None:
    pages: list[object] = [
        page(transfer(NAME), following=f"{TRANSFERS}?page=2"),
        page(following=f"{TRANSFERS}?page=3"),
        page(),
    ]
    with (
        FakeRest({TRANSFERS: pages}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
    ):
        asked = [Waiting(NAME, "x", now() - timedelta(hours=1))]
        assert [verdict.name for verdict in client.verdicts(asked, until=time.monotonic())] == [NAME]
    assert not [request for request in fake.requests if "page=1" not in request]


def test_a_listing_gives_as_many_verdicts_as_are_wanted_and_repeated_looks_find_all(site: Site) -> None:
    packages = [Waiting(f"object-{number}.tar", "x", now() - timedelta(hours=1)) for number in range(5)]
    left = {package.name: package for package in packages}
    with (
        FakeRest({TRANSFERS: [page(*(transfer(package.name) for package in packages))]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
    ):
        for expected in (2, 2, 1):
            found = list(client.verdicts([*left.values()], limit=2))
            assert len(found) == expected
            for verdict in found:
                del left[verdict.name]
    assert left == {}


@both
def test_a_missing_report_is_named(site: Site, tmp_path: Path, api: str) -> None:
    with site.client(verdicts=api) as client:
        (verdict,) = client.verdicts([site.send(client, NAME)])
        site.dps.faults.missing_html = True
        with pytest.raises(TransientFailure, match=f"{verdict.transfer_id}-ingest-report.html"):
            client.fetch_reports(verdict, tmp_path)


@both
def test_check_tells_what_was_reached(site: Site, api: str) -> None:
    with site.client(verdicts=api) as client:
        assert client.check()[1] == f"{site.dps.rest_url}: REST API {api[5:]}"


def test_a_wrong_password_is_a_permanent_failure_that_does_not_show_it(site: Site) -> None:
    with (
        site.client(verdicts="rest-2.0", rest={"password": "wr0ng"}) as client,
        pytest.raises(PermanentFailure, match="does not let 'museum' in") as caught,
    ):
        client.check()
    assert "wr0ng" not in str(caught.value)


def test_nobody_at_home_is_told_after_the_retries(site: Site) -> None:
    with site.client(verdicts="rest-2.0") as client:
        site.dps.stop()
        with pytest.raises(NoConnectionError, match="does not answer"):
            list(client.verdicts([Waiting(NAME, "x", now())]))


def test_every_page_of_transfers_is_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passari_dagster.dps.rest.PAGE_SIZE", 2)
    with site.client(verdicts="rest-3.0") as client:
        waiting = [site.send(client, f"object-{number}.tar", objid=f"object-{number}") for number in range(5)]
        verdicts = list(client.verdicts(waiting))
    assert [verdict.name for verdict in verdicts] == [f"object-{number}.tar" for number in range(5)]


def transfer(name: str, age: timedelta = timedelta()) -> dict[str, object]:
    time = now() - age
    return {
        "transfer_id": f"{name}-1",
        "filename": name,
        "status": "accepted",
        "timestamp": time.strftime("%a, %d %b %Y %H:%M:%S GMT"),
    }


def page(*transfers: object, following: str | None = None) -> dict[str, object]:
    links = {"next": following} if following else {}
    return {"status": "success", "data": {"results": list(transfers), "links": links}}


TRANSFERS = f"/api/3.0/{CONTRACT}/transfers"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api",
        "//evil.example/api",
        "/elsewhere",
        f"/api/3.0/{CONTRACT}/../../admin",
        ["no", "string"],
    ],
)
def test_a_link_to_another_place_is_not_followed(site: Site, link: str) -> None:
    with (
        FakeRest({TRANSFERS: [page(following=link)]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
        pytest.raises(TransientFailure, match="leads elsewhere"),
    ):
        list(client.verdicts([Waiting(NAME, "x", now())]))
    assert len(fake.requests) == 1


def test_pages_that_go_round_are_given_up(site: Site) -> None:
    with (
        FakeRest({TRANSFERS: [page(following=f"{TRANSFERS}?page=1&limit=1000&status=accepted")]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
        pytest.raises(TransientFailure, match="do not end"),
    ):
        list(client.verdicts([Waiting(NAME, "x", now())]))
    assert len(fake.requests) < 3


def test_a_listing_that_is_newest_first_is_read_to_the_oldest_send_only(site: Site) -> None:
    more = f"{TRANSFERS}?page=2"
    first = page(transfer(NAME), transfer("old.tar", timedelta(days=9)), following=more)
    with (
        FakeRest({TRANSFERS: [first, page(), page(), page()]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
    ):
        assert len(list(client.verdicts([Waiting(NAME, "x", now() - timedelta(hours=1))]))) == 1
    assert [request for request in fake.requests if "page=2" in request] == []


def test_one_that_is_not_is_read_to_its_end(site: Site) -> None:
    more = f"{TRANSFERS}?page=2"
    first = page(transfer("old.tar", timedelta(days=9)), transfer("a.tar"), following=more)
    with (
        FakeRest({TRANSFERS: [first, page(transfer(NAME)), page()]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
    ):
        assert len(list(client.verdicts([Waiting(NAME, "x", now() - timedelta(hours=1))]))) == 1


@pytest.mark.parametrize("answer", ["no json", [1], {"status": "success"}, {"data": {"results": [3]}}])
def test_an_answer_that_was_not_agreed_is_a_transient_failure(site: Site, answer: object) -> None:
    with (
        FakeRest({TRANSFERS: [answer]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
        pytest.raises(TransientFailure),
    ):
        list(client.verdicts([Waiting(NAME, "x", now())]))


def test_a_hostile_transfer_id_is_ignored(site: Site) -> None:
    hostile = {**transfer(NAME), "transfer_id": "../../evil"}
    with (
        FakeRest({TRANSFERS: [page(hostile)]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
    ):
        assert list(client.verdicts([Waiting(NAME, "x", now())])) == []


def test_the_objid_is_percent_encoded_fully(site: Site) -> None:
    with (
        FakeRest({}) as fake,
        site.client(verdicts="rest-2.0", rest={"url": fake.url}) as client,
    ):
        assert list(client.verdicts([Waiting(NAME, "a:b/c%d ä", now())])) == []
    assert fake.requests == [f"/api/2.0/{CONTRACT}/ingest/report/a%3Ab%2Fc%25d%20%C3%A4"]


def test_an_answer_that_never_ends_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passari_dagster.dps.rest_http.MAX_JSON_BYTES", 1000)
    with (
        FakeRest({TRANSFERS: ["x" * 5000]}) as fake,
        site.client(verdicts="rest-3.0", rest={"url": fake.url}) as client,
        pytest.raises(TransientFailure, match="larger than 1000 bytes"),
    ):
        list(client.verdicts([Waiting(NAME, "x", now())]))


def test_a_password_does_not_leave_the_machine_in_the_clear() -> None:
    settings = RestSettings(url="http://pas.example", username="museum", password="s3cret")
    with pytest.raises(PermanentFailure, match="only sent over https") as caught:
        Http(settings, "/api/2.0/x")
    assert "s3cret" not in str(caught.value)


def test_https_is_verified_with_the_ca_file(tmp_path: Path, signer: Signer) -> None:
    certificate, key = self_signed(tmp_path)
    site = Site(tmp_path, signer, tls=(certificate, key))
    site.start()
    try:
        with site.client(verdicts="rest-2.0", rest={"ca_file": certificate}) as client:
            assert client.check()[1].startswith("https://")
        with (
            site.client(verdicts="rest-2.0", rest={"retries": 0, "ca_file": None}) as client,
            pytest.raises(DpsUnreachableError, match=r"(?i)certificate"),
        ):
            client.check()
        with (
            site.client(verdicts="rest-2.0", rest={"ca_file": tmp_path / "absent"}) as client,
            pytest.raises(PermanentFailure, match="CA certificates"),
        ):
            client.check()
    finally:
        site.dps.stop()


def test_a_date_without_a_time_counts_for_the_whole_day() -> None:
    since = datetime(2026, 11, 23, 15, 0, tzinfo=timezone.utc)
    assert counts(datetime(2026, 11, 23, tzinfo=timezone.utc), since)
    assert not counts(datetime(2026, 11, 22, tzinfo=timezone.utc), since)
    assert not counts(datetime(2026, 11, 23, 0, 0, 1, tzinfo=timezone.utc), since)


def test_a_transfer_is_matched_to_the_name_of_the_package() -> None:
    assert is_of("a.tar-5af8f577", "a.tar")
    assert is_of("a.tar", "a.tar")
    assert not is_of("aa.tar-5af8f577", "a.tar")
    assert not is_of("a.tar-../x", "a.tar")


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=DPS")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "tls.pem", directory / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
