"""Mail goes out by a safe connection, and what goes wrong is told in words."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from passari_dagster import mail
from passari_dagster.errors import PermanentFailure, SettingsError, TransientFailure
from passari_dagster.settings import MailSettings, load
from passari_dagster_tests.post_office import PostOffice, post_office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[PostOffice]:
    with post_office(tmp_path / "office") as office:
        yield office


def test_a_message_reaches_all_recipients(office: PostOffice) -> None:
    mail.send(office.settings(), "2 checks are not green", "Tämä on hätä.\nWhat to do: …\n")
    (message,) = office.messages
    assert message["Subject"] == "2 checks are not green"
    assert message["From"] == "passari@museum.example.org"
    assert message["To"] == "it@museum.example.org, archive@museum.example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@museum.example.org>")
    assert message.get_content().splitlines() == ["Tämä on hätä.", "What to do: …"]


def test_a_look_sends_nothing_and_names_who_would_be_refused(office: PostOffice) -> None:
    everybody = "127.0.0.1 takes mail for it@museum.example.org, archive@museum.example.org (starttls)"
    assert mail.check(office.settings()) == everybody
    office.unknown = "archive@museum.example.org"
    with pytest.raises(PermanentFailure, match=r"archive@museum\.example\.org: unknown"):
        mail.check(office.settings())
    assert office.messages == []


def test_lines_may_begin_with_a_dot_and_have_any_letter(office: PostOffice) -> None:
    mail.send(office.settings(), "Äijä", ".\n..\n\udcff\n" + "x" * 3000 + "\n")
    (message,) = office.messages
    assert message["Subject"] == "Äijä"
    assert message.get_content().splitlines() == [".", "..", "?", "x" * 3000]


def test_a_server_with_a_certificate_that_nobody_knows_gets_no_password(office: PostOffice) -> None:
    with pytest.raises(PermanentFailure, match=r"is not to be trusted.*ca_file"):
        mail.check(office.settings(ca_file=None))


def test_a_wrong_password_is_told_and_not_shown(office: PostOffice) -> None:
    with pytest.raises(PermanentFailure, match=r"does not let passari in \(535\)") as error:
        mail.check(office.settings(password="let me in"))
    assert "let me in" not in str(error.value)


@pytest.mark.parametrize(("refuses", "kind"), [("451 not now", TransientFailure), ("550 not you", PermanentFailure)])
def test_a_refusal_is_for_now_or_for_good(office: PostOffice, refuses: str, kind: type[Exception]) -> None:
    office.refuses = refuses
    with pytest.raises(kind, match=f"says {refuses}"):
        mail.send(office.settings(), "a subject", "a text")


def test_a_server_that_is_away_may_be_back_soon(tmp_path: Path) -> None:
    with post_office(tmp_path) as closed:
        pass
    with pytest.raises(TransientFailure, match=rf"127\.0\.0\.1:{closed.port} cannot be reached"):
        mail.check(closed.settings())


def test_encryption_is_as_the_settings_say(office: PostOffice, tmp_path: Path) -> None:
    with post_office(tmp_path, encrypted=True) as encrypted:
        mail.send(encrypted.settings(security="tls"), "a subject", "a text")
        assert len(encrypted.messages) == 1
    with pytest.raises(PermanentFailure, match=r"See \[mail\] security"):
        mail.check(office.settings(security="tls"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"security": "none"}, "without a password"),
        ({"security": "tls", "port": None}, "most often 465"),
        ({"password": ""}, "come together"),
        ({"password": "sesäm"}, "ASCII"),
        ({"ui_url": "https://me:secret@passari.example.org"}, "without user and password"),
        ({"sender": "Matti <matti@example.org>"}, "a mail address such as"),
        ({"sender": ".matti@example.org"}, "a mail address such as"),
        ({"recipients": []}, "at least 1"),
        ({"recipients": ["it@example.org\r\nRCPT TO:<all@example.org>"]}, "a mail address such as"),
    ],
)
def test_settings_that_cannot_work_are_refused(office: PostOffice, wrong: dict[str, object], said: str) -> None:
    values = {name: value for name, value in office.section(**wrong).items() if value is not None}
    with pytest.raises(SettingsError, match=said) as error:
        load(mail=values)
    assert "secret" not in str(error.value)
    assert "sesäm" not in str(error.value)


def test_a_ca_file_that_is_not_there_is_named(office: PostOffice, tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"ca_file, .*no-ca\.pem"):
        mail.check(office.settings(ca_file=tmp_path / "no-ca.pem"))


@pytest.mark.parametrize("bye", [b"500 what?\r\n", b""])
def test_an_unkind_good_bye_does_not_have_it_sent_twice(tmp_path: Path, bye: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, bye))
        thread.start()
        port = server.getsockname()[1]
        values = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "a@b.fi", "recipients": ["c@d.fi"]}
        assert mail.send(MailSettings.model_validate(values), "a subject", "a text") == {}
        thread.join(10)


def _serve(server: socket.socket, bye: bytes) -> None:
    """A server that takes one message, and ends the conversation in its own way."""
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as stream:

        def say(answer: bytes) -> None:
            stream.write(answer)
            stream.flush()

        say(b"220 here\r\n")
        for line in stream:
            if line.upper().startswith(b"DATA"):
                say(b"354 go on\r\n")
                while stream.readline() != b".\r\n":
                    pass
                say(b"250 taken\r\n")
            elif line.upper().startswith(b"QUIT"):
                say(bye)
                return
            else:
                say(b"250 yes\r\n")


def test_a_subject_of_two_lines_is_no_other_header(office: PostOffice) -> None:
    with pytest.raises(ValueError, match="linefeed"):
        mail.send(office.settings(), "a subject\nBcc: all@example.org", "a text")
    assert office.messages == []
