"""The SFTP server of the simulated DPS: a home directory, its permissions, and the faults of the wire."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import posixpath
import re
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import asyncssh

from passari_dagster.simulation.dps_faults import Faults, Hold, Point

_WRITES = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC
_IN_TRANSFER = re.compile(r"transfer/[^/]+")
_IN_REJECTED_CONTENT = re.compile(r"rejected/[0-9-]+/(?P<name>[^/]+)/(?P=name)(/.+)?")


class State:
    """What all connections share.

    Attributes:
        requests: what was asked, oldest first: `open PATH`, `fsync PATH`, `rename PATH PATH`, `list PATH`…
        holds: places where a request is stopped.
        unlistable: a directory whose listing fails; none if empty.
        connections: those open now.
    """

    def __init__(self, home: Path, faults: Faults) -> None:
        self.home = home
        self.faults = faults
        self.requests: deque[str] = deque(maxlen=100_000)
        self.holds: list[Hold] = []
        self.unlistable = ""
        self.connections: set[asyncssh.SSHServerConnection] = set()


async def listen(state: State, *, host: str, port: int, host_key: Path, authorized_keys: Path) -> asyncssh.SSHAcceptor:
    """Begin to serve."""

    class Login(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn
            state.connections.add(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            state.connections.discard(self._connection)

    return await asyncssh.listen(
        host,
        port,
        server_factory=Login,
        server_host_keys=[str(host_key)],
        authorized_client_keys=str(authorized_keys),
        sftp_factory=lambda channel: Home(channel, state),
        config=None,
    )


class Home(asyncssh.SFTPServer):
    """What one session sees, and may do: write in `transfer/`, remove there and in rejected content, read all."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], state: State) -> None:
        super().__init__(channel, chroot=os.fsencode(state.home))
        self._state = state
        self._uploads: dict[object, str] = {}
        self._cut = False

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        name = await self._arrives("open", path)
        if pflags & _WRITES:
            self._permit(_IN_TRANSFER, name)
            await self._holds("open", name)
            self._check_space()
        elif self._state.faults.hides(name):
            raise asyncssh.SFTPNoSuchFile("No such file")
        file = cast("BinaryIO", super().open(path, pflags, attrs))
        if pflags & _WRITES:
            self._uploads[file] = name
        return file

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        name, end, done = self._uploads.get(file_obj, ""), offset + len(data), 0
        faults = self._state.faults
        await asyncio.sleep(faults.latency)

        def write_to(limit: int) -> None:
            """Write what lies before this byte of the file: a hold and a cut fall within a request, too."""
            nonlocal done
            part = data[done : max(done, limit - offset)]
            cast("BinaryIO", file_obj).seek(offset + done)
            cast("BinaryIO", file_obj).write(part)
            done += len(part)

        for hold in list(self._state.holds):
            if hold.stops("write", name) and end > hold.after_bytes:
                write_to(hold.after_bytes)
                await hold.wait()
        if self._cut:  # requests that had arrived before the cut
            raise asyncssh.SFTPConnectionLost("cut off")
        self._check_space()
        if faults.drops > 0 and end >= faults.drop_after_bytes:
            faults.drops -= 1
            write_to(faults.drop_after_bytes)
            self._cut = True
            self.connection.abort()
            raise asyncssh.SFTPConnectionLost("cut off")
        write_to(end)
        return len(data)

    async def close(self, file_obj: object) -> None:
        name = self._uploads.pop(file_obj, None)
        if name is not None:
            self._state.requests.append(f"close {name}")
        cast("BinaryIO", file_obj).close()

    async def fsync(self, file_obj: object) -> None:
        if self._state.faults.no_fsync:
            raise asyncssh.SFTPOpUnsupported("no fsync@openssh.com")
        self._state.requests.append(f"fsync {self._uploads.get(file_obj, '')}")
        super().fsync(file_obj)

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = self._name(oldpath), self._name(newpath)
        self._permit(_IN_TRANSFER, old, new)
        await asyncio.sleep(self._state.faults.latency)
        self._state.requests.append(f"rename {old} {new}")
        await self._holds("rename-before", old)
        super().rename(oldpath, newpath)
        await self._holds("rename-after", old)

    async def remove(self, path: bytes) -> None:
        name = await self._arrives("remove", path)
        if not _IN_TRANSFER.fullmatch(name):
            self._permit(_IN_REJECTED_CONTENT, name)
        super().remove(path)

    async def rmdir(self, path: bytes) -> None:
        self._permit(_IN_REJECTED_CONTENT, await self._arrives("rmdir", path))
        super().rmdir(path)

    async def lstat(self, path: bytes) -> Any:
        return await self._seen("lstat", path, super().lstat)

    async def stat(self, path: bytes) -> Any:
        return await self._seen("stat", path, super().stat)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        if await self._arrives("list", path) == self._state.unlistable:
            raise asyncssh.SFTPFailure("Input/output error")
        with os.scandir(self.map_path(path)) as entries:
            for entry in entries:
                if not self._state.faults.hides(os.fsdecode(entry.name)):
                    with contextlib.suppress(FileNotFoundError):  # it moved on
                        attributes = asyncssh.SFTPAttrs.from_local(entry.stat(follow_symlinks=False))
                        yield asyncssh.SFTPName(entry.name, attrs=attributes)

    def _denied(self, *_: Any, **__: Any) -> Any:
        raise asyncssh.SFTPPermissionDenied("not in this DPS")

    mkdir = setstat = lsetstat = posix_rename = symlink = link = _denied

    async def _seen(self, request: str, path: bytes, answer: Any) -> Any:
        name = await self._arrives(request, path)
        if self._state.faults.hides(name):
            raise asyncssh.SFTPNoSuchFile("No such file")
        found = answer(path)
        return await found if inspect.isawaitable(found) else found

    async def _arrives(self, request: str, path: bytes) -> str:
        name = self._name(path)
        await asyncio.sleep(self._state.faults.latency)
        self._state.requests.append(f"{request} {name}")
        return name

    async def _holds(self, point: Point, name: str) -> None:
        for hold in list(self._state.holds):
            if hold.stops(point, name):
                await hold.wait()

    def _check_space(self) -> None:
        if self._state.faults.disk_full:
            raise asyncssh.SFTPFailure("No space left on device")

    def _permit(self, pattern: re.Pattern[str], *names: str) -> None:
        if not all(pattern.fullmatch(name) for name in names):
            raise asyncssh.SFTPPermissionDenied("not in this DPS")

    @staticmethod
    def _name(path: bytes) -> str:
        return posixpath.normpath("/" + os.fsdecode(path)).lstrip("/")
