"""What the DPS preserves: searching its packages (AIPs), and having one disseminated as a DIP over REST.

Calls and answers are those of dpres-rest-api-client [v2/client.py, v3/client.py, their tests]. How a request is made is
known by `rest_http`; whether a DIP is whole by `dip`; what is remembered between two calls by `workflow`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import quote as percent_encode

import httpx

from passari_dagster.dps.faults import DpsUnreachableError, quote
from passari_dagster.dps.rest_http import Http
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.settings import RestSettings

log = logging.getLogger(__name__)

Format = Literal["zip", "tar"]
MAX_LIMIT = 1000
"""Most packages in a page of a search."""
MAX_ID = 255
Progress = Callable[[int, int | None], None]
"""Gets the bytes that are here, and those of the whole where that is known."""


class DipGoneError(TransientFailure):
    """The DPS does not know the DIP (any more)."""


class DipRefusedError(TransientFailure):
    """The body is not one that can be taken, whatever may come at the next attempt."""


@dataclass(frozen=True)
class Preserved:
    """A package that a search has found.

    Arguments:
        aip_id: the DPS's id of it.
        kind: `AIP`, or `DIP` where the search was for those too.
        content_id: CONTENTID of its METS, `Object_<id>`; None: the interface does not tell it.
        created: when it was made, as the DPS writes it.
        modified: when it was changed; None: never.
    """

    aip_id: str
    kind: str
    content_id: str | None
    created: str
    modified: str | None


class Dissemination:
    """Searches and DIPs of one contract. Use it as a context manager.

    Every method raises `DpsUnreachableError` (a `TransientFailure`) when the service does not answer, other
    `TransientFailure`s when it does not do as it should, and `PermanentFailure` when it does not let us in.

    Arguments:
        settings: address, user, CA file, time-outs, retries, version of the interface.
        contract_id: the contract, `urn:uuid:…`.
    """

    def __init__(self, settings: RestSettings, contract_id: str) -> None:
        self._settings = settings
        self._v3 = settings.access == "3.0"
        self._http = Http(settings, f"/api/{settings.access}/{contract_id}")

    def __enter__(self) -> Dissemination:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def service(self) -> str:
        """Address and version: what a DIP's id belongs to."""
        return f"{self._http.origin} REST API {self._settings.access}"

    def search(self, query: str, *, page: int, limit: int) -> tuple[list[Preserved], bool]:
        """A page of the packages that match, and whether there are more.

        Arguments:
            query: in Solr's dialect of Lucene, such as `OBJID:Passari_Object_1`; empty: all.
            page: from 1.
            limit: packages in a page.
        """
        given = {"q": query} if query else {}
        data = self._http.get("/search", page=page, limit=limit, **given)
        if data is None:
            raise TransientFailure(f"{self.service} does not know the contract")
        results, links = data.get("results"), data.get("links")
        if not isinstance(results, list) or len(results) > MAX_LIMIT:
            raise TransientFailure(f"{self.service} answered a search without a list of results")
        return [self._preserved(result) for result in results], isinstance(links, dict) and bool(links.get("next"))

    def knows(self, aip_id: str) -> bool:
        """Whether the DPS preserves a package of this id."""
        path = f"/preserved/{segment(aip_id)}"
        answer = self._http.get(f"{path}/files", page=1, limit=1) if self._v3 else self._http.get(path)
        return answer is not None

    def request(self, aip_id: str, archive: Format) -> str:
        """Have a DIP made; returns its id.

        Raises:
            PermanentFailure: there is no such package.
        """
        if self._v3:
            document = {"aips": [{"aip_id": aip_id}], "format": archive}
            data = self._http.post("/preserved/disseminate", document)
        else:
            data = self._http.post(f"/preserved/{segment(aip_id)}/disseminate", format=archive)
        if data is None:
            raise PermanentFailure(f"the DPS preserves no package {aip_id}: search_dps finds those that it does")
        dip_id = str(data.get("disseminated") or "").rstrip("/").rpartition("/")[2]
        if not is_id(dip_id):
            raise TransientFailure(f"{self.service} answered without the id of a DIP: {quote(data)}")
        return dip_id

    def is_ready(self, dip_id: str) -> bool:
        """Whether a DIP can be downloaded.

        Raises:
            DipGoneError: there is none of this id.
        """
        data = self._http.get(f"/disseminated/{segment(dip_id)}")
        if data is None:
            raise DipGoneError(f"the DPS has no DIP {dip_id}")
        # 2.0 writes it as a string, 3.0 as a truth value.
        return data.get("complete") in (True, "true")

    def download(
        self,
        dip_id: str,
        part: Path,
        *,
        tag: str,
        remember: Callable[[str], None],
        until: float,
        progress: Progress,
    ) -> bool:
        """Bring a DIP into a file, fsynced. What is there of it is kept where the DPS says that it is the same still.

        Arguments:
            part: the file; may hold the beginning, from an earlier call.
            tag: what the DPS called that state of the DIP (its ETag).
            remember: gets the tag of a download that begins, before its first byte.
            until: moment of `time.monotonic()` after which nothing more is read.
            progress: called after each piece.

        Returns:
            Whether it was begun in an earlier call or attempt, and went on.

        Raises:
            DipGoneError: there is none of this id.
            PermanentFailure: it is too large for the settings, or for the disk.
        """
        download = _Download(part, tag, remember, until, progress, self._settings.max_dip_bytes)
        path = f"/disseminated/{segment(dip_id)}/download"
        left, wait = self._settings.retries, self._settings.retry_wait
        with download.open():
            while True:
                before = download.have
                try:
                    done = self._http.fetch(path, download.take, download.headers())
                    if done is None:
                        raise DipGoneError(f"the DPS has no DIP {dip_id}")
                    if done:
                        download.sync()
                        return download.resumed
                    fault = f"the connection was cut after {download.have} bytes"
                except (DipGoneError, DipRefusedError):
                    raise
                except TransientFailure as error:
                    fault = str(error)
                left = self._settings.retries if download.have > before else left - 1
                if left < 0 or time.monotonic() > until:
                    raise DpsUnreachableError(f"DIP {dip_id}: {fault}; {download.have} bytes are kept")
                log.info("DIP %s: %s; once more in about %.1f s", dip_id, fault, wait)
                time.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311

    def delete(self, dip_id: str) -> bool:
        """Have the DPS delete a DIP; returns whether it was there."""
        return self._http.delete(f"/disseminated/{segment(dip_id)}")

    def _preserved(self, result: Any) -> Preserved:
        found = result if isinstance(result, dict) else {}
        aip_id = found.get("aip_id" if self._v3 else "id")
        if not isinstance(aip_id, str):
            raise TransientFailure(f"{self.service} answered a search with a result that has no id: {quote(result)}")
        content_id, modified = found.get("content_id"), found.get("lastmoddate")
        return Preserved(
            aip_id=aip_id,
            kind="AIP" if self._v3 else str(found.get("pkg_type") or ""),
            content_id=content_id if isinstance(content_id, str) else None,
            created=str(found.get("createdate") or ""),
            modified=str(modified) if modified else None,
        )


class _Download:
    """One DIP on its way into a file, over several requests."""

    def __init__(
        self,
        part: Path,
        tag: str,
        remember: Callable[[str], None],
        until: float,
        progress: Progress,
        limit: int,
    ) -> None:
        self._part, self._tag, self._remember = part, tag, remember
        self._until, self._progress, self._limit = until, progress, limit
        self._stream: BinaryIO
        self.have = 0
        self.resumed = False

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        # Never through a link: what stands at this name is a file of ours, or refused.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._part, flags, 0o640), "r+b") as self._stream:
            self.have = self._stream.seek(0, os.SEEK_END)
            if not self._tag:
                self._from_the_start()
            yield

    def headers(self) -> dict[str, str]:
        """Asks for the rest only; a DPS that does not do that sends the whole, and one whose DIP is another as well."""
        return {"Range": f"bytes={self.have}-", "If-Range": self._tag} if self.have and self._tag else {}

    def take(self, response: httpx.Response) -> bool:
        """Read an answer; returns whether the whole is here now."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DipRefusedError("the DPS sent a DIP compressed, which was not asked for")
        asked = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if response.status_code == 206 and asked and int(asked[1]) == self.have:
            total: int | None = int(asked[2])
            self.resumed = True
        elif response.status_code == 200:
            self._from_the_start()
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            tag = response.headers.get("ETag", "")
            # A weak one does not promise the same bytes.
            self._tag = tag if re.fullmatch(r'"[!-~]{0,200}"', tag) else ""
            self._remember(self._tag)
        elif response.status_code == 416 and self._is_all(response.headers.get("Content-Range", "")):
            self.resumed = True
            return True
        else:
            self._from_the_start()
            return False
        self._require_room(total)
        # Each piece as it comes: what waited for a larger one would be lost when the connection is cut.
        for chunk in response.iter_raw():
            self._stream.write(chunk)
            self.have += len(chunk)
            if self.have > self._limit:
                raise PermanentFailure(_too_large(self._limit))
            self._progress(self.have, total)
            if time.monotonic() > self._until:
                self.sync()
                raise DpsUnreachableError("the time for the download is over")
        return total is None or self.have == total

    def _is_all(self, told: str) -> bool:
        """Whether nothing is left to ask for: all had come when the call before was killed."""
        match = re.fullmatch(r"(?:bytes )?\*/(\d+)", told)
        return match is not None and int(match[1]) == self.have

    def sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _from_the_start(self) -> None:
        self._stream.seek(0)
        self._stream.truncate()
        self.have, self.resumed = 0, False

    def _require_room(self, total: int | None) -> None:
        if total is None:
            return
        if total > self._limit:
            raise PermanentFailure(_too_large(self._limit))
        free = shutil.disk_usage(self._part.parent).free
        if total - self.have > free:
            raise PermanentFailure(
                f"the DIP has {total} bytes, of which {self.have} are here; {self._part.parent} has room for {free}"
            )


def poll_intervals() -> Iterator[float]:
    """Seconds between two questions whether a DIP is ready, as the DPS's own client waits. [base.py]"""
    number = 0
    while True:
        yield (3.0 if number < 5 else 10.0 if number < 10 else 60.0) + random.uniform(0, 0.5)  # noqa: S311
        number += 1


def is_id(text: str) -> bool:
    """Whether a text can be the id of a package, in an URL and in a message."""
    return 0 < len(text) <= MAX_ID and text.isprintable() and not set(text) & set("/\\ ") and set(text) != {"."}


def segment(text: str) -> str:
    """An id as one segment of a path.

    Raises:
        PermanentFailure: it cannot be one.
    """
    if not is_id(text) or text == "..":
        raise PermanentFailure(
            f"{quote(text)!r} is not the id of a package: no /, no space, at most {MAX_ID} characters"
        )
    return percent_encode(text, safe="")


def _too_large(limit: int) -> str:
    return f"the DIP is larger than dps.rest.max_dip_bytes, {limit} bytes: not read further"
