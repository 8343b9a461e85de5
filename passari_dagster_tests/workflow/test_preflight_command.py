"""`passari-dagster preflight`: its table, its JSON, its CSV, and exit codes by which a script can go."""

from __future__ import annotations

import csv
import json
import subprocess

import pytest

from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.house import House
from passari_dagster_tests.workflow.stories import JPEG, PSD, eligible_object, old_object


def command(house: House, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return house.command("preflight", *arguments, **variables)


def test_problems_are_a_table_and_exit_code_1(house: House, env: Environment) -> None:
    bad = old_object(house, ("kuva.jpg", JPEG[:-200]), ("kerrokset.psd", PSD))
    good = eligible_object(house, env, ("kuva.jpg", JPEG))
    done = command(house, bad, good, "--csv", "problems.csv", COLUMNS="250")
    assert done.returncode == 1, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "kerrokset.psd" in done.stdout
    assert "JPEG file is damaged" in done.stdout
    assert "2 objects, 1 without a problem, 1 with problems; 2 problems in all" in done.stdout
    assert f"object {bad}: 2 problems found\n" in done.stderr
    assert f"object {good}: no problem found\n" in done.stderr
    with (house.directory / "problems.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["object_id"] for row in rows] == [str(bad)] * 2
    assert {row["code"] for row in rows} == {"jpeg-damaged", "unsupported-format"}


def test_no_problem_is_exit_code_0_and_json_is_all_of_stdout(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    done = command(house, object_id, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["objects"], told["good"], told["problems"], told["found"]) == (1, 1, 0, [])


def test_json_has_every_problem(house: House, env: Environment) -> None:
    bad = eligible_object(house, env, *[(f"{number}.psd", PSD) for number in range(25)])
    done = command(house, bad, "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == len(told["found"]) == 25
    assert set(told["found"][0]) == {"object_id", "title", "file", "code", "reason", "detail", "advice"}
    assert list(told["by_reason"].values()) == [25]


def test_at_random_no_more_objects_than_asked_for(house: House, env: Environment) -> None:
    eligible_object(house, env, ("kuva.jpg", JPEG))
    done = command(house, "--random", 2, "--json")
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["objects"] == 2


def test_a_system_error_is_exit_code_2_and_the_others_are_told(house: House, env: Environment) -> None:
    gone = old_object(house, ("kuva.jpg", JPEG))
    bad = eligible_object(house, env, ("kerrokset.psd", PSD))
    house.museum.delete_object(gone)
    done = command(house, gone, bad)
    assert done.returncode == 2, done.stderr
    assert "kerrokset.psd" in done.stdout
    assert f"object {gone}: could not be examined: MuseumPlus" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        ([], {}, "--random"),
        (["1", "--random", "5"], {}, "--random"),
        (["--random", "0"], {}, "--random"),
        (["kirves"], {}, "integer"),
        (["--random", "5"], {"PASSARI_DB_URL": "postgresql://me:sala@127.0.0.1:1/x"}, "cannot be reached"),
        (["1000000"], {"REDIS_URL": "redis://127.0.0.1:1"}, "in Redis"),
        (["1000000", "--csv", "nowhere/problems.csv"], {}, "nowhere"),
        (["1000000"], {"PASSARI_CONFIG": "/nowhere.toml"}, "PASSARI_CONFIG"),
    ],
    ids=["nothing", "both", "none", "no id", "no database", "no Redis", "no place for the table", "no settings"],
)
def test_what_cannot_be_done_is_exit_code_2(
    house: House, arguments: list[str], variables: dict[str, str], told: str
) -> None:
    done = command(house, *arguments, **variables)
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "sala" not in done.stderr
    assert done.stdout == ""


def test_the_help_tells_the_exit_codes(house: House) -> None:
    done = command(house, "--help")
    assert done.returncode == 0
    assert "Exit codes: 0 no problem was found; 1 problems were found; 2" in " ".join(done.stdout.split())
