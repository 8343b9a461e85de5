"""The processes that make up a running system, their environment and their order.

PostgreSQL and Redis (our own, where no URL is given), the code server, the webserver and the daemon. How processes are
kept is told in `supervisor.py`; the simulated museum and DPS belong to the demo.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from passari_dagster import durable
from passari_dagster.errors import SettingsError
from passari_dagster.services import migrations
from passari_dagster.services.embedded import EmbeddedPostgres, EmbeddedRedis
from passari_dagster.services.supervisor import Service, Supervisor
from passari_dagster.services.webserver import Webserver
from passari_dagster.settings import CONFIG_VARIABLE, config_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
"""Linux gives those from 32,768 on to outgoing connections (ip_local_port_range)."""
DEFINITIONS = "passari_dagster.definitions"
# The variables that a person's shell needs beside a running system.
SHELL_VARIABLES = (
    "DAGSTER_HOME",
    "DAGSTER_PG_URL",
    "PASSARI_DB_URL",
    "REDIS_URL",
    CONFIG_VARIABLE,
    "PASSARI_CODE_SERVER_HOST",
    "PASSARI_CODE_SERVER_PORT",
    "PASSARI_COMPUTE_LOG_DIR",
    "PASSARI_ARTIFACT_DIR",
)


class System:
    """A system that runs while the block runs.

        with System(data, config=data / "passari.toml") as system:
            system.webserver.launch("sync_objects")
            system.sleep(60)

    Arguments:
        data: folder of everything that it keeps; made when missing. One system at a time can use it.
        config: the settings file; None: as the environment says.
        environment: what the processes' environment is made of; None: our own. With DAGSTER_PG_URL, PASSARI_DB_URL
            or REDIS_URL in it, or in the settings file, the server named is used instead of an embedded one.
        port: where the webserver listens, or the next free port; None: any free port.
        definitions: module that the code server loads.
        migrate: migrate databases that are not our own, too; otherwise an old schema is refused.
        workers: how many execute runs; None: as the settings say; 0: none.
        grace: seconds that runs have to end when the system is stopped.
        supervisor: that of a caller who has more processes; they are stopped with the system.
        report: told in a few words what is being done.

    Raises:
        SettingsError: on entering: something is missing, or the data folder is in use.
        ServiceFailed: on entering: a process did not get ready.
    """

    def __init__(
        self,
        data: Path,
        *,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        definitions: str = DEFINITIONS,
        migrate: bool = False,
        workers: int | None = None,
        grace: float = 10.0,
        supervisor: Supervisor | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.data = data.resolve()
        self.environment = dict(os.environ if environment is None else environment)
        self.supervisor = supervisor or Supervisor(self.data / "logs")
        self.root = project_root(self.environment)
        self._owns_supervisor = supervisor is None
        self._config = config.resolve() if config else None
        self._port = port
        self._definitions = definitions
        self._migrate = migrate
        self._workers = workers
        self._grace = grace
        self._report = report
        self._stack = contextlib.ExitStack()
        self._webserver: Webserver | None = None
        self._redis_is_ours = False

    def __enter__(self) -> System:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def webserver(self) -> Webserver:
        """The webserver, to ask and to launch jobs."""
        assert self._webserver is not None, "the system does not run"
        return self._webserver

    @property
    def webserver_url(self) -> str:
        """Address of the user interface."""
        return self.webserver.url

    @property
    def museum_database_url(self) -> str:
        """URL of the museum database."""
        return self.environment["PASSARI_DB_URL"]

    def sleep(self, seconds: float) -> None:
        """Wait, and watch the processes meanwhile.

        Raises:
            ServiceFailed: one has died.
        """
        self.supervisor.sleep(seconds)

    def _start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(only_user_of(self.data))
        if self._owns_supervisor:
            self._stack.enter_context(self.supervisor)
        if self._config:
            self.environment[CONFIG_VARIABLE] = str(self._config)
        self._start_databases()
        self.environment = dagster_environment(self.environment, self.data)
        write_env(self.data, self.environment)
        self._start_dagster()

    def _start_databases(self) -> None:
        given = _urls_in_file(self._config or config_path())
        for variable, url in given.items():
            self.environment.setdefault(variable, url)
        own = {"DAGSTER_PG_URL": "dagster", "PASSARI_DB_URL": "passari"}
        missing = {variable: name for variable, name in own.items() if not self.environment.get(variable)}
        if missing:
            self._report("starting PostgreSQL")
            postgres = self._stack.enter_context(EmbeddedPostgres(self.data / "postgres", self.supervisor.logs))
            assert postgres.child is not None
            self.supervisor.adopt(postgres.child)
            for variable, name in missing.items():
                self.environment[variable] = postgres.url(name)
        self._redis_is_ours = not self.environment.get("REDIS_URL")
        if self._redis_is_ours:
            self._report("starting Redis")
            embedded = self._stack.enter_context(EmbeddedRedis(self.data / "redis", self.supervisor.logs))
            assert embedded.child is not None
            self.supervisor.adopt(embedded.child)
            self.environment["REDIS_URL"] = embedded.url()
        # The supervisor stops these two after all the others; the blocks above only see to it if there is no other.
        self._stack.callback(self.supervisor.stop)
        for variable in own:
            self.environment[variable] = migrations.psycopg2_url(self.environment[variable])
        self._may_migrate = {variable: self._migrate or variable in missing for variable in own}

    def _start_dagster(self) -> None:
        self._bring_up_to_date()
        environment, root = self.environment, self.root
        workspace = str(root / "workspace.yaml")

        code_server_port = int(environment["PASSARI_CODE_SERVER_PORT"])
        self._report("starting the code server")
        self.supervisor.start(
            Service(
                name="code-server",
                argv=[
                    *(sys.executable, "-m", "dagster", "api", "grpc", "-m", self._definitions),
                    *("--host", HOST, "--port", str(code_server_port), "--use-python-environment-entry-point"),
                    *("--location-name", "passari_dagster"),
                ],
                env=environment,
                cwd=root,
                ready=lambda: is_open(code_server_port),
                deadline=180,
            )
        )

        port = next_free_port(self._port) if self._port else free_port()
        self._webserver = Webserver(f"http://{HOST}:{port}")
        self._stack.callback(self._webserver.close)
        self._report("starting the webserver")
        self.supervisor.start(
            Service(
                name="webserver",
                argv=[sys.executable, "-m", "dagster_webserver", "-w", workspace, "-h", HOST, "-p", str(port)],
                env=environment,
                cwd=root,
                ready=self._webserver.code_is_loaded,
                deadline=180,
            )
        )

        if self._workers != 0:
            self._report("starting the workers")
            self.supervisor.start(self.worker_service(self._workers))
        self._report("starting the daemon")
        alone = ["--alone"] if self._redis_is_ours else []
        self.supervisor.start(
            self._command("daemon", "daemon", *alone, ready=self._webserver.daemons_are_healthy, deadline=180, grace=20)
        )

    def worker_service(self, count: int | None) -> Service:
        """The pool of workers of this host.

        Arguments:
            count: how many; None: as the settings say.
        """
        number = ["-n", str(count)] if count else []
        return self._command("workers", "worker", *number, grace=self._grace)

    def _command(self, name: str, *arguments: str, **options: Any) -> Service:
        """A command of our own, as a process of the system."""
        program = str(Path(sys.executable).parent / "passari-dagster")
        argv = [sys.executable, program, *arguments, "--data", str(self.data)]
        return Service(name=name, argv=argv, env=self.environment, cwd=self.root, **options)

    def _bring_up_to_date(self) -> None:
        environment, root = self.environment, self.root
        if not migrations.museum_is_current(environment["PASSARI_DB_URL"], root):
            self._refuse_unless_allowed("PASSARI_DB_URL", "museum database")
            self._report("migrating the museum database")
            migrations.migrate_museum(environment, root)
        if not migrations.dagster_is_current(environment["DAGSTER_PG_URL"]):
            self._refuse_unless_allowed("DAGSTER_PG_URL", "Dagster database")
            self._report("migrating Dagster's database")
            migrations.migrate_dagster(environment, root)

    def _refuse_unless_allowed(self, variable: str, database: str) -> None:
        if not self._may_migrate[variable]:
            raise SettingsError(
                f"the {database} ({variable}) does not have the schema of this version. Make a backup, and run "
                "`passari-dagster migrate`."
            )


def dagster_environment(
    environment: Mapping[str, str], data: Path, *, keep_code_server: bool = False
) -> dict[str, str]:
    """An environment, completed by what `dagster.yaml` and `workspace.yaml` ask for; the code server's port is new.

    Arguments:
        environment: names the servers, or will.
        data: folder that gets Dagster's own files.
        keep_code_server: the code server is the one that the environment names, not one that we will start.

    Raises:
        SettingsError: it names none.
    """
    code_server = {"PASSARI_CODE_SERVER_HOST": HOST, "PASSARI_CODE_SERVER_PORT": str(free_port())}
    if keep_code_server:
        code_server = {variable: environment.get(variable, "") for variable in code_server}
        missing = [variable for variable, value in code_server.items() if not value]
        if missing:
            raise SettingsError(f"{' and '.join(missing)} should name the code server of this installation")
    # Dagster starts further commands of its own by name.
    programs = str(Path(sys.executable).parent)
    completed = {
        **environment,
        **code_server,
        "DAGSTER_HOME": str(project_root(environment)),
        "PATH": os.pathsep.join([programs, environment.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }
    for variable, name in (("PASSARI_COMPUTE_LOG_DIR", "compute_logs"), ("PASSARI_ARTIFACT_DIR", "artifacts")):
        folder = Path(completed.setdefault(variable, str(data.resolve() / name)))
        folder.mkdir(parents=True, exist_ok=True)
    return completed


def project_root(environment: Mapping[str, str]) -> Path:
    """The folder that holds `dagster.yaml`, `workspace.yaml` and `alembic/`: DAGSTER_HOME, or the checkout.

    Raises:
        SettingsError: the files are not there.
    """
    given = environment.get("DAGSTER_HOME")
    root = Path(given) if given else Path(__file__).resolve().parents[2]
    missing = [name for name in ("dagster.yaml", "workspace.yaml", "alembic") if not (root / name).exists()]
    if missing:
        raise SettingsError(f"{root} should hold {', '.join(missing)}. Set DAGSTER_HOME to a checkout of the project.")
    return root.resolve()


@contextlib.contextmanager
def only_user_of(data: Path) -> Iterator[None]:
    """Hold the data folder for this process, which may do so several times; its death frees it.

    Raises:
        SettingsError: somebody else holds it.
    """
    lock = filelock.FileLock(data / "lock", is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise SettingsError(f"another passari-dagster runs on {data}; stop it, or give another folder") from None
    try:
        yield
    finally:
        lock.release()


def env_file(data: Path) -> Path:
    """Where the environment of the system on this folder is written, for shells beside it."""
    return data.resolve() / "env"


def write_env(data: Path, environment: Mapping[str, str]) -> None:
    """Write the env file, readable for its owner only."""
    lines = ["# The environment of this system. In a shell: set -a; . this-file; set +a"]
    lines += [f"{name}={shlex.quote(environment[name])}" for name in SHELL_VARIABLES if name in environment]
    durable.write_bytes(env_file(data), ("\n".join(lines) + "\n").encode(), mode=0o600)


def read_env(data: Path) -> dict[str, str]:
    """The variables of the env file; none where there is no file."""
    path = env_file(data)
    if not path.is_file():
        return {}
    words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def free_port() -> int:
    """A port of this machine that nobody listens on.

    None of those that the kernel gives to outgoing connections: one of them may take it before somebody listens on it.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError(f"no port of {HOST} is free between {_PORTS.start} and {_PORTS.stop}")


def next_free_port(wanted: int) -> int:
    """The port, or the first free one after it."""
    for port in range(wanted, min(wanted + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise SettingsError(f"no free port from {wanted} on")


def is_open(port: int, host: str = HOST) -> bool:
    """Whether somebody listens on a port, of this machine if nothing else is said."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _urls_in_file(path: Path | None) -> dict[str, str]:
    """The server URLs that the settings file gives, by environment variable."""
    if path is None:
        return {}
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from None
    names = {"database_url": "PASSARI_DB_URL", "redis_url": "REDIS_URL"}
    return {variable: str(content[key]) for key, variable in names.items() if content.get(key)}
