"""The DPS's REST interfaces 2.0 and 3.0: verdicts and ingest reports.

One class for each version, with the same methods. How a request is made is known by `rest_http`; the shape of the
answers is that of dpres-rest-api-client 1.1.
"""

from __future__ import annotations

import email.utils
import itertools
import logging
import math
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote as percent_encode

from passari_dagster.dps.faults import NoConnectionError, quote
from passari_dagster.dps.rest_http import Http
from passari_dagster.dps.verdicts import (
    MAX_FAULTS,
    STATUSES,
    Finding,
    Kind,
    Place,
    Verdict,
    Waiting,
    counts,
    drawn,
    is_of,
    is_safe_name,
    newest,
)
from passari_dagster.errors import TransientFailure
from passari_dagster.settings import RestSettings

log = logging.getLogger(__name__)

PAGE_SIZE = 1000


class RestV2:
    """REST API 2.0: reports are asked for by OBJID.

    Arguments:
        settings: address, user, CA file, time-outs and retries.
        contract_id: the contract, `urn:uuid:…`.
    """

    def __init__(self, settings: RestSettings, contract_id: str) -> None:
        self._http = Http(settings, f"/api/2.0/{contract_id}")

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def check(self) -> str:
        """Ask for the contract's statistics; returns what was reached."""
        if self._http.get("/statistics/overview") is None:
            raise TransientFailure(f"{self._http.origin} does not know the contract")
        return f"{self._http.origin}: REST API 2.0"

    def verdicts(self, waiting: Sequence[Waiting], limit: int, until: float = math.inf) -> Iterator[Verdict]:
        """The verdicts there are on the waiting packages, each as soon as it is known; 404 is "no report yet".

        At most `limit` packages are asked for, until the moment `until`. The fault of a single one is logged, and it
        is left for the next look.

        Raises:
            PassariError: the service cannot be connected to, does not let us in, or fails for MAX_FAULTS packages
                in a row or for all of fewer.
        """
        packages, faults = drawn(waiting, limit), 0
        for package in packages:
            if monotonic() > until:
                return
            try:
                verdict = newest(self._verdicts_of(package))
            except NoConnectionError:
                raise
            except TransientFailure as error:
                faults += 1
                if faults in (MAX_FAULTS, len(packages)):
                    raise
                log.warning("%s is left for the next look: %s", package.name, error)
                continue
            faults = 0
            if verdict is not None:
                yield verdict

    def find(self, package: Waiting) -> Finding:
        """ACCEPTED, REJECTED or NOWHERE."""
        return _found(newest(self._verdicts_of(package)))

    def fetch_report(self, verdict: Verdict, kind: Kind, local: Path) -> bool:
        """Copy a report into a file; returns whether it was there."""
        path = f"/ingest/report/{_segment(verdict.objid)}/{_segment(verdict.transfer_id)}"
        return self._http.download(path, local, type=kind)

    def _verdicts_of(self, package: Waiting) -> Iterator[Verdict]:
        data = self._http.get(f"/ingest/report/{_segment(package.objid)}")
        for result in _results(data) if data is not None else ():
            yield from _verdict(package, result, "id", _iso_time(result.get("date")))


class RestV3:
    """REST API 3.0: transfers are listed, and matched by file name.

    Arguments:
        settings: address, user, CA file, time-outs and retries.
        contract_id: the contract, `urn:uuid:…`.
    """

    def __init__(self, settings: RestSettings, contract_id: str) -> None:
        self._http = Http(settings, f"/api/3.0/{contract_id}")

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def check(self) -> str:
        """Ask for one transfer; returns what was reached."""
        if self._http.get("/transfers", page=1, limit=1) is None:
            raise TransientFailure(f"{self._http.origin} does not know the contract")
        return f"{self._http.origin}: REST API 3.0"

    def verdicts(self, waiting: Sequence[Waiting], limit: int, until: float = math.inf) -> Iterator[Verdict]:
        """The verdicts there are on the waiting packages, at most `limit`; all are known after the listing.

        After the moment `until` no more than the first page of each of the two listings is read. There is no way to
        ask for old transfers only; which listing comes first is drawn, so that neither is always the one cut short.

        Raises:
            PassariError: a page of the listing could not be had.
        """
        by_name = {package.name: package for package in waiting}
        if not by_name:
            return
        found: dict[str, list[Verdict]] = {}
        oldest = min(package.since for package in waiting)
        for status in random.sample(STATUSES, len(STATUSES)):
            for transfer, time in self._transfers(oldest, until, status=status):
                package = by_name.get(str(transfer.get("filename")))
                if package is not None:
                    found.setdefault(package.name, []).extend(
                        _verdict(package, transfer, "transfer_id", time, matched=True)
                    )
        chosen = (newest(found.get(name, [])) for name in by_name)
        yield from itertools.islice((verdict for verdict in chosen if verdict is not None), limit)

    def find(self, package: Waiting) -> Finding:
        """ACCEPTED, REJECTED, TRANSFER while the DPS is at work on it, or NOWHERE."""
        verdicts: list[Verdict] = []
        at_work = False
        for transfer, time in self._transfers(package.since):
            if transfer.get("filename") == package.name:
                at_work |= transfer.get("status") in ("uploading", "in_progress")
                verdicts += _verdict(package, transfer, "transfer_id", time, matched=True)
        if at_work:
            return Finding(Place.TRANSFER)
        return _found(newest(verdicts))

    def fetch_report(self, verdict: Verdict, kind: Kind, local: Path) -> bool:
        """Copy a report into a file; returns whether it was there."""
        return self._http.download(f"/transfers/{_segment(verdict.transfer_id)}/report", local, type=kind)

    def _transfers(
        self, oldest: datetime, until: float = math.inf, **query: str
    ) -> Iterator[tuple[dict[str, Any], datetime | None]]:
        """Transfers, and when each was made.

        The order of the listing is not documented. When it has been newest first all along and has passed the
        oldest send, the rest cannot matter; otherwise every page is read.
        """
        last: datetime | None = None
        descending = True
        for data in self._http.pages("/transfers", page=1, limit=PAGE_SIZE, **query):
            for transfer in _results(data):
                time = _http_time(transfer.get("timestamp"))
                descending = descending and time is not None and (last is None or time <= last)
                last = time
                yield transfer, time
            passed = descending and last is not None and not counts(last, oldest)
            if passed or monotonic() > until:
                return


def _verdict(
    package: Waiting, result: dict[str, Any], key: str, reported: datetime | None, *, matched: bool = False
) -> Iterator[Verdict]:
    """The verdict in a result, if it is one on this package as it was sent."""
    transfer_id, status = result.get(key), result.get("status")
    if status not in ("accepted", "rejected"):
        return
    if not isinstance(transfer_id, str) or not is_safe_name(transfer_id) or reported is None:
        log.warning("%s: a result that cannot be read is ignored: %s", package.name, quote(result))
        return
    if (matched or is_of(transfer_id, package.name)) and counts(reported, package.since):
        yield Verdict(package.name, package.objid, status, reported.date(), reported, transfer_id)


def _found(verdict: Verdict | None) -> Finding:
    if verdict is None:
        return Finding(Place.NOWHERE)
    return Finding(Place(verdict.status), date=verdict.date)


def _results(data: dict[str, Any]) -> list[dict[str, Any]]:
    results = data.get("results")
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise TransientFailure("the DPS answered without a list of results")
    return results


def _segment(text: str) -> str:
    return percent_encode(text, safe="")


def _iso_time(text: object) -> datetime | None:
    try:
        # Python 3.10 does not know the Z.
        return _in_utc(datetime.fromisoformat(str(text).replace("Z", "+00:00")))
    except ValueError:
        return None


def _http_time(text: object) -> datetime | None:
    try:
        return _in_utc(email.utils.parsedate_to_datetime(str(text)))
    except (ValueError, TypeError):
        return None


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=time.tzinfo or timezone.utc).astimezone(timezone.utc)
