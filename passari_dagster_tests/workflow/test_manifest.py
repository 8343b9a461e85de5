"""The manifest of a download: what it tells is true whoever was killed, and it costs no more where files are many."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from passari_dagster.workflow.manifest import NAME, Manifest, UnpackedArchive

ARCHIVE = UnpackedArchive("ZIP", 3, "cc", datetime(2026, 3, 1, tzinfo=timezone.utc))
CHANGES: list[Callable[[Manifest], object]] = [
    lambda manifest: manifest.add({"reports/lido.xml": "aa"}),
    lambda manifest: manifest.add({"attachments/7/kuva ä.jpg": "bb"}),
    lambda manifest: manifest.add(
        {"attachments/8/k.zip/a": "dd", "attachments/8/k.zip/b": "ee"}, {"attachments/8/k.zip": ARCHIVE}
    ),
    lambda manifest: manifest.tell_change("attachments/8/Multimedia.xml", "Removed an attribute"),
    lambda manifest: manifest.add({"attachments/8/Multimedia.xml": "ff"}),
    lambda manifest: manifest.tell_change("attachments/8/Multimedia.xml", None),
    lambda manifest: manifest.forget("attachments/8"),
    lambda manifest: manifest.add({"attachments/8/k.zip": "00"}),
    lambda manifest: manifest.keep_only({"attachments/8/k.zip", "attachments/7/kuva ä.jpg"}),
    lambda manifest: manifest.add({"reports/Object.xml": "11"}),
]

State = tuple[dict[str, str], dict[str, UnpackedArchive], dict[str, str]]


def state(manifest: Manifest) -> State:
    return dict(manifest.digests), dict(manifest.archives), dict(manifest.changes)


def states(root: Path, changes: list[Callable[[Manifest], object]]) -> list[State]:
    """What is known after no change, after the first, and so on."""
    manifest = Manifest(root)
    found = [state(manifest)]
    for change in changes:
        change(manifest)
        found.append(state(manifest))
    return found


def test_what_was_recorded_is_read_again_after_each_change(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    for change in CHANGES:
        change(manifest)
        assert state(Manifest(tmp_path)) == state(manifest)
    assert manifest.digests == {
        "attachments/7/kuva ä.jpg": "bb",
        "attachments/8/k.zip": "00",
        "reports/Object.xml": "11",
    }
    assert (manifest.archives, manifest.changes) == ({}, {})


def test_of_a_download_a_directory_is_known_alone(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.add({"attachments/7/a": "aa", "attachments/77/a": "bb", "attachments/7/k.zip/a": "cc"})
    assert manifest.below("attachments/7") == {"attachments/7/a": "aa", "attachments/7/k.zip/a": "cc"}
    assert manifest.below("attachments/7/k.zip") == {"attachments/7/k.zip/a": "cc"}
    assert set(manifest.forget("attachments/7")) == {"attachments/7/a", "attachments/7/k.zip/a"}
    assert Manifest(tmp_path).digests == {"attachments/77/a": "bb"}


@pytest.mark.parametrize("tail", [b"", bytes(100), b"\xff{"], ids=["cut", "zeros", "rubbish"])
def test_cut_anywhere_it_tells_what_was_true_before_and_goes_on(tmp_path: Path, tail: bytes) -> None:
    """As a kill leaves it, and a host that lost its power."""
    known = states(tmp_path, CHANGES[:6])
    data = (tmp_path / NAME).read_bytes()
    first, seen = len(data.splitlines()[0]), []
    for cut in range(first, len(data) + 1):
        (tmp_path / NAME).write_bytes(data[:cut] + tail)
        manifest = Manifest(tmp_path)
        seen.append(known.index(state(manifest)))
        manifest.add({"reports/Object.xml": "22"})
        assert Manifest(tmp_path).digests == {**known[seen[-1]][0], "reports/Object.xml": "22"}
        manifest.add({"reports/lido.xml": "33"})
        assert Manifest(tmp_path).digests["reports/lido.xml"] == "33"
    assert seen == sorted(seen)
    assert set(seen) == set(range(1, 7))


KILLED = """
import os, signal, sys
from pathlib import Path
from passari_dagster.workflow.manifest import Manifest
left, manifest = int(sys.argv[2]), Manifest(Path(sys.argv[1]))
fsync = os.fsync
def dying(descriptor):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
    print(number, flush=True)
os.fsync = dying
for number in range(5):
    manifest.add({f"attachments/{number}/a": "aa"})
"""


def test_what_is_said_to_be_recorded_is_there_after_a_kill(tmp_path: Path) -> None:
    for point in range(20):
        (root := tmp_path / str(point)).mkdir()
        command = [sys.executable, "-c", KILLED, str(root), str(point)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        done = max(map(int, result.stdout.split()), default=-1)
        recorded = {f"attachments/{number}/a" for number in range(done)}
        assert recorded <= Manifest(root).digests.keys() <= {f"attachments/{number}/a" for number in range(done + 2)}
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL
    assert 5 < point < 19, result.stderr


def written() -> int:
    """Bytes that this process has written until now."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["wchar"])


def test_a_thousand_attachments_are_recorded_with_little_more_than_their_digests(tmp_path: Path) -> None:
    """To write all of it for each file would be 400 MB."""
    manifest, before = Manifest(tmp_path), written()
    for number in range(1000):
        directory = f"attachments/{number}"
        manifest.forget(directory)
        for name in ("kuva.jpg", "Multimedia.xml"):
            manifest.add({f"{directory}/{name}": "a" * 64})
    assert written() - before < 500_000
    assert len(Manifest(tmp_path).digests) == 2000


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ({"a": "aa"}, {"a": "aa"}),
        ({"files": {"a": "aa"}, "archives": {}}, {"a": "aa"}),
        ([], {}),
        ({"files": 3}, {}),
        ({"files": {"a": "aa"}, "archives": {"k": {"kind": "ZIP"}}}, {}),
    ],
    ids=["the first form", "the second", "a list", "a number", "half an archive"],
)
def test_older_ones_are_read_and_what_is_none_is_written_anew(
    tmp_path: Path, told: object, known: dict[str, str]
) -> None:
    (tmp_path / NAME).write_text(json.dumps(told, indent=0))
    manifest = Manifest(tmp_path)
    assert manifest.digests == known
    manifest.add({"b": "bb"})
    assert Manifest(tmp_path).digests == {**known, "b": "bb"}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
