"""What the commands say of objects that are, or would be, enqueued."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from passari_dagster.commands.freezing import _print_launched
from passari_dagster.defs.launch import Launched
from passari_dagster.workflow.enqueue import Chosen


def said(chosen: Chosen, backfill_id: str | None, *, dry_run: bool) -> list[str]:
    stream = io.StringIO()
    _print_launched(Console(file=stream, width=200), Launched(chosen, backfill_id), dry_run=dry_run)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(("number", "more"), [(0, ""), (20, ""), (23, ", … and 3 more")])
def test_a_preview_says_that_nothing_is_done_and_where_the_rest_is(number: int, more: str) -> None:
    lines = said(Chosen(tuple(range(1, number + 1)), 0, {}), None, dry_run=True)
    assert lines[-1] == f"dry run, nothing is done: {number} objects would be enqueued"
    assert ("--json lists all" in lines) is (number > 20)
    if number:
        assert lines[0] == ", ".join(map(str, range(1, 21))) + more


def test_what_is_not_enqueued_is_told_with_its_reason_and_counted() -> None:
    chosen = Chosen((1,), 4, {7: "frozen: psd", **dict.fromkeys(range(10, 40), "in the workflow")})
    lines = said(chosen, None, dry_run=True)
    assert lines[1].split(maxsplit=1) == ["7", "frozen: psd"]
    assert "31 objects would not be enqueued" in lines
    assert "--json lists all" in lines
    lines = said(chosen, "abc", dry_run=False)
    assert "31 objects are not enqueued" in lines
    assert "4 objects are left: the cap on partition keys (partition_cap) is reached" in lines
    assert lines[-1] == "1 objects enqueued, backfill abc"
    assert said(Chosen((), 0, {}), None, dry_run=False) == ["0 objects are enqueued"]
