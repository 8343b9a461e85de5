"""The session key: one for all threads of a process and, if a file is named, for all processes of a host.

MuseumPlus counts sessions, so a new one is opened only when the current key has been refused. Logging in itself is
the client's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import SecretStr

from passari_dagster import durable
from passari_dagster.errors import TransientFailure

_LONGEST_KEY = 1024


class SharedSession:
    """Keeper of the session key.

    Arguments:
        log_in: opens a session and answers its key.
        path: file with the key for the processes of this host; None: each process has its own key.
        timeout: seconds to wait while another process logs in.
    """

    def __init__(self, log_in: Callable[[], SecretStr], path: Path | None, timeout: float) -> None:
        self._log_in = log_in
        self._path = path
        self._timeout = timeout
        self._mutex = threading.Lock()
        self._key: SecretStr | None = None

    def key(self) -> SecretStr:
        """The current key; the first call finds or opens a session."""
        return self._key or self.renew(None)

    def renew(self, refused: SecretStr | None) -> SecretStr:
        """A key other than the refused one: another thread's or process's newer key, else that of a new session.

        Raises:
            TransientFailure: another process has been logging in for too long.
        """
        with self._mutex:
            if self._key is None or self._key == refused:
                self._key = self._log_in() if self._path is None else self._shared(self._path, refused)
            return self._key

    def _shared(self, path: Path, refused: SecretStr | None) -> SecretStr:
        lock = FileLock(path.with_name(path.name + ".lock"), timeout=self._timeout)
        try:
            with lock:
                found = _read(path)
                if found is not None and found != refused:
                    return found
                key = self._log_in()
                # A part left by a killed process may have other permissions.
                path.with_name(path.name + ".part").unlink(missing_ok=True)
                durable.write_bytes(path, key.get_secret_value().encode(), mode=0o600)
                return key
        except Timeout:
            raise TransientFailure(f"{path}: locked by another process for {self._timeout:g} s") from None


def _read(path: Path) -> SecretStr | None:
    try:
        with path.open("rb") as stream:
            text = stream.read(_LONGEST_KEY + 1).decode("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return SecretStr(text) if 0 < len(text) <= _LONGEST_KEY else None
