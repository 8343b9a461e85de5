"""What the commands `worker` and `workers` do, but for options and exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

import dagster as dg

from passari_dagster.run_queue import execution, pools, warm, worker
from passari_dagster.run_queue.worker import PoolOptions, run_pool
from passari_dagster.settings import QueueSettings


def keep_workers(
    settings: QueueSettings, count: int | None, single: Sequence[str], rehearse: Callable[[], None]
) -> None:
    """Keep this host's workers until SIGTERM.

    Arguments:
        count: how many; None: as the settings say.
        single: pools that let one run at a time in, whatever the settings say.
        rehearse: does once what each run does, before workers are forked.
    """
    logging.basicConfig(
        stream=sys.stdout, level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
    for module in (execution, warm, worker):
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
        run_pool(instance, settings.redis_url.get_secret_value(), options, warm=lambda: warm.warm_up(rehearse))
