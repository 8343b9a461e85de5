"""What coordinator and launcher have in common: dagster.yaml names the class, and the Redis that it works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from typing_extensions import Self

from passari_dagster.run_queue.dagster_internals import ConfigurableClass, ConfigurableClassData
from passari_dagster.run_queue.ledger import Ledger, connect


class OnRedis(ConfigurableClass):
    """A part of Dagster's instance with a ledger.

    Arguments:
        redis_url: the Redis that holds the run queue.
        inst_data: what Dagster made it of.
    """

    def __init__(self, redis_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self.ledger = Ledger(connect(redis_url))
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What it was made of."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Any:
        """What dagster.yaml may say."""
        description = "the Redis that holds the run queue, such as redis://host:6379/0"
        return {"redis_url": dg.Field(dg.StringSource, description=description)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Made by Dagster."""
        return cls(redis_url=config_value["redis_url"], inst_data=inst_data)

    def dispose(self) -> None:
        """Close the connections."""
        self.ledger.close()
