"""Whether the two databases have the schema that this version wants, and bringing them there.

The museum's migrations are in `alembic/`; those of Dagster's own database come with Dagster. Which databases there are
is told by `system.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from passari_dagster.catalogue import older_revisions
from passari_dagster.errors import PassariError, SettingsError
from passari_dagster.services.supervisor import last_lines

_REVISION = re.compile(r"""^(down_)?revision(?::[^=]*)?\s*=\s*["'](\w+)["']""", re.M)


class MigrationFailed(PassariError):
    """A database could not be brought to the schema wanted."""


class TooOldError(PassariError):
    """The database is of a passari-workflow that has to be upgraded first."""


def psycopg2_url(url: str) -> str:
    """The URL for psycopg2, which SQLAlchemy 2.1 no longer takes by default."""
    return f"postgresql+psycopg2://{url.partition('://')[2]}"


def revisions(url: str) -> set[str]:
    """The revisions that a database says it has; none for an empty database.

    Raises:
        SettingsError: it cannot be reached.
    """
    engine = create_engine(psycopg2_url(url), connect_args={"connect_timeout": 15})
    try:
        with engine.connect() as connection:
            return set(MigrationContext.configure(connection).get_current_heads())
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip()
        raise SettingsError(f"the database cannot be reached: {reason}") from None
    finally:
        engine.dispose()


def museum_is_current(url: str, root: Path) -> bool:
    """Whether the museum database is at the newest revision of `alembic/`."""
    return revisions(url) == set(ScriptDirectory(str(root / "alembic")).get_heads())


def dagster_is_current(url: str) -> bool:
    """Whether Dagster's database is at the newest revision of the Dagster installed, or still empty.

    An empty one is filled by the first process of Dagster that opens it.
    """
    present = revisions(url)
    return not present or present == _dagster_heads()


def migrate_museum(environment: Mapping[str, str], root: Path) -> None:
    """Bring the museum database of PASSARI_DB_URL to the newest revision.

    Raises:
        SettingsError: it cannot be reached.
        TooOldError: it is of an older passari-workflow, which has to upgrade it first.
        MigrationFailed: it could not be done.
    """
    refusal = older_revisions.refusal(revisions(environment["PASSARI_DB_URL"]))
    if refusal is not None:
        raise TooOldError(refusal)
    _run([sys.executable, "-m", "alembic", "-c", str(root / "alembic.ini"), "upgrade", "head"], environment, root)


def migrate_dagster(environment: Mapping[str, str], root: Path) -> None:
    """Bring the database of DAGSTER_PG_URL to the schema of the Dagster installed."""
    _run([sys.executable, "-m", "dagster", "instance", "migrate"], environment, root)


def told(url: str, migrate: Callable[[], None]) -> dict[str, list[str]]:
    """Migrate a database; its revisions before and after."""
    before = sorted(revisions(url))
    migrate()
    return {"before": before, "after": sorted(revisions(url))}


def _run(argv: list[str], environment: Mapping[str, str], root: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        argv, env=dict(environment), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        command = " ".join(argv[2:])
        raise MigrationFailed(f"`{command}` failed:\n{last_lines(done.stdout)}")


def _dagster_heads() -> set[str]:
    """The newest revision in Dagster's own Alembic folder, read as text: Alembic would import all of Dagster for it."""
    spec = find_spec("dagster")
    assert spec is not None
    assert spec.origin is not None
    known: set[str] = set()
    superseded: set[str] = set()
    for file in (Path(spec.origin).parent / "_core" / "storage" / "alembic" / "versions").glob("*.py"):
        for down, revision in _REVISION.findall(file.read_text(encoding="utf-8")):
            (superseded if down else known).add(revision)
    return known - superseded
