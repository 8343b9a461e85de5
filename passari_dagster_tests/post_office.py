"""A mail server for tests: real SMTP, with STARTTLS and a login, which keeps what it is given."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from passari_dagster.services.system import free_port
from passari_dagster.settings import MailSettings
from passari_dagster.simulation import dps_tls

USERNAME, PASSWORD = "passari", "open sesame"


@dataclass
class PostOffice:
    """A mail server.

    Arguments:
        port: of this machine.
        ca_file: certificate of the authority that has signed its own.
        messages: what it was given.
        refuses: answer to the next recipients, such as "451 not now"; empty: it takes all.
        unknown: recipient that it does not know.
    """

    port: int
    ca_file: Path
    messages: list[EmailMessage] = field(default_factory=list)
    refuses: str = ""
    unknown: str = ""

    def settings(self, **others: object) -> MailSettings:
        """The settings of those who send by it."""
        return MailSettings.model_validate(self.section(**others))

    def section(self, **others: object) -> dict[str, object]:
        """A [mail] section for it."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "ca_file": str(self.ca_file),
            "username": USERNAME,
            "password": PASSWORD,
            "sender": "passari@museum.example.org",
            "recipients": ["it@museum.example.org", "archive@museum.example.org"],
            **others,
        }

    async def handle_RCPT(  # noqa: N802 - aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Somebody to send it to."""
        if self.refuses or address == self.unknown:
            return self.refuses or "550 unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """A message."""
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"


def _let_in(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


@contextlib.contextmanager
def post_office(directory: Path, *, encrypted: bool = False) -> Iterator[PostOffice]:
    """One that is open as long as the block runs.

    Arguments:
        directory: for its certificates.
        encrypted: from the first byte on, instead of by STARTTLS.
    """
    certificate, key = dps_tls.prepare(directory)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    office = PostOffice(free_port(), directory / dps_tls.AUTHORITY)
    controller = Controller(
        office,
        hostname="127.0.0.1",
        port=office.port,
        authenticator=_let_in,
        # aiosmtpd knows of STARTTLS only that the connection is safe.
        auth_required=not encrypted,
        **({"ssl_context": context, "auth_require_tls": False} if encrypted else {"tls_context": context}),
    )
    controller.start()
    try:
        yield office
    finally:
        controller.stop()
