"""What Dagster loads."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from dagster._utils.schedules import schedule_execution_time_iterator
from pydantic import ValidationError

from passari_dagster.defs import assets, jobs, launch, schedules
from passari_dagster.settings import load
from passari_dagster_tests.conftest import PROJECT


def _validate(elsewhere: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "dagster"
    env = {"PATH": os.environ["PATH"], **environment}
    arguments = [str(program), "definitions", "validate", "-m", "passari_dagster.definitions"]
    # Elsewhere, since the project's own folder has a dagster.yaml, which asks for a database.
    return subprocess.run(arguments, cwd=elsewhere, env=env, capture_output=True, text=True, check=False)


def test_the_definitions_load_with_the_example_settings(tmp_path: Path) -> None:
    done = _validate(tmp_path, PASSARI_CONFIG=str(PROJECT / "passari.toml.example"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_setting_is_named_when_the_definitions_are_loaded(tmp_path: Path) -> None:
    done = _validate(tmp_path, PASSARI_DB_URL="postgresql://passari:sala@host/db")
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "museumplus" in told
    assert "PASSARI_PACKAGE_DIR" in told
    assert "sala" not in told


@pytest.mark.parametrize(
    ("window", "hashes"), [("20:00-04:00", "0 5 * * *"), ("20:00-23:15", "15 0 * * *"), ("", "0 5 * * *")]
)
def test_objects_are_read_on_odd_nights_and_attachments_on_even_ones(
    monkeypatch: pytest.MonkeyPatch, window: str, hashes: str
) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    crons = schedules.crons(load(workflow={"sync_window": window}))
    assert crons["sync_hashes"] == hashes
    helsinki = ZoneInfo("Europe/Helsinki")
    seen = {}
    for name in ("sync_objects", "sync_attachments"):
        start = datetime(2026, 1, 1, tzinfo=helsinki).timestamp()
        times = schedule_execution_time_iterator(start, crons[name], "Europe/Helsinki", ascending=True)
        seen[name] = [time.astimezone(helsinki) for time in islice(times, 180)]
    assert all(time.day % 2 and time.hour == 20 for time in seen["sync_objects"])
    assert not any(time.day % 2 for time in seen["sync_attachments"])
    assert not set(seen["sync_objects"]) & set(seen["sync_attachments"])


@pytest.mark.parametrize(
    ("config", "told"), [({}, "object_count"), ({"object_count": 0}, "greater than 0"), ({"nonsense": 1}, "nonsense")]
)
def test_an_enqueue_that_makes_no_sense_is_refused_with_the_reason(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        jobs.EnqueueConfig(**config)


def test_every_dagster_command_uses_the_same_two_files() -> None:
    # A [tool.dagster] there would win over workspace.yaml, and have each command start a code server of its own.
    assert "[tool.dagster]" not in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text(encoding="utf-8"))
    assert [list(entry) for entry in workspace["load_from"]] == [["grpc_server"]]
    instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    assert instance["run_retries"] == {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False}
    assert instance["concurrency"] == {"pools": {"granularity": "op"}}
    assert "password" not in (PROJECT / "dagster.yaml").read_text(encoding="utf-8")


def test_every_step_has_its_pool_and_the_scrapes_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    settings = load()
    preserve_object = jobs.build_preserve_object(settings)
    assert {node.name: node.definition.pools for node in preserve_object.nodes} == {
        name: {name} for name in type(settings.workers.pools).model_fields
    }
    for asset in (assets.museum_objects, assets.museum_attachments):
        assert asset.op.pool == assets.POOL
    assert assets.metadata_hashes.op.pool is None


def test_the_partition_set_has_the_name_that_backfills_use() -> None:
    assert launch.PARTITION_SET == "preserve_object_partition_set"
