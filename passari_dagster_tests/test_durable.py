"""A file is there whole or not at all."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from passari_dagster import durable


def test_until_the_block_ends_the_old_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_bytes(b"old")
    with durable.open_for_replacement(path, suffix=".download") as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
        assert (tmp_path / "report.xml.download").exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("No space left"), KeyboardInterrupt()])
def test_of_a_block_that_fails_nothing_is_left(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "report.xml"

    def write() -> None:
        with durable.open_for_replacement(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["k" * 250, "k" * 255, "ä" * 127, "a.jpg"])
def test_every_name_that_the_file_system_holds_can_be_written(tmp_path: Path, name: str) -> None:
    durable.write_bytes(tmp_path / name, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_an_earlier_process_left_half_written_does_not_show(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"a long leftover")
    durable.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a.part").exists()


def test_a_secret_file_is_never_readable_for_others(tmp_path: Path) -> None:
    with durable.open_for_replacement(tmp_path / "session", mode=0o600):
        assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]
    assert stat.S_IMODE((tmp_path / "session").stat().st_mode) == 0o600


def test_the_digest_of_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    (tmp_path / "a").write_bytes(data)
    assert durable.sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert durable.sha256_of(tmp_path / "b") is None
