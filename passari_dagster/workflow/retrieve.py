"""What is preserved, brought back: one of the DPS's packages, as a DIP. `preserved` finds them.

The DPS takes from seconds to hours to make a DIP. Which one was asked for is kept in a file beside the DIP that is to
be, so that a call after a kill goes on with it. The file itself appears whole and verified, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from passari_dagster import durable, locks, stopping
from passari_dagster.catalogue.models import AuditEvent, MuseumObject
from passari_dagster.dps import dip
from passari_dagster.dps.dissemination import (
    DipGoneError,
    Dissemination,
    Format,
    is_id,
    poll_intervals,
)
from passari_dagster.errors import PassariError, PermanentFailure, TransientFailure
from passari_dagster.settings import Settings
from passari_dagster.workflow import audit
from passari_dagster.workflow.audit import Actor
from passari_dagster.workflow.environment import Environment, Log
from passari_dagster.workflow.preserved import object_of, rest_of
from passari_dagster.workflow.shown import plain

ACTION = "retrieve_dip"
LINE_EVERY = 10.0
"""Seconds between two lines of progress."""
ASKED_AGAIN = 3
"""Most requests of one call for a DIP that the DPS has not any more."""
NAP = 1.0
"""Seconds between two looks whether this process is asked to stop, while the DPS makes a DIP."""
_ASKED_TO_STOP = "this process is asked to stop. Another call goes on from there"


class StoppedError(PassariError):
    """This process was asked to stop; another call goes on."""


@dataclass(frozen=True)
class Request:
    """A DIP that was asked for; kept in a file until it is deleted at the DPS.

    Arguments:
        service: where.
        contract_id: for which contract.
        aip_id: of which package.
        dip_id: the DPS's id of the DIP.
        requested: when; ISO 8601.
        tag: what the DPS called the state of the DIP that is being downloaded; empty: nothing, or no such name.
    """

    service: str
    contract_id: str
    aip_id: str
    dip_id: str
    requested: str
    tag: str = ""


@dataclass(frozen=True)
class Plan:
    """What a retrieval would do.

    Arguments:
        aip_id: the package.
        file: where its DIP goes.
        known: whether the DPS preserves such a package.
        request: the DIP that was asked for before, and is gone on with; None: one will be asked for.
        bytes_here: of it, from an earlier call.
    """

    aip_id: str
    file: Path
    known: bool
    request: Request | None
    bytes_here: int

    def __str__(self) -> str:
        if not self.known:
            return f"the DPS preserves no package {plain(self.aip_id)}"
        if self.request is None:
            return f"a DIP of {self.aip_id} would be requested, and go to {self.file}"
        return (
            f"DIP {self.request.dip_id} of {self.aip_id}, requested {self.request.requested}, would go to {self.file}; "
            f"{self.bytes_here} bytes of it are here"
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "file": str(self.file)}


@dataclass(frozen=True)
class Retrieved:
    """A DIP that is here.

    Arguments:
        aip_id: the package.
        dip_id: the DPS's id of the DIP.
        file: where it is.
        size: bytes.
        sha256: of the file.
        object_id: the object, as the METS tells; None: it is none of ours.
        objid: OBJID of the METS.
        verified: what was verified and what was not, in sentences.
        deleted: whether the DPS has deleted its own copy.
        resumed: whether an earlier download was gone on with.
    """

    aip_id: str
    dip_id: str
    file: Path
    size: int
    sha256: str
    object_id: int | None
    objid: str
    verified: tuple[str, ...]
    deleted: bool
    resumed: bool

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "file": str(self.file)}


def plan(env: Environment, aip_id: str, *, output: Path | None = None, archive: Format = "zip") -> Plan:
    """What `retrieve` would do. Nothing is asked for, nothing is written.

    Raises:
        PassariError: as `retrieve`.
    """
    with _service(env) as service:
        files = _files(env.settings, aip_id, output, archive)
        files.require_free()
        request = files.request(service.service, env.settings.dps.contract_id)
        here = files.part.stat().st_size if request and files.part.exists() else 0
        return Plan(aip_id, files.file, service.knows(aip_id), request, here)


def retrieve(
    env: Environment,
    actor: Actor,
    aip_id: str,
    log: Log,
    *,
    output: Path | None = None,
    archive: Format = "zip",
    hours: float = 24.0,
    reason: str = "",
    intervals: Iterator[float] | None = None,
) -> Retrieved:
    """Fetch a package as a DIP: request it, wait until it is made, download and verify it, delete it at the DPS.

    A call that was killed or given up is gone on with by the next one of the same package to the same directory.

    Arguments:
        actor: who asks.
        aip_id: the DPS's id of the package.
        log: gets the progress.
        output: directory that gets `<aip id>.zip`, or `.tar`; None: as the settings say.
        archive: the form of the DIP.
        hours: longest that all of it may take.
        reason: why, for the audit log.
        intervals: seconds between two questions whether the DIP is ready; None: as the DPS's own client waits.

    Raises:
        SettingsError: there is no [dps.rest].
        PermanentFailure: there is no such package, no such directory, the file is there already, it is too large, or it
            took too long.
        DamagedDipError: what came is not what the METS tells of; the file is kept as `….damaged`.
        StoppedError: this process was asked to stop.
        TransientFailure: the DPS does not answer as it should, the disk is full, or somebody else fetches the package.
    """
    until = time.monotonic() + hours * 3600
    files = _files(env.settings, aip_id, output, archive)
    with _service(env) as service, _alone(env, files), _disk_faults_told(files):
        files.require_free()
        retrieval = _Retrieval(env, service, files, aip_id, archive, until, log)
        if not files.file.exists():
            retrieval.wait(intervals or poll_intervals())
            verified = retrieval.download()
        else:
            log(f"{files.file} is here from an earlier call; it is verified again")
            verified = retrieval.verify(files.file)
        return retrieval.finish(verified, actor, reason)


@dataclass(frozen=True)
class _Files:
    """The DIP and what stands beside it while it is fetched. Nothing of the names comes from the DPS."""

    file: Path

    def _beside(self, suffix: str) -> Path:
        return self.file.with_name(self.file.name + suffix)

    @property
    def part(self) -> Path:
        return self._beside(".part")

    @property
    def notes(self) -> Path:
        return self._beside(".request.json")

    @property
    def damaged(self) -> Path:
        return self._beside(".damaged")

    @property
    def lock(self) -> str:
        return locks.dip_lock(hashlib.sha256(str(self.file).encode()).hexdigest()[:16])

    def require_free(self) -> None:
        """The DIP is not there; or it is ours, of a call that was killed at its very end."""
        if self.file.exists() and not self.notes.exists():
            raise PermanentFailure(f"{self.file} is there already: move it away, or choose another directory")

    def request(self, service: str, contract_id: str) -> Request | None:
        """What was asked for before at this service."""
        try:
            request = Request(**json.loads(self.notes.read_bytes()))
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as error:
            raise PermanentFailure(f"{self.notes} cannot be read: remove it to begin anew") from error
        if (request.service, request.contract_id) != (service, contract_id):
            raise PermanentFailure(
                f"{self.notes} is of another DPS or contract ({plain(request.service)}): remove it to begin anew"
            )
        return request

    def keep(self, request: Request) -> None:
        durable.write_bytes(self.notes, json.dumps(asdict(request), indent=2).encode())


def _files(settings: Settings, aip_id: str, output: Path | None, archive: Format) -> _Files:
    """Where the DIP goes: into the directory that was asked for, by a name made of the package's id."""
    if not is_id(aip_id):
        raise PermanentFailure(f"{plain(aip_id)!r} is not the id of a package; search_dps finds those that there are")
    if output is None:
        directory = settings.dips.resolve()
    else:
        directory = output.expanduser().resolve()
        if not directory.is_dir():
            raise PermanentFailure(f"{directory} is not a directory: make it, or choose another one")
    if directory.is_relative_to(settings.package_dir.resolve()):
        raise PermanentFailure(
            f"{directory} is in package_dir, which is for packages to be sent: choose another directory"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", aip_id).lstrip(".")[:150]
    if name != aip_id:
        name += "-" + hashlib.sha256(aip_id.encode()).hexdigest()[:12]
    return _Files(directory / f"{name}.{archive}")


class _Retrieval:
    """One call of `retrieve`, which holds the lock of its file."""

    def __init__(
        self,
        env: Environment,
        service: Dissemination,
        files: _Files,
        aip_id: str,
        archive: Format,
        until: float,
        log: Log,
    ) -> None:
        self._env, self._service, self._files, self._log = env, service, files, log
        self._aip_id, self._archive, self._until = aip_id, archive, until
        self._request = files.request(service.service, env.settings.dps.contract_id)
        self._resumed = False
        if self._request is not None:
            log(f"going on with DIP {self._request.dip_id}, which was requested {self._request.requested}")

    @property
    def _dip_id(self) -> str:
        assert self._request is not None
        return self._request.dip_id

    def _ask(self) -> None:
        """Request a DIP. Killed before its id is kept, it is asked for once more: the DPS makes one in vain."""
        durable.make_directory(self._files.file.parent)
        dip_id = self._service.request(self._aip_id, self._archive)
        now = self._env.now().isoformat(timespec="seconds")
        contract_id = self._env.settings.dps.contract_id
        self._request = Request(self._service.service, contract_id, self._aip_id, dip_id, now)
        self._files.part.unlink(missing_ok=True)
        self._files.keep(self._request)
        self._log(f"requested DIP {dip_id} of {self._aip_id}")

    def wait(self, intervals: Iterator[float]) -> None:
        """Until the DIP is made."""
        begun = time.monotonic()
        if self._request is None:
            self._ask()
        asked_again = 0
        while True:
            try:
                if self._service.is_ready(self._dip_id):
                    break
            except DipGoneError as error:
                asked_again += 1
                if asked_again > ASKED_AGAIN:
                    raise TransientFailure(
                        f"the DPS takes requests for a DIP of {self._aip_id}, and knows nothing of them then: {error}. "
                        "Try again later"
                    ) from error
                self._log(f"the DPS does not have DIP {self._dip_id} any more: another one is requested")
                self._ask()
            pause = next(intervals)
            waited = timedelta(seconds=round(time.monotonic() - begun))
            self._log(f"DIP {self._dip_id} is being made; waited {waited}, asking again in {pause:.0f} s")
            self._sleep(pause)
        self._log(f"DIP {self._dip_id} is ready")

    def _sleep(self, pause: float) -> None:
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            self._require_time(f"DIP {self._dip_id} is not made yet")
            time.sleep(min(left, NAP))

    def _require_time(self, state: str) -> None:
        if stopping.is_asked():
            raise StoppedError(f"{state}; {_ASKED_TO_STOP}")
        if time.monotonic() > self._until:
            raise PermanentFailure(f"{state}, and the time for it is over. Another call goes on from there")

    def download(self) -> dip.Verified:
        """Bring the DIP here as `….part`, and verify it.

        What was gone on with after a crash of the machine may have a hole: then all of it is fetched once more.
        """
        self._fetch()
        try:
            return self._verified(self._files.part)
        except dip.DamagedDipError as error:
            if not self._resumed:
                raise self._damaged(self._files.part, error) from error
            self._log(f"{error}; it was fetched in several parts, and is fetched once more in one")
        self._remember("")
        self._fetch()
        return self.verify(self._files.part)

    def verify(self, path: Path) -> dip.Verified:
        """Read the file to its end.

        Raises:
            DamagedDipError: it is not what its METS tells of; it is kept under another name.
        """
        try:
            return self._verified(path)
        except dip.DamagedDipError as error:
            raise self._damaged(path, error) from error

    def finish(self, verified: dip.Verified, actor: Actor, reason: str) -> Retrieved:
        """Record who has fetched what, give the file its name, and have the DPS delete its copy."""
        file, part = self._files.file, self._files.part
        path = file if file.exists() else part
        size, sha256 = path.stat().st_size, durable.sha256_of(path)
        assert sha256 is not None
        object_id = object_of(verified.objid) or object_of(verified.content_id)
        details = f"AIP {self._aip_id} as DIP {self._dip_id}: {size} bytes, SHA-256 {sha256}, to {file}"
        with self._env.transaction() as session:
            # Killed between the commit and the deletion, the next call comes here again: the file is there.
            told = (AuditEvent.action == ACTION) & AuditEvent.details.contains(f"DIP {self._dip_id}:", autoescape=True)
            if path == part or session.scalar(select(AuditEvent.id).where(told).limit(1)) is None:
                known = object_id is not None and session.get(MuseumObject, object_id) is not None
                ids = [object_id] if known and object_id is not None else []
                audit.record(
                    session,
                    actor,
                    ACTION,
                    now=self._env.now(),
                    reason=reason.strip(),
                    details=details,
                    object_ids=ids,
                )
            if path == part:
                part.replace(file)
                durable.sync_directory(file.parent)
        self._log(f"{file}: {size} bytes, SHA-256 {sha256}")
        of = "no object of ours" if object_id is None else f"object {object_id}"
        self._log(f"its METS says that it is {plain(verified.objid)}: {of}")
        for sentence in verified.sentences():
            self._log(sentence)
        return Retrieved(
            aip_id=self._aip_id,
            dip_id=self._dip_id,
            file=file,
            size=size,
            sha256=sha256,
            object_id=object_id,
            objid=plain(verified.objid),
            verified=tuple(verified.sentences()),
            deleted=self._delete(),
            resumed=self._resumed,
        )

    def _delete(self) -> bool:
        try:
            there = self._service.delete(self._dip_id)
        except PassariError as error:
            self._log(
                f"the DPS has not deleted DIP {self._dip_id}: {error}. The file is good; a further call tries again"
            )
            return False
        self._log(f"DIP {self._dip_id} is deleted at the DPS" if there else f"DIP {self._dip_id} is gone at the DPS")
        self._files.notes.unlink(missing_ok=True)
        return True

    def _fetch(self) -> None:
        assert self._request is not None
        tell = _Ticker(self._log)

        def progress(done: int, total: int | None) -> None:
            if stopping.is_asked():
                raise StoppedError(f"{done} bytes of DIP {self._dip_id} are here; {_ASKED_TO_STOP}")
            tell(done, total)

        try:
            self._resumed = self._service.download(
                self._dip_id,
                self._files.part,
                tag=self._request.tag,
                remember=self._remember,
                until=self._until,
                progress=progress,
            )
        except DipGoneError as error:
            self._files.notes.unlink(missing_ok=True)
            raise TransientFailure(f"{error} any more; another call requests a new one") from error
        except TransientFailure:
            self._require_time(f"DIP {self._dip_id} is not all here yet")
            raise

    def _remember(self, tag: str) -> None:
        assert self._request is not None
        if tag != self._request.tag:
            self._request = replace(self._request, tag=tag)
            self._files.keep(self._request)

    def _verified(self, path: Path) -> dip.Verified:
        self._log(f"verifying {path.stat().st_size} bytes")
        return dip.verify(path, self._archive, max_bytes=rest_of(self._env.settings).max_dip_bytes)

    def _damaged(self, path: Path, error: dip.DamagedDipError) -> dip.DamagedDipError:
        path.replace(self._files.damaged)
        self._files.notes.unlink(missing_ok=True)
        return dip.DamagedDipError(
            f"DIP {self._dip_id} of {self._aip_id} is not whole: {error}. It is kept as {self._files.damaged}, and is "
            "left at the DPS: show it to the people of the DPS. Another call requests a new one"
        )


class _Ticker:
    """Tells how far a download has come, every few seconds."""

    def __init__(self, log: Log) -> None:
        self._log, self._begun, self._told = log, time.monotonic(), time.monotonic()
        self._before: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._before is None:
            self._before = done
        if done != total and now - self._told < LINE_EVERY:
            return
        self._told = now
        of = "" if total is None else f" of {total / 1e6:.1f}"
        rate = (done - self._before) / max(now - self._begun, 0.001) / 1e6
        self._log(f"{done / 1e6:.1f}{of} MB, {rate:.1f} MB/s")


@contextlib.contextmanager
def _disk_faults_told(files: _Files) -> Iterator[None]:
    """A full disk, a directory that is not ours: the file is named."""
    try:
        yield
    except OSError as error:
        raise TransientFailure(f"{files.file} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(env: Environment, files: _Files) -> Iterator[None]:
    """Two at once would write the same file. Waits for one that was just killed: its lock expires."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(env.lock(files.lock, wait=2.0 * env.settings.workflow.lock_expiry))
        except locks.LockBusyError as error:
            raise TransientFailure(f"{files.file} is being fetched by another process: wait for it") from error
        yield


def _service(env: Environment) -> Dissemination:
    return Dissemination(rest_of(env.settings), env.settings.dps.contract_id)
