"""What `deploy/` and its guide say is true: commands and options exist, files are whole, nothing stands open."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._cli.api import grpc_command
from dagster_webserver.cli import dagster_webserver
from typer.core import TyperGroup
from typer.main import get_command

from passari_dagster import settings
from passari_dagster.cli import app
from passari_dagster_tests.conftest import PROJECT

DEPLOY = PROJECT / "deploy"
GUIDE = PROJECT / "docs" / "guides" / "deployment.md"
UNITS = sorted((DEPLOY / "systemd").iterdir())
OURS = {"migrate", "code-server", "webserver", "viewer", "daemon", "worker"}
HARDENED = {
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "RestrictNamespaces": "yes",
    "CapabilityBoundingSet": "",
}


def seconds(text: str) -> float:
    """What systemd and compose mean by 22min, 22m, 1m, 60."""
    number, unit = re.fullmatch(r"(\d+)(s|m|min|)", text).groups()  # type: ignore[union-attr]
    return int(number) * (60 if unit in ("m", "min") else 1)


def our_commands() -> dict[str, Any]:
    """The commands of `passari-dagster`, by name."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


def assert_exists(argv: list[str]) -> None:
    """The command is one of ours or of Dagster's, and takes these options; it is not run."""
    name, *arguments = argv
    if Path(name).name == "passari-dagster":
        subcommand = our_commands().get(arguments[0])
        assert subcommand is not None, f"there is no command {arguments[0]!r}"
        subcommand.make_context(arguments[0], arguments[1:])
    elif Path(name).name == "dagster":
        assert arguments[:2] == ["api", "grpc"]
        grpc_command.make_context("grpc", arguments[2:])
    else:
        assert Path(name).name == "dagster-webserver"
        installed = [argument.replace("/opt/passari/current", str(PROJECT)) for argument in arguments]
        dagster_webserver.make_context("dagster-webserver", installed)


# Units of systemd.


def unit(path: Path) -> configparser.ConfigParser:
    """A unit; a key that stands twice is an error."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(path.read_text(encoding="utf-8").replace("\\\n", " "))
    return parser


def command_of(path: Path) -> list[str]:
    """What a unit runs, with its variables filled in."""
    return shlex.split(unit(path)["Service"]["ExecStart"].replace("${PASSARI_CODE_SERVER_PORT}", "4000"))


def test_there_is_a_unit_for_each_part() -> None:
    assert {path.name for path in UNITS} == {
        "passari-code-server.service",
        "passari-webserver.service",
        "passari-viewer.service",
        "passari-daemon.service",
        "passari-worker@.service",
    }


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_and_is_stopped_in_good_order(path: Path) -> None:
    service = unit(path)["Service"]
    assert_exists(command_of(path))
    home = service["WorkingDirectory"]
    assert home in ("/opt/passari/current", "/opt/passari/%i")
    assert command_of(path)[0].startswith(f"{home}/.venv/bin/")
    assert f"DAGSTER_HOME={home}" in service["Environment"].split()
    assert service["User"] == service["Group"] == "passari"
    assert service["EnvironmentFile"] == "/etc/passari/environment"
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "on-failure"
    assert seconds(service["TimeoutStopSec"]) >= 60
    assert {key: service[key] for key in HARDENED} == HARDENED
    # Everything else is read-only: it must not start before the share is there.
    assert service["ReadWritePaths"] == unit(path)["Unit"]["RequiresMountsFor"] == "/srv/passari"
    assert unit(path)["Install"]["WantedBy"] == "multi-user.target"


def test_workers_have_time_to_finish_their_runs() -> None:
    grace = settings.WorkersSettings().grace
    service = unit(DEPLOY / "systemd" / "passari-worker@.service")["Service"]
    assert seconds(service["TimeoutStopSec"]) >= grace + 60
    assert seconds(compose()["services"]["worker"]["stop_grace_period"]) >= grace + 60


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """As far as there is a systemd."""
    if shutil.which("systemd-analyze") is None:
        return
    for path in UNITS:  # whose programs are not installed here
        text = re.sub(r"/opt/passari/(current|%i)/\.venv/bin/[a-z-]+", "/bin/true", path.read_text(encoding="utf-8"))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    copies = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if "passari" in line] == []


# Containers.


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return content


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose()["services"].items()


def test_the_compose_file_has_all_parts_and_nothing_undefined() -> None:
    content = compose()
    services = content["services"]
    assert set(services) == OURS | {"postgres", "redis"}
    for name, service in services.items():
        assert set(service) <= KEYS, name
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[other], f"{name} waits for {other}"
        assert set(service.get("secrets", ())) <= set(content["secrets"])
        for volume in service.get("volumes", ()):
            source = str(volume).rpartition(":/")[0]
            assert source.startswith(("./", "${PASSARI_SHARE:?")) or source in content["volumes"], volume
            if source.endswith((".conf", ".sql")):
                assert (DEPLOY / source).is_file()
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert services["migrate"]["profiles"] == ["tools"], "a schema is changed by hand, after a backup"


KEYS = {
    *("image", "build", "command", "environment", "env_file", "volumes", "secrets", "ports", "profiles"),
    *("depends_on", "healthcheck", "restart", "stop_grace_period", "shm_size", "working_dir"),
    *("init", "read_only", "tmpfs", "cap_drop", "security_opt"),
}


def test_images_are_pinned() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    images = {service["image"] for _, service in containers()} | set(re.findall(r"^FROM (\S+)", dockerfile, re.M))
    assert len(images) == 4
    for image in images:
        assert re.fullmatch(r"[a-z-]+:\d+\.\d+(\.\d+)?(-[a-z-]+)?", image), image


def test_containers_run_commands_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)  # the image's working directory
    for name, service in containers():
        if name in OURS:
            assert_exists(service["command"])
    running = {" ".join(service["command"][:2]) for name, service in containers() if name in OURS}
    assert {"passari-dagster daemon", "passari-dagster worker", "passari-dagster migrate"} <= running


def test_containers_may_do_little_and_hold_no_secret() -> None:
    for name, service in containers():
        if name in OURS:
            assert service["read_only"] is True
            assert service["init"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["env_file"] == ["environment"]
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), f"{name} stands open"
        for variable, value in service.get("environment", {}).items():
            assert not variable.endswith("PASSWORD"), f"{name}: {value}"


def test_the_image_is_made_of_files_that_are_there_and_let_in() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    sources = [word for line in re.findall(r"^COPY (.+)", dockerfile, re.M) for word in line.split()[:-1]]
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in ignore
    for source in sources:
        assert (PROJECT / source).exists()
        assert f"!{source}" in ignore
    assert re.search(r"^USER passari$", dockerfile, re.M)


# Settings, Redis, nginx.


def variables_of_dagster() -> set[str]:
    """Environment variables without which Dagster's two files cannot be read."""
    text = "".join((PROJECT / name).read_text(encoding="utf-8") for name in ("dagster.yaml", "workspace.yaml"))
    return set(re.findall(r"env: (\w+)", text))


def environment_example() -> dict[str, str]:
    """As systemd and a shell read it."""
    words = shlex.split((DEPLOY / "environment.example").read_text(encoding="utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words)


def test_the_environment_example_is_complete_and_its_values_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment_example()
    assert variables_of_dagster() <= set(given)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    loaded = settings.load()
    assert loaded.redis_url.get_secret_value() == given["REDIS_URL"]
    assert given["REDIS_URL"].startswith("rediss://")
    for variable in ("PASSARI_DB_URL", "DAGSTER_PG_URL"):
        assert "sslmode=verify-full" in given[variable]


def test_redis_throws_nothing_away() -> None:
    text = (DEPLOY / "redis.conf").read_text(encoding="utf-8")
    directives = dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert directives["maxmemory-policy"] == "noeviction"
    assert (directives["appendonly"], directives["appendfsync"]) == ("yes", "everysec")
    assert "aclfile" in directives


def test_nginx_asks_for_a_login_before_every_page() -> None:
    text = re.sub(r"#.*", "", (DEPLOY / "nginx.conf").read_text(encoding="utf-8"))
    assert text.count("{") == text.count("}")
    servers = [server for server in text.split("\nserver {")[1:] if "proxy_pass" in server]
    ports = {}
    for server in servers:
        head, _, location = server.partition("location /")
        for directive in ("auth_basic ", "auth_basic_user_file", "ssl_certificate ", "$passari_foreign", "$arg_query"):
            assert directive in head
        assert "auth_basic off" not in server
        port = re.search(r"proxy_pass http://127\.0\.0\.1:(\d+);", location)
        assert port is not None
        ports[port[1]] = "viewers" in head
    for name, read_only in (("passari-webserver.service", False), ("passari-viewer.service", True)):
        command = command_of(DEPLOY / "systemd" / name)
        assert command[command.index("-h") + 1] == "127.0.0.1"
        assert ports[command[command.index("-p") + 1]] is read_only
        assert ("--read-only" in command) is read_only


# The guide.


def test_the_guide_speaks_of_files_and_commands_that_exist() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (GUIDE.parent / link).exists(), link
    spoken = set(re.findall(r"(?:passari-dagster|^ +passari) ([a-z]+(?:-[a-z]+)*)", text, re.M))
    assert {"daemon", "worker", "workers", "migrate", "check", "up"} <= spoken
    assert spoken - set(our_commands()) == set()
    for path in UNITS:
        assert path.name.removesuffix(".service").removesuffix("@") in text
    for variable in re.findall(r"PASSARI_[A-Z_]*[A-Z]", text):
        known = set(environment_example()) | {"PASSARI_SHARE", "PASSARI_UID", "PASSARI_WORKERS__COUNT"}
        assert variable in known
