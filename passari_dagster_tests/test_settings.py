"""An administrator is told what is wrong with the settings, all at once, and no password is ever shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from passari_dagster import settings as module
from passari_dagster.errors import SettingsError
from passari_dagster.settings import Section, Settings, environment_name, load, load_database
from passari_dagster_tests.conftest import PROJECT

EXAMPLE = PROJECT / "passari.toml.example"
SECRET = "kolme-sanaa-salassa"
GOOD = f"""
database_url = "postgresql://passari:{SECRET}@localhost/passari"
redis_url = "redis://:{SECRET}@localhost:6379/0"
package_dir = "/packages"
archive_dir = "/archive"
[museumplus]
url = "https://museumplus.example.org/ria-ws/application"
username = "passari"
password = "{SECRET}"
[dps]
contract_id = "urn:uuid:00000000-0000-0000-0000-000000000000"
organization = "Museum"
sign_key = "/sign.pem"
[dps.sftp]
host = "pas.example.org"
username = "museum"
private_key = "/id"
known_hosts = "/known_hosts"
[dps.rest]
url = "https://pas.example.org"
username = "museum"
password = "{SECRET}"
"""


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("PASSARI_") or name == "REDIS_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A `passari.toml` in the working directory, with nothing to complain of."""
    path = tmp_path / "passari.toml"
    path.write_text(GOOD)
    return path


def keys(section: type[Any] = Settings, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Every setting by its dotted key, and whether it must be given; a section that may be left out asks nothing."""
    for name, field in section.model_fields.items():
        inner = next(
            (t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(t, "model_fields")),
            None,
        )
        if inner is None:
            yield prefix + name, field.is_required()
        else:
            must = field.is_required()
            yield from ((key, required and must) for key, required in keys(inner, f"{prefix}{name}."))


def complaint() -> str:
    with pytest.raises(SettingsError) as raised:
        load()
    assert SECRET not in f"{raised.value} {raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"
    return str(raised.value)


def test_each_missing_setting_is_named_with_its_environment_variable_all_at_once() -> None:
    lines = complaint().splitlines()[1:]
    assert [line.split()[0].rstrip(":") for line in lines] == [key for key, required in keys() if required]
    for line in lines:
        assert line.endswith(f"environment: {environment_name(line.split()[0].rstrip(':'))}")
    assert "PASSARI_DB_URL" in lines[0]
    assert "REDIS_URL" in lines[1]
    assert "base URL, ending with /ria-ws/application" in "".join(lines)


def test_each_bad_value_is_named_with_what_it_should_be_and_never_repeated(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good.write_text(
        GOOD.replace("00000000-0000", SECRET)
        .replace('"https://museumplus', f'"{SECRET}//museumplus')
        .replace("[dps.sftp]", f'[dps.sftp]\nport = "{SECRET}"')
        + f'[workflow]\npartition_cap = 0\nupdate_delay = "{SECRET}"\n'
    )
    monkeypatch.setenv("PASSARI_TIME_ZONE", SECRET)
    told = {line.split()[0].rstrip(":"): line for line in complaint().splitlines()[1:]}
    assert set(told) == {
        "time_zone",
        "museumplus.url",
        "dps.contract_id",
        "dps.sftp.port",
        "workflow.partition_cap",
        "workflow.update_delay",
    }
    assert "should be a time zone name such as Europe/Helsinki" in told["time_zone"]
    assert "should be a valid URL" in told["museumplus.url"]
    assert "urn:uuid: and a lower-case UUID" in told["dps.contract_id"]
    assert "should be greater than 0" in told["workflow.partition_cap"]
    assert "PASSARI_WORKFLOW__UPDATE_DELAY" in told["workflow.update_delay"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PASSARI_DB_URL", f"passari:{SECRET}@localhost/passari", "postgresql://user:password@host/database"),
        ("PASSARI_DB_URL", f"mysql://passari:{SECRET}@localhost/passari", "postgresql://"),
        ("PASSARI_DB_URL", f"postgresql://passari:{SECRET}@x@localhost/passari", "@ is %40"),
        ("PASSARI_DB_URL", f"postgresql://passari:secret@localhost:{SECRET}/passari", "postgresql://"),
        ("REDIS_URL", SECRET, "redis://host:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}/x@localhost:6379/0", "/ is %2F"),
        ("REDIS_URL", f"redis://:{SECRET}#x@localhost:6379/0", "# is %23"),
        ("REDIS_URL", f"redis://:1234/{SECRET}@localhost:6379/0", "/ is %2F"),
        ("REDIS_URL", f"redis://localhost:{SECRET}/0", "redis://user:password@host:6379/0"),
        ("PASSARI_MUSEUMPLUS__URL", f"https://passari:{SECRET}@example.org", "without user and password"),
        ("PASSARI_MUSEUMPLUS__URL", f"https://passari:{SECRET}@example.org:x", "museumplus.url"),
        ("PASSARI_MUSEUMPLUS__URL", f"http://museumplus.example.org/{SECRET}", "should begin with https://"),
        ("PASSARI_MUSEUMPLUS__URL", f"http://192.168.1.2/{SECRET}", "should begin with https://"),
        ("PASSARI_MUSEUMPLUS__URL", f"http://localhost.example.org/{SECRET}", "should begin with https://"),
        ("PASSARI_DPS__REST__URL", f"https://museum:{SECRET}@example.org", "without user and password"),
        ("PASSARI_MUSEUMPLUS", SECRET, '"museumplus"'),
        ("PASSARI_MUSEUMPLUS", f'{{"password": ["{SECRET}"]}}', "museumplus.password"),
        ("PASSARI_DPS__VERDICTS", SECRET, "'sftp', 'rest-2.0' or 'rest-3.0'"),
    ],
)
def test_a_malformed_value_does_not_show_its_password(
    good: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said in complaint()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8765", "[::1]:8765"])
def test_the_museums_password_may_go_in_clear_to_this_machine_only(
    good: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PASSARI_MUSEUMPLUS__URL", f"http://{host}/ria-ws/application")
    assert str(load().museumplus.url) == f"http://{host}/ria-ws/application"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'password = "{SECRET}"\n' + GOOD, "password: there is no such setting"),
        (GOOD.replace("password =", "pasword ="), "museumplus.pasword: there is no such setting"),
        (GOOD + "[workflow]\npartition_kap = 7\n", "workflow.partition_kap: there is no such setting"),
        (GOOD.replace(f'password = "{SECRET}"', f"password = {SECRET}"), "at line 9"),
    ],
)
def test_a_slip_of_the_pen_in_the_file_is_seen(good: Path, text: str, said: str) -> None:
    good.write_text(text)
    assert said in complaint()


def test_verdicts_over_rest_need_its_section_and_others_do_not(good: Path) -> None:
    without_rest = GOOD.partition("[dps.rest]")[0]
    good.write_text(without_rest)
    assert load().dps.rest is None
    good.write_text(without_rest.replace("[dps]", '[dps]\nverdicts = "rest-3.0"'))
    assert "should come with a [dps.rest] section" in complaint()


def test_the_environment_wins_over_the_file(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().workflow.partition_cap == 20_000
    monkeypatch.setenv("PASSARI_WORKFLOW__PARTITION_CAP", "7")
    monkeypatch.setenv("PASSARI_PACKAGE_DIR", "/elsewhere")
    monkeypatch.setenv("PASSARI_DB_URL", "postgresql://other/museum")
    monkeypatch.setenv("PASSARI_DPS__SFTP__PORT", "2222")
    settings = load()
    assert settings.workflow.partition_cap == 7
    assert settings.package_dir == Path("/elsewhere")
    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://other/museum"
    assert (settings.dps.sftp.host, settings.dps.sftp.port) == ("pas.example.org", 2222)
    assert load(archive_dir="/given").archive_dir == Path("/given")


def test_the_environment_alone_is_enough(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load()
    values = re.findall(r'^\[(.+)\]$|^(\w+) = "(.*)"$', good.read_text(), re.M)
    good.unlink()
    section = ""
    for heading, key, value in values:
        section = f"{heading}." if heading else section
        if key:
            monkeypatch.setenv(environment_name(section + key), value)
    assert load() == expected


def test_the_file_is_where_passari_config_says(good: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    good.rename(other)
    monkeypatch.setenv("PASSARI_CONFIG", str(other))
    assert load().package_dir == Path("/packages")
    monkeypatch.setenv("PASSARI_CONFIG", str(good))
    assert complaint() == f"PASSARI_CONFIG names {good}, which is not a file"


def test_a_migration_needs_the_database_alone(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    good.write_text(f'database_url = "postgresql://passari:{SECRET}@localhost/passari"\n[museumplus]\n')
    assert load_database().database_url.get_secret_value().startswith("postgresql+psycopg2://")
    good.write_text("")
    with pytest.raises(SettingsError, match="PASSARI_DB_URL") as raised:
        load_database()
    assert "REDIS_URL" not in str(raised.value)


def test_no_secret_is_in_what_may_be_logged(good: Path) -> None:
    settings = load()
    for shown in (settings, settings.museumplus, settings.dps, settings.dps.rest, settings.model_dump()):
        assert SECRET not in f"{shown} {shown!r}"
    assert SECRET not in settings.model_dump_json()
    assert settings.museumplus.password.get_secret_value() == SECRET


def test_the_example_loads_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(EXAMPLE))
    load()


def test_the_example_has_every_setting_and_no_other_with_the_true_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    uncommented = re.sub(r"^# (?=\[[\w.]+\]$|\w+ = )", "", text, flags=re.M)
    section, found = "", []
    for line in uncommented.splitlines():
        if heading := re.fullmatch(r"\[(.+)\]", line):
            section = f"{heading[1]}."
        elif key := re.match(r"(\w+) = ", line):
            found.append(section + key[1])
    assert sorted(found) == sorted(key for key, _ in keys())

    path = tmp_path / "all.toml"
    path.write_text(uncommented, encoding="utf-8")
    monkeypatch.setenv("PASSARI_CONFIG", str(EXAMPLE))
    short = load()
    monkeypatch.setenv("PASSARI_CONFIG", str(path))
    # Paths that show what one looks like, and sections that may be left out, have no default to compare with.
    nowhere = {"preflight_dir": None, "dip_dir": None, "mail": None}
    tools = {"jhove": None, "verapdf": None, "scraper": None}
    full = load(museumplus={"session_file": None}, dps={"rest": None}, sip={"tools": tools}, **nowhere)
    assert full.model_dump(exclude={"museumplus", "dps"}) == short.model_dump(exclude={"museumplus", "dps"})
    assert full.museumplus.model_dump(exclude={"session_file"}) == short.museumplus.model_dump(exclude={"session_file"})
    assert full.dps.model_dump(exclude={"rest"}) == short.dps.model_dump(exclude={"rest"})


def test_every_section_refuses_keys_that_it_does_not_know() -> None:
    sections = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Section)]
    assert len(sections) > 4
    assert all(kind.model_config["extra"] == "forbid" for kind in sections)
