"""The simulated DPS as a whole: what it keeps, what can be made to fail, where requests can be stopped."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import asyncssh
import httpx
import pytest

from passari_dagster.dps import Dps, Place, Verdict, Waiting
from passari_dagster_tests.dps.conftest import client as client  # the fixtures
from passari_dagster_tests.dps.conftest import signer as signer
from passari_dagster_tests.dps.conftest import site as site
from passari_dagster_tests.dps.site import OBJID, Site, now, today
from passari_dagster_tests.dps.tiny_sip import CONTRACT

NAME = "20261123_Object_1.tar"


def test_an_accepted_package_leaves_transfer_and_its_reports_appear(site: Site, client: Dps) -> None:
    sent = site.package()
    site.send(client, NAME)
    verdict = site.dps.verdicts()[0]
    folder = site.dps.home / "accepted" / today() / NAME
    assert verdict.transfer_id.startswith(f"{NAME}-")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{verdict.transfer_id}-ingest-report.html",
        f"{verdict.transfer_id}-ingest-report.xml",
    ]
    assert list((site.dps.home / "transfer").iterdir()) == []
    (kept,) = site.dps.received.iterdir()
    assert kept.name == f"000001-{NAME}"
    assert kept.read_bytes() == sent.read_bytes()


def test_the_content_of_a_rejected_package_lies_beside_its_reports(site: Site, client: Dps) -> None:
    site.send(client, NAME, record_status="update")
    content = site.dps.home / "rejected" / today() / NAME / NAME
    assert (content / "reports" / "lido.xml").read_bytes() == b"<lido/>"
    assert "unknown" in site.dps.verdicts()[0].reasons[0]
    with site.client() as other:
        assert other.remove_rejected(NAME, now().date())
    assert not content.exists()


def test_a_second_submission_is_rejected_and_an_update_accepted_over_a_restart_too(site: Site) -> None:
    for name, status, expected in (
        ("1.tar", "submission", "accepted"),
        ("2.tar", "submission", "rejected"),
        ("3.tar", "update", "accepted"),
    ):
        with site.client() as client:
            site.send(client, name, record_status=status)
        assert site.dps.verdicts()[-1].status == expected
        site.dps.stop()
        site.dps = site.make()
        site.start()
    lines = [json.loads(line) for line in site.dps.log.read_text().splitlines()]
    assert [(line["name"], line["status"], line["objid"]) for line in lines] == [
        ("1.tar", "accepted", OBJID),
        ("2.tar", "rejected", OBJID),
        ("3.tar", "accepted", OBJID),
    ]


def test_a_package_taken_before_a_stop_gets_its_verdict_after_it(site: Site, client: Dps) -> None:
    site.dps.processing = 3600
    client.submit(site.package(), NAME, before_rename=lambda: None)
    while not list(site.dps.received.iterdir()):
        time.sleep(0.01)
    assert client.find(NAME, OBJID, now()).place is Place.NOWHERE
    site.dps.stop()
    site.dps = site.make()
    site.start()
    assert site.dps.wait_for(NAME).status == "accepted"


def test_it_picks_up_late_or_not_before_it_is_told(site: Site, client: Dps) -> None:
    site.dps.delays["slow"] = 3600
    site.dps.paused = True
    for name in ("slow.tar", "fast.tar"):
        client.submit(site.package(name, objid=name), name, before_rename=lambda: None)
    time.sleep(0.2)
    assert len(list((site.dps.home / "transfer").iterdir())) == 2
    site.dps.paused = False
    assert site.dps.wait_for("fast.tar").status == "accepted"
    assert client.find("slow.tar", "slow.tar", now()).place is Place.TRANSFER


def test_a_package_damaged_on_its_way_in_is_rejected_and_kept_as_it_was_sent(site: Site, client: Dps) -> None:
    site.dps.damage_next(1)
    sent = site.package(objid="a")
    site.send(client, NAME, objid="a")
    verdict = site.dps.verdicts()[0]
    assert verdict.status == "rejected"
    assert verdict.damaged
    assert next(site.dps.received.iterdir()).read_bytes() == sent.read_bytes()
    site.send(client, "again.tar", objid="a")
    assert site.dps.verdicts()[1].status == "accepted"


@pytest.mark.parametrize(
    "path", ["accepted/x", "rejected/x", "x", f"rejected/{today()}/{NAME}/{NAME}/new", "transfer/../accepted/x"]
)
def test_a_museum_may_write_in_transfer_only(site: Site, path: str) -> None:
    async def intrude() -> None:
        async with (
            asyncssh.connect(
                "127.0.0.1",
                site.dps.sftp_port,
                username="x",
                client_keys=[str(site.key)],
                known_hosts=str(site.known_hosts),
                config=None,
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.open(path, "wb")
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.mkdir(path)
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.rename("transfer/a", path)
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.remove(f"accepted/{today()}/report.xml")

    import asyncio

    asyncio.run(intrude())


SENDER = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from passari_dagster.dps import Dps
from passari_dagster.settings import DpsSettings
settings = DpsSettings.model_validate_json(sys.argv[1])
with Dps(settings) as dps:
    def commit(): Path(sys.argv[3] + ".intent").touch()
    dps.submit(Path(sys.argv[2]), Path(sys.argv[2]).name, before_rename=commit)
Path(sys.argv[3] + ".done").touch()
"""


@pytest.fixture
def sender(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A process that sends a package; killed at the latest when the test ends."""
    package = site.directory / NAME
    site.package()
    package.write_bytes(package.read_bytes() + b"\0" * 2_000_000)
    settings = site.settings().model_dump_json()
    process = subprocess.Popen([sys.executable, "-c", SENDER, settings, str(package), str(site.directory / "sender")])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("point", "intended", "left"),
    [
        ("open", False, Place.NOWHERE),
        ("write", False, Place.INCOMPLETE),
        ("rename-before", True, Place.INCOMPLETE),
        ("rename-after", True, Place.ACCEPTED),
    ],
)
def test_a_sender_is_killed_at_a_known_place(
    site: Site, client: Dps, request: pytest.FixtureRequest, point: str, intended: bool, left: Place
) -> None:
    hold = site.dps.hold(point, NAME, after_bytes=1_000_000)  # type: ignore[arg-type]
    sender = request.getfixturevalue("sender")
    assert hold.reached.wait(30)
    sender.send_signal(signal.SIGKILL)
    sender.wait()
    if point == "rename-after":  # while the answer is held, the DPS takes the package
        site.dps.wait_for(NAME)
    found = client.find(NAME, OBJID, now())
    assert found.place is left
    if point == "write":
        assert found.size == 1_000_000
    assert (site.directory / "sender.intent").exists() is intended
    assert not (site.directory / "sender.done").exists()
    hold.release()
    if point == "rename-before":  # the request had arrived: it is carried out, whoever asked for it
        assert site.dps.wait_for(NAME).status == "accepted"


def test_rest_answers_as_documented(site: Site, client: Dps) -> None:
    waiting = site.send(client, NAME)
    site.send(client, "2.tar", objid="other")
    trust = ssl.create_default_context(cafile=site.dps.ca_file)
    login = (site.dps.rest_user, site.dps.rest_password)
    with httpx.Client(base_url=site.dps.rest_url, auth=login, verify=trust) as http:
        base = f"/api/2.0/{CONTRACT}"
        found = http.get(f"{base}/search", params={"q": f"pkg_type:AIP AND OBJID:{OBJID}"}).json()["data"]
        assert [aip["pkg_type"] for aip in found["results"]] == ["AIP"]
        first = http.get(f"{base}/search", params={"page": 1, "limit": 1}).json()["data"]
        second = http.get(first["links"]["next"]).json()["data"]
        assert "prev" in second["links"]
        assert first["results"][0]["id"] == found["results"][0]["id"]
        result = http.get(f"{base}/ingest/report/{OBJID}").json()["data"]["results"][0]
        assert http.get(result["download"]["html"]).headers["content-type"].startswith("text/html")
        assert http.get(f"{base}/ingest/report/unknown").status_code == 404
        figures = http.get(f"{base}/statistics/overview").json()["data"]["key_figures"]
        assert figures == {"sips_accepted": 2, "objects_preserved": 2}
        transfer = f"/api/3.0/{CONTRACT}/transfers/{result['id']}"
        assert http.get(transfer).json()["data"]["sip"]["sip_id"] == OBJID
        assert http.delete(transfer).status_code == 204
        assert http.get(transfer).status_code == 404
        assert http.get(f"{transfer}/report").status_code == 404
        assert http.get("/api/2.0/urn:uuid:other/search").status_code == 404
        assert http.get(f"{base}/search", params={"page": "x"}).status_code == 400
    assert httpx.get(f"{site.dps.rest_url}{base}/search", verify=trust).status_code == 401
    with site.client(verdicts="rest-3.0") as client:
        assert list(client.verdicts([waiting])) == []


def test_what_was_deleted_stays_deleted_after_a_restart(site: Site, client: Dps) -> None:
    site.send(client, NAME)
    site.dps.store.delete(site.dps.verdicts()[0])
    site.dps.stop()
    site.dps = site.make()
    site.start()
    assert site.dps.verdicts() == []
    assert list(site.dps.store.ingested()) == [OBJID]


def test_the_command_line_serves_until_sigterm(site: Site) -> None:
    site.dps.stop()
    command = [
        sys.executable, "-m", "passari_dagster.simulation.dps", "--directory", str(site.directory / "dps"),
        "--certificate", str(site.signer.certificate_file), "--contract-id", CONTRACT,
        "--authorized-keys", str(site.authorized_keys), "--delay", "0.1", "--missing-html", "--latency", "0.001",
    ]  # fmt: skip
    environment = {**os.environ, "SIMULATED_DPS_REST_PASSWORD": "t0psecret"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        site.known_hosts.write_text(ready["known_hosts_line"])
        port = ready["sftp_port"]
        with site.client(
            verdicts="rest-2.0",
            sftp={"port": port},
            rest={"url": ready["rest_url"], "password": "t0psecret"},
        ) as client:
            since = now()
            client.submit(site.package(), NAME, before_rename=lambda: None)
            verdicts: list[Verdict] = []
            while not verdicts:
                verdicts = list(client.verdicts([Waiting(NAME, OBJID, since)]))
        assert verdicts[0].status == "accepted"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "t0psecret" not in errors


def test_a_port_in_use_is_told(site: Site) -> None:
    other = site.make(sftp_port=site.dps.sftp_port)
    with pytest.raises(OSError, match="in use"):
        other.start()
