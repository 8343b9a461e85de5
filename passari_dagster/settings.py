"""Every setting of the project, typed, from environment variables and `passari.toml`.

Nothing is read at import: call `load()`. An environment variable wins over the file. Settings of Dagster's own
instance are not here but in `dagster.yaml`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableVariableError

from passari_dagster.errors import SettingsError

CONFIG_VARIABLE = "PASSARI_CONFIG"
DEFAULT_CONFIG = Path("passari.toml")


def _known_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("should be a time zone name such as Europe/Helsinki") from error
    return value


_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _window(value: str) -> str:
    found = _WINDOW.fullmatch(value)
    if value and (found is None or found.group(1, 2) == found.group(3, 4)):
        raise ValueError("should be two times of the day, such as 20:00-04:00, or empty")
    return value


def _postgresql_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise ValueError("should be a URL such as postgresql://user:password@host/database")
    login, _, place = rest.partition("?")[0].rpartition("@")
    if "@" in login or not _has_good_port(f"//{place}"):
        raise ValueError(_ESCAPE.format("postgresql://user:password@host:5432/database"))
    # SQLAlchemy 2.1 takes a bare `postgresql://` for psycopg 3; ours is psycopg2.
    return SecretStr(f"postgresql+psycopg2://{rest}")


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix"):
        raise ValueError("should be a URL such as redis://host:6379/0")
    if scheme != "unix" and (not _has_good_port(url) or "@" in urlsplit(url).path + urlsplit(url).fragment):
        raise ValueError(_ESCAPE.format("redis://user:password@host:6379/0"))
    return value


def _has_good_port(url: str) -> bool:
    """Whether the port is a number or absent; a part of a password that was not escaped is no number."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _without_login(value: HttpUrl) -> HttpUrl:
    if value.username or value.password:
        raise ValueError("should be without user and password, which have keys of their own")
    return value


def _private(value: HttpUrl) -> HttpUrl:
    host = (value.host or "").strip("[]")
    with contextlib.suppress(ValueError):  # of a name, which is no address
        if ipaddress.ip_address(host).is_loopback:
            return value
    if value.scheme != "https" and host != "localhost":
        raise ValueError("should begin with https://: the password is sent there (http:// only to this machine itself)")
    return value


_ESCAPE = "should be a URL such as {}, with special characters in the password escaped (@ is %40, / is %2F, # is %23)"
ServiceUrl = Annotated[HttpUrl, AfterValidator(_without_login)]
PrivateUrl = Annotated[ServiceUrl, AfterValidator(_private)]


class Section(BaseModel):
    """A part of the settings; unknown keys are refused, so that a slip of the pen is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MuseumPlusSettings(Section):
    """The museum's catalogue (zetcom ria-ws)."""

    url: PrivateUrl = Field(description="base URL, ending with /ria-ws/application")
    username: str
    password: SecretStr
    max_connections: PositiveInt = Field(3, description="connections at once, per process")
    timeout: float = Field(600.0, gt=0, description="seconds to connect, and between two reads")
    retries: int = Field(5, ge=0, description="further attempts after a connection error or a 5xx answer")
    retry_wait: float = Field(1.0, gt=0, description="seconds before the first retry; doubles each time")
    page_size: PositiveInt = Field(500, description="items in a page of a search")
    lido_report_id: PositiveInt = Field(45005, description="export template that makes the LIDO document")
    object_preservation_field_name: str = Field("", description="field that holds the preservation log; empty: none")
    object_preservation_field_type: Literal["dataField"] = "dataField"
    add_log_entries: bool = Field(True, description="write each verdict to the preservation log field")
    session_file: Path | None = Field(None, description="where processes of this host share the session key")
    max_attachment_bytes: PositiveInt = Field(500 * 10**9, description="largest attachment downloaded")

    @property
    def log_field(self) -> str | None:
        """Name of the preservation log field, or None where there is none."""
        return self.object_preservation_field_name or None


class SftpSettings(Section):
    """The DPS over SFTP: where packages are sent."""

    host: str
    port: int = Field(22, gt=0, lt=65536)
    username: str
    private_key: Path = Field(description="file with the private key (RSA, ECDSA or Ed25519)")
    known_hosts: Path = Field(description="file with the DPS's host keys, as OpenSSH writes it")
    home: str = Field("", description="directory that holds transfer/, accepted/, rejected/; empty: the login's home")
    timeout: float = Field(60.0, gt=0, description="seconds to connect, and for one request")
    keepalive: float = Field(30.0, gt=0, description="seconds between keep-alive messages")


class RestSettings(Section):
    """The DPS over REST: verdicts and ingest reports, and what is preserved: searches and DIPs."""

    url: ServiceUrl = Field(description="address of the service, such as https://pas.csc.fi")
    username: str
    password: SecretStr
    ca_file: Path | None = Field(None, description="CA certificate to trust besides the system's")
    timeout: float = Field(10.0, gt=0)
    retries: int = Field(5, ge=0)
    retry_wait: float = Field(1.0, gt=0)
    access: Literal["2.0", "3.0"] = Field(
        "2.0",
        description="version of the interface by which packages are searched and DIPs fetched; only 3.0 tells the "
        "object of each package",
    )
    max_dip_bytes: PositiveInt = Field(500 * 10**9, description="largest DIP, and largest content of one, in bytes")


class DpsSettings(Section):
    """The Digital Preservation Service."""

    contract_id: str = Field(
        pattern=r"^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="the contract, as urn:uuid: and a lower-case UUID",
    )
    organization: str = Field(min_length=1, description="name of the museum, as in the contract")
    sign_key: Path = Field(description="PEM file with the signing key (RSA) and its certificate")
    non_ascii_filenames: bool = Field(
        False, description="send attachments whose file name is not ASCII, instead of freezing the object"
    )
    sftp: SftpSettings
    rest: RestSettings | None = None
    verdicts: Literal["sftp", "rest-2.0", "rest-3.0"] = Field("sftp", description="where verdicts and reports are read")

    @model_validator(mode="after")
    def _rest_is_there_when_used(self) -> DpsSettings:
        if self.verdicts != "sftp" and self.rest is None:
            raise ValueError(f"verdicts = {self.verdicts!r} should come with a [dps.rest] section")
        return self


class ToolSettings(Section):
    """Outside tools that look at files as the DPS does, where they are installed."""

    jhove: Path | None = Field(None, description="executable of JHOVE")
    verapdf: Path | None = Field(None, description="executable of veraPDF, asked about PDF/A")
    scraper: Path | None = Field(None, description="executable `scraper` of file-scraper")
    timeout: float = Field(300.0, gt=0, description="seconds that a tool may take for one file")


class SipSettings(Section):
    """What may go into a package, where the DPS's specification leaves it open."""

    multi_page_tiff: bool = Field(False, description="package TIFF files of several pages, instead of freezing them")
    jpeg_exif_23: Literal["exif", "jfif", "freeze"] = Field(
        "exif",
        description="how a JPEG of Exif 2.3 or later is told to the DPS: by that version, by the JFIF version that it "
        "has besides, or not at all: the object is frozen",
    )
    archive_max_files: PositiveInt = Field(
        10_000, description="most files and directories that an archive is unpacked to"
    )
    archive_max_bytes: PositiveInt = Field(100 * 10**9, description="most bytes that an archive is unpacked to")
    archive_max_ratio: PositiveInt = Field(100, description="most bytes unpacked of each byte of an archive")
    leave_out_leftovers: bool = Field(
        False,
        description="leave out of archives what operating systems put there by themselves (__MACOSX, .DS_Store, "
        "Thumbs.db), instead of freezing the object",
    )
    unsupported_originals: bool = Field(
        False,
        description="keep files of formats that the DPS does not accept as bits, beside a copy that it does: a file of "
        "the object with the same name and another suffix",
    )
    broken_originals: bool = Field(
        False, description="keep broken files of accepted formats as bits, beside a copy that is whole"
    )
    tools: ToolSettings = ToolSettings()


class WorkflowSettings(Section):
    """How much, how soon, how often."""

    preservation_delay: timedelta = Field(timedelta(days=30), description="age of a new object before it is preserved")
    update_delay: timedelta = Field(
        timedelta(days=30),
        description="age of the last packaged version before a changed object is preserved again",
    )
    sync_window: Annotated[str, AfterValidator(_window)] = Field(
        "20:00-04:00",
        description="when the schedules read MuseumPlus; a sync that is under way at its end goes on the next night; "
        "empty: the syncs begin at 20:00, and read to their end",
    )
    full_scan_days: PositiveInt = Field(
        30, description="days after which all of MuseumPlus is read again, which shows what was removed there"
    )
    sync_most_removed: float = Field(
        0.05,
        ge=0,
        le=1,
        description="largest share of the catalogue that one scan marks as removed without being told that it may",
    )
    candidate_window: int = Field(1000, ge=0, description="eligible objects registered as partitions after a sync")
    partition_cap: PositiveInt = Field(20_000, description="most partition keys registered at once")
    hash_recount_interval: timedelta = Field(
        timedelta(days=7), description="between two counts of all attachment hashes; else those that changed only"
    )
    poll_interval: PositiveInt = Field(60, description="seconds between two looks at the DPS")
    max_verdicts: PositiveInt = Field(200, description="most verdicts handled in one look at the DPS")
    confirm_backoff: timedelta = Field(
        timedelta(minutes=2),
        description="wait before a failed confirmation is started again; doubles each time",
    )
    step_retries: int = Field(4, ge=0, description="further attempts of a step after a system error")
    step_retry_wait: float = Field(10.0, ge=0, description="seconds before the first of them; doubles each time")
    lock_expiry: PositiveInt = Field(60, description="seconds until a killed run's lock is free")
    overdue_days: PositiveInt = Field(
        14, description="days without a verdict of the DPS after which a package is listed as overdue"
    )

    @property
    def sync_begin(self) -> time:
        """When the schedules begin to read MuseumPlus, by the local clock."""
        return self._times[0] if self._times else time(20)

    @property
    def sync_night(self) -> timedelta | None:
        """How long the window is; None: there is none."""
        if self._times is None:
            return None
        begin, end = (timedelta(hours=moment.hour, minutes=moment.minute) for moment in self._times)
        return (end - begin) % timedelta(days=1)

    def sync_end(self, now: datetime) -> datetime | None:
        """The window's first end after a moment, whose zone says which clock is meant; None: there is no window."""
        if self._times is None:
            return None
        end = now.replace(hour=self._times[1].hour, minute=self._times[1].minute, second=0, microsecond=0, fold=0)
        return end if end > now else end + timedelta(days=1)

    @property
    def _times(self) -> tuple[time, time] | None:
        if not self.sync_window:
            return None
        begin, end = (time.fromisoformat(part) for part in self.sync_window.split("-"))
        return begin, end


class HousekeepingSettings(Section):
    """How long Dagster's own records are kept; the museum database forgets nothing."""

    start: time = Field(time(4, 30), description="time of day, in time_zone, at which the job housekeeping runs")
    minutes: float = Field(60.0, gt=0, description="longest time that it may take; it goes on the next night")
    run_days: PositiveInt = Field(
        30, description="days that runs are kept after their end, with events and output; backfills, too"
    )
    asset_days: PositiveInt = Field(
        365, description="the same for runs that update assets or check them: so far back go the plots"
    )
    tick_days: PositiveInt = Field(30, description="days that ticks of schedules and sensors are kept, with their logs")


# RFC 5321, section 4.1.2, but for quoted names, which nobody has; and without ESMTP's other letters.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(\.{_ATOM})*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError("should be a mail address such as passari@museum.example.org")
    return value


def _in_ascii(value: str) -> str:
    if not value.isascii():
        raise ValueError("should have ASCII characters only: mail servers are not agreed about others")
    return value


def _secret_in_ascii(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    _in_ascii(value.get_secret_value())
    return value


Address = Annotated[str, AfterValidator(_address)]


class MailSettings(Section):
    """Who gets a mail when a check goes red, and by which mail server."""

    host: Annotated[str, AfterValidator(_in_ascii)] = Field(min_length=1, description="the mail server (SMTP)")
    port: int = Field(587, gt=0, lt=65536)
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="how the connection is encrypted; none, only without a password, is for a relay nearby"
    )
    username: Annotated[str, AfterValidator(_in_ascii)] = Field("", description="empty: the server asks for no login")
    password: Annotated[SecretStr | None, AfterValidator(_secret_in_ascii)] = None
    ca_file: Path | None = Field(None, description="CA certificate to trust besides the system's")
    timeout: float = Field(30.0, gt=0, le=600, description="seconds to connect, and for one answer")
    sender: Address = Field(description="address that it is sent from")
    recipients: list[Address] = Field(min_length=1, description="addresses that it is sent to")
    ui_url: ServiceUrl | None = Field(None, description="address of the web UI, for the link in a mail")
    remind_days: PositiveInt = Field(7, description="days after which what is not green still is told again")

    @model_validator(mode="after")
    def _agrees(self) -> MailSettings:
        if self.security == "none" and self.password is not None:
            raise ValueError("security = 'none' should come without a password, which anybody could read")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password should come together")
        if self.security == "tls" and "port" not in self.model_fields_set:
            raise ValueError("security = 'tls' should come with a port, most often 465")
        return self


class PoolSettings(Section):
    """Dagster's pools: how many runs may be in a step at once, over all worker hosts."""

    download_object: PositiveInt = 4
    create_sip: PositiveInt = 2
    submit_sip: PositiveInt = 2
    confirm_sip: PositiveInt = 2


class WorkersSettings(Section):
    """The processes that execute runs."""

    count: PositiveInt = Field(4, description="workers on a host, and so runs at once there")
    grace: float = Field(1200.0, ge=0, description="seconds that runs have to end when a host is stopped")
    recycle_runs: PositiveInt = Field(1000, description="runs after which a worker is replaced")
    recycle_mb: PositiveInt = Field(1000, description="megabytes of memory at which a worker is replaced")
    pools: PoolSettings = PoolSettings()


class DatabaseSettings(BaseSettings):
    """Where the museum database is: all that a migration needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="PASSARI_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    database_url: Annotated[SecretStr, AfterValidator(_postgresql_url)] = Field(
        validation_alias=AliasChoices("PASSARI_DB_URL", "database_url"),
        description="the museum database (environment: PASSARI_DB_URL)",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        path = config_path()
        file = (TomlConfigSettingsSource(settings_cls, path),) if path else ()
        return (init_settings, env_settings, *file)


class QueueSettings(DatabaseSettings):
    """What a worker host needs to know before it executes a run: where the queue is, and how workers are kept."""

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        validation_alias=AliasChoices("REDIS_URL", "redis_url"), description="Redis (environment: REDIS_URL)"
    )
    workers: WorkersSettings = WorkersSettings()


class Settings(QueueSettings):
    """All settings. Environment variables are `PASSARI_<KEY>` and `PASSARI_<SECTION>__<KEY>`."""

    model_config = SettingsConfigDict(extra="forbid")

    package_dir: Path = Field(description="where packages are made; shared by all worker hosts")
    archive_dir: Path = Field(description="where logs and reports are kept for ever")
    preflight_dir: Path | None = Field(
        None, description="where preflights leave their tables (CSV); without it: preflight in archive_dir"
    )
    dip_dir: Path | None = Field(
        None, description="where packages fetched from the DPS go; without it: dips in archive_dir"
    )
    time_zone: Annotated[str, AfterValidator(_known_time_zone)] = "Europe/Helsinki"
    toolkit: str = Field(
        "passari_dagster.workflow.toolkit:build",
        pattern=r"^[\w.]+:\w+$",
        description="module:function that makes the PreservationToolkit",
    )
    museumplus: MuseumPlusSettings
    dps: DpsSettings
    sip: SipSettings = SipSettings()
    workflow: WorkflowSettings = WorkflowSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    mail: MailSettings | None = None

    @property
    def preflight_tables(self) -> Path:
        """Directory of the tables that preflights leave."""
        return self.preflight_dir or self.archive_dir / "preflight"

    @property
    def dips(self) -> Path:
        """Directory of the packages that are fetched from the DPS."""
        return self.dip_dir or self.archive_dir / "dips"


def config_path() -> Path | None:
    """The settings file in use, or None where there is none.

    Raises:
        SettingsError: the file that PASSARI_CONFIG names does not exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE} names {named}, which is not a file")
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def load(**values: Any) -> Settings:
    """The settings as they are now.

    Arguments:
        values: settings that win over environment and file.

    Raises:
        SettingsError: names every missing or bad value, and what it should be. Never repeats a value.
    """
    return _load(Settings, values)


def load_database(**values: Any) -> DatabaseSettings:
    """The part that a migration needs; the rest may be missing.

    Raises:
        SettingsError: as `load`.
    """
    return _load(DatabaseSettings, values)


def load_queue(**values: Any) -> QueueSettings:
    """The part that keeping workers needs; the rest may be missing.

    Raises:
        SettingsError: as `load`.
    """
    return _load(QueueSettings, values)


_AnySettings = TypeVar("_AnySettings", bound=DatabaseSettings)


def _load(kind: type[_AnySettings], values: dict[str, Any]) -> _AnySettings:
    try:
        return kind(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except UnreadableVariableError as error:
        raise SettingsError(f"environment: {error} (should be JSON)") from None
    except (OSError, ValueError) as error:  # a TOML file that cannot be read
        raise SettingsError(f"{config_path()}: {error}") from None


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_input=False, include_url=False):
        parts = [str(part) for part in item["loc"]]
        name = (
            {"PASSARI_DB_URL": "database_url", "REDIS_URL": "redis_url"}.get(parts[0], ".".join(parts)) if parts else ""
        )
        if item["type"] == "extra_forbidden":
            lines.append(f"  {name}: there is no such setting")
            continue
        message = item["msg"].removeprefix("Value error, ")
        for key, field in _required(name) if item["type"] == "missing" else [(name, _field(name.split(".")))]:
            hint = f" ({field.description})" if field is not None and field.description else ""
            lines.append(f"  {key}{hint}: {message}; environment: {environment_name(key)}")
    return "settings are missing or wrong:\n" + "\n".join(lines)


def _required(key: str) -> Iterator[tuple[str, Any]]:
    """The setting itself, or those that a section must have."""
    field = _field(key.split("."))
    section = _section(field)
    if section is None:
        yield key, field
        return
    for name, inner in section.model_fields.items():
        if inner.is_required():
            yield from _required(f"{key}.{name}")


def _field(path: list[str]) -> Any:
    model: Any = Settings
    field = None
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = _section(field)
    return field


def _section(field: Any) -> Any:
    """The section that a field holds, also where it may be left out; None: it holds a value."""
    annotation = getattr(field, "annotation", None)
    return next((m for m in (annotation, *getattr(annotation, "__args__", ())) if hasattr(m, "model_fields")), None)


def environment_name(key: str) -> str:
    """The environment variable that sets a dotted key: `museumplus.url` is `PASSARI_MUSEUMPLUS__URL`."""
    special = {"database_url": "PASSARI_DB_URL", "redis_url": "REDIS_URL"}
    return special.get(key, "PASSARI_" + key.upper().replace(".", "__"))
