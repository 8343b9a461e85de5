"""The museum database's revisions: on an empty server, on a passari-workflow database, up and down."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import create_engine, inspect, text

from passari_dagster.catalogue import database, older_revisions, packages
from passari_dagster.catalogue.models import MuseumObject
from passari_dagster_tests.conftest import PROJECT, alembic_config, run_sql, shared

FIRST = "156f33fadc35"
AFTER_FIRST = [
    revision.revision
    for revision in reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions()))
    if revision.revision != FIRST
]


def _alembic(url: str, *arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=cwd,
        env={**os.environ, "PASSARI_DB_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


def _schema(url: str) -> dict[str, dict[str, str]]:
    engine = create_engine(url)
    inspector = inspect(engine)
    schema = {
        table: {column["name"]: f"{column['type']} {column['nullable']}" for column in inspector.get_columns(table)}
        | {str(index["name"]): str(index) for index in inspector.get_indexes(table)}
        for table in inspector.get_table_names()
    }
    engine.dispose()
    return schema


@pytest.fixture(scope="session")
def full_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL prefix of a PostgreSQL server of the system, with contrib: it has pg_trgm, which the embedded one lacks."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs or not list(Path("/usr/share/postgresql").glob("*/extension/pg_trgm.control")):
        pytest.skip("no PostgreSQL server with contrib installed")
    bin_path = programs[-1].parent
    directory = tmp_path_factory.mktemp("full-pg")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        shutil.chown(directory, user)
        for parent in directory.parents:
            if parent != Path("/") and parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)

    def run(*arguments: str) -> None:
        subprocess.run(arguments, check=True, capture_output=True, user=user, cwd="/", env={"PATH": os.defpath})

    data = directory / "data"
    run(str(bin_path / "initdb"), "-A", "trust", "-U", "postgres", "-D", str(data))
    options = f"-k {directory} -c listen_addresses=''"
    run(str(bin_path / "pg_ctl"), "-w", "-D", str(data), "-o", options, "-l", str(directory / "log"), "start")
    yield f"postgresql+psycopg2://postgres@/%s?host={directory}"
    run(str(bin_path / "pg_ctl"), "-w", "-m", "immediate", "-D", str(data), "stop")


def _databases(full_postgres: str, name: str) -> str:
    run_sql(full_postgres % "postgres", f"CREATE DATABASE {name}")
    return full_postgres % name


def test_models_and_revisions_agree_where_pg_trgm_is_missing(museum_database: str) -> None:
    result = _alembic(museum_database, "check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert not any("trgm" in name for columns in _schema(museum_database).values() for name in columns)


def test_models_and_revisions_agree_where_pg_trgm_is_installed(full_postgres: str) -> None:
    url = _databases(full_postgres, "with_trgm")
    assert _alembic(url, "upgrade", "head").returncode == 0
    result = _alembic(url, "check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ix_museum_objects_title_trgm_gin" in _schema(url)["museum_objects"]


@pytest.mark.parametrize("revision", AFTER_FIRST)
def test_each_revision_after_the_first_goes_up_and_down_and_up(
    empty_database: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSARI_DB_URL", empty_database)
    command.upgrade(alembic_config(), f"{revision}-1" if revision != AFTER_FIRST[0] else FIRST)
    before = _schema(empty_database)
    command.upgrade(alembic_config(), revision)
    after = _schema(empty_database)
    assert after != before
    command.downgrade(alembic_config(), "-1")
    assert _schema(empty_database) == before
    command.upgrade(alembic_config(), revision)
    assert _schema(empty_database) == after


def test_the_first_revision_is_not_undone_while_there_are_rows(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSARI_DB_URL", empty_database)
    command.upgrade(alembic_config(), "head")
    run_sql(empty_database, "INSERT INTO sync_statuses (name) VALUES ('sync_objects')")
    with pytest.raises(RuntimeError, match="rows in sync_statuses"):
        command.downgrade(alembic_config(), "base")
    assert "museum_objects" in _schema(empty_database), "nothing was dropped"
    run_sql(empty_database, "DELETE FROM sync_statuses")
    command.downgrade(alembic_config(), "base")
    assert set(_schema(empty_database)) == {"alembic_version"}


Rows = dict[str, list[dict[str, Any]]]


def _load_dump(url: str) -> None:
    dump = shared("adoption/passari-workflow-1.1.sql")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(dump.read_text(encoding="utf-8"))
        cursor.close()
    engine.dispose()


def _rows(url: str) -> Rows:
    """Every row of every table of the database, in an order of its own."""
    engine = create_engine(url)
    rows: Rows = {}
    with engine.connect() as connection:
        for table in inspect(engine).get_table_names():
            found = connection.execute(text(f'SELECT * FROM "{table}"')).mappings()
            rows[table] = sorted((dict(row) for row in found), key=str)
    engine.dispose()
    return rows


def _old_columns(rows: Rows, old: Rows) -> Rows:
    """Of the tables that were there before, the columns that were."""
    columns = {table: list(found[0]) if found else [] for table, found in old.items()}
    return {
        table: sorted(({column: row[column] for column in columns[table]} for row in rows[table]), key=str)
        for table in old
    }


def test_a_passari_workflow_database_is_taken_over_in_place(full_postgres: str) -> None:
    url = _databases(full_postgres, "adopted")
    _load_dump(url)
    first = _databases(full_postgres, "first")
    assert _alembic(first, "upgrade", FIRST).returncode == 0
    assert _schema(first) == _schema(url), "our first revision creates what the original's last one left"
    # The web interface has tables of its own in this database, and a table of somebody else may be there, too.
    run_sql(
        url,
        'CREATE TABLE "user" (id serial PRIMARY KEY, email varchar(255) UNIQUE, password varchar(255))',
        "CREATE TABLE role (id serial PRIMARY KEY, name varchar(80) UNIQUE)",
        'CREATE TABLE roles_users (id serial PRIMARY KEY, user_id int REFERENCES "user", role_id int REFERENCES role)',
        "INSERT INTO \"user\" (email, password) VALUES ('maija@example.org', 'hash')",
        "INSERT INTO role (name) VALUES ('admin')",
        "INSERT INTO roles_users (user_id, role_id) VALUES (1, 1)",
        # MuseumPlus could not be told of it: the object is preserved all the same, which our revision says.
        "UPDATE museum_objects SET preserved = false WHERE id = 1000003",
    )
    before = _rows(url)
    assert {table: len(rows) for table, rows in before.items()} == {
        "alembic_version": 1,
        "museum_attachments": 20,
        "museum_objects": 24,
        "museum_packages": 16,
        "object_attachment_association": 20,
        "package_attachment_association": 20,
        "role": 1,
        "roles_users": 1,
        "sync_statuses": 2,
        "user": 1,
    }

    result = _alembic(url, "upgrade", "head")
    assert result.returncode == 0, result.stderr
    check = _alembic(url, "check")
    assert check.returncode == 0, check.stdout + check.stderr
    after = _rows(url)
    expected = {table: [dict(row) for row in rows] for table, rows in before.items()}
    expected["alembic_version"] = [{"version_num": AFTER_FIRST[-1]}]
    for row in expected["museum_objects"]:
        row["preserved"] = row["preserved"] or row["id"] == 1000003
    expected["museum_objects"].sort(key=str)
    assert _old_columns(after, before) == expected, "every value is kept but the two that the revisions change"
    assert "ix_museum_objects_title_trgm_gin" in _schema(url)["museum_objects"], "the search indexes stay"

    packages_now = after["museum_packages"]
    assert sum(row["confirmed_date"] is not None for row in packages_now) == sum(
        row["rejected"] or (row["preserved"] and row["museum_object_id"] != 1000003) for row in packages_now
    ), "what the original confirmed is not confirmed again, and what it did not is"
    assert {row["id"] for row in packages_now if row["submission_date"] is not None} == {
        row["id"] for row in packages_now if row["packaged"] and not row["cancelled"]
    }, "what the original may have sent is watched, and not sent again"
    assert _alembic(url, "upgrade", "head").returncode == 0
    assert _rows(url) == after, "a second time changes nothing"

    assert _alembic(url, "downgrade", FIRST).returncode == 0
    expected["alembic_version"] = before["alembic_version"]
    assert _rows(url) == expected, "and it may go back"


@pytest.mark.parametrize("revision", older_revisions.OLD_REVISIONS)
def test_a_database_of_an_older_passari_workflow_is_refused_and_not_touched(full_postgres: str, revision: str) -> None:
    readme = " ".join(shared("adoption/README.md").read_text(encoding="utf-8").split())
    listed = readme.partition("oldest first: ")[2].rstrip(".").split(", ")
    assert [*older_revisions.OLD_REVISIONS, FIRST] == listed
    url = _databases(full_postgres, f"old_{revision}")
    _load_dump(url)
    run_sql(url, f"UPDATE alembic_version SET version_num = '{revision}'")
    before, schema = _rows(url), _schema(url)

    alembic = _alembic(url, "upgrade", "head")
    assert alembic.returncode != 0
    migrate = subprocess.run(
        [sys.executable, "-c", "from passari_dagster.cli import app; app()", "migrate"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PASSARI_DB_URL": url},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert migrate.returncode == 2, "as its help says"
    for said in (alembic.stdout + alembic.stderr, migrate.stderr):
        assert f"an older passari-workflow (revision {revision})" in said
        assert "install its version 1.1, run its `alembic upgrade head`" in said
        assert "Traceback" not in said
    assert (_rows(url), _schema(url)) == (before, schema)


def test_a_role_that_may_not_make_the_extension_gets_a_database_without_search_indexes(full_postgres: str) -> None:
    """PostgreSQL 12 lets administrators alone make it, and later ones a role that may create in the database."""
    _databases(full_postgres, "poor")
    run_sql(
        full_postgres % "poor",
        "CREATE ROLE poor LOGIN",
        "GRANT ALL ON SCHEMA public TO poor",
        "REVOKE CREATE ON DATABASE poor FROM PUBLIC",
    )
    url = (full_postgres % "poor").replace("//postgres@", "//poor@")
    result = _alembic(url, "upgrade", "head")
    assert result.returncode == 0, result.stderr
    assert _alembic(url, "check").returncode == 0
    assert not any("trgm" in name for columns in _schema(url).values() for name in columns)


def test_the_owner_of_a_database_upgrades_what_an_administrator_made(full_postgres: str) -> None:
    """The extension is the administrator's, the tables are the museum's: its role has no power but over its own."""
    run_sql(full_postgres % "postgres", "CREATE ROLE museum LOGIN")
    url = _databases(full_postgres, "owned")
    _load_dump(url)
    run_sql(
        url,
        "GRANT ALL ON SCHEMA public TO museum",
        *(f"ALTER TABLE {table} OWNER TO museum" for table in _rows(url)),
        "ALTER TYPE freezesource OWNER TO museum",
    )
    result = _alembic(url.replace("//postgres@", "//museum@"), "upgrade", "head")
    assert result.returncode == 0, result.stderr
    assert _alembic(url.replace("//postgres@", "//museum@"), "check").returncode == 0


def test_what_passari_workflow_had_accepted_and_failed_to_confirm_is_watched(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MuseumPlus answered 500: the original's package is preserved, its object is not, and nobody would come back."""
    monkeypatch.setenv("PASSARI_DB_URL", empty_database)
    command.upgrade(alembic_config(), FIRST)
    for id_, preserved in ((1, "false"), (2, "true")):
        run_sql(
            empty_database,
            f"INSERT INTO museum_objects (id, preserved) VALUES ({id_}, {preserved})",
            "INSERT INTO museum_packages (id, museum_object_id, sip_filename, created_date, downloaded, packaged, "
            f"uploaded, rejected, preserved) VALUES ({id_}, {id_}, '20190102_Object_{id_}-x.tar', '2020-08-01', true, "
            "true, true, false, true)",
            f"UPDATE museum_objects SET latest_package_id = {id_} WHERE id = {id_}",
        )
    command.upgrade(alembic_config(), "head")
    engine = database.connect(SecretStr(empty_database))
    with database.transaction(engine) as session:
        assert [package.object_id for package in packages.awaiting_verdict(session)] == [1]
        assert session.get_one(MuseumObject, 1).preserved, "the DPS has it, whatever is left to do"
    engine.dispose()


def test_a_developer_makes_a_new_revision_as_the_readme_shows(museum_database: str, tmp_path: Path) -> None:
    command_line = "alembic revision --autogenerate -m"
    assert command_line in (PROJECT / "README.md").read_text(encoding="utf-8")
    for name in ("alembic", "alembic.ini", "passari_dagster"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    models = tmp_path / "passari_dagster" / "catalogue" / "models.py"
    field = "    confirmed_date: Mapped[datetime | None]\n"
    text_ = models.read_text(encoding="utf-8")
    assert field in text_
    models.write_text(text_.replace(field, field + "    new_field: Mapped[str | None]\n"), encoding="utf-8")
    result = _alembic(museum_database, "revision", "--autogenerate", "-m", "add new_field", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (made,) = (tmp_path / "alembic" / "versions").glob("*_add_new_field.py")
    assert "op.add_column('museum_packages', sa.Column('new_field', sa.Text()" in made.read_text(encoding="utf-8")
    assert made.read_text(encoding="utf-8").count("op.") == 2, "nothing but the new column"
