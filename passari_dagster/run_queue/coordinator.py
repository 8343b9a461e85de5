"""The run coordinator: whatever launches a run, the UI, a backfill, the command line, it stands in Redis's queue next.

One live run per object is kept here, at the door, and once more by the worker. When Redis is away, a run is QUEUED in
Dagster's database all the same, and `reconcile.py` brings it to the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
import redis
from typing_extensions import Self

from passari_dagster.run_queue import runs
from passari_dagster.run_queue.configured import OnRedis
from passari_dagster.run_queue.dagster_internals import (
    AUTO_RETRY_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    ConfigurableClassData,
    RunCoordinator,
    SubmitRunContext,
    report_queued,
)
from passari_dagster.run_queue.who import USER_HEADER, USER_TAG, who_launches

log = logging.getLogger(__name__)


class RedisRunCoordinator(OnRedis, RunCoordinator[dg.DagsterInstance]):
    """A `RunCoordinator` over Redis; named in dagster.yaml.

    Arguments:
        user_header: of a request to the webserver: the login, from the proxy in front of it.
    """

    def __init__(
        self, redis_url: str, inst_data: ConfigurableClassData | None = None, user_header: str = USER_HEADER
    ) -> None:
        super().__init__(redis_url, inst_data)
        self._user_header = user_header

    @classmethod
    def config_type(cls) -> Any:
        """What dagster.yaml may say."""
        description = "header in which the proxy in front of the webserver hands on who is logged in"
        header = dg.Field(dg.StringSource, default_value=USER_HEADER, is_required=False, description=description)
        return {**super().config_type(), "user_header": header}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Made by Dagster."""
        return cls(config_value["redis_url"], inst_data, config_value["user_header"])

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """QUEUED in the database first, then in Redis; or CANCELED, if another run of the object is queued or live."""
        run, instance = context.dagster_run, self._instance
        if run.status is dg.DagsterRunStatus.NOT_STARTED:
            who = who_launches(run.tags, context, self._user_header, self._launcher_of_killed(run))
            if run.tags.get(USER_TAG) != who:  # also where somebody has written another's name into the tags
                instance.add_run_tags(run.run_id, {USER_TAG: who})
            try:
                admitted = runs.admit(instance, self.ledger, run)
            except redis.RedisError as error:
                log.warning("run %s is claimed later, Redis is away: %s", run.run_id, error)
                admitted = True
            if admitted:
                report_queued(instance, run)
                self._enqueue(run)
        reloaded = instance.get_run_by_id(run.run_id)
        return reloaded or run

    def _launcher_of_killed(self, run: dg.DagsterRun) -> str | None:
        if run.parent_run_id is None or RETRY_NUMBER_TAG not in run.tags:
            return None
        parent = self._instance.get_run_by_id(run.parent_run_id)
        # Said by the stored run, on which this coordinator has written it: anybody may write tags of a new one.
        is_retry = parent is not None and parent.tags.get(AUTO_RETRY_RUN_ID_TAG) == run.run_id
        return parent.tags.get(USER_TAG) if parent is not None and is_retry else None

    def _enqueue(self, run: dg.DagsterRun) -> None:
        try:
            runs.enqueue(self.ledger, run)
        except redis.RedisError as error:
            log.warning("run %s is enqueued later, Redis is away: %s", run.run_id, error)

    def cancel_run(self, run_id: str) -> bool:
        """Cancel a run, queued or live; False: it has ended."""
        return runs.cancel(self._instance, self.ledger, run_id)
