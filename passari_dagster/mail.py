"""Mail to the people who look after the system: a connection that is safe, and a message. What is said, others know."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.settings import MailSettings

LONGEST_ANSWER = 600.0
"""Seconds that a server may think about a message that it has whole: RFC 5321, section 4.5.3.2.6. Who gives up earlier
sends it again, and again."""
LONGEST_QUOTE = 300


def send(settings: MailSettings, subject: str, text: str) -> dict[str, str]:
    """Send a message to all recipients.

    Arguments:
        subject: one line.
        text: plain.

    Returns:
        recipients that the server has refused, and what it said; the others have the message.

    Raises:
        TransientFailure: the server cannot be reached, or will not take it now.
        PermanentFailure: the server does not let us in, or refuses the message, or all recipients, for good.
    """
    message = EmailMessage()
    message["From"], message["To"] = settings.sender, ", ".join(settings.recipients)
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice answers it
    # 7-bit, since not every server takes more; half of a surrogate pair is in no charset.
    message.set_content(text.encode("utf-8", errors="replace").decode("utf-8"), cte="quoted-printable")
    with _server(settings) as server:
        refused = _to_all(server, settings)
        if server.sock is not None:
            server.sock.settimeout(LONGEST_ANSWER)
        code, said = server.data(message.as_bytes(policy=policy.SMTP))
        if code != 250:
            raise smtplib.SMTPDataError(code, said)
    return {address: f"{code} {_text(said)}" for address, (code, said) in refused.items()}


def check(settings: MailSettings) -> str:
    """The server lets us in, and would take mail for all recipients; nothing is sent.

    Raises:
        TransientFailure, PermanentFailure: as `send`; also if one recipient is refused.
    """
    with _server(settings) as server:
        refused = _to_all(server, settings)
        server.rset()
    if refused:
        raise PermanentFailure("; ".join(f"{address}: {_text(said)}" for address, (_, said) in refused.items()))
    return f"{settings.host} takes mail for {', '.join(settings.recipients)} ({settings.security})"


def _to_all(server: smtplib.SMTP, settings: MailSettings) -> dict[str, tuple[int, bytes]]:
    """Say from whom and to whom; answers with the recipients that are refused.

    Raises:
        SMTPException: the sender, or all recipients, are refused.
    """
    server.ehlo_or_helo_if_needed()
    code, said = server.mail(settings.sender)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, said, settings.sender)
    answers = {address: server.rcpt(address) for address in settings.recipients}
    refused = {address: answer for address, answer in answers.items() if answer[0] not in (250, 251)}
    if len(refused) == len(answers):
        code, said = min(refused.values())  # one that is refused for now only is reason enough to try again
        raise smtplib.SMTPResponseException(code, said)
    return refused


@contextlib.contextmanager
def _server(settings: MailSettings) -> Iterator[smtplib.SMTP]:
    place = f"the mail server {settings.host}:{settings.port}"
    context = _trusted(settings)
    try:
        server = _connection(settings, context)
    except ssl.SSLError as error:
        raise PermanentFailure(f"{place} is not to be trusted: {error}. See [mail] security and ca_file") from None
    except UnicodeError:
        raise PermanentFailure(f"{place}: that is no name of a host. See [mail] host") from None
    except OSError as error:  # smtplib's errors are of this kind, too
        raise TransientFailure(f"{place} cannot be reached: {error}") from None
    try:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.password is not None:
            server.login(settings.username, settings.password.get_secret_value())
        yield server
    except smtplib.SMTPAuthenticationError as error:
        # Not what it says: it might repeat what it was told.
        raise _failure(error.smtp_code)(f"{place} does not let {settings.username} in ({error.smtp_code})") from None
    except smtplib.SMTPResponseException as error:
        raise _failure(error.smtp_code)(f"{place} says {error.smtp_code} {_text(error.smtp_error)}") from None
    except ssl.SSLError as error:
        raise PermanentFailure(f"{place} is not to be trusted: {error}. See [mail] security and ca_file") from None
    except smtplib.SMTPServerDisconnected as error:
        raise TransientFailure(f"{place} has gone: {error}") from None
    except smtplib.SMTPException as error:  # such as a server that knows no STARTTLS
        raise PermanentFailure(f"{place}: {error}. See [mail] security and username") from None
    except OSError as error:
        raise TransientFailure(f"{place} has gone: {error}") from None
    finally:
        # What was said is done; how the server takes the good-bye does not matter.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            if server.sock is not None:
                server.sock.settimeout(settings.timeout)
            server.quit()
        server.close()


def _trusted(settings: MailSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as error:  # ssl's, too
            raise PermanentFailure(f"[mail] ca_file, {settings.ca_file}: {error}") from None
    return context


def _connection(settings: MailSettings, context: ssl.SSLContext) -> smtplib.SMTP:
    if settings.security == "tls":
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout, context=context)
    return smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout)


def _failure(code: int) -> type[TransientFailure] | type[PermanentFailure]:
    """RFC 5321, section 4.2.1: what begins with 4 may be tried again."""
    return TransientFailure if code < 500 else PermanentFailure


def _text(said: bytes | str) -> str:
    text = said.decode("utf-8", errors="replace") if isinstance(said, bytes) else said
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_QUOTE]).split())
