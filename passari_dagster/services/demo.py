"""`passari-dagster demo`: the whole system on one machine, with a simulated museum and a simulated DPS.

The story only: start everything, read the museum's catalogue, enqueue some objects, watch them come to rest. Keys and
settings are in `demo_material.py`, the table in `board.py`, the processes in `system.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from sqlalchemy import Engine, create_engine

from passari_dagster import durable
from passari_dagster.errors import PassariError, SettingsError
from passari_dagster.services import board, demo_material
from passari_dagster.services.demo_material import CONTRACT_ID, USERNAME, Material
from passari_dagster.services.supervisor import Service, Supervisor
from passari_dagster.services.system import HOST, System, free_port, is_open, only_user_of
from passari_dagster.simulation import dps_faults, museum_faults

SEED = 1
"""Of every 20 objects of the museum one has a file that is frozen, and one a file that the DPS rejects."""
SYNC_JOBS = ("sync_objects", "sync_attachments", "sync_hashes")
LEAST_PRESERVED = 0.75
"""Share of the enqueued objects that a good demo preserves: 15 of 20."""
DPS_DELAY = 3.0
"""Seconds that a package waits at the simulated DPS, and a DIP, so that people see it there."""


class DemoFailed(PassariError):
    """The demo did not come to the end that it should."""


@dataclass(frozen=True)
class Options:
    """What is asked of the demo.

    Arguments:
        data: folder of everything that it keeps.
        museum_objects: size of the simulated museum, for as long as the folder lives.
        enqueue: objects in the workflow in all, with those that were enqueued at an earlier start.
        port: of the user interface; the next free one if it is taken.
        timeout: seconds, after the start of all processes, until all objects should be at rest.
        leave: end with the outcome, instead of running until it is stopped.
        museum_flags: for the simulated museum's command line, from `museum_flags`.
        dps_flags: for the simulated DPS's, from `dps_flags`.
    """

    data: Path
    museum_objects: int = 200
    enqueue: int = 20
    port: int = 3000
    timeout: float = 420.0
    leave: bool = False
    museum_flags: tuple[str, ...] = ()
    dps_flags: tuple[str, ...] = ()


def museum_flags(faults: Sequence[str]) -> tuple[str, ...]:
    """What the simulated museum's command line says for faults that were asked for as `NAME=VALUE`.

    Raises:
        SettingsError: there is no such fault, or no such value of it.
    """
    return _flags("--museum-fault", museum_faults.Faults, faults)


def dps_flags(faults: Sequence[str]) -> tuple[str, ...]:
    """As `museum_flags`, for the simulated DPS."""
    return _flags("--dps-fault", dps_faults.Faults, faults)


def _flags(option: str, knobs: type[Any], faults: Sequence[str]) -> tuple[str, ...]:
    defaults = {
        knob.name.replace("_", "-"): knob.default
        for knob in dataclasses.fields(knobs)
        if isinstance(knob.default, int | float) and knob.name != "seed"
    }
    flags: list[str] = []
    for fault in faults:
        name, _, value = fault.partition("=")
        name = name.replace("_", "-")
        if name not in defaults:
            raise SettingsError(f"{option} {fault}: should be NAME=VALUE with one of the names {', '.join(defaults)}")
        if isinstance(defaults[name], bool):
            if value not in ("true", "false"):
                raise SettingsError(f"{option} {fault}: the value should be true or false")
            flags += [f"--{name}"] if value == "true" else []
        else:
            flags += [f"--{name}", _number(name, value, isinstance(defaults[name], int), f"{option} {fault}")]
    return tuple(flags)


def _number(name: str, value: str, whole: bool, asked: str) -> str:
    most = 1.0 if name.endswith("-rate") else sys.float_info.max
    with contextlib.suppress(ValueError):
        if 0 <= (number := int(value) if whole else float(value)) <= most:
            return str(number)
    kind = "a share from 0 to 1" if most == 1 else f"a {'whole ' if whole else ''}number, 0 or greater"
    raise SettingsError(f"{asked}: the value should be {kind}")


def run(options: Options, console: Console) -> None:
    """Run the demo.

    Raises:
        DemoFailed: the objects did not come to rest in time, or not as they should.
        ServiceFailed: a process died.
    """
    data = options.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    console.print(f"everything is kept in {data}", highlight=False, soft_wrap=True)
    with only_user_of(data), Supervisor(data / "logs") as supervisor:
        config = _start_outside_world(options, data, supervisor)
        system = System(
            data,
            config=config,
            environment=_clean_environment(),
            port=options.port,
            supervisor=supervisor,
            report=console.print,
        )
        with system, _engine(system.museum_database_url) as engine:
            deadline = time.monotonic() + options.timeout
            enqueued = _fill_workflow(options, system, console, deadline)
            _watch(options, system, engine, enqueued, console, deadline)


def _start_outside_world(options: Options, data: Path, supervisor: Supervisor) -> Path:
    """Start the simulated museum and DPS; the answer is the settings file that leads to them."""
    museum_port, sftp_port, rest_port = free_port(), free_port(), free_port()
    material = demo_material.prepare(data / "keys", sftp_port=sftp_port)
    for name in ("packages", "archive"):
        (data / name).mkdir(exist_ok=True)
    supervisor.start(_museum(options, data, material, museum_port))
    supervisor.start(_dps(options, data, material, sftp_port, rest_port))
    config = data / "passari.toml"
    content = demo_material.settings_file(
        material,
        data,
        museumplus_url=f"http://{HOST}:{museum_port}/ria-ws/application",
        sftp_port=sftp_port,
        rest_url=f"https://{HOST}:{rest_port}",
        ca_file=data / "dps" / "tls" / "ca.pem",
    )
    durable.write_bytes(config, content.encode(), mode=0o600)
    return config


def _museum(options: Options, data: Path, material: Material, port: int) -> Service:
    return Service(
        name="museumplus",
        argv=[
            *(sys.executable, "-m", "passari_dagster.simulation.museumplus"),
            *("--port", str(port), "--objects", str(options.museum_objects), "--seed", str(SEED)),
            *("--username", USERNAME, "--password-file", str(material.museumplus_password)),
            *("--data-dir", str(data / "museum")),
            *options.museum_flags,
        ],
        env=_clean_environment(),
        ready=lambda: is_open(port),
    )


def _dps(options: Options, data: Path, material: Material, sftp_port: int, rest_port: int) -> Service:
    return Service(
        name="dps",
        argv=[
            *(sys.executable, "-m", "passari_dagster.simulation.dps", "--directory", str(data / "dps")),
            *("--sftp-port", str(sftp_port), "--rest-port", str(rest_port)),
            *("--certificate", str(material.certificate), "--contract-id", CONTRACT_ID),
            *("--authorized-keys", str(material.authorized_keys), "--host-key", str(material.host_key)),
            *("--rest-credentials", str(material.rest_credentials), "--delay", str(DPS_DELAY)),
            *("--dip-delay", str(DPS_DELAY)),
            *options.dps_flags,
        ],
        env=_clean_environment(),
        ready=lambda: is_open(sftp_port) and is_open(rest_port),
    )


def _clean_environment() -> dict[str, str]:
    """Our environment without what could lead the demo to a real museum, database or DPS."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PASSARI_", "DAGSTER_")) and name != "REDIS_URL"
    }
    return kept | {"NO_PROXY": f"{HOST},localhost", "no_proxy": f"{HOST},localhost"}


@contextlib.contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _fill_workflow(options: Options, system: System, console: Console, deadline: float) -> int:
    """Read the catalogue, and enqueue what is missing to the number asked for; answers how many are enqueued."""
    notes = options.data.resolve() / "demo.json"
    enqueued = int(json.loads(notes.read_text())["enqueued"]) if notes.exists() else 0
    if enqueued >= options.enqueue:
        console.print(f"{enqueued} objects were enqueued before")
        return enqueued
    for job in SYNC_JOBS:
        _run_job(system, job, {}, console, deadline)
    ops = {"enqueue": {"config": {"object_count": options.enqueue - enqueued, "random": False}}}
    run_id = _run_job(system, "enqueue_objects", {"ops": ops}, console, deadline)
    enqueued += system.webserver.output_numbers(run_id)["enqueued"]
    durable.write_bytes(notes, json.dumps({"enqueued": enqueued}).encode())
    return enqueued


def _run_job(system: System, job: str, config: Mapping[str, object], console: Console, deadline: float) -> str:
    """Launch a job, and wait until it has succeeded; answers with the run's id."""
    console.print(f"running {job}")
    run_id = system.webserver.launch(job, config)
    while (status := system.webserver.run_status(run_id)) not in ("SUCCESS", "FAILURE", "CANCELED"):
        if time.monotonic() > deadline:
            raise DemoFailed(f"{job} was still {status} at the time-out: {system.webserver_url}/runs/{run_id}")
        system.sleep(1)
    if status != "SUCCESS":
        reasons = "\n".join(system.webserver.run_errors(run_id))
        raise DemoFailed(f"{job} ended {status}: {system.webserver_url}/runs/{run_id}\n{reasons}")
    return run_id


def _watch(options: Options, system: System, engine: Engine, enqueued: int, console: Console, deadline: float) -> None:
    """Show the objects on their way; return when they are at rest, or, unless asked to leave, never."""
    data = options.data.resolve()
    lines = [
        f"user interface   {system.webserver_url}",
        f"data             {data}",
        f"sent packages    {data / 'dps' / 'received'}",
        f"processes        {', '.join(child.name for child in system.supervisor.children)}",
    ]
    shown = board.Board(console, lines)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or contextlib.nullcontext():
        while True:
            counts = board.count(engine, enqueued)
            if live:
                live.update(shown.table(counts), refresh=True)
            else:
                shown.say(counts)
            if options.leave and (counts.at_rest >= enqueued or time.monotonic() > deadline):
                break
            system.sleep(1)
    _judge(counts, engine, enqueued, console)


def _judge(counts: board.Counts, engine: Engine, enqueued: int, console: Console) -> None:
    """Tell the outcome.

    Raises:
        DemoFailed: too few were preserved, none was rejected or frozen, or some did not come to rest.
    """
    stages = counts.stages
    faults = []
    if stages["preserved"] < LEAST_PRESERVED * enqueued:
        faults.append(f"only {stages['preserved']} of {enqueued} objects were preserved")
    faults += [f"no object was {stage}" for stage in ("rejected", "frozen") if not stages[stage]]
    if counts.at_rest < enqueued:
        faults.append(f"{enqueued - counts.at_rest} objects did not come to rest")
        faults += [f"  {line}" for line in board.objects_not_at_rest(engine)]
    outcome = ", ".join(f"{stages[stage]} {stage}" for stage in ("preserved", "rejected", "frozen"))
    console.print(f"outcome of {enqueued} objects: {outcome}", highlight=False)
    if faults:
        raise DemoFailed("the demo did not end as it should:\n" + "\n".join(faults))
