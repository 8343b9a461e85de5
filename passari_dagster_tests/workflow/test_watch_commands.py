"""`passari-dagster audit-log`: who did what, for people and for programs. On a running system: test_look_system.py."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from passari_dagster.workflow import audit
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import add_object
from passari_dagster_tests.house import House


def told(house: House, *arguments: str) -> str:
    done = house.command("audit-log", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def deeds(env: Environment) -> None:
    """What two people did: long ago to five objects, now to one."""
    with env.transaction() as session:
        for object_id in range(1, 6):
            add_object(session, object_id)
        long_ago, now = env.now() - timedelta(days=400), env.now()
        anna, oskar = audit.Actor("anna"), audit.Actor("oskar@museum.example (command line)", "run-1")
        audit.record(session, anna, "freeze_objects", now=long_ago, reason="rights " * 30, object_ids=range(1, 6))
        audit.record(
            session, oskar, "cancel", now=now, reason="a\x1b[2J typing error", details="with --resend", object_ids=[5]
        )
        audit.record(session, oskar, "recover", now=now, details="nothing was lost")


@pytest.mark.usefixtures("deeds")
def test_people_are_told_who_did_what_the_latest_first(house: House) -> None:
    text = told(house)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "recover: nothing" in lines[1]
    assert text.index("cancel: with") < text.index("freeze_objects")
    assert "5: 1, 2, 3, …" in " ".join(text.split())
    assert "\x1b" not in text
    assert "anna" not in told(house, "--limit", "2")
    assert told(house, "--limit", "2").endswith("there are older ones: give a greater --limit\n")
    assert told(house, "--object", "4711").endswith("nothing was done\n")


@pytest.mark.usefixtures("deeds")
def test_programs_are_told_all_of_an_event(house: House, env: Environment) -> None:
    yesterday = f"{env.now() - timedelta(days=1):%Y-%m-%d}"
    found = json.loads(told(house, "--json", "--object", "5"))
    assert [event["action"] for event in found["events"]] == ["cancel", "freeze_objects"]
    assert (found["more"], found["events"][0]["run_id"]) == (False, "run-1")
    assert (found["events"][1]["objects"], found["events"][1]["object_ids"]) == (5, [1, 2, 3, 4, 5])
    assert len(json.loads(told(house, "--json", "--since", yesterday))["events"]) == 2
    first = json.loads(told(house, "--json", "--object", "5", "--since", yesterday, "--limit", "1"))
    assert ([event["action"] for event in first["events"]], first["more"]) == (["cancel"], False)
    assert json.loads(told(house, "--json", "--limit", "1"))["more"] is True
    assert json.loads(told(house, "--json", "--object", "9" * 20))["events"] == []


def test_a_date_that_is_none_is_a_wrong_command_line(house: House) -> None:
    done = house.command("audit-log", "--since", "yesterday")
    assert done.returncode == 2
    assert "write 2026-01-31" in " ".join(done.stderr.split())


def test_the_overview_says_which_server_it_misses(house: House) -> None:
    done = house.command("overview")
    assert (done.returncode, "DAGSTER_PG_URL" in done.stderr) == (2, True), done.stderr
