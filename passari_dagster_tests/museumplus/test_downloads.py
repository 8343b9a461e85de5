"""An attachment is there whole, with its checksum, or it is not there."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.museumplus.client import Download, Missing, MuseumPlus
from passari_dagster.simulation.museumplus import SimulatedMuseum
from passari_dagster_tests.museumplus.conftest import Connect

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def attachment(museum: SimulatedMuseum) -> int:
    """One with a file large enough to be cut."""
    found = next(museum.object(o).multimedia_ids[0] for o in museum.object_ids if museum.object(o).multimedia_ids)
    museum.set_attachment(found, content=CONTENT)
    return found


def test_a_download_is_whole_and_has_its_checksum(client: MuseumPlus, attachment: int, tmp_path: Path) -> None:
    path = tmp_path / "kuva ä.tif"
    path.write_bytes(b"what an earlier try had left")
    done = client.download_attachment(attachment, path)
    assert done == Download(path, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_download_is_told_apart(
    museum: SimulatedMuseum, client: MuseumPlus, attachment: int, tmp_path: Path
) -> None:
    museum.set_attachment(attachment, content=None)
    assert client.download_attachment(attachment, tmp_path / "a") is Missing.NO_FILE
    museum.set_attachment(attachment, content=b"")
    assert client.download_attachment(attachment, tmp_path / "a") is Missing.EMPTY
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_is_tried_again(
    museum: SimulatedMuseum, client: MuseumPlus, attachment: int, tmp_path: Path
) -> None:
    museum.faults.fail_next(path_contains="attachment", fault="cut")
    museum.faults.fail_next(path_contains="attachment", fault="drop")
    done = client.download_attachment(attachment, tmp_path / "a")
    assert isinstance(done, Download)
    assert done.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert museum.count(f"/Multimedia/{attachment}/attachment") == 3


def test_a_download_that_is_always_cut_leaves_nothing(
    museum: SimulatedMuseum, client: MuseumPlus, attachment: int, tmp_path: Path
) -> None:
    museum.faults.cut_rate = 1
    museum.faults.path_contains = "attachment"
    with pytest.raises(TransientFailure, match=f"/module/Multimedia/{attachment}/attachment.*3 attempts"):
        client.download_attachment(attachment, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_file_beyond_the_limit_is_refused_unread(
    museum: SimulatedMuseum, connect: Connect, attachment: int, tmp_path: Path
) -> None:
    with pytest.raises(PermanentFailure, match="max_attachment_bytes"):
        connect(max_attachment_bytes=len(CONTENT) - 1).download_attachment(attachment, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(
        connect(max_attachment_bytes=len(CONTENT)).download_attachment(attachment, tmp_path / "a"), Download
    )


def test_a_full_disk_is_told_as_it_is(museum: SimulatedMuseum, client: MuseumPlus, attachment: int) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    link = Path(f"/dev/shm/{os.getpid()}-attachment.download")  # the name that is written to
    link.symlink_to(full)
    try:
        with pytest.raises(OSError, match="No space") as caught:
            client.download_attachment(attachment, link.with_suffix(""))
        assert caught.value.errno == errno.ENOSPC
        assert museum.count("attachment", "GET") == 1
    finally:
        link.unlink(missing_ok=True)


def test_a_file_read_from_disk_comes_through(
    museum: SimulatedMuseum, client: MuseumPlus, attachment: int, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    museum.set_attachment(attachment, content=tmp_path / "source")
    client.download_attachment(attachment, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


CHILD = """
import sys
from pathlib import Path
from passari_dagster.museumplus.client import MuseumPlus
from passari_dagster.settings import MuseumPlusSettings
url, attachment, path = sys.argv[1:]
settings = MuseumPlusSettings(url=url, username="passari", password="salasana")
with MuseumPlus(settings) as client:
    client.download_attachment(int(attachment), Path(path))
"""


def test_killed_half_way_no_file_bears_the_final_name(
    museum: SimulatedMuseum, client: MuseumPlus, attachment: int, tmp_path: Path
) -> None:
    hold = museum.hold(lambda request: request.path.endswith("/attachment"), at="body")
    child = subprocess.Popen([sys.executable, "-c", CHILD, museum.url, str(attachment), str(tmp_path / "a")])
    try:
        assert hold.reached.wait(30)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        hold.release()
    assert not (tmp_path / "a").exists()
    assert isinstance(client.download_attachment(attachment, tmp_path / "a"), Download)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
