"""The guide of the move: each key of the original's three settings files is told, and what is told exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.test_deploy import UNITS, our_commands
from passari_dagster_tests.test_settings import keys

GUIDE = PROJECT / "docs" / "guides" / "moving-from-passari-workflow.md"
EXAMPLE = PROJECT / "passari.toml.example"

# Every key of the files that the original writes when it finds none (`DEFAULT_CONFIG` of each, version 1.1).
OLD_KEYS = {
    "passari": {
        "logging": ["level"],
        "mets": ["organization_name", "contract_id"],
        "sign": ["key_path"],
        "ssh": ["host", "port", "username", "private_key", "home_path"],
        "museumplus": [
            "url",
            "lido_report_id",
            "object_preservation_field_name",
            "object_preservation_field_type",
            "add_log_entries",
            "username",
            "password",
        ],
        "dpres": ["use_virtualenv", "virtualenv_path"],
    },
    "passari-workflow": {
        "logging": ["level"],
        "db": ["user", "password", "host", "port", "name"],
        "redis": ["host", "port", "password"],
        "package": ["package_dir", "archive_dir", "preservation_delay", "update_delay"],
    },
    "passari-web-ui": {
        "flask": [
            "SECRET_KEY",
            "SECURITY_URL_PREFIX",
            "SECURITY_PASSWORD_SALT",
            "SECURITY_SEND_REGISTER_EMAIL",
            "SECURITY_SEND_PASSWORD_CHANGE_EMAIL",
            "SECURITY_SEND_PASSWORD_RESET_EMAIL",
            "SECURITY_SEND_PASSWORD_RESET_NOTICE_EMAIL",
            "MUSEUMPLUS_UI_URL",
            "HEARTBEAT_INTERVAL_SYNC_PROCESSED_SIPS",
            "HEARTBEAT_INTERVAL_SYNC_OBJECTS",
            "HEARTBEAT_INTERVAL_SYNC_ATTACHMENTS",
            "HEARTBEAT_INTERVAL_SYNC_HASHES",
        ]
    },
}


def section(heading: str) -> str:
    """The text under a heading of the guide, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", GUIDE.read_text(encoding="utf-8"), re.S | re.M)
    assert found is not None, heading
    return found[1]


def table(program: str) -> list[tuple[str, str, str]]:
    """Rows of a program's table: its key, ours or `none`, and what is said of it."""
    return re.findall(r"^\| `(\[\w+\] \w+)` \| (.+?) \| (.*?) ?\|$", section(f"{program}: `config.toml`"), re.M)


def in_example() -> set[str]:
    """Every key that the example of the settings has, set or as a comment."""
    found, prefix = set(), ""
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"(?:# )?\[([\w.]+)\]", line):
            prefix = f"{heading[1]}."
        elif key := re.match(r"(?:# )?(\w+) = ", line):
            found.add(prefix + key[1])
    return found


@pytest.mark.parametrize("program", OLD_KEYS)
def test_each_key_of_the_original_is_told_once(program: str) -> None:
    expected = [f"[{heading}] {key}" for heading, names in OLD_KEYS[program].items() for key in names]
    assert [old for old, _, _ in table(program)] == expected


@pytest.mark.parametrize("program", OLD_KEYS)
def test_each_new_key_exists_and_what_has_none_has_a_reason(program: str) -> None:
    ours = dict(keys())
    for old, new, said in table(program):
        if new == "none":
            assert said, f"{old}: no reason"
            continue
        named = re.fullmatch(r"`([\w.]+)`", new)
        assert named is not None, new
        assert named[1] in ours, f"{old}: there is no setting {named[1]}"
        assert named[1] in in_example(), f"{old}: {named[1]} is not in passari.toml.example"


def test_what_must_be_set_comes_from_the_original_or_is_told_to_be_new() -> None:
    mapped = {new.strip("`") for program in OLD_KEYS for _, new, _ in table(program)}
    new = set(re.findall(r"`([\w.]+)`", section("What is new").partition(". ")[0]))
    assert {key for key, required in keys() if required} - mapped == new


def test_units_commands_jobs_and_links_exist() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    replaced = section("Units and commands")
    for unit in UNITS:
        assert f"`{unit.name.removesuffix('.service')}`" in replaced
    named = set(re.findall(r"(?:passari-dagster|^ +passari|`passari) ([a-z]+(?:-[a-z]+)*)", text, re.M))
    assert {"migrate", "adopt", "check", "cancel", "reset-workflow", "workers"} <= named
    assert named - set(our_commands()) == set()
    options = {option for parameter in our_commands()["adopt"].params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)`", text)) <= options
    assert {"--stopped", "--no-redis", "--without-directories", "--json"} <= set(re.findall(r"--[a-z-]+", text))
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (GUIDE.parent / link).exists(), link
    assert "docs/guides/moving-from-passari-workflow.md" in Path(PROJECT / "README.md").read_text(encoding="utf-8")
