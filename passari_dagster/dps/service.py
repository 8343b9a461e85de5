"""`Dps`: all that the workflow asks of the Digital Preservation Service.

It only chooses between SFTP and REST; what each does is known by `sftp` and `rest`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from passari_dagster.dps import verdicts as words
from passari_dagster.dps.verdicts import KINDS, Finding, Place, Verdict, Waiting, report_name
from passari_dagster.errors import TransientFailure
from passari_dagster.settings import DpsSettings

if TYPE_CHECKING:
    from passari_dagster.dps.rest import RestV2, RestV3
    from passari_dagster.dps.sftp import Sftp

log = logging.getLogger(__name__)


class Dps:
    """The Digital Preservation Service. Connects at the first request; use it as a context manager.

    Not to be shared between threads or processes. Every method raises `DpsUnreachableError` (a
    `TransientFailure`) when the service cannot be reached, other `TransientFailure`s when it does not do as it
    should, and `PermanentFailure` when somebody has to change something: a key, a permission, a setting.

    Arguments:
        settings: addresses, keys, contract, and where verdicts are read.
    """

    def __init__(self, settings: DpsSettings) -> None:
        self._settings = settings
        self._opened_sftp: Sftp | None = None
        self._opened_rest: RestV2 | RestV3 | None = None

    def __enter__(self) -> Dps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections. Harmless when there are none."""
        if self._opened_sftp is not None:
            self._opened_sftp.close()
        if self._opened_rest is not None:
            self._opened_rest.close()
        self._opened_sftp = self._opened_rest = None

    def submit(
        self,
        local: Path,
        name: str,
        *,
        before_rename: Callable[[], None],
        sha256: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Send a package; when this returns it is the DPS's.

        Arguments:
            local: the package, a tar.
            name: file name that it gets at the DPS, `<something>.tar`.
            before_rename: called when all bytes lie on the server as `<name>.incomplete`, checked and fsynced.
                After it the DPS may have the package, whatever happens to us.
            sha256: digest of the package, with which the bytes that were sent are compared before that.
            progress: called with bytes sent and bytes in all.

        Raises:
            PackageExistsError: the DPS has a package of this name in `transfer/`.
            TransientFailure: the file changed while it was sent.
        """
        self._sftp.upload(local, name, before_rename=before_rename, sha256=sha256, progress=progress)

    def find(self, name: str, objid: str, since: datetime) -> Finding:
        """Where a package is.

        Arguments:
            name: file name of the package.
            objid: OBJID of its METS.
            since: when its sending began; with a time zone.
        """
        finding = self._sftp.find(name, words.first_day(since))
        if finding.place is Place.NOWHERE and self._settings.rest is not None:
            return self._rest.find(Waiting(name, objid, since))
        return finding

    def places(self, packages: Sequence[Waiting]) -> dict[str, Place]:
        """Where packages are, all in one look. REST is asked only where verdicts are read there: one by one.

        One that moves on meanwhile may be missed: before anything is done about a package, `find` it.

        Arguments:
            packages: names, and when their sending began.

        Returns:
            the place of each name.
        """
        places = dict.fromkeys((package.name for package in packages), Place.NOWHERE)
        if packages:
            places |= words.places_on_sftp(self._sftp, packages)
        if self._settings.verdicts != "sftp":
            lost = [package for package in packages if places[package.name] is Place.NOWHERE]
            places |= {package.name: self._rest.find(package).place for package in lost}
        return places

    def rename_incomplete(self, name: str) -> bool:
        """Finish a send that was cut short after `before_rename`.

        Returns:
            Whether `<name>.incomplete` was there and is renamed now.

        Raises:
            PackageExistsError: the DPS has a package of this name in `transfer/`.
        """
        return self._sftp.finish_rename(name)

    def remove_incomplete(self, name: str) -> bool:
        """Remove what a send that was given up left behind.

        Returns:
            Whether there was something: then nothing can be renamed any more, by whomever.
        """
        return self._sftp.remove_incomplete(name)

    def verdicts(
        self,
        waiting: Sequence[Waiting],
        *,
        limit: int = 200,
        until: float = math.inf,
        older: int = words.OLDER_FOLDERS,
    ) -> Iterator[Verdict]:
        """The verdicts there are on packages that wait for one, each as soon as it is known.

        A generator: nothing is asked before the first `next`, and what was yielded holds even if it raises later.
        A report counts only if it is newer than the send, less `CLOCK_TOLERANCE`. The fault of one package is
        logged and does not stop the others. A listing that failed raises, and is never an empty answer; so do
        packages that fail one after the other, and a connection that is lost for good.

        Arguments:
            waiting: packages; at most one verdict is yielded for each name, in no particular order.
            limit: most packages looked into. If more could be, they are drawn at random, so that each gets its
                turn in some later call.
            until: moment of `time.monotonic()` after which nothing more is asked; a request that is under way then
                is waited for. What there was no time for is left for a later call, in which it gets its turn.
            older: how many date folders are listed besides the newest; drawn at random if there are more.
        """
        if not waiting:
            return
        if self._settings.verdicts == "sftp":
            yield from words.from_sftp(self._sftp, waiting, limit, until, older)
        else:
            yield from self._rest.verdicts(waiting, limit, until)

    def fetch_reports(self, verdict: Verdict, directory: Path) -> list[Path]:
        """Copy the ingest report of a verdict here, as XML and as HTML; what was copied before is replaced.

        Arguments:
            verdict: whose report.
            directory: gets `<transfer id>-ingest-report.xml` and `.html`, each whole or not at all.

        Raises:
            TransientFailure: one is not there; names it. The other one has been copied.
        """
        fetched, missing = [], []
        for kind in KINDS:
            name = report_name(verdict.transfer_id, kind)
            if not words.is_safe_name(name):
                raise ValueError(f"not a safe file name: {name!r}")
            local = directory / name
            if self._fetch_report(verdict, kind, local):
                fetched.append(local)
            else:
                missing.append(name)
        if missing:
            raise TransientFailure(f"the DPS has no {' and no '.join(missing)} of the {verdict.status} {verdict.name}")
        return fetched

    def remove_rejected(self, name: str, day: date) -> bool:
        """Remove the content of a rejected package from the DPS, so that it does not store it needlessly.

        The reports stay. Nothing is left to do when it is gone already.

        Arguments:
            name: file name of the package.
            day: day (UTC) of the verdict.

        Returns:
            Whether there was something to remove.
        """
        from passari_dagster.dps.sftp import days_around

        return any(self._sftp.remove_content(near, name) for near in days_around(day))

    def check(self) -> list[str]:
        """Try the connections; raises the first fault.

        Returns:
            A line for each thing that was reached.
        """
        reached = [self._sftp.check()]
        if self._settings.rest is not None:
            reached.append(self._rest.check())
        return reached

    @property
    def _sftp(self) -> Sftp:
        if self._opened_sftp is None:
            from passari_dagster.dps.sftp import Sftp

            self._opened_sftp = Sftp(self._settings.sftp)
        return self._opened_sftp

    @property
    def _rest(self) -> RestV2 | RestV3:
        if self._opened_rest is None:
            from passari_dagster.dps import rest

            assert self._settings.rest is not None, "settings see to it"
            version = rest.RestV3 if self._settings.verdicts == "rest-3.0" else rest.RestV2
            self._opened_rest = version(self._settings.rest, self._settings.contract_id)
        return self._opened_rest

    def _fetch_report(self, verdict: Verdict, kind: words.Kind, local: Path) -> bool:
        if self._settings.verdicts != "sftp":
            return self._rest.fetch_report(verdict, kind, local)
        file = report_name(verdict.transfer_id, kind)
        return self._sftp.fetch(verdict.status, verdict.date, verdict.name, file, local)
