"""A Digital Preservation Service on loopback: takes packages over SFTP, checks them, and gives verdicts.

For the demo (`python -m passari_dagster.simulation.dps`) and for tests (`SimulatedDps`). The parts are in the
`dps_*` modules beside: the servers, the checks, the reports, the faults.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import asyncssh
import uvicorn

from passari_dagster.simulation import dps_rest, dps_sftp, dps_tls
from passari_dagster.simulation.dps_faults import Faults, Hold, Point
from passari_dagster.simulation.dps_store import Store, Transfer

log = logging.getLogger(__name__)

__all__ = ["Faults", "Hold", "SimulatedDps", "Transfer", "main"]

PICK_UP_INTERVAL = 0.05
USER_VARIABLE = "SIMULATED_DPS_REST_USER"
PASSWORD_VARIABLE = "SIMULATED_DPS_REST_PASSWORD"  # noqa: S105 - the variable's name


class SimulatedDps:
    """A DPS for one contract.

    Arguments:
        directory: all it keeps is below; a new instance on the same directory goes on where the last one ended.
        certificate: PEM file with the registered certificate of the packages' signer.
        contract_id: the contract, `urn:uuid:…`.
        authorized_keys: OpenSSH file with the public keys that may log in, by any user name.
        host_key: private key file of the SFTP server; made if absent. None: `host_key` in the directory.
        delay: seconds that a package lies in `transfer/` before it is picked up.
        processing: seconds between its pick-up and its verdict; it is nowhere to be seen on SFTP then.
        sftp_port: 0 takes a free one.
        rest_port: 0 takes a free one.
        rest_user: who may use REST.
        rest_password: None makes one; it is then read from the attribute.
        tls: certificate and key file of the REST server; None: an authority of its own gives it one.
        faults: knobs as they stand at the start.

    Attributes:
        faults: the knobs; turn them at any time.
        delay, processing: may be changed at any time.
        delays: seconds in `transfer/` for packages whose name contains the key, instead of `delay`.
        paused: while true nothing is picked up.
        sftp_port, rest_url, known_hosts_line: known once it is started.
        ca_file: certificate of the authority that clients of REST trust.
    """

    def __init__(
        self,
        directory: Path,
        *,
        certificate: Path,
        contract_id: str,
        authorized_keys: Path,
        host_key: Path | None = None,
        delay: float = 0.0,
        processing: float = 0.0,
        sftp_port: int = 0,
        rest_port: int = 0,
        rest_user: str = "museum",
        rest_password: str | None = None,
        tls: tuple[Path, Path] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.delay = delay
        self.processing = processing
        self.delays: dict[str, float] = {}
        self.paused = False
        self.sftp_port = sftp_port
        self.rest_port = rest_port
        self.rest_user = rest_user
        self.rest_password = rest_password or secrets.token_urlsafe(16)
        self.store = Store(directory, certificate, contract_id, self.faults)
        self.home, self.received, self.log = self.store.home, self.store.received, self.store.log
        self._authorized_keys = authorized_keys
        self._host_key = _existing_host_key(host_key or directory / "host_key")
        self._tls = tls or dps_tls.prepare(directory / "tls")
        self.ca_file = tls[0] if tls else directory / "tls" / dps_tls.AUTHORITY
        self._sftp = dps_sftp.State(self.home, self.faults)
        self._loop = asyncio.new_event_loop()
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._serve_in_thread, name="dps-servers", daemon=True),
            threading.Thread(target=self._pick_up_in_thread, name="dps-ingest", daemon=True),
        ]

    def __enter__(self) -> SimulatedDps:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to serve; returns when both servers listen."""
        for thread in self._threads:
            thread.start()
        self._started.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    def stop(self) -> None:
        """End cleanly: what is held is let go, connections are cut, the verdict at hand is finished."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    @property
    def rest_url(self) -> str:
        """Address of the REST interfaces."""
        return f"https://127.0.0.1:{self.rest_port}"

    @property
    def known_hosts_line(self) -> str:
        """The server's line for a known_hosts file."""
        public = asyncssh.read_private_key(self._host_key).export_public_key().decode().split()
        host = "127.0.0.1" if self.sftp_port == asyncssh.DEFAULT_PORT else f"[127.0.0.1]:{self.sftp_port}"
        return f"{host} {public[0]} {public[1]}\n"

    @property
    def requests(self) -> list[str]:
        """The SFTP requests until now, such as `rename transfer/a.tar.incomplete transfer/a.tar`, `list accepted`."""
        return list(self._sftp.requests)

    def verdicts(self) -> list[Transfer]:
        """The verdicts until now, oldest first."""
        return [transfer for transfer in self.store.transfers() if transfer.status != "in_progress"]

    def wait_for(self, name: str, timeout: float = 30.0) -> Transfer:
        """The verdict on a package, once it is there.

        Arguments:
            name: file name of the package.
            timeout: seconds.

        Raises:
            TimeoutError: there is none in time.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for transfer in reversed(self.verdicts()):
                if transfer.name == name:
                    return transfer
            time.sleep(PICK_UP_INTERVAL / 2)
        raise TimeoutError(f"no verdict on {name} after {timeout} s")

    def hold(self, point: Point, name_contains: str = "", after_bytes: int = 0) -> Hold:
        """Stop requests at a place until `release()`.

        Arguments:
            point: `open`: before the upload's first byte; `write`: before the write that passes `after_bytes`;
                `rename-before`: the rename has arrived; `rename-after`: it is done, and not yet answered.
            name_contains: only for uploads whose path contains this.
            after_bytes: for `write`.
        """
        hold = Hold(self._loop, point, name_contains, after_bytes)
        self._sftp.holds.append(hold)
        return hold

    def drop_connections(self) -> None:
        """Cut all SFTP connections that there are; the server goes on."""
        for connection in list(self._sftp.connections):
            self._loop.call_soon_threadsafe(connection.abort)

    def damage_next(self, count: int = 1) -> None:
        """Flip a byte in each of the next packages as they are taken in."""
        self.faults.damage = count

    def fail_next(self, count: int = 1) -> None:
        """Answer the next REST requests with 500."""
        self.faults.rest_failures = count

    # The two threads

    def _serve_in_thread(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failure = error
            log.exception("the simulated DPS ends")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        sftp = await dps_sftp.listen(
            self._sftp,
            host="127.0.0.1",
            port=self.sftp_port,
            host_key=self._host_key,
            authorized_keys=self._authorized_keys,
        )
        self.sftp_port = sftp.get_port()
        listening = socket.create_server(("127.0.0.1", self.rest_port))
        self.rest_port = listening.getsockname()[1]
        rest = uvicorn.Server(
            uvicorn.Config(
                dps_rest.application(self.store, self.rest_user, self.rest_password),
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
                ssl_certfile=self._tls[0],
                ssl_keyfile=self._tls[1],
            )
        )
        serving = asyncio.create_task(rest.serve(sockets=[listening]))
        while not rest.started and not serving.done():
            await asyncio.sleep(0.01)
        self._started.set()
        while not self._stopping.is_set() and not serving.done():
            await asyncio.sleep(0.05)
        for hold in self._sftp.holds:
            hold.release()
        sftp.close()
        for connection in list(self._sftp.connections):
            connection.abort()
        rest.should_exit = True
        await serving
        await sftp.wait_closed()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _pick_up_in_thread(self) -> None:
        judge_at = [(time.monotonic(), transfer) for transfer in self.store.unjudged()]
        seen: dict[str, float] = {}
        while not self._stopping.wait(PICK_UP_INTERVAL):
            now = time.monotonic()
            lying = [] if self.paused else self._lying()
            seen = {name: seen.get(name, now) for name in lying}
            for name, since in seen.items():
                if now - since >= self._delay_of(name):
                    judge_at.append((now + self.processing, self.store.take(name)))
            for due in [item for item in judge_at if item[0] <= now]:
                judge_at.remove(due)
                try:
                    self.store.judge(due[1])
                except Exception:
                    log.exception("no verdict on %s", due[1].name)

    def _lying(self) -> list[str]:
        with os.scandir(self.home / "transfer") as entries:
            return sorted(e.name for e in entries if e.is_file() and not e.name.endswith(".incomplete"))

    def _delay_of(self, name: str) -> float:
        return next((seconds for part, seconds in self.delays.items() if part in name), self.delay)


def _existing_host_key(path: Path) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        key = asyncssh.generate_private_key("ssh-ed25519")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123
            stream.write(key.export_private_key())
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: serves until SIGTERM or SIGINT.

    Prints one JSON object when it is ready: sftp_port, rest_url, ca_file, known_hosts_line. REST's user and password
    are read from SIMULATED_DPS_REST_USER and SIMULATED_DPS_REST_PASSWORD, or as `user:password` from a file.
    """
    parser = argparse.ArgumentParser(description="A Digital Preservation Service on loopback.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True, help="PEM, of the packages' signer")
    parser.add_argument("--contract-id", required=True)
    parser.add_argument("--authorized-keys", type=Path, required=True)
    parser.add_argument("--host-key", type=Path, help="made if absent")
    parser.add_argument("--sftp-port", type=int, default=0)
    parser.add_argument("--rest-port", type=int, default=0)
    parser.add_argument("--rest-credentials", type=Path, help="file with user:password")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds in transfer/")
    parser.add_argument("--processing", type=float, default=0.0, help="seconds between pick-up and verdict")
    faults = parser.add_argument_group("faults")
    for name, knob in Faults.__dataclass_fields__.items():
        option = "--" + name.replace("_", "-")
        if isinstance(knob.default, bool):
            faults.add_argument(option, action="store_true")
        else:
            faults.add_argument(option, type=type(knob.default), default=knob.default)
    options = parser.parse_args(arguments)
    user, password = os.environ.get(USER_VARIABLE, "museum"), os.environ.get(PASSWORD_VARIABLE)
    if options.rest_credentials:
        user, _, password = options.rest_credentials.read_text(encoding="utf-8").strip().partition(":")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    dps = SimulatedDps(
        options.directory,
        certificate=options.certificate,
        contract_id=options.contract_id,
        authorized_keys=options.authorized_keys,
        host_key=options.host_key,
        delay=options.delay,
        processing=options.processing,
        sftp_port=options.sftp_port,
        rest_port=options.rest_port,
        rest_user=user,
        rest_password=password,
        faults=Faults(**{name: getattr(options, name) for name in Faults.__dataclass_fields__}),
    )
    with dps:
        texts = {name: str(getattr(dps, name)) for name in ("rest_url", "ca_file", "known_hosts_line")}
        ready = {"sftp_port": dps.sftp_port, **texts}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
