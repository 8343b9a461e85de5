"""Resources: the environment of the use cases, and the lock that a run holds on its object."""

from collections.abc import Iterator, Mapping

import dagster as dg

from passari_dagster import locks, settings
from passari_dagster.defs.partitions import object_id_of
from passari_dagster.workflow.environment import Environment, open_environment

PARTITION_TAG = "dagster/partition"


@dg.resource(description="Settings, database and toolkit, as `workflow` wants them.")
def environment(_context: dg.InitResourceContext) -> Iterator[Environment]:
    """Read the settings when a run or tick starts, so that nothing of them is in its config."""
    with open_environment(settings.load()) as env:
        yield env


@dg.resource(
    required_resource_keys={"environment"},
    description="Held while a run of an object executes, so that no two do at once.",
)
def object_lock(context: dg.InitResourceContext) -> Iterator[None]:
    """Wait for a run that was just killed (its lock expires), but not for one that lives."""
    run = context.run
    key = run.tags.get(PARTITION_TAG) if run is not None else None
    if key is None:
        raise dg.Failure("preserve_object is launched for a partition: the id of an object", allow_retries=False)
    env: Environment = context.resources.environment
    with env.lock(locks.object_lock(object_id_of(key)), wait=2.0 * env.settings.workflow.lock_expiry):
        yield


def build_resources() -> Mapping[str, dg.ResourceDefinition]:
    """The resources by key."""
    return {"environment": environment, "object_lock": object_lock}
