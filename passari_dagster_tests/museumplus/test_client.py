"""Sessions, retries, limits: the client is a guest that behaves, and does not give up at the first stumble."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from passari_dagster import safe_xml
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.simulation.museum_faults import Fault
from passari_dagster.simulation.museumplus import SimulatedMuseum
from passari_dagster_tests.museumplus.conftest import Connect, settings_for

OBJECT = 1_000_000
ITEM = f"/module/Object/{OBJECT}"


# Sessions


def test_one_login_serves_many_requests_and_threads(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda n: client.item("Object", OBJECT + n), range(30)))
    assert len(set(documents)) == 30
    assert museum.sessions_opened == 1


def test_there_are_never_more_requests_at_once_than_allowed(museum: SimulatedMuseum, connect: Connect) -> None:
    museum.faults.latency = 0.02
    client = connect(max_connections=2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: client.item("Object", OBJECT + n), range(24)))
    assert museum.peak_requests == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_session_that_expires_is_renewed_once(status: int) -> None:
    with (
        SimulatedMuseum(objects=5, expired_status=401 if status == 401 else 403) as museum,
        MuseumPlus(settings_for(museum)) as client,
    ):
        client.item("Object", OBJECT)
        museum.expire_sessions()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: client.item("Object", OBJECT + n), range(5)))
        assert museum.sessions_opened == 2


def test_an_idle_session_is_renewed() -> None:
    with SimulatedMuseum(objects=5, session_idle=0.0) as museum, MuseumPlus(settings_for(museum)) as client:
        with pytest.raises(PermanentFailure, match="in a new session too"):
            client.item("Object", OBJECT)
        assert museum.sessions_opened == 2
        museum.session_idle = 600
        client.item("Object", OBJECT)


def test_a_wrong_password_is_told_and_not_tried_again(museum: SimulatedMuseum, connect: Connect) -> None:
    wrong = "".join(reversed(museum.password))
    with pytest.raises(PermanentFailure, match="refuses user 'passari' or the password") as caught:
        connect(password=wrong).item("Object", OBJECT)
    assert museum.count("/session") == 1
    assert wrong not in "".join(traceback.format_exception(caught.value))


def test_processes_of_a_host_share_one_session(museum: SimulatedMuseum, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "session"
    first, second = connect(session_file=file), connect(session_file=file)
    first.item("Object", OBJECT)
    second.item("Object", OBJECT)
    assert museum.sessions_opened == 1
    child = (
        "import sys; from passari_dagster.museumplus.client import MuseumPlus\n"
        "from passari_dagster.settings import MuseumPlusSettings\n"
        "with MuseumPlus(MuseumPlusSettings(url=sys.argv[1], username='passari', password='salasana',"
        " session_file=sys.argv[2])) as client:\n    client.item('Object', 1000000)\n"
    )
    subprocess.run([sys.executable, "-c", child, museum.url, str(file)], check=True, timeout=60)
    assert museum.sessions_opened == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    museum.expire_sessions()
    for client in (first, second, first):
        client.item("Object", OBJECT)
    assert museum.sessions_opened == 2


def test_clients_that_start_together_log_in_once(museum: SimulatedMuseum, connect: Connect, tmp_path: Path) -> None:
    museum.faults.latency = 0.05
    clients = [connect(session_file=tmp_path / "session") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda client: client.item("Object", OBJECT), clients))
        assert museum.sessions_opened == 1
        museum.expire_sessions()
        list(pool.map(lambda client: client.item("Object", OBJECT), clients))
    assert museum.sessions_opened == 2


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"k" * 5000, b"avain joka ei kelpaa"])
def test_a_spoilt_session_file_is_written_anew(
    museum: SimulatedMuseum, connect: Connect, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "session"
    file.write_bytes(content)
    (tmp_path / "session.part").write_bytes(b"left by a killed process, readable by all")
    connect(session_file=file).item("Object", OBJECT)
    assert museum.sessions_opened == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["session", "session.lock"]


def test_secrets_are_neither_logged_nor_shown(
    museum: SimulatedMuseum, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "session"
    client = connect(session_file=file)
    museum.faults.fail_next(path_contains="Object", fault="drop")
    client.item("Object", OBJECT)
    museum.faults.error_rate = 1
    with pytest.raises(TransientFailure) as caught:
        client.item("Object", OBJECT)
    shown = caplog.text + repr(client) + repr(vars(client)) + "".join(traceback.format_exception(caught.value))
    assert "trying again" in shown
    assert file.read_text() not in shown
    assert museum.password not in shown


# Retries


@pytest.mark.parametrize("fault", ["error", "cut", "drop", "short"])
def test_a_stumble_is_overcome(museum: SimulatedMuseum, client: MuseumPlus, fault: Fault) -> None:
    museum.faults.fail_next(2, path_contains=ITEM, fault=fault)
    whole = client.item("Object", OBJECT)
    museum.faults.fail_next(2, path_contains="/search", fault=fault)
    assert client.search("Object", limit=2).records[0].id == OBJECT
    assert museum.count(ITEM) == museum.count("/search") == 3
    assert whole == client.item("Object", OBJECT)


def test_a_stumble_at_login_is_overcome(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.faults.fail_next(2, path_contains="/session", status=503)
    client.item("Object", OBJECT)
    assert museum.sessions_opened == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [("error", "HTTP 500"), ("drop", "Error"), ("cut", "RemoteProtocolError"), ("short", "not well-formed")],
)
def test_when_retries_are_spent_the_path_and_the_last_error_are_told(
    museum: SimulatedMuseum, client: MuseumPlus, fault: Fault, said: str
) -> None:
    museum.faults.fail_next(99, path_contains=ITEM, fault=fault)
    with pytest.raises(TransientFailure, match=rf"GET {ITEM}: .*{said}.*3 attempts"):
        client.item("Object", OBJECT)
    assert museum.count(ITEM) == 3


@pytest.mark.parametrize("status", [400, 405, 409, 422])
def test_a_refusal_is_not_tried_again(museum: SimulatedMuseum, client: MuseumPlus, status: int) -> None:
    museum.faults.fail_next(path_contains=ITEM, status=status)
    with pytest.raises(PermanentFailure, match=f"{ITEM}: HTTP {status}"):
        client.item("Object", OBJECT)
    assert museum.count(ITEM) == 1


def test_a_permission_that_lacks_is_told_with_the_user(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.faults.fail_next(2, path_contains=ITEM, status=403)
    with pytest.raises(PermanentFailure, match="'passari' may not do this"):
        client.item("Object", OBJECT)
    assert museum.count(ITEM) == 2


def test_a_redirect_is_not_followed(museum: SimulatedMuseum, client: MuseumPlus) -> None:
    museum.faults.fail_next(path_contains=ITEM, status=302)
    with pytest.raises(PermanentFailure, match="HTTP 302"):
        client.item("Object", OBJECT)


def test_nobody_listens(museum: SimulatedMuseum, connect: Connect) -> None:
    client = connect(url="http://127.0.0.1:1/ria-ws/application")
    with pytest.raises(TransientFailure, match="GET /session: ConnectError"):
        client.item("Object", OBJECT)


def test_a_wrong_address_is_told(museum: SimulatedMuseum, connect: Connect) -> None:
    client = connect(url=museum.url.replace("application", "applikaatio"))
    with pytest.raises(PermanentFailure, match=r"check museumplus\.url"):
        client.search("Object", limit=1)


# Limits


def test_an_answer_that_does_not_come_is_given_up(museum: SimulatedMuseum, connect: Connect) -> None:
    client = connect(timeout=0.2, retries=0)
    client.item("Object", OBJECT)
    hold = museum.hold(lambda request: request.path == ITEM)
    with pytest.raises(TransientFailure, match="ReadTimeout"):
        client.item("Object", OBJECT)
    hold.release()


def test_a_document_is_not_read_beyond_its_limit(
    museum: SimulatedMuseum, client: MuseumPlus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_xml, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(PermanentFailure, match="more than 100 bytes"):
        client.item("Object", OBJECT)


def test_a_body_that_trickles_is_given_up(
    museum: SimulatedMuseum, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(timeout=0.4, retries=0)
    client.item("Object", OBJECT)
    museum.faults.slow_body = 0.8
    client.item("Object", OBJECT)  # a piece every 0.2 s is slow, yet fast enough
    monkeypatch.setattr("passari_dagster.museumplus.client.SLOWEST", 1_000_000)
    with pytest.raises(TransientFailure, match="bytes in"):
        client.item("Object", OBJECT)
