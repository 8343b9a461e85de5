"""The HTTP client: sessions, retries, bounds; every request to MuseumPlus is made here.

What documents mean is read in `search`, `items` and `preservation_log`; what is done with them is the workflow's.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

import httpx
from lxml import etree
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from passari_dagster import durable, safe_xml
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.museumplus import fields, preservation_log, search
from passari_dagster.museumplus.preservation_log import LogEntry
from passari_dagster.museumplus.search import AttachmentRecord, ObjectRecord, SearchPage
from passari_dagster.museumplus.session import SharedSession
from passari_dagster.settings import MuseumPlusSettings

ItemModule = Literal["Object", "Multimedia", "CollectionActivity"]
T = TypeVar("T")

LONGEST_WAIT = 60.0
"""Seconds; back-off does not grow beyond this."""
SLOWEST = 1024
"""Bytes a second: a body that is slower on average, after the first `timeout` seconds, is given up."""

_SESSION = "/session"
_LIDO_ROOTS = ("{http://www.lido-schema.org}lidoWrap", "{http://www.lido-schema.org}lido")
_log = logging.getLogger(__name__)


class NotInMuseumPlus(PermanentFailure):
    """MuseumPlus has no such item (any more)."""


class Missing(Enum):
    """Why there is nothing to download; both occur in good order."""

    NO_FILE = "MuseumPlus has no file for this attachment"
    EMPTY = "the file of this attachment is empty"


@dataclass(frozen=True)
class Download:
    """A file that was received whole.

    Arguments:
        size: in bytes.
        sha256: lower-case hex digest, computed from what was received.
    """

    path: Path
    size: int
    sha256: str


class _PassingError(Exception):
    """MuseumPlus failed in a way that may be over in a moment."""


class _RefusedError(Exception):
    """MuseumPlus answered 401 or 403."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


_RETRIED = (httpx.TransportError, _PassingError)


class MuseumPlus:
    """A connection to MuseumPlus, for any number of threads; use it in a `with` block, or call `close`.

    There are never more requests at once than `settings.max_connections`; others wait their turn. Connection
    errors, bodies that were cut and 5xx answers are tried again with growing waits.

    Every method raises:
        PermanentFailure: a 4xx answer, or an answer that makes no sense; trying again would not help.
        TransientFailure: retries are spent; the message names the path and the last error.
    """

    def __init__(self, settings: MuseumPlusSettings) -> None:
        self._settings = settings
        self._session = SharedSession(self._log_in, settings.session_file, settings.timeout)
        self._http = httpx.Client(
            base_url=str(settings.url).rstrip("/"),
            # No limit on the wait for one of our own connections: a big attachment may hold it for hours.
            timeout=httpx.Timeout(settings.timeout, pool=None),
            limits=httpx.Limits(max_connections=settings.max_connections),
            # Uncompressed, so that the bytes received are those that are counted and bounded.
            headers={"Accept-Encoding": "identity"},
        )

    def __enter__(self) -> MuseumPlus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @overload
    def search(
        self,
        module: Literal["Object"],
        *,
        after_id: int = 0,
        upto_id: int | None = None,
        modified_since: datetime | None = None,
        ids: Collection[int] = (),
        limit: int,
        offset: int = 0,
        descending: bool = False,
    ) -> SearchPage[ObjectRecord]: ...

    @overload
    def search(
        self,
        module: Literal["Multimedia"],
        *,
        after_id: int = 0,
        upto_id: int | None = None,
        modified_since: datetime | None = None,
        ids: Collection[int] = (),
        limit: int,
        offset: int = 0,
        descending: bool = False,
    ) -> SearchPage[AttachmentRecord]: ...

    def search(
        self,
        module: Literal["Object", "Multimedia"],
        *,
        after_id: int = 0,
        upto_id: int | None = None,
        modified_since: datetime | None = None,
        ids: Collection[int] = (),
        limit: int,
        offset: int = 0,
        descending: bool = False,
    ) -> SearchPage[ObjectRecord] | SearchPage[AttachmentRecord]:
        """One page of a module's items, by ascending id; one whose `last_id` is None is the end.

        Arguments:
            after_id: only items with a greater id: the `last_id` of the page before.
            upto_id: only items whose id is not greater.
            modified_since: only items modified since (an aware time), and those without a date.
            ids: only these items, such as could not be read before; none named: any.
            limit: most items in the page.
            offset: so many of the items that match are left out. Not for paging: an offset skips an item whenever
                one before it leaves the result.
            descending: by descending id, to see which is the greatest: with limit 1.
        """
        body = search.request_document(
            module,
            after_id=after_id,
            upto_id=upto_id,
            modified_since=modified_since,
            ids=ids,
            limit=limit,
            offset=offset,
            descending=descending,
        )
        path = f"/module/{module}/search"

        def read(response: httpx.Response, received_after: float) -> SearchPage[Any]:
            document = self._chunks(response, path)
            server_time = _server_time(response, received_after)
            if module == "Object":
                return search.object_page(
                    document,
                    after_id=after_id,
                    log_field=self._settings.log_field,
                    server_time=server_time,
                )
            return search.attachment_page(document, after_id=after_id, server_time=server_time)

        try:
            return self._request("POST", path, read, content=body)
        except NotInMuseumPlus:
            raise PermanentFailure(f"MuseumPlus has no {path}: check museumplus.url") from None

    def item(self, module: ItemModule, item_id: int) -> bytes:
        """The document of one item, as received; it is safe XML and holds that item.

        Raises:
            NotInMuseumPlus: there is no such item.
        """
        path = f"/module/{module}/{item_id}"

        def read(response: httpx.Response, received_after: float) -> bytes:
            document = self._document(response, path)
            root = safe_xml.parse(document, source=path)
            found = [fields.item_id(item) for item in fields.module_items(root, module)]
            if not found:
                raise NotInMuseumPlus(f"MuseumPlus has no {module} {item_id}")
            if found != [item_id]:
                raise PermanentFailure(f"MuseumPlus {path}: asked for item {item_id}, got {found[:3]}")
            return document

        return self._request("GET", path, read)

    def export_lido(self, object_id: int) -> bytes:
        """The LIDO document that MuseumPlus makes of an object by the template of `settings.lido_report_id`.

        Raises:
            NotInMuseumPlus: there is no such object, or no such template.
        """
        path = f"/module/Object/{object_id}/export/{self._settings.lido_report_id}"

        def read(response: httpx.Response, received_after: float) -> bytes:
            document = self._document(response, path)
            root = safe_xml.parse(document, source=path)
            if root.tag not in _LIDO_ROOTS:
                raise PermanentFailure(
                    f"MuseumPlus {path}: <{str(root.tag)[:80]}> is no LIDO; check museumplus.lido_report_id"
                )
            return document

        return self._request("GET", path, read)

    def download_attachment(self, multimedia_id: int, path: Path) -> Download | Missing:
        """Fetch the file of an attachment; under `path` it appears whole or not at all.

        MuseumPlus offers no checksum, and no size but Content-Length: a body that agrees with it counts as whole.

        Arguments:
            path: the final name, at least nine bytes shorter than the file system allows: `.download` is added
                while the file is written.

        Raises:
            PermanentFailure: also if the file is larger than `settings.max_attachment_bytes`.
            OSError: the file cannot be written (a full disk).
        """
        source = f"/module/Multimedia/{multimedia_id}/attachment"
        limit = self._settings.max_attachment_bytes

        def read(response: httpx.Response, received_after: float) -> Download | Missing:
            chunks = self._body(response, source, limit, "museumplus.max_attachment_bytes")
            first = next(chunks, b"")
            if not first:
                return Missing.EMPTY
            digest, size = hashlib.sha256(first), len(first)
            with durable.open_for_replacement(path, suffix=".download") as stream:
                stream.write(first)
                for chunk in chunks:
                    stream.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            return Download(path, size, digest.hexdigest())

        try:
            return self._request("GET", source, read, accept="application/octet-stream")
        except NotInMuseumPlus:
            return Missing.NO_FILE

    def read_log(self, object_id: int) -> list[dict[str, Any]]:
        """The entries of an object's preservation log; none if the settings name no log field.

        Raises:
            NotInMuseumPlus: there is no such object.
            PermanentFailure: the field holds something that is no log.
        """
        field = self._settings.log_field
        return preservation_log.read_entries(self.item("Object", object_id), field) if field else []

    def add_log_entry(self, object_id: int, entry: LogEntry) -> bool:
        """Append a verdict to an object's preservation log. The caller sees to it that nobody else does meanwhile.

        Returns:
            Whether something was written: not if the verdict is there already, or no log field is set.

        Raises:
            NotInMuseumPlus: there is no such object.
            PermanentFailure: the field holds something that is no log; it is left as it is.
        """
        field = self._settings.log_field
        entries = self.read_log(object_id)
        if field is None or entry.is_in(entries):
            return False
        body = preservation_log.field_document(object_id, field, [*entries, entry.as_json()])
        self._request("PUT", f"/module/Object/{object_id}/{field}", _nothing, content=body)
        return True

    def _log_in(self) -> SecretStr:
        """A new session's key."""
        user, password = self._settings.username, self._settings.password.get_secret_value()
        auth = httpx.BasicAuth(f"user[{user}]", f"password[{password}]")

        def read(response: httpx.Response, received_after: float) -> SecretStr:
            root = safe_xml.parse(self._document(response, _SESSION), source=_SESSION)
            key = (root.findtext(".//{http://www.zetcom.com/ria/ws/session}key") or "").strip()
            if not key:
                raise PermanentFailure(f"MuseumPlus {_SESSION}: no session key in the answer; check museumplus.url")
            return SecretStr(key)

        try:
            return self._retried(
                "GET", _SESSION, lambda: self._send("GET", _SESSION, read, auth, "application/xml", None)
            )
        except _RefusedError as refused:
            raise PermanentFailure(
                f"MuseumPlus refuses user {user!r} or the password ({refused}); check museumplus.username and "
                "museumplus.password"
            ) from None
        except NotInMuseumPlus:
            raise PermanentFailure(f"MuseumPlus has no {_SESSION}: check museumplus.url") from None

    def _request(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response, float], T],
        *,
        accept: str = "application/xml",
        content: bytes | None = None,
    ) -> T:
        """Make a request within the session, with retries, and a new session if the current one is over."""
        user = f"user[{self._settings.username}]"

        def attempt() -> T:
            key = self._session.key()
            try:
                return self._send(method, path, read, _session_auth(user, key), accept, content)
            except _RefusedError:
                key = self._session.renew(key)
            return self._send(method, path, read, _session_auth(user, key), accept, content)

        try:
            return self._retried(method, path, attempt)
        except _RefusedError as refused:
            raise PermanentFailure(
                f"MuseumPlus {method} {path}: user {self._settings.username!r} may not do this ({refused}, in a new "
                "session too)"
            ) from None

    def _retried(self, method: str, path: str, attempt: Callable[[], T]) -> T:
        wait = self._settings.retry_wait

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            _log.warning("MuseumPlus %s %s: %s; trying again", method, path, _describe(error))

        retrying = Retrying(
            retry=retry_if_exception_type(_RETRIED),
            stop=stop_after_attempt(1 + self._settings.retries),
            wait=wait_exponential(multiplier=wait, max=LONGEST_WAIT) + wait_random(0, min(wait, LONGEST_WAIT)),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except _RETRIED as error:
            raise TransientFailure(
                f"MuseumPlus {method} {path}: {_describe(error)} ({1 + self._settings.retries} attempts)"
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response, float], T],
        auth: httpx.Auth,
        accept: str,
        content: bytes | None,
    ) -> T:
        """One request. `read` gets the good response, its body unread, and the seconds until it began."""
        headers = {"Accept": accept, "Content-Type": "application/xml"}
        started = time.monotonic()
        with self._http.stream(method, path, content=content, headers=headers, auth=auth) as response:
            status = response.status_code
            if status in (401, 403):
                raise _RefusedError(status)
            if status == 404:
                raise NotInMuseumPlus(f"MuseumPlus {method} {path}: not found")
            if status >= 500:
                raise _PassingError(f"HTTP {status}")
            if not response.is_success:
                raise PermanentFailure(f"MuseumPlus {method} {path}: HTTP {status}")
            try:
                return read(response, time.monotonic() - started)
            except safe_xml.UnsafeXmlError as error:
                # A document that broke off is seen here if its length was not announced; a DTD does not go away.
                if isinstance(error.__cause__, etree.XMLSyntaxError):
                    raise _PassingError(str(error)) from error
                raise PermanentFailure(f"MuseumPlus {method} {path}: {error}") from error

    def _document(self, response: httpx.Response, path: str) -> bytes:
        """The whole body of a bounded document."""
        return b"".join(self._chunks(response, path))

    def _chunks(self, response: httpx.Response, path: str) -> Iterator[bytes]:
        """The same, in pieces."""
        return self._body(response, path, safe_xml.MAX_DOCUMENT_BYTES, "the limit of XML documents")

    def _body(self, response: httpx.Response, path: str, limit: int, limit_name: str) -> Iterator[bytes]:
        """The body in chunks; checks that it is neither too large nor too slow nor cut."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise PermanentFailure(f"MuseumPlus {path}: answer compressed, though not asked for")
        announced = response.headers.get("Content-Length", "")
        expected = int(announced) if announced.isdecimal() else None
        received, started = 0, time.monotonic()
        too_large = PermanentFailure(f"MuseumPlus {path}: more than {limit} bytes ({limit_name})")
        if expected is not None and expected > limit:
            raise too_large
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > limit:
                raise too_large
            if time.monotonic() - started > self._settings.timeout + received / SLOWEST:
                raise _PassingError(f"only {received} bytes in {time.monotonic() - started:.0f} s")
            yield chunk
        if expected is not None and received != expected:
            raise _PassingError(f"received {received} bytes of {expected}")


def _session_auth(user: str, key: SecretStr) -> httpx.BasicAuth:
    return httpx.BasicAuth(user, f"session[{key.get_secret_value()}]")


def _nothing(response: httpx.Response, received_after: float) -> None:
    """The answer to a write has nothing to say."""


def _server_time(response: httpx.Response, received_after: float) -> datetime | None:
    """MuseumPlus's clock when it had not got the request yet.

    The Date header is written after the search has run, which may take many seconds.
    """
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return date.astimezone(timezone.utc) - timedelta(seconds=received_after)
    except (ValueError, OverflowError):
        return None


def _describe(error: BaseException | None) -> str:
    """Kind and text of an error: httpx leaves some texts empty."""
    if isinstance(error, _PassingError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
