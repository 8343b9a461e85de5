"""The processes of a system: they start on an empty folder, answer, and go on where a killed system ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from passari_dagster.errors import SettingsError
from passari_dagster.services import migrations
from passari_dagster.services.system import System, env_file, next_free_port, only_user_of, project_root, read_env
from passari_dagster.services.webserver import DagsterRefused
from passari_dagster_tests.conftest import run_sql

TOY = "passari_dagster_tests.services.toy_definitions"
SERVERS = ("DAGSTER_PG_URL", "PASSARI_DB_URL", "REDIS_URL")


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server and no settings file of whoever runs the tests."""
    for name in (*SERVERS, "PASSARI_CONFIG", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def wait(system: System, condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            daemon = (system.data / "logs" / "daemon.log").read_text(errors="replace")[-3000:]
            raise AssertionError(f"waited {seconds} s; runs: {system.webserver.runs()}; the daemon: {daemon}")
        system.sleep(0.2)


@pytest.fixture
def killed_system(tmp_path: Path) -> Path:
    """The folder of a system that was killed in the middle of a run."""
    data, marks = tmp_path / "data", tmp_path / "marks"
    script = textwrap.dedent(f"""
        from pathlib import Path
        from passari_dagster.services.system import System
        with System(Path({str(data)!r}), definitions={TOY!r}) as system:
            config = {{"ops": {{"leave_a_mark": {{"config": {{"marks": {str(marks)!r}}}}}}}}}
            system.webserver.launch("slow_at_first", config)
            print("launched", flush=True)
            system.sleep(120)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"launched\n"
        deadline = time.monotonic() + 60
        while not marks.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 5
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    _, left = psutil.wait_procs(family, timeout=20)
    assert not left
    return data


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_system_leaves_nobody_behind_and_its_runs_go_on_at_the_next_start(
    killed_system: Path, tmp_path: Path
) -> None:
    with System(killed_system, definitions=TOY) as system:
        wait(system, lambda: any(run["status"] == "SUCCESS" for run in system.webserver.runs("slow_at_first")))
        assert len(set((tmp_path / "marks").read_text().split())) == 2

        run = system.webserver.launch("broken")
        wait(system, lambda: system.webserver.run_status(run) == "FAILURE")
        assert any("break_down" in reason for reason in system.webserver.run_errors(run))
        with pytest.raises(DagsterRefused, match="PipelineNotFound"):
            system.webserver.launch("no_such_job")

        # A person's shell beside it.
        assert env_file(killed_system).stat().st_mode & 0o077 == 0
        beside = read_env(killed_system)
        assert {name: system.environment[name] for name in SERVERS} == {name: beside[name] for name in SERVERS}
        with pytest.raises(SettingsError, match="another passari-dagster runs on"):
            _run_another(killed_system)

        # The death of one is noticed.
        os.kill(system.supervisor.children[-1].process.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="daemon ended by itself"):
            system.sleep(30)
        family = [
            process
            for child in system.supervisor.children
            if not child.died()
            for process in (psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children())
        ]
    _, left = psutil.wait_procs(family, timeout=5)
    assert not left


def _run_another(data: Path) -> None:
    """Another process wants the same folder."""
    script = textwrap.dedent(f"""
        from pathlib import Path
        from passari_dagster.services.system import only_user_of
        with only_user_of(Path({str(data)!r})):
            pass
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(done.stderr)


def test_a_folder_is_used_by_one_system_at_a_time(tmp_path: Path) -> None:
    with only_user_of(tmp_path), pytest.raises(SettingsError, match="another passari-dagster runs on"):
        _run_another(tmp_path)
    _run_another(tmp_path)


def test_a_database_of_ones_own_is_not_migrated_unasked(empty_database: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PASSARI_DB_URL": empty_database, "DAGSTER_PG_URL": empty_database}
    with pytest.raises(SettingsError, match=r"PASSARI_DB_URL.*backup.*passari-dagster migrate"):
        System(tmp_path / "data", environment=environment).__enter__()
    assert migrations.revisions(empty_database) == set()


def test_an_old_dagster_database_is_told_from_an_empty_and_a_current_one(empty_database: str) -> None:
    assert migrations.dagster_is_current(empty_database)
    run_sql(
        empty_database,
        "CREATE TABLE alembic_version (version_num varchar(32))",
        "INSERT INTO alembic_version VALUES ('c9159e740d7e')",
    )
    assert not migrations.dagster_is_current(empty_database)


def test_a_missing_project_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"dagster.yaml, workspace.yaml.*DAGSTER_HOME"):
        project_root({"DAGSTER_HOME": str(tmp_path)})


def test_the_next_port_is_taken_where_the_one_wanted_is_taken() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert next_free_port(port) > port
