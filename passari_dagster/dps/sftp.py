"""The DPS over SFTP: `transfer/`, `accepted/`, `rejected/`.

One connection, made at the first request and made anew after a fault. Requests are plain blocking calls; the
event loop that asyncssh needs is kept inside. What a directory means is known by `verdicts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import posixpath
import re
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar, cast

import asyncssh

from passari_dagster import durable
from passari_dagster.dps.faults import DpsUnreachableError, NoConnectionError, PackageExistsError, quote
from passari_dagster.dps.verdicts import (
    STATUSES,
    Finding,
    Place,
    Status,
    is_safe_name,
    parse_report_name,
)
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.settings import SftpSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

INCOMPLETE = ".incomplete"
"""The DPS does not pick up files with this suffix."""

CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of a package in memory and on the wire at once; must pass within one time-out."""

MAX_REPORT_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 100_000
"""Most entries kept of one directory; a day's packages and a package's files are far fewer."""

MAX_DEPTH = 64
"""Deepest directory removed; SIPs are shallow."""

SLOWEST_FSYNC = 10_000_000
"""Bytes a second that the server's disk writes at least: a large package's fsync gets more time."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_GONE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_LOST = (
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
    ConnectionError,
    asyncio.TimeoutError,
)


class Sftp:
    """A connection to the DPS's SFTP server.

    Every method raises `DpsUnreachableError` when the connection cannot be made, is lost or goes silent,
    `PermanentFailure` for a refused key, an unverified host or a missing permission, and `TransientFailure`
    for anything else that the server refuses. After a fault the next call connects anew.

    Arguments:
        settings: host, user, key file, known hosts and time-outs.
    """

    def __init__(self, settings: SftpSettings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    def __enter__(self) -> Sftp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Harmless when there is none."""
        if not self._loop.is_closed():
            self._drop()
            self._loop.close()

    def __repr__(self) -> str:
        return f"<Sftp {self._address}>"

    # Sending

    def upload(
        self,
        local: Path,
        name: str,
        *,
        before_rename: Callable[[], None],
        sha256: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Send a package: written as `transfer/<name>.incomplete`, fsynced, and renamed to `transfer/<name>`.

        A leftover `.incomplete` of the name is overwritten.

        Arguments:
            local: the package.
            name: file name that it gets.
            before_rename: called when the whole package lies on the server, and only the rename is left to
                do; the rename is not done if it raises.
            sha256: digest that the bytes which were sent must have.
            progress: called with bytes sent and bytes in all.

        Raises:
            PackageExistsError: `transfer/<name>` exists.
            TransientFailure: what was sent has not the digest; it is not renamed.
        """
        final, part = self._transfer(name), self._transfer(name + INCOMPLETE)
        if self._run(self._lstat(final), f"look for {final}") is not None:
            raise PackageExistsError(f"{self._address} already has {final}; it is not overwritten")
        with local.open("rb") as stream:
            sent = self._run(self._send(stream, part, progress), f"write {part}")
        if sha256 not in (None, sent):
            raise TransientFailure(f"{local} changed while it was sent: it is not renamed at {self._address}")
        before_rename()
        if not self.finish_rename(name):
            raise TransientFailure(f"{part} vanished from {self._address} before it could be renamed")

    def finish_rename(self, name: str) -> bool:
        """Rename `transfer/<name>.incomplete`, whole as it lies on the server, to `transfer/<name>`.

        Returns:
            Whether it was renamed now; False when there is no `.incomplete`.

        Raises:
            PackageExistsError: `transfer/<name>` exists.
        """
        return self._run(self._rename(name), f"rename {self._transfer(name + INCOMPLETE)}")

    def remove_incomplete(self, name: str) -> bool:
        """Remove `transfer/<name>.incomplete`; it may be gone already.

        Returns:
            Whether it was there.
        """
        path = self._transfer(name + INCOMPLETE)
        return self._run(self._remove(path), f"remove {path}")

    # Looking

    def find(self, name: str, first: date) -> Finding:
        """Where a package is.

        A package moves on while we look, from `transfer/` to `accepted/` or `rejected/`. So we look in the order
        in which it moves, and say NOWHERE only after a second look. A name is used for one package only.

        Arguments:
            name: file name of the package.
            first: the first date folder (UTC) to look into.
        """
        for _ in range(2):
            finding = self._run(self._look(name, first), f"look for {name}")
            if finding is not None:
                return finding
        return Finding(Place.NOWHERE)

    def in_transfer(self, wanted: Collection[str]) -> dict[str, Place]:
        """Those of the wanted names that lie in `transfer/`, whole or as `.incomplete`."""
        path = self._path("transfer")
        places = {name + INCOMPLETE: (name, Place.INCOMPLETE) for name in wanted}
        places |= {name: (name, Place.TRANSFER) for name in wanted}
        listing = self._run(self._list(path, places.__contains__), f"list {path}")
        # The whole one comes later in the order, and holds.
        return dict(sorted((places[entry] for entry, _ in listing), key=lambda item: item[1] is Place.TRANSFER))

    def days(self, status: Status, first: date) -> list[date]:
        """The date folders from the day `first` on, in order."""
        return self._run(self._days(status, first), f"list {self._path(status)}")

    def packages(self, status: Status, day: date, wanted: Collection[str]) -> list[str]:
        """Those of the wanted names that have a directory in a date folder, in order."""
        path = self._path(status, str(day))
        listing = self._run(self._list(path, wanted.__contains__, missing_is_empty=True), f"list {path}")
        return sorted(name for name, attributes in listing if _is_directory(attributes))

    def reports(self, status: Status, day: date, name: str) -> list[tuple[str, datetime]]:
        """Transfer ids that have an ingest report in a package's directory, and when each was made."""
        path = self._path(status, str(day), _checked(name))
        listing = self._run(self._list(path, lambda _: True, missing_is_empty=True), f"list {path}")
        made: dict[str, datetime] = {}
        for entry, attributes in listing:
            report = parse_report_name(entry)
            if report is None:
                if "-ingest-report." in entry:
                    log.warning("%s holds %r, which is no name of a report: ignored", path, quote(entry))
                continue
            time = datetime.fromtimestamp(attributes.mtime or 0, timezone.utc)
            made[report[0]] = max(time, made.get(report[0], time))
        return sorted(made.items())

    def fetch(self, status: Status, day: date, name: str, file: str, local: Path) -> bool:
        """Copy a small file of a package's directory here; `local` appears whole or not at all.

        Returns:
            Whether it was there.

        Raises:
            PermanentFailure: it is larger than MAX_REPORT_BYTES.
        """
        path = self._path(status, str(day), _checked(name), _checked(file))
        return self._run(self._fetch(path, local), f"fetch {path}")

    def remove_content(self, day: date, name: str) -> bool:
        """Remove the content of a rejected package, `rejected/<day>/<name>/<name>/`; never its reports.

        Returns:
            Whether there was any.
        """
        path = self._path("rejected", str(day), _checked(name), name)
        return self._run(self._remove_tree(path, MAX_DEPTH), f"remove {path}")

    def connect(self) -> None:
        """Connect; harmless when a connection is open. A fault of the other methods may have ended it."""
        self._run(_nothing(), "connect")

    def check(self) -> str:
        """Connect, and look for the three directories.

        Returns:
            A short description of what was reached.
        """
        for folder in ("transfer", *STATUSES):
            path = self._path(folder)
            if self._run(self._lstat(path), f"look for {path}") is None:
                raise PermanentFailure(f"{self._address} has no {path}/: check dps.sftp.home ({self._settings.home!r})")
        return f"{self._address}: transfer/, accepted/ and rejected/"

    # The connection

    @property
    def _address(self) -> str:
        settings = self._settings
        return f"sftp://{settings.username}@{settings.host}:{settings.port}"

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._settings.home, *parts)

    def _transfer(self, name: str) -> str:
        return self._path("transfer", _checked(name))

    def _run(self, request: Coroutine[Any, Any, T], what: str) -> T:
        """Carry out a request, with the faults of the wire told as ours."""
        try:
            if self._sftp is None:
                self._loop.run_until_complete(self._connect())
            return self._loop.run_until_complete(request)
        except asyncssh.SFTPPermissionDenied as error:
            raise PermanentFailure(f"{self._address} does not permit us to {what}: {quote(error)}") from error
        except _LOST as error:
            self._drop()
            reason = quote(error) or "no answer in time"
            raise DpsUnreachableError(
                f"lost the connection to {self._address} while trying to {what}: {reason}"
            ) from error
        except asyncssh.SFTPError as error:
            self._drop()
            raise TransientFailure(f"{self._address} refused to {what}: {quote(error)}") from error
        except (DpsUnreachableError, PermanentFailure, TransientFailure):
            raise
        except BaseException:
            self._drop()
            raise
        finally:
            request.close()

    async def _connect(self) -> None:
        settings = self._settings
        key, known_hosts = _private_key(settings.private_key), _known_hosts(settings.known_hosts)
        try:
            self._connection = await asyncssh.connect(
                settings.host,
                settings.port,
                username=settings.username,
                client_keys=[key],
                known_hosts=known_hosts,
                # The settings are the whole truth: no ~/.ssh/config, no agent, no other way to log in.
                config=None,
                agent_path=None,
                preferred_auth=("publickey",),
                connect_timeout=settings.timeout,
                login_timeout=settings.timeout,
                keepalive_interval=settings.keepalive,
            )
            self._sftp = await self._within(self._connection.start_sftp_client())
        except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
            port = settings.port if settings.port != asyncssh.DEFAULT_PORT else None
            known = any(known_hosts.match(settings.host, "", port)[:2])
            fault = "shows another host key than the one in" if known else "is not among the known hosts of the file"
            raise PermanentFailure(
                f"{settings.host} port {settings.port} {fault} {settings.known_hosts}: {quote(error)}"
            ) from error
        except asyncssh.PermissionDenied as error:
            raise PermanentFailure(f"{self._address} refused the key {settings.private_key}") from error
        except (OSError, asyncio.TimeoutError) as error:  # refused, unreachable, unknown name, silent
            reason = quote(error) or "no answer in time"
            raise NoConnectionError(f"cannot connect to {self._address}: {reason}") from error

    def _drop(self) -> None:
        """Forget the connection; nothing of it is left to run when this returns."""
        connection, self._connection, self._sftp = self._connection, None, None
        # Taken before the cut, too: it ends some of them, with a fault that nobody else would ask for.
        left = asyncio.all_tasks(self._loop)
        if connection is not None:
            connection.abort()
            with contextlib.suppress(asyncio.TimeoutError):
                self._loop.run_until_complete(asyncio.wait_for(connection.wait_closed(), 5))
        left |= asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(_all_done(left))

    @property
    def _client(self) -> asyncssh.SFTPClient:
        assert self._sftp is not None, "a request is made by _run, which connects"
        return self._sftp

    async def _within(self, request: Awaitable[T], extra: float = 0) -> T:
        task = asyncio.ensure_future(request)
        done, _ = await asyncio.wait({task}, timeout=self._settings.timeout + extra)
        if not done:
            # Not cancelled here: its tidying up would wait for the silent server. `_drop` cuts the connection first.
            raise asyncio.TimeoutError
        return task.result()

    # Requests

    async def _lstat(self, path: str) -> asyncssh.SFTPAttrs | None:
        try:
            return await self._within(self._client.lstat(path))
        except _GONE:
            return None

    async def _list(
        self, path: str, keep: Callable[[str], bool], *, missing_is_empty: bool = False
    ) -> list[tuple[str, asyncssh.SFTPAttrs]]:
        """Entries whose names are wanted. Names are the server's: they are compared, never joined to a path here."""

        async def read() -> list[tuple[str, asyncssh.SFTPAttrs]]:
            found: list[tuple[str, asyncssh.SFTPAttrs]] = []
            async with contextlib.aclosing(self._scan(path)) as entries:
                async for entry in entries:
                    name = os.fsdecode(entry.filename)
                    if name not in (".", "..") and keep(name):
                        found.append((name, entry.attrs))
                    if len(found) > MAX_ENTRIES:
                        raise TransientFailure(f"{path} has more than {MAX_ENTRIES} entries")
            return found

        try:
            return await self._within(read())
        except _GONE:
            if missing_is_empty:
                return []
            raise

    def _scan(self, path: str) -> AsyncGenerator[asyncssh.SFTPName, None]:
        # As bytes: a name that is not UTF-8 must not spoil the listing.
        return cast("AsyncGenerator[asyncssh.SFTPName, None]", self._client.scandir(path.encode()))

    async def _days(self, status: Status, first: date) -> list[date]:
        listing = await self._list(self._path(status), lambda name: _DAY.fullmatch(name) is not None)
        days = []
        for name, _ in listing:
            with contextlib.suppress(ValueError):  # 2026-13-45
                days.append(date.fromisoformat(name))
        return sorted(day for day in days if day >= first)

    async def _look(self, name: str, first: date) -> Finding | None:
        """One look, in the order in which a package moves; the place furthest on holds."""
        found: Finding | None = None
        for suffix, place in ((INCOMPLETE, Place.INCOMPLETE), ("", Place.TRANSFER)):
            attributes = await self._lstat(self._transfer(name + suffix))
            if attributes is not None:
                found = Finding(place, size=attributes.size)
        judged = []
        for status in STATUSES:
            for day in await self._days(status, first):
                attributes = await self._lstat(self._path(status, str(day), name))
                if attributes is not None:
                    judged.append((day, attributes.mtime or 0, Finding(Place(status), date=day)))
        return max(judged, key=lambda item: item[:2])[2] if judged else found

    async def _send(self, stream: BinaryIO, path: str, progress: Callable[[int, int], None] | None) -> str:
        """Returns the SHA-256 of what was sent."""
        size, sent, digest = os.fstat(stream.fileno()).st_size, 0, hashlib.sha256()
        remote = await self._within(self._client.open(path, "wb"))
        while chunk := stream.read(CHUNK_BYTES):
            await self._within(remote.write(chunk, sent))
            digest.update(chunk)
            sent += len(chunk)
            if progress is not None:
                progress(sent, size)
        try:
            await self._within(remote.fsync(), extra=size / SLOWEST_FSYNC)
        except asyncssh.SFTPOpUnsupported:
            log.debug("%s has no fsync@openssh.com", self._address)
        await self._within(remote.close())
        attributes = await self._lstat(path)
        there = attributes.size if attributes is not None else None
        if not sent == size == there:
            raise TransientFailure(
                f"{path} is {there} bytes on {self._address}; {sent} were sent of a package of {size}"
            )
        return digest.hexdigest()

    async def _rename(self, name: str) -> bool:
        part, final = self._transfer(name + INCOMPLETE), self._transfer(name)
        try:
            # SFTP's own rename, not posix-rename@openssh.com: it never overwrites.
            await self._within(self._client.rename(part, final))
        except _GONE:
            return False
        except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists) as error:
            if await self._lstat(final) is None:
                raise
            raise PackageExistsError(f"{self._address} already has {final}; it is not overwritten") from error
        return True

    async def _remove(self, path: str) -> bool:
        try:
            await self._within(self._client.remove(path))
        except _GONE:
            return False
        return True

    async def _remove_tree(self, path: str, depth: int) -> bool:
        attributes = await self._lstat(path)
        if attributes is None or not _is_directory(attributes):
            return False
        if depth == 0:
            raise PermanentFailure(f"{path} lies deeper than {MAX_DEPTH} directories: remove it by hand")
        for name, entry in await self._list(path, lambda _: True, missing_is_empty=True):
            if "/" in name or "\0" in name:
                raise PermanentFailure(f"{path} on {self._address} holds {quote(repr(name))}: not removed")
            inner = f"{path}/{name}"
            if _is_directory(entry):
                await self._remove_tree(inner, depth - 1)
            else:
                await self._remove(inner)
        with contextlib.suppress(*_GONE):
            await self._within(self._client.rmdir(path))
        return True

    async def _fetch(self, path: str, local: Path) -> bool:
        try:
            remote = await self._within(self._client.open(path, "rb"))
        except _GONE:
            return False
        with durable.open_for_replacement(local) as stream:
            got = 0
            while chunk := cast("bytes", await self._within(remote.read(CHUNK_BYTES, got))):
                got += len(chunk)
                if got > MAX_REPORT_BYTES:
                    raise PermanentFailure(f"{path} is larger than {MAX_REPORT_BYTES} bytes: not fetched")
                stream.write(chunk)
            await self._within(remote.close())
        return True


def days_around(day: date) -> Iterator[date]:
    """The day, and its neighbours: a report and its folder may lie on two sides of midnight."""
    return (day + timedelta(days=offset) for offset in (0, 1, -1))


async def _nothing() -> None:
    """A request that is done as soon as there is a connection."""


async def _all_done(tasks: Collection[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _checked(name: str) -> str:
    if not is_safe_name(name):
        raise ValueError(f"not a safe file name: {name!r}")
    return name


def _is_directory(attributes: asyncssh.SFTPAttrs) -> bool:
    if attributes.permissions is not None:
        return stat.S_ISDIR(attributes.permissions)
    return attributes.type == asyncssh.FILEXFER_TYPE_DIRECTORY


def _private_key(path: Path) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path)
    except OSError as error:
        raise PermanentFailure(f"cannot read the private key {path}: {error.strerror}") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise PermanentFailure(f"{path} is not a private key without passphrase that we can use") from None


def _known_hosts(path: Path) -> asyncssh.SSHKnownHosts:
    try:
        return asyncssh.read_known_hosts(str(path))
    except OSError as error:
        raise PermanentFailure(f"cannot read the known hosts {path}: {error.strerror}") from error
    except ValueError as error:
        raise PermanentFailure(f"{path} is not a known_hosts file: {quote(error)}") from error
