"""Before workers are forked, the life of an object is rehearsed: it leaves nothing behind, and nothing to compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.compiler import SQLCompiler

from passari_dagster.catalogue.models import Base, MuseumObject
from passari_dagster.workflow import rehearsal
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, send
from passari_dagster_tests.workflow.stories import JPEG, eligible_object, name_of


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that are compiled in the block."""
    compiled: list[str] = []
    compile_ = SQLCompiler.__init__

    def listen(self: SQLCompiler, *arguments: object, **options: object) -> None:
        compile_(self, *arguments, **options)  # type: ignore[arg-type]
        if self.statement is not None and self.string:
            compiled.append(self.string)

    with monkeypatch.context() as patch:
        patch.setattr(SQLCompiler, "__init__", listen)
        yield compiled


def test_nothing_of_it_is_in_the_database(house: House, env: Environment) -> None:
    rehearsal.rehearse(env.settings)
    with env.engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            assert connection.scalar(select(text("count(*)")).select_from(table)) == 0


def test_the_steps_of_an_object_compile_next_to_nothing_after_it(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    rehearsal.rehearse(env.settings)
    with counted(monkeypatch) as compiled:
        send(env, object_id)
        house.dps.wait_for(name_of(env, object_id))
        assert confirm(env, object_id).outcome is Outcome.PRESERVED
    # What is left is the sensor's, which runs elsewhere, and of objects with attachments.
    assert len(compiled) <= 8, compiled


def test_nobody_waits_for_another_pool_that_stands_still_in_the_middle_of_it(house: House, env: Environment) -> None:
    with env.transaction() as session:
        session.add(MuseumObject(id=rehearsal.OBJECT))
        session.flush()
        with pytest.raises(OperationalError, match="lock timeout"):
            rehearsal.rehearse(env.settings)
        session.rollback()
