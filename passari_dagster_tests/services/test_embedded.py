"""PostgreSQL and Redis of our own: they start, keep their data, and come back after any kind of death."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis
from sqlalchemy import create_engine, text

from passari_dagster.errors import SettingsError
from passari_dagster.services import embedded
from passari_dagster.services.embedded import EmbeddedPostgres, EmbeddedRedis


def query(url: str, statement: str) -> Any:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url())


def killed_while_it_holds(tmp_path: Path, opening: str) -> None:
    """A process opens a server, and is killed as hard as can be."""
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from passari_dagster.services.embedded import EmbeddedPostgres, EmbeddedRedis
        with {opening} as server:
            print(server.child.process.pid, flush=True)
            time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    server = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    process.stdout.close()
    server.wait(20)


def test_postgres_has_both_databases_and_keeps_their_data_over_a_restart(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        query(postgres.url("passari"), "CREATE TABLE t AS SELECT 42 AS answer")
        assert query(postgres.url("dagster"), "SELECT current_database()") == "dagster"
        assert int(query(postgres.url("dagster"), "SHOW max_connections")) == embedded.MAX_CONNECTIONS
    assert (tmp_path / "logs" / "postgres.log").stat().st_size
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        assert query(postgres.url("passari"), "SELECT answer FROM t") == 42
    with pytest.raises(psycopg2.OperationalError), closing(psycopg2.connect(host=str(tmp_path / "postgres"))):
        pass


def test_postgres_does_not_outlive_a_killed_supervisor_and_comes_back_with_its_data(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        query(postgres.url("passari"), "CREATE TABLE t AS SELECT 42 AS answer")
    killed_while_it_holds(tmp_path, "EmbeddedPostgres(Path('postgres'))")
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        assert query(postgres.url("passari"), "SELECT answer FROM t") == 42


def test_postgres_comes_back_after_a_power_cut(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        query(postgres.url("passari"), "CREATE TABLE t AS SELECT 42 AS answer")
        assert postgres.child is not None
        for process in (
            psutil.Process(postgres.child.process.pid),
            *psutil.Process(postgres.child.process.pid).children(),
        ):
            with contextlib.suppress(psutil.NoSuchProcess):  # a child does not outlive its parent for long
                process.kill()
        postgres.child.process.wait()
    # The number in the lock file may be anybody's after a reboot: here it is ours, and we want to live.
    lock = tmp_path / "postgres" / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        assert query(postgres.url("passari"), "SELECT answer FROM t") == 42


def test_a_first_start_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path / "postgres") as postgres:
        assert query(postgres.url("passari"), "SELECT 1") == 1
    assert not half.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the system user")
def test_four_first_starts_at_once_make_one_system_user(tmp_path: Path) -> None:
    start = "import sys; from pathlib import Path; from passari_dagster.services import embedded as e"
    script = textwrap.dedent(f"""
        set -e
        cp -a /etc {tmp_path}/etc
        mount --bind {tmp_path}/etc /etc
        cp /usr/sbin/useradd {tmp_path}/useradd
        printf '#!/bin/sh\\nsleep 1\\nexec {tmp_path}/useradd "$@"\\n' > {tmp_path}/slow
        chmod +x {tmp_path}/slow
        mount --bind {tmp_path}/slow /usr/sbin/useradd
        export PATH=/usr/local/bin:/usr/bin:/bin
        sed -i /^pgserver:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow
        for name in a b c d; do
            {sys.executable} -c '{start}; e._finish_initialisation(Path(sys.argv[1]))' {tmp_path}/$name & ids="$ids $!"
        done
        for id in $ids; do wait $id; done
        stat -c %u {tmp_path}/?/PG_VERSION | sort -u | wc -l
    """)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr[-2000:]


@pytest.mark.parametrize("server", [EmbeddedPostgres, EmbeddedRedis])
def test_a_long_path_is_no_hindrance(
    tmp_path: Path, server: Callable[[Path], AbstractContextManager[EmbeddedPostgres | EmbeddedRedis]]
) -> None:
    directory = tmp_path / ("a-very-long-name-" * 5) / "data"
    with server(directory) as running:
        if isinstance(running, EmbeddedPostgres):
            assert query(running.url("passari"), "SELECT 1") == 1
        else:
            with client(running) as connection:
                assert connection.ping()


def test_redis_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, client(server) as connection:
        connection.set("queued", "1000001")
    with EmbeddedRedis(tmp_path / "redis") as server, client(server) as connection:
        assert connection.get("queued") == b"1000001"


def test_redis_comes_back_with_its_data_after_kill_9_of_itself_and_of_the_supervisor(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, client(server) as connection:
        connection.set("queued", "1000001")
        assert server.child is not None
        os.kill(server.child.process.pid, signal.SIGKILL)
        server.child.process.wait()
    killed_while_it_holds(tmp_path, "EmbeddedRedis(Path('redis'))")
    with EmbeddedRedis(tmp_path / "redis") as server, client(server) as connection:
        assert connection.get("queued") == b"1000001"


def test_redis_can_be_used_by_its_owner_only(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        socket = Path(server.url().removeprefix("unix://").partition("?")[0])
        assert socket.stat().st_mode & 0o077 == 0


def test_without_a_redis_server_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"apt install redis-server.*REDIS_URL"):
        embedded.find_redis_server()
    (tmp_path / "valkey-server").write_text("#!/bin/sh\n")
    (tmp_path / "valkey-server").chmod(0o755)
    assert embedded.find_redis_server() == tmp_path / "valkey-server"
