"""The cap on partition keys: who gives way when there are too many. Giving keys is in `launch`.

All of it is called under the workflow lock, so that nobody gives a key meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import dagster as dg

from passari_dagster.defs import launch
from passari_dagster.defs.partitions import ids_of
from passari_dagster.workflow import enqueue
from passari_dagster.workflow.environment import Environment

AT_ONCE = 300
"""Keys removed in one call, one by one by Dagster's own interface: a third of a second."""

WHAT_TO_DO = (
    "the runs that are queued or live need so many: let them end, or cancel some, before you enqueue more; or raise "
    "partition_cap, with which the Partitions page grows slower"
)


@dataclass(frozen=True)
class Keys:
    """How many keys there are, and how many there may be."""

    count: int
    cap: int

    @property
    def over(self) -> int:
        """How many there are too many."""
        return max(0, self.count - self.cap)

    def __str__(self) -> str:
        text = f"{self.count} partition keys of at most {self.cap}"
        return f"{text}: {self.over} too many" if self.over else text


def count(env: Environment, instance: dg.DagsterInstance) -> Keys:
    """The keys as they are now, those that are no object's id included."""
    return Keys(len(instance.get_dynamic_partitions(launch.PARTITIONS_NAME)), env.settings.workflow.partition_cap)


def prune(env: Environment, instance: dg.DagsterInstance) -> int:
    """Remove keys of objects that wait for nothing and have no run, and those that are no object's id.

    If there are more than the cap allows then, keys of objects go that can do without: see `enqueue.dispensable`.

    Returns:
        how many were removed; `AT_ONCE` at most, and then there may be more.
    """
    found = set(instance.get_dynamic_partitions(launch.PARTITIONS_NAME))
    known = {object_id for object_id in ids_of(found) if str(object_id) in found}
    strange = sorted(found.difference(map(str, known)))[:AT_ONCE]
    for key in strange:
        instance.delete_dynamic_partition(launch.PARTITIONS_NAME, key)
    removed = len(strange)
    removed += _remove(instance, enqueue.finished(env, known), AT_ONCE - removed)
    return removed + _give_way(env, instance, min(count(env, instance).over, AT_ONCE - removed), sparing=())


def make_room(env: Environment, instance: dg.DagsterInstance, wanted: Sequence[int]) -> list[int]:
    """Those of the objects that may have a key without there being more than the cap allows.

    Keys of objects that can do without give way for them.

    Arguments:
        wanted: objects, the most urgent first.
    """
    now = count(env, instance)
    missing = len(set(wanted) - launch.registered(instance))
    _give_way(env, instance, now.count + missing - now.cap, sparing=wanted)
    known = launch.registered(instance)
    # What is no object's id takes room, too.
    return enqueue.fit(wanted, registered=known, cap=now.cap - (count(env, instance).count - len(known)))


def _give_way(env: Environment, instance: dg.DagsterInstance, number: int, sparing: Collection[int]) -> int:
    if number <= 0:
        return 0
    spared = set(sparing)
    found = [id_ for id_ in enqueue.dispensable(env, launch.registered(instance)) if id_ not in spared]
    return _remove(instance, found, number)


def _remove(instance: dg.DagsterInstance, object_ids: Sequence[int], number: int) -> int:
    """Remove the first keys of those that have no run; answers how many."""
    removed = 0
    for start in range(0, len(object_ids), AT_ONCE):
        if removed >= number:
            break
        some = object_ids[start : start + AT_ONCE]
        busy = launch.in_flight(instance, some)
        for object_id in [id_ for id_ in some if id_ not in busy][: number - removed]:
            instance.delete_dynamic_partition(launch.PARTITIONS_NAME, str(object_id))
            removed += 1
    return removed
