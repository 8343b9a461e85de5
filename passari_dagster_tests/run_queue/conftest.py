"""A site of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from passari_dagster.services.embedded import EmbeddedRedis
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.run_queue.site import Site, variables_of


@pytest.fixture
def site(
    tmp_path: Path,
    empty_database: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """PostgreSQL, Redis and an instance, with nothing in them."""
    monkeypatch.delenv("PASSARI_CONFIG", raising=False)
    with EmbeddedRedis(tmp_path_factory.mktemp("queue") / "data") as server:
        for name, value in variables_of(tmp_path, empty_database, server, PROJECT).items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            yield Site(tmp_path, instance, server)
