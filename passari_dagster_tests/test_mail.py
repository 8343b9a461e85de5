"""Mail goes out by a safe connection, and what goes wrong is told in words."""

from __future__ import annotations

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


def settings(office: PostOffice, **others: object) -> MailSettings:
    return MailSettings.model_validate(office.settings(**others))


def test_a_message_reaches_all_recipients(office: PostOffice) -> None:
    mail.send(settings(office), "2 checks are not green", "Tämä on hätä.\nWhat to do: …\n")
    (message,) = office.messages
    assert message["Subject"] == "2 checks are not green"
    assert message["From"] == "passari@museum.example.org"
    assert message["To"] == "it@museum.example.org, archive@museum.example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@museum.example.org>")
    assert message.get_content().splitlines() == ["Tämä on hätä.", "What to do: …"]


def test_a_look_sends_nothing(office: PostOffice) -> None:
    assert mail.check(settings(office)) == "let in by 127.0.0.1, starttls"
    assert office.messages == []


def test_a_server_with_a_certificate_that_nobody_knows_gets_no_password(office: PostOffice) -> None:
    with pytest.raises(PermanentFailure, match=r"is not to be trusted.*ca_file"):
        mail.check(settings(office, ca_file=None))


def test_a_wrong_password_is_told_and_not_shown(office: PostOffice) -> None:
    with pytest.raises(PermanentFailure, match="535") as error:
        mail.check(settings(office, password="let me in"))
    assert "let me in" not in str(error.value)


@pytest.mark.parametrize(("refuses", "kind"), [("451 not now", TransientFailure), ("550 not you", PermanentFailure)])
def test_a_refusal_is_for_now_or_for_good(office: PostOffice, refuses: str, kind: type[Exception]) -> None:
    office.refuses = refuses
    with pytest.raises(kind, match=f"takes no mail for the recipients: {refuses[4:]}"):
        mail.send(settings(office), "a subject", "a text")


def test_a_server_that_is_away_may_be_back_soon(tmp_path: Path) -> None:
    with post_office(tmp_path) as closed:
        pass
    with pytest.raises(TransientFailure, match=rf"127\.0\.0\.1:{closed.port} cannot be reached"):
        mail.check(settings(closed))


def test_encryption_is_as_the_settings_say(office: PostOffice, tmp_path: Path) -> None:
    with post_office(tmp_path, encrypted=True) as encrypted:
        mail.send(settings(encrypted, security="tls"), "a subject", "a text")
        assert len(encrypted.messages) == 1
    with pytest.raises(PermanentFailure, match=r"See \[mail\] security"):
        mail.check(settings(office, security="tls"))
    with pytest.raises(SettingsError, match="without a password"):
        load(mail=office.settings(security="none"))


def test_a_subject_of_two_lines_is_no_other_header(office: PostOffice) -> None:
    with pytest.raises(ValueError, match="linefeed"):
        mail.send(settings(office), "a subject\nBcc: all@example.org", "a text")
    assert office.messages == []
