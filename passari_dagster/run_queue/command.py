"""What the commands `worker` and `workers` do, but for options and exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import dagster as dg

from passari_dagster.run_queue import execution, pools, worker
from passari_dagster.run_queue.warm import warm_up
from passari_dagster.run_queue.worker import PoolOptions, run_pool
from passari_dagster.settings import QueueSettings

NEEDED_BY_RUNS = (
    "passari_dagster.definitions",
    "passari_dagster.workflow.museum_toolkit",
    "passari_dagster.dps.sftp",
    "passari_dagster.dps.rest",
)
"""What runs import; some of it only when they need it."""


def keep_workers(settings: QueueSettings, count: int | None, single: Sequence[str]) -> None:
    """Keep this host's workers until SIGTERM.

    Arguments:
        count: how many; None: as the settings say.
        single: pools that let one run at a time in, whatever the settings say.
    """
    logging.basicConfig(
        stream=sys.stdout, level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
    for module in (execution, worker):
        logging.getLogger(module.__name__).setLevel(logging.INFO)
    workers = settings.workers
    options = PoolOptions(
        workers=count or workers.count,
        recycle_runs=workers.recycle_runs,
        recycle_mb=workers.recycle_mb,
        grace=workers.grace,
    )
    with dg.DagsterInstance.get() as instance:
        pools.apply(instance, {**workers.pools.model_dump(), **dict.fromkeys(single, 1)})
        run_pool(instance, settings.redis_url.get_secret_value(), options, warm=lambda: warm_up(NEEDED_BY_RUNS))
