"""What every test may use: the shared test data, and the rule that a skip needs a reason on the list."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text

from passari_dagster.catalogue import database
from passari_dagster.services.embedded import EmbeddedPostgres, EmbeddedRedis

pytest_plugins = ["passari_dagster_tests.running"]

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"
NO_SKIP = os.environ.get("PASSARI_NO_SKIP") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """A temporary root of our own: as root, another pytest session would shut PostgreSQL's user out of a common one."""
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.mkdtemp(prefix="passari-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop("PYTEST_DEBUG_TEMPROOT"), ignore_errors=True))


def shared(name: str) -> Path:
    """A file or folder of the shared test data; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"shared test data absent: {name}")
    return path


def _accepted_skips() -> list[str]:
    """Reasons that docs/architecture.md lists under "Skips that CI accepts": one for each bullet, in quotes."""
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = re.search(r"^#+ Skips that CI accepts\n(.*?)(?=^#|\Z)", text, re.S | re.M)
    return re.findall(r'^\* "(.+?)"', section[1], re.M) if section else []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Under PASSARI_NO_SKIP=1 a skip fails, unless its reason is on the list."""
    outcome = yield
    report = outcome.get_result()
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(accepted in reason for accepted in _accepted_skips()):
            report.outcome = "failed"
            report.longrepr = f"skipped under PASSARI_NO_SKIP=1: {reason}"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server for the whole session."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretStr]:
    """A Redis server for the whole session."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis") / "data") as server:
        yield SecretStr(server.url())


def alembic_config() -> Config:
    """Alembic as its command line configures it."""
    return Config(str(PROJECT / "alembic.ini"))


def run_sql(url: str, *statements: str) -> None:
    """Execute statements, each by itself, outside of a transaction."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """Name of a database at the newest revision, to copy from."""
    run_sql(postgres.url("postgres"), "CREATE DATABASE migrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PASSARI_DB_URL", postgres.url("migrated"))
        command.upgrade(alembic_config(), "head")
    return "migrated"


def _database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex}"
    run_sql(postgres.url("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
    yield postgres.url(name)
    run_sql(postgres.url("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of a database without any table."""
    yield from _database(postgres, "template0")


@pytest.fixture
def museum_database(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """URL of a museum database of its own, at the newest revision and empty."""
    yield from _database(postgres, migrated_template)


@pytest.fixture
def engine(museum_database: str) -> Iterator[Engine]:
    """Connections to a museum database of its own."""
    engine = database.connect(SecretStr(museum_database))
    yield engine
    engine.dispose()
