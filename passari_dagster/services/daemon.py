"""`passari-dagster daemon`: Dagster's daemon, as long as this host leads.

Only what the daemon is and what it needs; who leads is decided in `leader.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from passari_dagster.errors import SettingsError
from passari_dagster.services.leader import lead
from passari_dagster.services.migrations import psycopg2_url
from passari_dagster.services.supervisor import Service
from passari_dagster.services.system import dagster_environment, project_root
from passari_dagster.settings import CONFIG_VARIABLE, QueueSettings, config_path


def run(
    settings: QueueSettings,
    environment: Mapping[str, str],
    data: Path,
    *,
    alone: bool = False,
    report: Callable[[str], None],
) -> NoReturn:
    """Stand by, and run the daemon while we lead; see `leader.lead`.

    Arguments:
        settings: name the servers.
        environment: names Dagster's database and the code server, which are not among the settings.
        data: folder that gets the daemon's log.
        alone: no other process can lead.
        report: told what happens.

    Raises:
        SettingsError: something is not named.
        ServiceFailed: the daemon ended by itself.
    """
    service = daemon_service(settings, environment, data)
    lead(settings.redis_url, service, data.resolve() / "logs", alone=alone, report=report)


def daemon_service(settings: QueueSettings, environment: Mapping[str, str], data: Path) -> Service:
    """The daemon, for servers that run elsewhere.

    Raises:
        SettingsError: something is not named.
    """
    if not environment.get("DAGSTER_PG_URL"):
        raise SettingsError("DAGSTER_PG_URL is not set: it should name Dagster's database")
    completed = dagster_environment(environment, data, keep_code_server=True)
    completed["DAGSTER_PG_URL"] = psycopg2_url(environment["DAGSTER_PG_URL"])
    # What a settings file says is said again: dagster.yaml reads variables, and the working directory is another one.
    completed["REDIS_URL"] = settings.redis_url.get_secret_value()
    completed["PASSARI_DB_URL"] = settings.database_url.get_secret_value()
    config = config_path()
    if config is not None:
        completed[CONFIG_VARIABLE] = str(config.resolve())
    root = project_root(completed)
    program = Path(sys.executable).parent / "dagster-daemon"
    return Service(
        name="dagster-daemon",
        argv=[sys.executable, str(program), "run", "-w", str(root / "workspace.yaml")],
        env=completed,
        cwd=root,
    )
