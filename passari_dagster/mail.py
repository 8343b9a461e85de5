"""Mail to the people who look after the system: a connection that is safe, and a message. What is said, others know."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.settings import MailSettings


def send(settings: MailSettings, subject: str, text: str) -> None:
    """Send a message to all recipients. One that the server refuses alone does not keep the others from theirs.

    Arguments:
        subject: one line.
        text: plain.

    Raises:
        TransientFailure: the server cannot be reached, or will not take it now.
        PermanentFailure: the server does not let us in, or refuses the message for good.
    """
    message = EmailMessage()
    message["From"], message["To"] = settings.sender, ", ".join(settings.recipients)
    message["Subject"] = subject
    message["Date"], message["Message-ID"] = formatdate(localtime=True), make_msgid(domain=_domain(settings.sender))
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers it
    message.set_content(text)
    with _server(settings) as server:
        server.send_message(message)


def check(settings: MailSettings) -> str:
    """The server lets us in; nothing is sent.

    Raises:
        TransientFailure, PermanentFailure: as `send`.
    """
    with _server(settings) as server:
        server.noop()
    return f"let in by {settings.host}, {settings.security}"


@contextlib.contextmanager
def _server(settings: MailSettings) -> Iterator[smtplib.SMTP]:
    place = f"the mail server {settings.host}:{settings.port}"
    try:
        context = ssl.create_default_context()
        if settings.ca_file is not None:
            context.load_verify_locations(settings.ca_file)
        with _connection(settings, context) as server:
            if settings.security == "starttls":
                server.starttls(context=context)
            if settings.username:
                server.login(settings.username, settings.password.get_secret_value() if settings.password else "")
            yield server
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        raise _failure(code)(f"{place} takes no mail for the recipients: {_text(said)}") from None
    except smtplib.SMTPResponseException as error:
        raise _failure(error.smtp_code)(f"{place} says {error.smtp_code} {_text(error.smtp_error)}") from None
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentFailure(f"{place}: {error}. See [mail] security") from None
    except ssl.SSLError as error:
        raise PermanentFailure(f"{place} is not to be trusted: {error}. See [mail] security and ca_file") from None
    except OSError as error:  # smtplib's other errors are of this kind, too
        raise TransientFailure(f"{place} cannot be reached: {error}") from None


def _connection(settings: MailSettings, context: ssl.SSLContext) -> smtplib.SMTP:
    if settings.security == "tls":
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout, context=context)
    return smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout)


def _failure(code: int) -> type[TransientFailure] | type[PermanentFailure]:
    """RFC 5321, section 4.2.1: what begins with 4 may be tried again."""
    return TransientFailure if code < 500 else PermanentFailure


def _text(said: bytes | str) -> str:
    text = said.decode("utf-8", errors="replace") if isinstance(said, bytes) else said
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:500]).split())


def _domain(address: str) -> str:
    return address.rpartition("@")[2]
