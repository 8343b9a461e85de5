"""Resources: the environment of the use cases, and the lock that a run holds on its object."""

import contextlib
from collections.abc import Iterator, Mapping

import dagster as dg

from passari_dagster import locks, settings
from passari_dagster.defs import outcomes
from passari_dagster.defs.partitions import object_id_of
from passari_dagster.workflow.environment import Environment, open_environment

PARTITION_TAG = "dagster/partition"


@dg.resource(description="Settings, database and toolkit, as `workflow` wants them.")
def environment(context: dg.InitResourceContext) -> Iterator[Environment]:
    """Read the settings when a run or tick starts, so that nothing of them is in its config."""
    with contextlib.ExitStack() as opened:
        with _beginning(context):
            env = opened.enter_context(open_environment(settings.load()))
        yield env


@dg.resource(
    required_resource_keys={"environment"},
    description="Held while a run of an object executes, so that no two do at once.",
)
def object_lock(context: dg.InitResourceContext) -> Iterator[None]:
    """Wait for a run that was just killed (its lock expires), but not for one that lives."""
    env: Environment = context.resources.environment
    with contextlib.ExitStack() as held:
        with _beginning(context):
            lock = env.lock(locks.object_lock(_object_of(context)), wait=2.0 * env.settings.workflow.lock_expiry)
            held.enter_context(lock)
        yield


def _object_of(context: dg.InitResourceContext) -> int:
    key = context.run.tags.get(PARTITION_TAG) if context.run is not None else None
    if key is None:
        raise dg.Failure("preserve_object is launched for a partition: the id of an object", allow_retries=False)
    return object_id_of(key)


@contextlib.contextmanager
def _beginning(context: dg.InitResourceContext) -> Iterator[None]:
    """A run of an object that fails before its first op has its outcome in its tags, too."""
    try:
        yield
    except Exception:
        run = context.run
        if run is not None and context.instance is not None and run.job_name == outcomes.JOB_NAME:
            outcomes.tag_failure(context.instance, run.run_id, outcomes.SYSTEM_ERROR)
        raise


def build_resources() -> Mapping[str, dg.ResourceDefinition]:
    """The resources by key."""
    return {"environment": environment, "object_lock": object_lock}
