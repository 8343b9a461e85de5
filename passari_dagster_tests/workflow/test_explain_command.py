"""`passari-dagster explain`: why an object is or is not eligible, for people and for programs."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timedelta

from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import add_object, add_package
from passari_dagster_tests.house import House


def command(house: House, *arguments: object) -> subprocess.CompletedProcess[str]:
    return house.command("explain", *arguments)


def test_the_command_tells_people_all_reasons_and_programs_the_date(house: House, env: Environment) -> None:
    created = env.now() - timedelta(days=10)
    with env.transaction() as session:
        add_object(session, 1234567)
        add_object(session, 2, title="Pata\x1b[2J", created_date=created)
        add_package(session, add_object(session, 3, frozen=True, freeze_reason="In restoration", removed_date=created))
    done = command(house, 1234567, 2, 3, 4)
    assert done.returncode == 0, done.stderr
    first, second, third, fourth = done.stdout.splitlines()
    assert first == "object 1234567 Kirves: eligible"
    assert second.startswith("object 2 Pata\\x1b[2J: not eligible: created too recently (preservation_delay). It will")
    assert third == (
        "object 3 Kirves: not eligible: no longer in MuseumPlus; frozen: In restoration; not changed since the last "
        "package. It can be eligible after it is found in MuseumPlus again, and it is unfrozen, and it is changed in "
        "MuseumPlus, and the syncs read that."
    )
    assert fourth.startswith("object 4: not eligible: not in the database (run sync_objects). ")

    done = command(house, 2, 3, "--json")
    assert done.returncode == 0, done.stderr
    waiting, hopeless = json.loads(done.stdout)
    assert datetime.fromisoformat(waiting["eligible_from"]) == created + env.settings.workflow.preservation_delay
    assert (waiting["eligible"], waiting["has_to_happen"]) == (False, [])
    assert (hopeless["eligible_from"], len(hopeless["has_to_happen"])) == (None, 3)
    assert [reason["key"] for reason in hopeless["reasons"]] == ["removed", "frozen", "not_changed"]
