"""One signer for all tests, one DPS for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from passari_dagster.dps import Dps
from passari_dagster_tests.dps.site import Site
from passari_dagster_tests.dps.tiny_sip import Signer


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def site(tmp_path: Path, signer: Signer) -> Iterator[Site]:
    site = Site(tmp_path, signer)
    site.start()
    yield site
    site.dps.stop()


@pytest.fixture
def client(site: Site) -> Iterator[Dps]:
    with site.client() as client:
        yield client
