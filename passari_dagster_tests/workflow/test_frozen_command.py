"""Frozen objects by reason: each reason is shown whole, since objects are unfrozen by exactly that text."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from passari_dagster.defs import workbench
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import add_object
from passari_dagster_tests.house import House

REASON = "On loan to " + "a museum far away, and " * 20 + "back in 2027"


@pytest.fixture
def _frozen(env: Environment) -> None:
    with env.transaction() as session:
        for object_id in (1, 2):
            add_object(session, object_id, frozen=True, freeze_reason=REASON)
        add_object(session, 3, frozen=True, freeze_reason="\x1b[2J")
        add_object(session, 4, frozen=True)


@pytest.mark.usefixtures("_frozen")
def test_the_command_tells_each_reason_whole_on_a_line(house: House) -> None:
    done = house.command("frozen")
    assert done.returncode == 0, done.stderr
    assert f"      2          0  {REASON}" in done.stdout.splitlines()
    assert "      1          0  \\x1b[2J" in done.stdout.splitlines()
    assert "      1          0  (none given)" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "4 objects are frozen"
    listed = json.loads(house.command("frozen", "--reason", "(none given)", "--json").stdout)
    assert [each["object_id"] for each in listed["objects"]] == [4]


@pytest.mark.usefixtures("_frozen")
def test_the_asset_tells_each_reason_whole(env: Environment) -> None:
    resources = {"environment": dg.ResourceDefinition.hardcoded_resource(env)}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([workbench.frozen_objects], resources=resources, instance=instance)
        (event,) = result.get_asset_materialization_events()
    table = event.materialization.metadata["by_reason"].value
    assert f"| 2 | 0 | {REASON} |" in str(table)
