"""A package is sent over SFTP."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path

import pytest

from passari_dagster.dps import Dps, DpsUnreachableError, Finding, PackageExistsError, Place
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster_tests.dps.site import OBJID, Site, authorize, make_key, now

NAME = "20261123_Object_1.tar"


def nothing() -> None:
    """No intent to commit."""


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-ed25519"])
def test_rsa_ecdsa_and_ed25519_keys_may_log_in(tmp_path: Path, site: Site, algorithm: str) -> None:
    key = make_key(tmp_path / "other", algorithm)
    authorize(site.authorized_keys, key)
    site.dps.stop()
    site.dps = site.make()
    site.start()
    with site.client(sftp={"private_key": key}) as client:
        assert client.check() == [f"sftp://museum@127.0.0.1:{site.dps.sftp_port}: transfer/, accepted/ and rejected/"]


def test_an_unknown_host_is_refused_and_nothing_is_sent(site: Site) -> None:
    site.known_hosts.write_text("")
    with site.client() as client, pytest.raises(PermanentFailure, match=r"127\.0\.0\.1.*not among") as caught:
        client.submit(site.package(), NAME, before_rename=nothing)
    assert str(site.known_hosts) in str(caught.value)
    assert site.dps.requests == []


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_a_changed_host_key_is_refused(tmp_path: Path, site: Site, algorithm: str) -> None:
    public = make_key(tmp_path / "impostor", algorithm).with_suffix(".pub").read_text()
    site.known_hosts.write_text(f"[127.0.0.1]:{site.dps.sftp_port} {public}")

    def checked(client: Dps) -> None:
        # Where no kind of key is known, the server hangs up, and may do so before we have read which kinds it has.
        for _ in range(5):
            with contextlib.suppress(DpsUnreachableError):
                client.check()

    with site.client() as client, pytest.raises(PermanentFailure, match="another host key") as caught:
        checked(client)
    assert site.dps.requests == []
    assert "127.0.0.1" in str(caught.value)
    assert str(site.known_hosts) in str(caught.value)


def test_a_refused_key_is_told_with_its_file(tmp_path: Path, site: Site) -> None:
    key = make_key(tmp_path / "stranger", "ssh-ed25519")
    with (
        site.client(sftp={"private_key": key}) as client,
        pytest.raises(PermanentFailure, match="refused the key") as caught,
    ):
        client.check()
    assert str(key) in str(caught.value)


def test_a_key_file_that_is_none_is_told_without_its_content(tmp_path: Path, site: Site) -> None:
    key = tmp_path / "bad"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
    for path in (key, tmp_path / "absent"):
        with site.client(sftp={"private_key": path}) as client, pytest.raises(PermanentFailure) as caught:
            client.check()
        assert str(path) in str(caught.value)
        assert "c2VjcmV0" not in str(caught.value)


def test_known_hosts_that_cannot_be_read_are_told(tmp_path: Path, site: Site) -> None:
    broken = tmp_path / "broken"
    broken.write_text("onlyonefield\n")
    for path in (broken, tmp_path / "absent"):
        with (
            site.client(sftp={"known_hosts": path}) as client,
            pytest.raises(PermanentFailure, match=re.escape(str(path))),
        ):
            client.check()


def test_nobody_at_home_is_a_transient_failure(site: Site) -> None:
    with site.client() as client:
        site.dps.stop()
        with pytest.raises(DpsUnreachableError, match="cannot connect"):
            client.check()


def test_a_silent_server_is_given_up_after_the_time_out(site: Site) -> None:
    with site.client(sftp={"timeout": 0.5}) as client:
        client.check()
        site.dps.faults.latency = 5
        with pytest.raises(DpsUnreachableError, match="no answer in time"):
            client.check()
        site.dps.faults.latency = 0
        client.check()


def test_a_wrong_home_is_told_by_check(site: Site) -> None:
    with (
        site.client(sftp={"home": "elsewhere"}) as client,
        pytest.raises(PermanentFailure, match=r"elsewhere/transfer"),
    ):
        client.check()


def test_a_home_below_the_login_is_used(site: Site) -> None:
    site.dps.paused = True
    with site.client(sftp={"home": "/"}) as client:
        client.submit(site.package(), NAME, before_rename=nothing)
    assert (site.dps.home / "transfer" / NAME).exists()


def test_it_is_written_synced_committed_and_renamed_in_this_order(site: Site, client: Dps) -> None:
    site.dps.paused = True
    package = site.package()
    seen: list[list[str]] = []
    steps: list[tuple[int, int]] = []

    def commit() -> None:
        assert (site.dps.home / "transfer" / f"{NAME}.incomplete").read_bytes() == package.read_bytes()
        seen.append(site.dps.requests)

    client.submit(package, NAME, before_rename=commit, progress=lambda sent, size: steps.append((sent, size)))
    part, final = f"transfer/{NAME}.incomplete", f"transfer/{NAME}"
    before = [f"lstat {final}", f"open {part}", f"fsync {part}", f"close {part}", f"lstat {part}"]
    assert seen == [before]
    assert site.dps.requests == [*before, f"rename {part} {final}"]
    assert steps[-1] == (package.stat().st_size, package.stat().st_size)
    assert (site.dps.home / "transfer" / NAME).read_bytes() == package.read_bytes()


def test_a_package_larger_than_a_chunk_arrives_whole(site: Site, client: Dps) -> None:
    site.dps.paused = True
    package = site.directory / NAME
    package.write_bytes(bytes(range(256)) * 40_000)
    client.submit(package, NAME, before_rename=nothing)
    assert (site.dps.home / "transfer" / NAME).read_bytes() == package.read_bytes()


def test_a_server_without_fsync_will_do(site: Site, client: Dps) -> None:
    site.dps.faults.no_fsync = True
    client.submit(site.package(), NAME, before_rename=nothing)
    assert site.dps.wait_for(NAME).status == "accepted"


def test_it_is_not_renamed_when_the_commit_fails(site: Site, client: Dps) -> None:
    def fail() -> None:
        raise RuntimeError("the database is away")

    with pytest.raises(RuntimeError, match="database is away"):
        client.submit(site.package(), NAME, before_rename=fail)
    assert client.find(NAME, OBJID, now()).place is Place.INCOMPLETE


def test_a_leftover_is_overwritten(site: Site, client: Dps) -> None:
    (site.dps.home / "transfer" / f"{NAME}.incomplete").write_bytes(b"x" * 1_000_000)
    client.submit(site.package(), NAME, before_rename=nothing)
    assert site.dps.wait_for(NAME).status == "accepted"


def test_a_package_in_transfer_is_never_overwritten(site: Site, client: Dps) -> None:
    site.dps.paused = True
    there = site.dps.home / "transfer" / NAME
    there.write_text("an earlier one")
    with pytest.raises(PackageExistsError, match=NAME):
        client.submit(site.package(), NAME, before_rename=nothing)
    assert there.read_text() == "an earlier one"


def test_nor_one_that_comes_there_while_we_write(site: Site, client: Dps) -> None:
    site.dps.paused = True
    there = site.dps.home / "transfer" / NAME

    def meanwhile() -> None:
        there.write_text("other")

    with pytest.raises(PackageExistsError, match=NAME):
        client.submit(site.package(), NAME, before_rename=meanwhile)
    assert there.read_text() == "other"


def test_a_connection_dropped_in_the_middle_is_transient_and_the_second_send_succeeds(site: Site, client: Dps) -> None:
    package = site.directory / NAME
    package.write_bytes(b"x" * 3_000_000)
    site.dps.faults.drop_after_bytes, site.dps.faults.drops = 1_000_000, 1
    with pytest.raises(DpsUnreachableError, match=f"write transfer/{NAME}.incomplete"):
        client.submit(package, NAME, before_rename=pytest.fail)
    assert client.find(NAME, OBJID, now()) == Finding(Place.INCOMPLETE, size=1_000_000)
    client.submit(package, NAME, before_rename=nothing)
    assert site.dps.wait_for(NAME).size == 3_000_000


class Terminated(BaseException):
    """What a run's termination raises, from a signal handler."""


def test_a_send_that_is_terminated_ends_at_once_and_leaves_nothing_running(site: Site, client: Dps) -> None:
    def terminate(*_: object) -> None:
        raise Terminated

    hold = site.dps.hold("write", NAME)
    before = signal.signal(signal.SIGALRM, terminate)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Terminated):
            client.submit(site.package(), NAME, before_rename=pytest.fail)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hold.reached.is_set()
    hold.release()
    client.submit(site.package(), NAME, before_rename=nothing)
    assert site.dps.wait_for(NAME).status == "accepted"


def test_a_full_disk_is_a_transient_failure(site: Site, client: Dps) -> None:
    site.dps.faults.disk_full = True
    with pytest.raises(TransientFailure, match="No space left"):
        client.submit(site.package(), NAME, before_rename=pytest.fail)
    site.dps.faults.disk_full = False
    client.submit(site.package(), NAME, before_rename=nothing)


def test_a_rename_that_was_cut_short_is_finished(site: Site, client: Dps) -> None:
    (site.dps.home / "transfer" / f"{NAME}.incomplete").write_bytes(site.package().read_bytes())
    assert client.rename_incomplete(NAME)
    assert site.dps.wait_for(NAME).status == "accepted"
    assert not client.rename_incomplete(NAME)


def test_what_a_given_up_send_left_is_removed(site: Site, client: Dps) -> None:
    left = site.dps.home / "transfer" / f"{NAME}.incomplete"
    left.write_text("half a package")
    assert client.remove_incomplete(NAME)
    assert not client.remove_incomplete(NAME)
    assert not left.exists()


@pytest.mark.parametrize("name", ["../x.tar", "a/b.tar", "", ".hidden", "a\0b"])
def test_our_own_names_may_not_leave_transfer_either(client: Dps, site: Site, name: str) -> None:
    with pytest.raises(ValueError, match="not a safe file name"):
        client.submit(site.package(), name, before_rename=nothing)


def test_a_connection_that_idled_is_made_anew(site: Site, client: Dps) -> None:
    client.check()
    site.dps.stop()
    port = site.dps.sftp_port
    site.dps = site.make(sftp_port=port)
    site.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            client.check()
            break
        except DpsUnreachableError:
            assert time.monotonic() < deadline


def test_no_secret_is_shown(site: Site) -> None:
    with site.client(verdicts="rest-2.0") as client:
        client.check()
        for thing in (client, client._sftp, client._rest, client._rest._http):
            assert site.dps.rest_password not in repr(thing) + str(vars(thing).get("_settings", ""))
