"""The command `poll-dps`: a look at the DPS now, as the job `poll_dps` takes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    JsonOption,
    opened_environment,
    our_repository,
    print_json,
    print_table,
    quiet,
    told_to_people,
)

SHOWN = 100


def poll_dps(
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="look for verdicts that the DPS gave in the last so many days")
    ] = 31,
    as_json: JsonOption = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Look at the DPS now: record its verdicts, and have them confirmed, as the sensor does by itself."""
    with told_to_people() as console, opened_environment(data) as env:
        from passari_dagster.defs import launch, polling

        with launch.open_instance() as instance:
            look, confirmations = polling.look(env, instance, our_repository, quiet, quiet, days=days)
        news = [found for found in look.found if found.news]
        if as_json:
            verdicts = [asdict(found) for found in news]
            print_json({"waiting": look.waiting, "verdicts": verdicts, "confirmations": confirmations})
            return
        rows = [(one.object_id, one.sip_filename, one.status, f"{one.reported:%Y-%m-%d %H:%M}") for one in news[:SHOWN]]
        if rows:
            print_table(console, ("object", "package", "verdict", "reported (UTC)"), rows)
        if len(news) > SHOWN:
            console.print(f"… and {len(news) - SHOWN} more; --json lists all", highlight=False)
        console.print(
            f"{look.waiting} packages waited, {len(news)} verdicts are news; {confirmations}", highlight=False
        )
