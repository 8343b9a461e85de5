"""How late a sync, or a look at the DPS, may be: freshness policies, and checks that go red.

No `from __future__ import annotations` here: Dagster reads the annotations of contexts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from passari_dagster.settings import Settings

POLL = "dps_poll"
TRACE = timedelta(minutes=5)
"""At most so often a look at the DPS leaves a trace."""


@dataclass(frozen=True)
class Allowed:
    """How long ago something may have been done.

    Arguments:
        warn: this long is unusual.
        fail: this long is too long.
        what_to_do: then.
    """

    warn: timedelta
    fail: timedelta
    what_to_do: str

    @property
    def policy(self) -> dg.FreshnessPolicy:
        """For Dagster's own eyes."""
        return dg.FreshnessPolicy.time_window(fail_window=self.fail, warn_window=self.warn)


def _sync(job: str, warn: timedelta, fail: timedelta) -> Allowed:
    return Allowed(
        warn,
        fail,
        f"look at the last runs of the job {job}, and whether its schedule is running (page Automation); launch the "
        "job by hand",
    )


# Each second night, and a night is eight hours long; attachments after the 30th of a month with 31 days on the third.
OBJECTS = _sync("sync_objects", timedelta(hours=60), timedelta(days=3))
ATTACHMENTS = _sync("sync_attachments", timedelta(hours=84), timedelta(days=4))
HASHES = _sync("sync_hashes", timedelta(hours=30), timedelta(days=2))


def poll_allowed(settings: Settings) -> Allowed:
    """Since when the DPS may not have been asked."""
    warn = max(timedelta(minutes=15), TRACE + timedelta(seconds=5 * settings.workflow.poll_interval))
    return Allowed(
        warn,
        2 * warn,
        "look at the ticks of the sensor processed_sips (page Automation): it is stopped, or fails and says why; "
        "passari-dagster check tells whether the DPS can be reached",
    )


def build_dps_poll(settings: Settings) -> dg.AssetSpec:
    """What the sensor `processed_sips` reports each few minutes: that the DPS was asked, and answered."""
    return dg.AssetSpec(
        POLL,
        group_name="dps",
        description="Looks at the DPS that the sensor processed_sips has made with success. Each five minutes one of "
        "them leaves a trace here, with the number of verdicts that were recorded since the one before.",
        freshness_policy=poll_allowed(settings).policy,
    )


def traced(cursor: str | None, recorded: int, now: datetime) -> tuple[list[dg.AssetMaterialization], str]:
    """What a look at the DPS that has just ended well leaves.

    Arguments:
        cursor: the sensor's, as this function left it: when the last trace was left, and how many verdicts since.
        recorded: verdicts that were recorded now.

    Returns:
        the trace, if it is time for one, and the new cursor.
    """
    last, verdicts = (int(part) for part in cursor.split()) if cursor else (0, 0)
    verdicts += recorded
    if now.timestamp() - last < TRACE.total_seconds():
        return [], f"{last} {verdicts}"
    trace = dg.AssetMaterialization(POLL, description="the DPS was asked", metadata={"verdicts": verdicts})
    return [trace], f"{now.timestamp():.0f} 0"


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """A check for each asset that has a freshness policy here."""
    return [
        _check("museum_objects", OBJECTS),
        _check("museum_attachments", ATTACHMENTS),
        _check("metadata_hashes", HASHES),
        _check(POLL, poll_allowed(settings)),
    ]


def _check(asset: str, allowed: Allowed) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(asset)

    @dg.asset_check(
        asset=key,
        name="not_late",
        description=f"It was done within the last {_told(allowed.fail)}. Looked at each hour.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        event = context.instance.get_latest_materialization_event(key)
        passed, description = False, "it was never done"
        metadata: dict[str, dg.MetadataValue[Any] | float] = {}
        if event is not None:
            ago = datetime.now(timezone.utc) - datetime.fromtimestamp(event.timestamp, timezone.utc)
            passed, description = ago <= allowed.fail, f"last done {_told(ago)} ago"
            metadata = {"last_done": dg.MetadataValue.timestamp(event.timestamp), "hours_ago": ago / timedelta(hours=1)}
        return dg.AssetCheckResult(
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR,
            description=description,
            metadata={**metadata, "what_to_do": "nothing" if passed else allowed.what_to_do},
        )

    return check


def _told(time: timedelta) -> str:
    hours = time / timedelta(hours=1)
    return f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
