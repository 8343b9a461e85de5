"""A museum and a DPS of its own for each story, and the judge over what was sent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.conftest import shared
from passari_dagster_tests.house import House


@pytest.fixture
def house(tmp_path: Path, museum_database: str, redis_url: SecretStr) -> Iterator[House]:
    """A museum of three objects, and all that the workflow needs."""
    house = House(tmp_path, museum_database, redis_url, objects=3)
    yield house
    house.close()


@pytest.fixture
def env(house: House) -> Iterator[Environment]:
    """The environment of the use cases; nothing is synchronised yet."""
    with house.environment() as env:
        yield env


@pytest.fixture
def judge(house: House) -> Callable[[Path], list[str]]:
    """Violations that the independent judge finds in a package."""
    script = shared("judge/judge.py")
    # One place for all workers and runs: the judge compiles its rules once and renames them into place.
    cache = Path(tempfile.gettempdir()) / f"passari-judge-{os.getuid()}"
    cache.mkdir(exist_ok=True)

    def run(tar: Path) -> list[str]:
        result = subprocess.run(
            [sys.executable, str(script), str(tar), "--cert", str(house.certificate)],
            capture_output=True,
            text=True,
            env={**os.environ, "JUDGE_CACHE": str(cache)},
            timeout=300,
            check=False,
        )
        lines = result.stdout.splitlines()
        assert any(line.startswith("judge: ") for line in lines), result.stdout + result.stderr
        violations = [line for line in lines if line.startswith("VIOLATION")]
        assert (result.returncode == 0) == (not violations), result.stdout + result.stderr
        return violations

    return run
