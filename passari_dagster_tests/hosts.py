"""Several hosts on this machine, each a network namespace with a cable to a switch, for tests that pull the cables.

This thread leaves the machine's network, too, for a namespace of its own that is the world outside: the simulated
museum and DPS live here, on 127.0.0.1, and so on an address to which passwords may be sent without TLS. A host's way to
that address leads out of its cable instead of to itself.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import pytest

from passari_dagster.services.embedded import EmbeddedPostgres, find_redis_server
from passari_dagster.services.supervisor import LEASH, Service
from passari_dagster.services.system import is_open

NO_NAMESPACES = "network namespaces are not to be had"
"""The reason of a skip, as docs/architecture.md lists it."""
CLONE_NEWNET = 0x40000000
OUTSIDE, NET = "10.77.0.1", "10.77.0.0/24"
POSTGRES_PORT, REDIS_PORT = 5432, 6379


@dataclass(frozen=True)
class Host:
    """A host.

    Arguments:
        name: as it calls itself.
        namespace: name of its network namespace.
        address: in the network of all hosts.
        cable: the end of its cable at the switch.
    """

    name: str
    namespace: str
    address: str
    cable: str

    def command(self, *argv: str) -> list[str]:
        """A command, as one of this host; its process is the command's own from the first moment on."""
        become = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", become, self.name, *argv]

    def cut_off(self) -> None:
        """Pull the cable: nobody is told that a connection has ended."""
        _ip("link", "set", self.cable, "down")

    def connect(self) -> None:
        """Put the cable in again."""
        _ip("link", "set", self.cable, "up")

    def processes(self) -> list[psutil.Process]:
        """All that run on it."""
        pids = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True, timeout=20
        )
        found = []
        for pid in pids.stdout.split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def die(self) -> None:
        """The power goes: no process ends well, and nobody is told."""
        self.cut_off()
        while processes := self.processes():
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(processes, timeout=1)


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Hosts with cables to one switch, as long as the block runs; this thread is in the world outside meanwhile.

    The test is skipped where that cannot be had.
    """
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip(NO_NAMESPACES)
    _clear_up_after_those_that_were_killed()
    with ExitStack() as stack:
        stack.enter_context(_a_network_of_our_own())
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "switch", "type", "bridge")
        _ip("address", "add", f"{OUTSIDE}/24", "dev", "switch")
        _ip("link", "set", "switch", "up")
        Path("/proc/sys/net/ipv4/conf/switch/route_localnet").write_text("1")
        hosts = []
        for number, name in enumerate(names, start=2):
            host = Host(name, f"passari-{os.getpid()}-{name}", f"10.77.0.{number}", f"cable-{name}")
            stack.enter_context(_plugged_in(host))
            hosts.append(host)
        yield hosts


def _clear_up_after_those_that_were_killed() -> None:
    """Names of namespaces outlive the tests that made them."""
    for path in Path("/run/netns").glob("passari-*-*"):
        maker = path.name.split("-")[1]
        if not psutil.pid_exists(int(maker)):
            subprocess.run(["ip", "netns", "delete", path.name], check=False, timeout=20)


@contextmanager
def _a_network_of_our_own() -> Iterator[None]:
    """This thread, and all that it starts from now on, are in a namespace without a name, and not in the machine's."""
    libc = ctypes.CDLL(None)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(NO_NAMESPACES)
        try:
            yield
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0
    finally:
        os.close(before)


@contextmanager
def _plugged_in(host: Host) -> Iterator[None]:
    made = subprocess.run(["ip", "netns", "add", host.namespace], capture_output=True, check=False, timeout=20)
    if made.returncode:
        pytest.skip(NO_NAMESPACES)
    try:
        _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _ip("link", "set", host.cable, "master", "switch", "up")
        inside = ("-n", host.namespace)
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "address", "flush", "dev", "lo")
        _ip(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
        _ip(*inside, "link", "set", "eth0", "up")
        # The address 127.0.0.1 is the world's, but a free port is still found by binding to it.
        allow = "cd /proc/sys/net/ipv4; echo 1 > conf/eth0/route_localnet; echo 1 > ip_nonlocal_bind"
        subprocess.run(host.command("sh", "-c", allow), check=True, timeout=20)
        _ip(*inside, "route", "add", "127.0.0.1/32", "via", OUTSIDE, "dev", "eth0", "src", host.address)
        yield
    finally:
        for process in host.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _ip("netns", "delete", host.namespace)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)


def postgres_on(host: Host, directory: Path, environment: dict[str, str]) -> Service:
    """A PostgreSQL server that all hosts reach, without a password: nobody else is in this network.

    Arguments:
        directory: of its data, which are made here.
        environment: is told where the databases are.
    """
    with EmbeddedPostgres(directory) as embedded:  # makes the data and the databases, and is gone
        assert embedded.child is not None
        made = embedded.child.service
    directory = embedded.directory
    (directory / "pg_hba.conf").write_text(f"local all all trust\nhost all all {NET} trust\n")
    for variable, database in (("PASSARI_DB_URL", "passari"), ("DAGSTER_PG_URL", "dagster")):
        environment[variable] = f"postgresql+psycopg2://postgres@{host.address}:{POSTGRES_PORT}/{database}"
    leash = [*LEASH, "run", str(int(made.stop_signal)), str(os.getpid()), made.user or ""]
    options = (f"listen_addresses={host.address}", f"unix_socket_directories={directory}", "max_connections=100")
    server = [made.argv[0], "-D", str(directory), *(part for option in options for part in ("-c", option))]
    return Service(
        name="postgres",
        argv=host.command(*leash, *server),
        env={**made.env, "PATH": os.environ["PATH"]},
        cwd=Path("/"),
        ready=lambda: _postgres_answers(host.address),
        stop_signal=made.stop_signal,
        grace=made.grace,
    )


def _postgres_answers(address: str) -> bool:
    try:
        psycopg2.connect(host=address, port=POSTGRES_PORT, user="postgres", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def redis_on(host: Host, directory: Path, environment: dict[str, str]) -> Service:
    """A Redis server that all hosts reach, without a password, with the settings that the guide recommends.

    Arguments:
        directory: of its data; made here.
        environment: is told where it is.
    """
    directory.mkdir()
    environment["REDIS_URL"] = f"redis://{host.address}:{REDIS_PORT}/0"
    options = {
        "bind": host.address,
        "port": str(REDIS_PORT),
        "protected-mode": "no",
        "dir": str(directory),
        "appendonly": "yes",
        "save": "",
        "tcp-keepalive": "60",
    }
    argv = [str(find_redis_server()), *(part for name, value in options.items() for part in (f"--{name}", value))]
    return Service(
        name="redis",
        argv=host.command(*argv),
        env={"PATH": os.environ["PATH"]},
        ready=lambda: is_open(REDIS_PORT, host.address),
    )


def on(host: Host, service: Service) -> Service:
    """A service of the system, on this host."""
    return Service(
        name=f"{service.name}-{host.name}",
        argv=host.command(*service.argv),
        env=service.env,
        ready=service.ready,
        cwd=service.cwd,
        deadline=service.deadline,
        grace=service.grace,
    )
