"""`passari-dagster check`: whether everything that the settings name is there, can be reached and lets us in.

One function for each thing; each answers with what it found, or raises. Nothing is changed by a check.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import redis
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from passari_dagster.catalogue import database, packages
from passari_dagster.errors import PassariError, SettingsError
from passari_dagster.services import migrations
from passari_dagster.services.leader import intruder_beside, leader_of
from passari_dagster.services.system import project_root
from passari_dagster.settings import Settings, environment_name
from passari_dagster.sip import detectors

TIMEOUT = 15.0
LEAST_FREE_BYTES = 5 * 10**9
CERTIFICATE_WARNING_DAYS = 30
# A daemon sends heartbeats every 30 seconds, and between two of its rounds only.
HEARTBEAT_WAIT = 45.0
HEARTBEAT_RECENT = 600.0
SAMPLE = 20


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    Arguments:
        name: the thing.
        good: whether it is as it should be.
        text: what was found; or what is wrong, and what to do.
    """

    name: str
    good: bool
    text: str


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Arguments:
        name: the thing.
        look: answers with what was found, or raises.
        advice: what to do when it fails.
    """

    name: str
    look: Callable[[], str]
    advice: str


def run(settings: Settings, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look at everything, one after the other; a failure does not stop the rest.

    Arguments:
        settings: what to look at.
        environment: has DAGSTER_PG_URL, which is not among the settings.
    """
    for check in _checks(settings, environment):
        try:
            yield Finding(check.name, True, check.look())
        except PassariError as error:
            yield Finding(check.name, False, f"{error}. {check.advice}")
        except Exception as error:  # one failure must not hide the others
            yield Finding(check.name, False, f"{type(error).__name__}: {error}. {check.advice}")


def _checks(settings: Settings, environment: Mapping[str, str]) -> list[Check]:
    dps = settings.dps
    checks = [
        Check(
            "museum database",
            lambda: museum_database(settings, project_root(environment)),
            f"See {environment_name('database_url')}.",
        ),
        Check("Dagster database", lambda: dagster_database(environment), "See DAGSTER_PG_URL."),
        Check("Redis", lambda: redis_server(settings), f"See {environment_name('redis_url')}."),
        Check("MuseumPlus", lambda: museumplus(settings), "See [museumplus] url, username and password."),
        Check("DPS, SFTP", lambda: dps_sftp(settings), "See [dps.sftp] host, port, username and keys."),
        Check("signing key", lambda: signing_key(dps.sign_key), "See [dps] sign_key."),
        Check("outside tools", lambda: outside_tools(settings), "See [sip.tools]."),
        Check("detectors", detectors_installed, "Correct or uninstall the package that brings it."),
        Check("package directory", lambda: directory(settings.package_dir), "See package_dir."),
        Check("archive directory", lambda: directory(settings.archive_dir), "See archive_dir."),
        Check(
            "workflow",
            lambda: workflow(settings, environment),
            "Look at their last runs; launch them again (job enqueue_objects with object_ids), or `passari-dagster "
            "cancel` them. After a move from passari-workflow: `passari-dagster adopt`.",
        ),
        Check(
            "daemon",
            lambda: daemon(settings, environment),
            "Each host may run `passari-dagster daemon`, of which one leads; none may run `dagster-daemon run`.",
        ),
    ]
    if dps.rest is not None:
        checks.insert(5, Check("DPS, REST", lambda: dps_rest(settings), "See [dps.rest] url, username and password."))
    if settings.mail is not None:
        checks.append(Check("mail", lambda: mail_server(settings), "See [mail] in the settings."))
    return checks


def museum_database(settings: Settings, root: Path) -> str:
    """The museum database can be reached and has the newest schema."""
    if not migrations.museum_is_current(settings.database_url.get_secret_value(), root):
        raise SettingsError("its schema is not that of this version: make a backup, and run `passari-dagster migrate`")
    return "reached, schema up to date"


def dagster_database(environment: Mapping[str, str]) -> str:
    """Dagster's database can be reached and is empty or has the newest schema."""
    url = environment.get("DAGSTER_PG_URL")
    if not url:
        raise SettingsError("DAGSTER_PG_URL is not set; a system started with `passari-dagster up` brings its own")
    if not migrations.dagster_is_current(url):
        raise SettingsError("its schema is of another Dagster: make a backup, and run `passari-dagster migrate`")
    return "reached, schema up to date"


def redis_server(settings: Settings) -> str:
    """Redis answers."""
    url = settings.redis_url.get_secret_value()
    with redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT) as client:
        client.ping()
        version = client.info("server")["redis_version"]
    return f"reached, version {version}"


def museumplus(settings: Settings) -> str:
    """MuseumPlus lets us in and lists an object."""
    from passari_dagster.museumplus.client import MuseumPlus

    quick = settings.museumplus.model_copy(update={"retries": 0, "timeout": TIMEOUT, "session_file": None})
    with MuseumPlus(quick) as client:
        client.search("Object", limit=1)
    return f"logged in at {quick.url}"


def dps_sftp(settings: Settings) -> str:
    """The DPS lets us in over SFTP, and has its three directories."""
    from passari_dagster.dps.service import Dps

    sftp = settings.dps.sftp.model_copy(update={"timeout": TIMEOUT})
    with Dps(settings.dps.model_copy(update={"sftp": sftp, "rest": None, "verdicts": "sftp"})) as dps:
        return "; ".join(dps.check())


def dps_rest(settings: Settings) -> str:
    """The DPS lets us in over REST, and knows the contract."""
    from passari_dagster.dps.rest import RestV2, RestV3

    assert settings.dps.rest is not None
    quick = settings.dps.rest.model_copy(update={"retries": 0, "timeout": TIMEOUT})
    version = RestV3 if settings.dps.verdicts == "rest-3.0" else RestV2
    rest = version(quick, settings.dps.contract_id)
    try:
        return rest.check()
    finally:
        rest.close()


def signing_key(path: Path) -> str:
    """The signing key can be read, belongs to its certificate, and the certificate is valid for a while yet."""
    from passari_dagster.sip.signature import load_signer

    mode = path.stat().st_mode if path.exists() else 0
    if mode & 0o077:
        raise SettingsError(f"{path} can be read by others: run `chmod 600 {path}`")
    expires = load_signer(path).certificate.not_valid_after_utc
    days = (expires - datetime.now(timezone.utc)).days
    if days < CERTIFICATE_WARNING_DAYS:
        raise SettingsError(
            f"the certificate in {path} expires in {days} days, on {expires.date()}; renew it and register the new "
            "one with the DPS"
        )
    return f"certificate valid until {expires.date()}"


def outside_tools(settings: Settings) -> str:
    """Those that the settings name can be executed; whether they work is seen with the first file."""
    tools = settings.sip.tools
    named = {"JHOVE": tools.jhove, "veraPDF": tools.verapdf, "file-scraper": tools.scraper}
    for name, path in named.items():
        if path is not None and not os.access(path, os.X_OK):
            raise SettingsError(f"{name}: {path} is no executable")
    return ", ".join(name for name, path in named.items() if path) or "none, and none is needed"


def detectors_installed() -> str:
    """A museum's own detectors of content problems can be loaded."""
    return ", ".join(detector.kind.code for detector in detectors.installed()) or "none besides ours"


def directory(path: Path) -> str:
    """The directory is there, can be written to, and has room."""
    if not path.is_dir():
        raise SettingsError(f"{path} is not there: make it, writable for {_user()}")
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise SettingsError(f"{path} cannot be written to by {_user()}: {error.strerror}") from None
    free = shutil.disk_usage(path).free
    if free < LEAST_FREE_BYTES:
        raise SettingsError(f"{path} has only {free / 1e9:.1f} GB free, {LEAST_FREE_BYTES / 1e9:g} GB are wanted")
    return f"writable, {free / 1e9:.0f} GB free"


def workflow(settings: Settings, environment: Mapping[str, str]) -> str:
    """Every package that was begun and not sent has a run that is queued or live."""
    engine = database.connect(settings.database_url)
    try:
        with database.transaction(engine) as session:
            begun = packages.unfinished_ids(session)
        stranded = sorted(set(begun) - _objects_with_a_run(environment.get("DAGSTER_PG_URL")) if begun else [])
    except SQLAlchemyError:
        raise SettingsError("cannot be looked at before the databases above are in order") from None
    finally:
        engine.dispose()
    if stranded:
        sample = ", ".join(map(str, stranded[:SAMPLE])) + (", …" if len(stranded) > SAMPLE else "")
        raise SettingsError(f"{len(stranded)} packages were begun and have no run: objects {sample}")
    return f"{len(begun)} packages are under way, each has a run"


def _objects_with_a_run(url: str | None) -> set[int]:
    """Objects with a run that is queued or live, as Dagster's database has it."""
    if not url:
        return set()
    engine = create_engine(migrations.psycopg2_url(url), connect_args={"connect_timeout": round(TIMEOUT)})
    try:
        with engine.connect() as connection:
            rows = connection.execute(
                text("SELECT partition FROM runs WHERE pipeline_name = 'preserve_object' AND status = ANY(:live)"),
                {"live": ["NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING"]},
            )
            return {int(partition) for (partition,) in rows if partition and partition.isdigit()}
    finally:
        engine.dispose()


def daemon(settings: Settings, environment: Mapping[str, str]) -> str:
    """One process leads and runs Dagster's daemon, and no other daemon runs beside it; or none at all."""
    leader = leader_of(settings.redis_url)
    if leader is None and _a_daemon_is_heard(environment.get("DAGSTER_PG_URL")):
        leader = leader_of(settings.redis_url)  # one may have begun to lead while we listened
        if leader is None:
            raise SettingsError("nobody leads, but a Dagster daemon runs: somebody has started Dagster's own command")
    if leader is None:
        return "nobody runs it: no schedule and no sensor is started until `passari-dagster daemon` or `up` does"
    if intruder_beside(settings.redis_url):
        raise SettingsError(
            f"{leader} leads, but another Dagster daemon runs beside its own: somebody has started Dagster's own "
            "command, or leads by another Redis. Each schedule may be started twice"
        )
    return f"{leader} leads"


def _a_daemon_is_heard(url: str | None) -> bool:
    """Whether a daemon writes its heartbeats to Dagster's database: now, not some time ago."""
    if not url:
        return False
    engine = create_engine(migrations.psycopg2_url(url), connect_args={"connect_timeout": round(TIMEOUT)})
    try:
        with engine.connect() as connection:
            if connection.execute(text("SELECT to_regclass('daemon_heartbeats')")).scalar() is None:
                return False
            first = _heartbeats(connection)
            # Those of a daemon that was stopped remain for ever. Clocks of hosts may differ by minutes.
            if not any(abs(time.time() - when) < HEARTBEAT_RECENT for when in first.values()):
                return False
            deadline = time.monotonic() + HEARTBEAT_WAIT
            while time.monotonic() < deadline:
                time.sleep(min(1.0, HEARTBEAT_WAIT / 4))
                if _heartbeats(connection) != first:
                    return True
        return False
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip()
        raise SettingsError(f"Dagster's database does not say whether a daemon runs: {reason}") from None
    finally:
        engine.dispose()


def _heartbeats(connection: Connection) -> dict[str, float]:
    """When each part of Dagster's daemon has sent its last heartbeat, by the clock of its host.

    Not by the column `timestamp`, which has the time zone of the session that wrote it.
    """
    rows = connection.execute(text("SELECT daemon_type, body FROM daemon_heartbeats")).all()
    connection.rollback()
    return {kind: json.loads(body)["timestamp"] for kind, body in rows}


def mail_server(settings: Settings) -> str:
    """The mail server lets us in, and would take mail for the recipients. Nothing is sent."""
    from passari_dagster import mail

    assert settings.mail is not None
    return mail.check(settings.mail)


def _user() -> str:
    return f"user {os.geteuid()}"
