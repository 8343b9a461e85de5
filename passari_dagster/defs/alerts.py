"""Mail when a check goes red, and when it is green again: sensor `alerts`, where [mail] says to whom.

What the checks look at is theirs. No `from __future__ import annotations` here: Dagster reads the annotations of
contexts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import dagster as dg

from passari_dagster import mail
from passari_dagster.run_queue.dagster_internals import CheckRecord, latest_check_records
from passari_dagster.settings import MailSettings

INTERVAL = 60
UNANSWERED = timedelta(hours=2)
"""After which a check that was begun, and did not answer, counts as gone wrong."""
LONGEST = 2000
"""Characters of a check's words in a mail."""


@dataclass(frozen=True)
class State:
    """How a check stands.

    Arguments:
        passed: None: it is being looked at.
        text: what it says.
        what_to_do: and what it advises.
    """

    passed: bool | None
    text: str = ""
    what_to_do: str = ""


@dataclass(frozen=True)
class Told:
    """What was mailed last; the sensor's cursor.

    Arguments:
        wrong: names of the checks that were not green then.
        at: seconds since 1970.
    """

    wrong: frozenset[str] = frozenset()
    at: float = 0.0

    @classmethod
    def loads(cls, cursor: str | None) -> "Told":
        """From the cursor, which is empty at first."""
        if not cursor:
            return cls()
        stored = json.loads(cursor)
        return cls(frozenset(stored["wrong"]), stored["at"])

    def dumps(self) -> str:
        """For the cursor."""
        return json.dumps({"wrong": sorted(self.wrong), "at": self.at})


def build_sensors(settings: MailSettings | None) -> list[dg.SensorDefinition]:
    """The sensor; none where nobody is named to write to."""
    if settings is None:
        return []

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes to the recipients of [mail] when a check is not green any more, when it is again, and once "
        "more after some days if it is not.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        assert context.repository_def is not None
        keys = context.repository_def.asset_graph.asset_check_keys
        now = datetime.now(timezone.utc)
        states = {
            f"{key.name} ({key.asset_key.to_user_string()})": state(record, now)
            for key, record in latest_check_records(context.instance, sorted(keys, key=str)).items()
        }
        told = Told.loads(context.cursor)
        wrong = wrong_now(states, told)
        written = letter(states, wrong, told, settings, now)
        if written is None:
            return dg.SkipReason(f"{len(wrong)} of {len(keys)} checks are not green, and that was told")
        mail.send(settings, *written)
        # Killed here, it is sent once more: better than not at all.
        context.update_cursor(Told(wrong, now.timestamp()).dumps())
        return dg.SkipReason(f"sent: {written[0]}")

    return [alerts]


def state(record: CheckRecord, now: datetime) -> State:
    """What a check's last record tells."""
    evaluation = record.evaluation
    if isinstance(evaluation, dg.AssetCheckEvaluation):
        words = {name: str(value.value) for name, value in evaluation.metadata.items()}
        return State(evaluation.passed, evaluation.description or _numbers(words), words.get("what_to_do", ""))
    if now.timestamp() - record.create_timestamp < UNANSWERED.total_seconds():
        return State(None)
    return State(False, "it was begun, and did not answer", f"look at the run {record.run_id}: it failed, or is slow")


def _numbers(words: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in words.items() if name != "what_to_do" and "\n" not in value)


def wrong_now(states: Mapping[str, State], told: Told) -> frozenset[str]:
    """Names of the checks that are not green; one that is being looked at is as it was."""
    return frozenset(
        name for name, each in states.items() if each.passed is False or (each.passed is None and name in told.wrong)
    )


def letter(
    states: Mapping[str, State], wrong: frozenset[str], told: Told, settings: MailSettings, now: datetime
) -> tuple[str, str] | None:
    """Subject and text of what is to be told; None: nothing is."""
    new, again = sorted(wrong - told.wrong), sorted(told.wrong - wrong)
    due = wrong and now.timestamp() - told.at >= timedelta(days=settings.remind_days).total_seconds()
    if not new and not again and not due:
        return None
    still = sorted(wrong & told.wrong)
    parts = [
        *_part("Not green any more:", new, states),
        *_part("Green again, or gone:", again, {}),
        *_part("Not green still:", still, states),
    ]
    if settings.ui_url:
        parts.append(f"All checks: {str(settings.ui_url).rstrip('/')}/assets")
    return f"[passari] {_subject(len(new), len(wrong))}", "\n\n".join(parts) + "\n"


def _subject(new: int, wrong: int) -> str:
    if not wrong:
        return "all checks are green again"
    checks = f"{wrong} check{'' if wrong == 1 else 's'}"
    return f"{checks} not green" + (f", {new} of them since now" if 0 < new < wrong else "")


def _part(title: str, names: list[str], states: Mapping[str, State]) -> list[str]:
    return ["\n".join([title, *(line for name in names for line in _lines(name, states.get(name)))])] if names else []


def _lines(name: str, state: State | None) -> Iterator[str]:
    yield f"* {name}"
    if state is not None and state.text:
        yield f"  {state.text[:LONGEST]}"
    if state is not None and state.what_to_do:
        yield f"  What to do: {state.what_to_do[:LONGEST]}"
