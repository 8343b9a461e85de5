"""What a preflight found, as it is told: counted exactly, harmless wherever it is shown, and no wider than a screen."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from passari_dagster.workflow import preflight_report as report
from passari_dagster.workflow.preflight import Examined, Found


def problem(object_id: int, **changes: str) -> Found:
    values = {
        "title": "Kirves",
        "file": "attachments/7/kuva.jpg",
        "code": "jpeg-damaged",
        "reason": "JPEG file is damaged",
        "detail": "ends in the middle",
        "advice": "Export the image again.",
    }
    return Found(object_id, **{**values, **changes})


def with_problems(object_id: int, number: int, **changes: str) -> Examined:
    return Examined(object_id, tuple(problem(object_id, **changes) for _ in range(number)))


@pytest.fixture
def summary() -> report.Summary:
    summary = report.Summary()
    for object_id in range(1, 31):
        summary.add(with_problems(object_id, 2))
    summary.add(with_problems(31, 1, code="empty", reason="File is empty", detail=""))
    for object_id in range(32, 36):
        summary.add(Examined(object_id))
    for object_id in range(36, 60):
        summary.add(Examined(object_id, failure="MuseumPlus is away"))
    return summary


def shown(summary: report.Summary, width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    report.show(summary, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_counts_are_exact_and_the_sample_is_bounded(summary: report.Summary) -> None:
    assert str(summary) == (
        "59 objects, 4 without a problem, 31 with problems, 24 could not be examined; 61 problems in all"
    )
    assert summary.by_reason == {"JPEG file is damaged": 60, "File is empty": 1}
    assert summary.objects_by_reason == {"JPEG file is damaged": 30, "File is empty": 1}
    assert (len(summary.found), len(summary.failures)) == (20, 20)
    assert not summary.complete
    assert len(report.markdown(summary).splitlines()) == 2 + 20 + 1
    assert "and 41 more" in report.markdown(summary)
    assert "| File is empty | 1 | 1 |" in report.markdown_counts(summary)
    text = shown(summary)
    for told in ("and 41 more problems", "and 4 more that could not", "object 36: could not be examined: MuseumPlus"):
        assert told in text
    known = json.loads(json.dumps(summary.as_json()))
    assert (known["objects"], known["problems"], known["failed"]) == (59, 61, 24)
    assert known["failures"][0] == {"object_id": 36, "error": "MuseumPlus is away"}
    assert known["found"][0]["file"] == "attachments/7/kuva.jpg"


@pytest.mark.parametrize("width", [40, 80, 100, 300])
def test_the_table_is_no_wider_than_a_hundred_columns(width: int) -> None:
    summary = report.Summary()
    summary.add(with_problems(1_234_567, 1, file=f"attachments/7/{'k' * 180}.jpg", title="Ä" * 90, detail="漢" * 500))
    summary.add(Examined(2, failure="MuseumPlus " * 40))
    for line in shown(summary, width).splitlines():
        assert Console().render_str(line).cell_len <= min(width, 100)
    assert ("k" * 20) in shown(summary), "a long name is folded, not cut"


def test_nothing_found_is_told_without_a_table() -> None:
    summary = report.Summary()
    summary.add(Examined(1))
    assert shown(summary) == "1 objects, 1 without a problem, 0 with problems; 0 problems in all\n"
    assert report.markdown(summary) == report.markdown_counts(summary) == "No problem was found."
    assert summary.complete


def test_names_give_no_commands_to_a_terminal_or_a_page() -> None:
    summary = report.Summary()
    nasty = "\x1b]0;owned\x07\x1b[31m[bold]a|b\r\n\u202e<img src=x> [x](http://y) `c` **d** www.z.example"
    summary.add(with_problems(1, 1, file=nasty, title=nasty, detail=nasty))
    text = shown(summary)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
    assert "[bold]" in text.replace("\n", "")
    table = report.markdown(summary)
    assert len(table.splitlines()) == 3
    for sign in ("<", "[", "|", "`", "*", ":"):
        row = table.splitlines()[2][2:-2]
        cells = row.split(" | ")
        assert all(f"\\{sign}" in cell for cell in cells[:3])
        assert sign not in "".join(cells[:3]).replace(f"\\{sign}", "")
    assert "www\\.z" in table


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r", "  =", "\n@"])
def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path, start: str) -> None:
    path = tmp_path / "problems.csv"
    formula = f'{start}HYPERLINK("http://evil.example","a, b")'
    with report.csv_file(path) as write:
        write(with_problems(5, 1, title=formula, file=formula, detail=formula))
    (row,) = rows(path)
    assert list(row) == ["object_id", "title", "file", "code", "reason", "detail", "advice"]
    assert (row["title"], row["file"], row["detail"]) == (f"'{formula}",) * 3
    assert (row["object_id"], row["code"], row["advice"]) == ("5", "jpeg-damaged", "Export the image again.")


def test_the_csv_keeps_what_it_is_told_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "problems.csv"
    detail = 'käsine, "rikki"\nja toinen rivi; \udc80 ' + "x" * 5000
    with report.csv_file(path) as write:
        write(with_problems(5, 3, detail=detail))
        write(Examined(6, failure="MuseumPlus is away"))
    assert [row["detail"] for row in rows(path)] == [detail.replace("\udc80", "\\udc80")] * 3


def test_the_csv_of_a_preflight_that_is_broken_off_has_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "problems.csv"
    path.write_text("an older one")

    def stopped_in_the_middle() -> None:
        with report.csv_file(path) as write:
            write(with_problems(5, 3))
            write(Examined(6))
            assert path.read_text() == "an older one"
            assert [file.name for file in tmp_path.iterdir()] == ["problems.csv"], "a kill would leave nothing"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_in_the_middle()
    assert [row["object_id"] for row in rows(path)] == ["5"] * 3
    assert [file.name for file in tmp_path.iterdir()] == ["problems.csv"]


def test_a_preflight_that_found_nothing_out_leaves_an_older_csv(tmp_path: Path) -> None:
    path = tmp_path / "problems.csv"
    path.write_text("an older one")
    with pytest.raises(OSError, match="the database is away"), report.csv_file(path):
        raise OSError("the database is away")
    assert path.read_text() == "an older one"
    with report.csv_file(path):
        pass
    assert path.read_text().startswith("object_id,"), "there was nothing to find"


def test_a_csv_for_which_there_is_no_place_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"), report.csv_file(tmp_path / "nowhere" / "problems.csv"):
        raise AssertionError("not to be reached")
