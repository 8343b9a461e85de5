"""HTTP as the DPS's REST interfaces need it: one host, bounded answers, retries.

Which calls there are and what they mean is known by `rest`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import random
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import httpx

from passari_dagster import durable
from passari_dagster.dps.faults import DpsUnreachableError, NoConnectionError, quote
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.settings import RestSettings

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_REPORT_BYTES = 64 * 1024 * 1024
MAX_PAGES = 2000
MAX_BODY_SECONDS = 300.0
"""Longest that one body may take: the time-out alone is only for the silence between two reads."""

MAX_WAIT = 60.0
"""Longest wait between two attempts, in seconds."""

T = TypeVar("T")

_RETRIED = (429, 500, 502, 503, 504)


class Http:
    """Requests to one host with HTTP Basic authentication.

    Arguments:
        settings: address, user, CA file, time-outs and retries.
        base: path that every path given to `get` is below, such as `/api/2.0/urn:uuid:…`.
    """

    def __init__(self, settings: RestSettings, base: str) -> None:
        self._settings = settings
        parts = urlsplit(str(settings.url))
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._base = parts.path.rstrip("/") + base
        _require_privacy(self._origin)
        self._client = httpx.Client(
            auth=(settings.username, settings.password.get_secret_value()),
            verify=_trust(settings.ca_file),
            timeout=settings.timeout,
            follow_redirects=False,
            # A compressed answer could grow without bound in one read.
            headers={"Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def __repr__(self) -> str:
        return f"<Http {self._origin}>"

    @property
    def origin(self) -> str:
        """Address of the service, for messages."""
        return self._origin

    def get(self, path: str, **query: str | int) -> dict[str, Any] | None:
        """The `data` of an answer; None when it is 404.

        Arguments:
            path: below the base, percent-encoded.
            query: parameters.

        Raises:
            DpsUnreachableError: no answer, after the retries; NoConnectionError: not even a connection.
            PermanentFailure: the user is not let in.
            TransientFailure: another answer than was agreed.
        """
        url = httpx.URL(self._origin + self._base + path).copy_merge_params(query)
        return self._data(url)

    def pages(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """The `data` of each page of an answer, following the host-relative link `next`."""
        url: httpx.URL | None = httpx.URL(self._origin + self._base + path).copy_merge_params(query)
        seen: set[str] = set()
        while url is not None:
            if str(url) in seen or len(seen) >= MAX_PAGES:
                raise TransientFailure(f"{self._origin}{path}: the pages do not end")
            seen.add(str(url))
            data = self._data(url)
            if data is None:
                raise TransientFailure(f"{self._origin}{url.path}: 404 for a page of a listing")
            yield data
            links = data.get("links")
            link = links.get("next") if isinstance(links, dict) else None
            url = self._follow(link) if link else None

    def download(self, path: str, local: Path, **query: str | int) -> bool:
        """Copy a body into a file, which appears whole or not at all.

        Returns:
            Whether it was there; False when the answer is 404.
        """

        def store(response: httpx.Response) -> bool:
            with durable.open_for_replacement(local) as stream:
                for chunk in _body(response, MAX_REPORT_BYTES):
                    stream.write(chunk)
            return True

        url = httpx.URL(self._origin + self._base + path).copy_merge_params(query)
        return self._request(url, store) is not None

    def post(self, path: str, document: Mapping[str, Any] | None = None, **query: str) -> dict[str, Any] | None:
        """Ask for something to be made; the `data` of the answer, None when it is 404.

        It is asked once more only where it is known that the first time came to nothing.

        Arguments:
            path: below the base, percent-encoded.
            document: sent as JSON.
            query: parameters.

        Raises:
            PassariError: as `get`.
        """
        url = httpx.URL(self._origin + self._base + path).copy_merge_params(query)
        return self._request(url, partial(_read_data, url), method="POST", good=(200, 201, 202), document=document)

    def delete(self, path: str) -> bool:
        """Have something deleted; returns whether it was there.

        Raises:
            PassariError: as `get`.
        """
        url = httpx.URL(self._origin + self._base + path)
        return self._request(url, lambda _: True, method="DELETE", good=(200, 202, 204)) is not None

    def fetch(self, path: str, use: Callable[[httpx.Response], T], headers: Mapping[str, str]) -> T | None:
        """Ask once for a body of any size; returns what `use` makes of the answer: 200, 206 or 416. None: 404.

        Arguments:
            path: below the base, percent-encoded.
            use: reads the body from the answer, within its own bounds.
            headers: of the request.

        Raises:
            PassariError: as `get`; nothing is tried again.
        """
        url = httpx.URL(self._origin + self._base + path)
        return self._request(url, use, retries=0, good=(200, 206, 416), headers=headers)

    def _data(self, url: httpx.URL) -> dict[str, Any] | None:
        return self._request(url, partial(_read_data, url))

    def _request(
        self,
        url: httpx.URL,
        use: Callable[[httpx.Response], T],
        *,
        method: Literal["GET", "POST", "DELETE"] = "GET",
        good: Collection[int] = (200,),
        retries: int | None = None,
        document: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T | None:
        """What `use` makes of the answer, or None when it is 404. Faults of wire and server are retried."""
        wait = self._settings.retry_wait
        for left in range(self._settings.retries if retries is None else retries, -1, -1):
            try:
                with self._client.stream(method, url, json=document, headers=headers) as response:
                    if response.status_code == 404:
                        return None
                    if response.status_code in good:
                        return use(response)
                    fault = f"status {response.status_code}"
                    if response.status_code in (401, 403):
                        raise PermanentFailure(f"{_shown(url)} does not let {self._settings.username!r} in: {fault}")
                    if response.status_code not in _RETRIED or left == 0:
                        raise TransientFailure(f"{_shown(url)} answered {fault}")
            except httpx.TransportError as error:
                fault = quote(error) or type(error).__name__
                connected = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                # What a POST asked for may be under way, although the answer was lost.
                if left == 0 or (connected and method == "POST"):
                    kind = DpsUnreachableError if connected else NoConnectionError
                    raise kind(f"{_shown(url)} does not answer: {fault}") from error
            log.info("%s: %s; once more in about %.1f s", _shown(url), fault, wait)
            time.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311
            wait = min(wait * 2, MAX_WAIT)
        raise AssertionError("the last attempt returns or raises")

    def _follow(self, link: object) -> httpx.URL:
        """The page that a link names: the same host and the same interface, or nothing."""
        if not isinstance(link, str) or not link.startswith(self._base.rstrip("/") + "/") or "/.." in link:
            raise TransientFailure(f"{self._origin} gave a link that leads elsewhere: {quote(link)!r}")
        return httpx.URL(self._origin + link)


def _read_data(url: httpx.URL, response: httpx.Response) -> dict[str, Any]:
    try:
        envelope = json.loads(b"".join(_body(response, MAX_JSON_BYTES)))
    except (ValueError, RecursionError) as error:
        raise TransientFailure(f"{_shown(url)} answered something else than JSON") from error
    data = envelope.get("data") if isinstance(envelope, dict) else None
    if not isinstance(data, dict):
        raise TransientFailure(f"{_shown(url)} answered without `data`")
    return data


def _body(response: httpx.Response, limit: int) -> Iterator[bytes]:
    got, until = 0, time.monotonic() + MAX_BODY_SECONDS
    for chunk in response.iter_bytes():
        got += len(chunk)
        if got > limit:
            raise TransientFailure(f"{_shown(response.url)} is larger than {limit} bytes: not read further")
        if time.monotonic() > until:
            raise TransientFailure(f"{_shown(response.url)} took longer than {MAX_BODY_SECONDS:.0f} s")
        yield chunk


def _shown(url: httpx.URL) -> str:
    """The URL for a message: without user, password and query."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}{url.path}"


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise PermanentFailure(f"cannot read CA certificates from {ca_file}: {error.strerror}") from error
    return context


def _require_privacy(origin: str) -> None:
    """The password goes over https, or does not leave this machine."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if parts.scheme != "https" and host != "localhost":
        raise PermanentFailure(f"dps.rest.url is {parts.scheme}://{host}: a password is only sent over https")
