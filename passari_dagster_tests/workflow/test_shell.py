"""`passari-dagster shell` at a terminal, as a person types into it; scripts are in test_look_system.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from passari_dagster.catalogue.models import MuseumObject
from passari_dagster.workflow.environment import Environment
from passari_dagster_tests.catalogue.rows import add_object
from passari_dagster_tests.house import House

WITHOUT_IPYTHON = "import sys; sys.modules['IPython'] = None\n"


@contextmanager
def terminal(house: House, before: str = "") -> Iterator[pexpect.spawn]:
    """The command at a terminal of its own.

    Arguments:
        before: code that its process executes first.
    """
    home = house.directory / "home"
    home.mkdir()
    child = pexpect.spawn(
        sys.executable,
        ["-c", f"{before}from passari_dagster.cli import app\napp()", "shell"],
        cwd=str(house.directory),
        env={**house.command_environment(), "HOME": str(home), "TERM": "dumb", "NO_COLOR": "1"},
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 160),
    )
    try:
        yield child
    finally:
        child.close(force=True)


@pytest.mark.parametrize(("before", "prompt"), [("", r"In \[\d+\]: "), (WITHOUT_IPYTHON, ">>> ")])
def test_a_person_asks_and_may_change_nothing(house: House, env: Environment, before: str, prompt: str) -> None:
    with env.transaction() as session:
        add_object(session, 4711, title="Kirves")
    with terminal(house, before) as shell:
        shell.expect("is read only; --write lets you change it")
        shell.expect(prompt)
        shell.sendline("session().get(MuseumObject, 4711).title.upper()")
        shell.expect("KIRVES")
        shell.expect(prompt)
        shell.sendline("s = session(); s.get(MuseumObject, 4711).title = 'Pata'; s.commit()")
        shell.expect("read-only transaction")
        shell.expect(prompt)
        shell.sendline("explain(4711)[0].eligible")
        shell.expect("True")
        shell.expect(prompt)
        shell.sendline("exit()")
        shell.expect(pexpect.EOF)
        shell.wait()
    assert shell.exitstatus == 0
    with env.transaction() as session:
        assert session.get_one(MuseumObject, 4711).title == "Kirves"
