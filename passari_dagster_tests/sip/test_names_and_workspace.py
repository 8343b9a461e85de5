"""File names that a package may have, and the directory where it is made."""

from __future__ import annotations

import gzip
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.names import check_path, safe_name
from passari_dagster.sip.workspace import Workspace, archive_path

SIP = "20260301_Object_1234567.tar"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Multimedia.xml", "Filename 'Multimedia.xml' not allowed for attachment"),
        ("kesä.jpg", "Filename contains non-ASCII characters"),
        *(
            (name, "Filename not allowed for attachment")
            for name in ("", ".", "..", "a/b", "/a", "../a", "a\\b", "a\0b", "a\nb", "a\x7f", "\ud800", "a" * 256)
        ),
    ],
)
def test_names_that_freeze_an_object(name: str, reason: str) -> None:
    with pytest.raises(ContentProblem) as caught:
        safe_name(name)
    assert caught.value.reason == reason


def test_names_that_are_kept() -> None:
    for name in ("kuva.jpg", "kuva 1+2 & 3 (100%).jpg", ".piilo", "a" * 255):
        assert safe_name(name) == name
    assert safe_name("kesa\u0308.jpg", allow_non_ascii=True) == "kesä.jpg"
    with pytest.raises(ContentProblem):  # 150 letters, 300 bytes
        safe_name("ä" * 150, allow_non_ascii=True)


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../b", "mets.xml", ".a/b", "", "a/b\nc"])
def test_paths_that_freeze_an_object(path: str) -> None:
    with pytest.raises(ContentProblem):
        check_path(PurePosixPath(path))


@given(st.text(max_size=40))
def test_a_name_is_accepted_or_a_content_problem(name: str) -> None:
    try:
        kept = safe_name(name, allow_non_ascii=True)
    except ContentProblem:
        return
    assert PurePosixPath("dir", kept).parts == ("dir", kept)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "packages", 1234567)
    workspace.create()
    return workspace


def test_the_layout_is_passaris(workspace: Workspace, tmp_path: Path) -> None:
    workspace.create()  # again, as a repeated step does
    found = {path.relative_to(workspace.root).as_posix() for path in workspace.root.rglob("*")}
    assert found == {
        "sip",
        "sip/reports",
        "sip/attachments",
        "sip/collection_activities",
        "logs",
        "workspace",
    }
    assert workspace.tar(SIP) == tmp_path / "packages" / "1234567" / SIP
    assert archive_path(Path("/a"), 1234567, SIP) == Path("/a/123/456/7/Object_1234567") / SIP
    for name in ("", "../x", "a/b", ".x"):
        with pytest.raises(ValueError):
            workspace.tar(name)


def test_logs_are_archived_and_may_be_again(workspace: Workspace, tmp_path: Path) -> None:
    """Whatever a crash left behind, the complete logs are there in the end."""
    (workspace.logs / "create-sip.log").write_text("made")
    (workspace.logs / "report.xml").write_text("new")
    (workspace.logs / "report.xml.gz").write_bytes(gzip.compress(b"old"))
    (workspace.logs / "only.gz").write_bytes(gzip.compress(b"only"))
    (workspace.logs / "link").symlink_to("/etc/hostname")
    logs = archive_path(tmp_path / "archive", 1234567, SIP) / "logs"
    logs.mkdir(parents=True)
    (logs / "create-sip.log.gz").write_bytes(b"half")
    (logs / "create-sip.log.gz.part").write_bytes(b"half")
    for _ in range(2):
        workspace.archive_logs(tmp_path / "archive", SIP)
        assert {path.name: gzip.decompress(path.read_bytes()) for path in logs.iterdir()} == {
            "create-sip.log.gz": b"made",
            "report.xml.gz": b"new",
            "only.gz": b"only",
        }


def test_a_failed_archiving_keeps_the_older_log(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.logs / "a.log").write_text("first")
    (archived,) = workspace.archive_logs(tmp_path / "archive", SIP)
    (workspace.logs / "a.log").write_text("second")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(OSError, match="No space"):
        workspace.archive_logs(tmp_path / "archive", SIP)
    assert gzip.decompress(archived.read_bytes()) == b"first"
    assert [path.name for path in archived.parent.iterdir()] == ["a.log.gz"]


def test_deleting_twice(workspace: Workspace) -> None:
    """A deletion that was cut short is finished by the next one."""
    (workspace.package_dir / ".deleted-1234567" / "rest").mkdir(parents=True)
    workspace.delete()
    workspace.delete()
    assert list(workspace.package_dir.iterdir()) == []
    assert workspace.archive_logs(workspace.package_dir / "archive", SIP) == ()
