"""Words for people: nothing that the UI or the command line shows is without a description."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import typer
from typer.testing import CliRunner

from passari_dagster import cli
from passari_dagster.defs import build_defs
from passari_dagster.settings import load
from passari_dagster_tests.conftest import PROJECT

pytestmark = [pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")]
NO_JSON = {"up", "daemon", "worker", "demo", "env", "shell"}
"""Commands with nothing to tell to a program, or not yet."""
LEAST = 15
"""Characters: a name said again is no description."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> dg.RepositoryDefinition:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    return build_defs(load()).get_repository_def()


def fields_of(schema: Any, place: str) -> Iterator[tuple[str, str | None]]:
    """Every field of a config schema, inside others too, with its description."""
    for name, field in getattr(schema, "fields", {}).items():
        yield f"{place}.{name}", field.description
        yield from fields_of(field.config_type, f"{place}.{name}")


def shown(repository: dg.RepositoryDefinition) -> Iterator[tuple[str, str | None]]:
    """What the UI shows, with its description."""
    graph = repository.asset_graph
    for job in repository.get_all_jobs():
        if job.name.startswith("__"):  # Dagster's own, over all assets
            continue
        yield f"job {job.name}", job.description
        for node in job.nodes:
            yield f"op {job.name}.{node.name}", node.definition.description
            if (schema := node.definition.config_schema) is not None:
                yield from fields_of(schema.config_type, f"config {job.name}.{node.name}")
    for asset in graph.asset_nodes:
        yield f"asset {asset.key.to_user_string()}", asset.description
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        yield f"check {key.asset_key.to_user_string()}.{key.name}", spec.description
    for sensor in repository.sensor_defs:
        yield f"sensor {sensor.name}", sensor.description
    for schedule in repository.schedule_defs:
        yield f"schedule {schedule.name}", schedule.description


def test_everything_in_the_ui_says_what_it_is(repository: dg.RepositoryDefinition) -> None:
    found = dict(shown(repository))
    assert len(found) > 60
    assert [name for name, description in found.items() if len((description or "").strip()) < LEAST] == []


def test_every_command_and_option_says_what_it_does() -> None:
    command = typer.main.get_command(cli.app)
    silent = []
    for name, sub in command.commands.items():  # type: ignore[attr-defined]
        if sub.hidden:
            continue
        if len(sub.help or "") < LEAST:
            silent.append(name)
        silent += [f"{name} {param.name}" for param in sub.params if not getattr(param, "help", None)]
    assert silent == []


def test_every_command_can_tell_a_program() -> None:
    command = typer.main.get_command(cli.app)
    without = {
        name
        for name, sub in command.commands.items()  # type: ignore[attr-defined]
        if not any("--json" in param.opts for param in sub.params)
    }
    assert without <= NO_JSON


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("name", ["", *(each.name for each in typer.main.get_command(cli.app).commands.values())])  # type: ignore[attr-defined]
def test_help_shows_no_type_of_a_flag_and_breaks_lines_where_the_terminal_ends(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", columns)
    shown = CliRunner().invoke(cli.app, [*([name] if name else []), "--help"])
    assert shown.exit_code == 0
    assert "bool" not in shown.stdout
    prose = shown.stdout.partition("\u256d")[0].splitlines()
    for line, following in itertools.pairwise(map(str.strip, prose)):
        if line and following and not line.startswith("Usage"):
            assert len(line) + 1 + len(following.split()[0]) > columns - 2, line


def test_dates_of_a_requeue_have_their_form_in_the_help() -> None:
    command = typer.main.get_command(cli.app).commands["requeue-failed"]  # type: ignore[attr-defined]
    for param in command.params:
        if param.name in ("since", "until"):
            assert "2026-01-31T14:30" in param.help
