"""A small museum over HTTP, and clients to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.settings import MuseumPlusSettings
from passari_dagster.simulation.museumplus import LOG_FIELD, SimulatedMuseum

Connect = Callable[..., MuseumPlus]


def settings_for(museum: SimulatedMuseum, **values: Any) -> MuseumPlusSettings:
    """Settings that reach the museum, impatient as tests are."""
    return MuseumPlusSettings.model_validate(
        {
            "url": museum.url,
            "username": museum.username,
            "password": museum.password,
            "object_preservation_field_name": LOG_FIELD,
            "timeout": 10,
            "retries": 2,
            "retry_wait": 0.01,
            **values,
        }
    )


@pytest.fixture
def museum() -> Iterator[SimulatedMuseum]:
    with SimulatedMuseum(objects=60) as running:
        yield running


@pytest.fixture
def connect(museum: SimulatedMuseum) -> Iterator[Connect]:
    """Makes clients; arguments are settings that differ."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(MuseumPlus(settings_for(museum, **values)))


@pytest.fixture
def client(connect: Connect) -> MuseumPlus:
    return connect()
