"""The command `passari-dagster`: options and exit codes only; what is done is in `services/`.

Exit codes: 0 done, or stopped by Ctrl-C or SIGTERM; 1 something failed; 2 something has to be set or installed first.
`demo --exit`, `preflight` and `retrieve-dip` that are stopped before their outcome end with 128 and the signal's
number. `preflight` has codes of its own, which its help tells.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from passari_dagster import settings
from passari_dagster.commands import cancelling, freezing, look, polling, recovering, requeueing, resetting, watch
from passari_dagster.commands import retrieve as retrieve_commands
from passari_dagster.commands.common import (
    SYSTEM_DATA,
    DataOption,
    JsonOption,
    ObjectIds,
    museum_environment,
    print_json,
    told_to_people,
    use_dagster_environment,
    use_env_file,
    within_bounds,
)
from passari_dagster.commands.helping import Group, Program
from passari_dagster.errors import SettingsError
from passari_dagster.services.supervisor import Stop, stop_on_signals

app = Program(
    cls=Group,
    help="From a museum's catalogue to the national Digital Preservation Service.",
    epilog="Exit codes: 0 done; 1 something failed or was refused, the rest is done; 2 something has to be set or "
    "installed first. More in docs/reference/exit-codes.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show values of variables, which may be secret
)
DEMO_DATA = Path("passari-data/demo")
FOREVER = 86_400.0
"""Seconds: the workers have a grace of their own, [workers] grace, and end within it."""


@app.command()
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="end when all objects are at rest")] = False,
    data: DataOption = DEMO_DATA,
    museum_objects: Annotated[int, typer.Option(min=1, help="objects in the simulated museum")] = 200,
    enqueue: Annotated[
        int, typer.Option("--enqueue", "--objects", min=1, help="objects to preserve, with those of earlier starts")
    ] = 20,
    port: Annotated[int, typer.Option(help="of the user interface, or the next free one")] = 3000,
    timeout: Annotated[float, typer.Option(min=1, help="seconds until all objects should be at rest")] = 420,
    museum_fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            envvar="PASSARI_DEMO_MUSEUM_FAULTS",
            help="what goes wrong in the simulated museum, such as latency=0.5 or error-rate=0.1; may be repeated",
        ),
    ] = None,
    dps_fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            envvar="PASSARI_DEMO_DPS_FAULTS",
            help="what goes wrong in the simulated DPS, such as damage=1 or no-fsync=true; may be repeated",
        ),
    ] = None,
) -> None:
    """Run everything here, with a simulated museum and a simulated DPS, until Ctrl-C."""
    from passari_dagster.services import demo as story

    with told_to_people() as console:
        options = story.Options(
            data=data,
            museum_objects=museum_objects,
            enqueue=enqueue,
            port=port,
            timeout=timeout,
            leave=exit_,
            museum_flags=story.museum_flags(museum_fault or ()),
            dps_flags=story.dps_flags(dps_fault or ()),
        )
        try:
            with stop_on_signals():
                story.run(options, console)
        except Stop as stop:
            console.print(f"stopped ({stop}); the data is kept")
            if exit_:
                raise typer.Exit(128 + stop.number) from None


@app.command()
def up(
    data: DataOption = SYSTEM_DATA,
    port: Annotated[int, typer.Option(help="of the user interface, or the next free one")] = 3000,
) -> None:
    """Run the services for the settings of passari.toml and the environment, until Ctrl-C.

    PostgreSQL and Redis are brought along unless PASSARI_DB_URL, DAGSTER_PG_URL and REDIS_URL name servers.
    """
    from passari_dagster.services.system import System

    with told_to_people() as console:
        try:
            with stop_on_signals(), System(data, port=port, grace=FOREVER, report=console.print) as system:
                console.print(f"user interface   {system.webserver_url}", highlight=False)
                console.print(f"data             {system.data}", highlight=False, soft_wrap=True)
                while True:
                    system.sleep(3600)
        except Stop as stop:
            console.print(f"stopped ({stop})")


@app.command()
def daemon(
    alone: Annotated[bool, typer.Option("--alone", help="no other process can lead: begin at once")] = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Run Dagster's daemon (schedules, sensors, backfills) while this host leads; otherwise stand by, until SIGTERM."""
    from passari_dagster.services import daemon as leading

    with told_to_people() as console:
        environment = use_env_file(data)
        report = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        try:
            with stop_on_signals():
                leading.run(settings.load_queue(), environment, data, alone=alone, report=report)
        except Stop as stop:
            console.print(f"stopped ({stop})")


@app.command()
def worker(
    workers: Annotated[int | None, typer.Option("-n", min=1, help="how many; without it, as the settings say")] = None,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Keep the workers of this host, which execute runs, until SIGTERM. Runs end first."""
    from setproctitle import getproctitle

    getproctitle()  # finds the title's place in memory, which it does not once the environment has been changed
    with told_to_people():
        use_dagster_environment(data)
        from passari_dagster.defs import assets
        from passari_dagster.run_queue import command

        command.keep_workers(settings.load_queue(), workers, single=[assets.POOL], rehearse=_rehearse)


def _rehearse() -> None:
    """Have in memory what runs of this project use."""
    from passari_dagster import definitions
    from passari_dagster.workflow import rehearsal

    definitions.defs().get_repository_def()
    rehearsal.rehearse(settings.load())


@app.command()
def workers(as_json: JsonOption = False, data: DataOption = SYSTEM_DATA) -> None:
    """Show the workers of all hosts, what each does and since when, and how many runs wait.

    With --json: {"workers": [{"host", "worker", "does", "run", "since"}], "waiting": {queue: runs}}; what a worker that
    waits does is null.
    """
    with told_to_people() as console:
        use_env_file(data)
        from passari_dagster.run_queue import overview

        found = overview.read(settings.load_queue().redis_url.get_secret_value())
        if as_json:
            print_json(asdict(found))
        else:
            overview.show(found, console)


@app.command()
def check(as_json: JsonOption = False, data: DataOption = SYSTEM_DATA) -> None:
    """Try every connection, key, directory and schema, and say what is wrong.

    With --json: {"good": whether all is, "findings": [{"name", "good", "text"}]}.
    """
    from passari_dagster.services import check as checks

    with told_to_people() as console:
        environment = use_env_file(data)
        findings = checks.run(settings.load(), environment)
        if as_json:
            found = list(findings)
            good = all(finding.good for finding in found)
            print_json({"good": good, "findings": [asdict(finding) for finding in found]})
            raise typer.Exit(0 if good else 1)
        wrong = 0
        for finding in findings:
            mark = "[green]ok   [/green]" if finding.good else "[red]wrong[/red]"
            console.print(mark, end=" ")
            console.print(f"{finding.name}: {finding.text}", markup=False, highlight=False, soft_wrap=True)
            wrong += not finding.good
        if wrong:
            raise typer.Exit(1)


@app.command()
def migrate(as_json: JsonOption = False, data: DataOption = SYSTEM_DATA) -> None:
    """Bring the museum database, and Dagster's own, to the schema of this version.

    With --json: {"museum": {"before", "after"}, "dagster": the same, or null without DAGSTER_PG_URL}, each a list of
    revisions.

    Exit codes: 0 done; 1 it failed; 2 something has to be set first, or the database is of an older passari-workflow,
    which has to upgrade it first: nothing was changed.
    """
    from passari_dagster.services import migrations
    from passari_dagster.services.system import dagster_environment, project_root

    with told_to_people() as console:
        environment = dagster_environment(use_env_file(data), data)
        root = project_root(environment)
        url = settings.load_database().database_url.get_secret_value()
        try:
            museum = migrations.told(
                url, lambda: migrations.migrate_museum({**environment, "PASSARI_DB_URL": url}, root)
            )
        except migrations.TooOldError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None
        if not as_json:
            console.print("museum database: up to date")
        dagster = None
        if dagster_url := environment.get("DAGSTER_PG_URL"):
            dagster = migrations.told(dagster_url, lambda: migrations.migrate_dagster(environment, root))
            if not as_json:
                console.print("Dagster database: up to date")
        if as_json:
            print_json({"museum": museum, "dagster": dagster})


@app.command()
def env(data: DataOption = SYSTEM_DATA) -> None:
    """Print the command that gives a shell the environment of the system on this folder.

    The values themselves are not printed, some are secret. Use it as: eval "$(passari-dagster env)"
    """
    import shlex

    from passari_dagster.services.system import env_file

    with told_to_people():
        path = env_file(data)
        if not path.is_file():
            raise SettingsError(
                f"{path} is not there: it is written by `passari-dagster up` and `passari-dagster demo`"
            )
        typer.echo(f"set -a; . {shlex.quote(str(path))}; set +a")


@app.command()
def problems(
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="as the page of the documentation")] = False,
) -> None:
    """List the content problems that freeze objects, with the reason, advice and an example of each."""
    from passari_dagster.sip import detectors, problem_page

    with told_to_people() as console:
        kinds = detectors.known_kinds()
        if as_json:
            print_json([asdict(kind) for kind in kinds])
        elif as_markdown:
            typer.echo(problem_page.markdown(kinds), nl=False)
        else:
            for kind in kinds:
                console.print(f"[bold]{escape(kind.reason)}[/bold] ({kind.code})", highlight=False)
                console.print(
                    f"  {escape(kind.advice)} [dim]For example: {escape(kind.example)}[/dim]", highlight=False
                )


@app.command()
def explain(
    object_ids: ObjectIds,
    as_json: Annotated[bool, typer.Option("--json", help="print a list of JSON objects")] = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Tell why objects may or may not be enqueued now, and from which date on they may. Nothing is changed."""
    from passari_dagster.workflow import explain as use_case

    with told_to_people() as console, museum_environment(data) as environment:
        explanations = use_case.explain(environment, object_ids)
        if as_json:
            print_json([use_case.as_json(explanation) for explanation in explanations])
            return
        for explanation in explanations:
            line = use_case.sentence(explanation, environment.settings.time_zone)
            console.print(line, markup=False, highlight=False, soft_wrap=True)


app.command()(cancelling.cancel)
for _command in (freezing.enqueue, freezing.freeze, freezing.unfreeze, freezing.reenqueue):
    app.command()(_command)
    app.command(f"{_command.__name__}-objects", hidden=True)(_command)  # as passari-workflow called them
app.command("reenqueue-object", hidden=True)(freezing.reenqueue)  # this one it called by the singular
app.command()(polling.poll_dps)
app.command()(requeueing.requeue_failed)
app.command()(resetting.reset_workflow)
app.command()(recovering.recover)


@app.command()
def adopt(
    yes: Annotated[bool, typer.Option("--yes", help="do it; without it, it is only told")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as one JSON object")] = False,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis",
            metavar="URL",
            envvar="PASSARI_OLD_REDIS_URL",
            help="passari-workflow's Redis, if it had another one than REDIS_URL names",
        ),
    ] = None,
    no_redis: Annotated[bool, typer.Option("--no-redis", help="passari-workflow's Redis is gone")] = False,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="no process of passari-workflow runs, whatever its Redis says")
    ] = False,
    without_directories: Annotated[
        bool,
        typer.Option(
            "--without-directories", help="packages' directories that are not in package_dir are lost, with their logs"
        ),
    ] = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """After the move from passari-workflow: take over the objects whose package was in the middle.

    Says for each what will happen: finish, wait for the DPS, start again, clear up. May be repeated.

    Exit codes: 0 it was told, or done; 1 something is in the way, or it was not done for all; 2 something has to be
    set, or the database to be migrated first.
    """
    from pydantic import SecretStr

    from passari_dagster.services import adopt as command
    from passari_dagster.services.system import project_root

    with told_to_people() as console:
        environment = use_env_file(data)
        options = command.Options(
            yes, as_json, SecretStr(redis) if redis else None, no_redis, stopped, without_directories
        )
        code = command.run(settings.load(), project_root(environment), options, console)
    raise typer.Exit(code)


@app.command()
def preflight(
    object_ids: Annotated[
        list[int] | None, typer.Argument(help="ids of the objects, eligible or not", callback=within_bounds)
    ] = None,
    random: Annotated[
        int | None,
        typer.Option("--random", min=1, metavar="N", help="instead of ids: N of the eligible objects, at random"),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="write a table of all problems to this file, as CSV")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as one JSON object")] = False,
    data: DataOption = SYSTEM_DATA,
) -> None:
    """Find out what would freeze objects if they were enqueued. Nothing is sent, nothing about them changes.

    The objects are downloaded from MuseumPlus and packaged, one after the other, and their files are removed again.

    Exit codes: 0 no problem was found; 1 problems were found; 2 it could not be done, or not for all objects,
    whatever was found in the others.
    """
    if bool(object_ids) == (random is not None):
        raise typer.BadParameter("give either ids of objects or --random N", param_hint="OBJECT_IDS")
    from passari_dagster.services import preflight as command

    options = command.Options(tuple(object_ids or ()), random or 0, csv, as_json)
    try:
        with told_to_people() as console, stop_on_signals():
            use_env_file(data)
            code = command.run(settings.load(), options, console)
    except typer.Exit:
        raise typer.Exit(2) from None
    except Stop as stop:
        typer.echo(f"stopped ({stop})", err=True)
        raise typer.Exit(128 + stop.number) from None
    except Exception:  # Python's own code for it is 1, which says that problems were found
        traceback.print_exc()
        raise typer.Exit(2) from None
    raise typer.Exit(code)


app.command()(watch.overview)
app.command()(watch.audit_log)
app.command()(look.packages)
app.command()(look.frozen)
app.command()(look.object_dossier)
app.command()(look.shell)
app.command()(retrieve_commands.search_dps)
app.command()(retrieve_commands.retrieve_dip)
