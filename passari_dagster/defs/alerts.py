"""Mail when a check goes red, and when it is green again: sensor `alerts`, job `send_mail`. [mail] says to whom.

What the checks look at is theirs. A letter is a run, which has time, may be tried again, and is seen when it fails.
No `from __future__ import annotations` here: Dagster reads the annotations of contexts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
from pydantic import Field

from passari_dagster import mail
from passari_dagster.defs import bulk
from passari_dagster.run_queue.dagster_internals import (
    MAX_RETRIES_TAG,
    PRIORITY_TAG,
    RUN_KEY_TAG,
    SENSOR_NAME_TAG,
    UNFINISHED,
    CheckRecord,
    latest_check_records,
)
from passari_dagster.settings import MailSettings

SENSOR, JOB = "alerts", "send_mail"
INTERVAL = 60
AGAIN = timedelta(hours=1)
"""After which a letter that could not be sent is written anew."""
LONGEST = 2000
"""Characters of a check's words in a mail."""
RETRIES = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
TAGS = {PRIORITY_TAG: "10", MAX_RETRIES_TAG: "0"}
"""Before ten thousand objects that may be queued; and not started again when it was killed: the sensor writes anew."""


@dataclass(frozen=True)
class State:
    """How a check stands.

    Arguments:
        passed: None: it is being looked at.
        text: what it says.
        what_to_do: and what it advises.
    """

    passed: bool | None
    text: str = "is being looked at"
    what_to_do: str = ""


@dataclass(frozen=True)
class Told:
    """What was written last; the sensor's cursor.

    Arguments:
        wrong: names of the checks that were not green then.
        at: when, in seconds since 1970.
        before: the same of the letter before, which counts if this one could not be sent.
        before_at: when that was.
    """

    wrong: frozenset[str] = frozenset()
    at: float = 0.0
    before: frozenset[str] = frozenset()
    before_at: float = 0.0

    @classmethod
    def loads(cls, cursor: str | None) -> "Told":
        """From the cursor, which is empty at first."""
        if not cursor:
            return cls()
        stored = json.loads(cursor)
        return cls(frozenset(stored["wrong"]), stored["at"], frozenset(stored["before"]), stored["before_at"])

    def dumps(self) -> str:
        """For the cursor."""
        return json.dumps({**asdict(self), "wrong": sorted(self.wrong), "before": sorted(self.before)})

    @property
    def key(self) -> str:
        """Of the letter's run."""
        return f"{self.at:.3f}"

    def withdrawn(self) -> "Told":
        """The letter was not sent."""
        return Told(self.before, self.before_at, self.before, self.before_at)


class LetterConfig(dg.Config):
    """A letter to the recipients of [mail]."""

    subject: str = Field(min_length=1, description="Subject of the mail: one line.")
    text: str = Field(default="", description="Text of the mail.")


def build_jobs(settings: MailSettings | None) -> list[dg.JobDefinition]:
    """The job that sends a letter; none where nobody is named to write to."""
    if settings is None:
        return []

    # Without the resource `environment`: a letter is sent also when the museum database is away.
    @dg.op(name="send", out=dg.Out(dg.Nothing), retry_policy=RETRIES)
    def send(context: dg.OpExecutionContext, config: LetterConfig) -> None:
        """Send a mail to all recipients of [mail]."""
        try:
            with bulk.told_once():
                refused = mail.send(settings, config.subject, config.text)
        except dg.DagsterExecutionInterruptedError as error:
            # Somebody cancels the run: the retry policy would have the op begin again all the same.
            raise dg.Failure("cancelled", allow_retries=False) from error
        for address, said in refused.items():
            context.log.warning(f"{address} was refused, and has no mail: {said}")

    @dg.job(
        name=JOB,
        tags=TAGS,
        description="Sends a mail to the recipients of [mail]. The sensor alerts launches it; launched by hand, it "
        "shows whether mail arrives.",
    )
    def send_mail() -> None:
        send()

    return [send_mail]


def build_sensors(settings: MailSettings | None) -> list[dg.SensorDefinition]:
    """The sensor; none where nobody is named to write to."""
    if settings is None:
        return []

    @dg.sensor(
        name=SENSOR,
        job_name=JOB,
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has a mail sent when a check is not green any more, when it is again, and once more after some "
        "days if it is not.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None
        now = datetime.now(timezone.utc)
        told = Told.loads(context.cursor)
        record = _letter_of(context.instance, told)
        if record is not None and record.dagster_run.status in UNFINISHED:
            return dg.SensorResult(skip_reason=f"run {record.dagster_run.run_id} sends a mail")
        if record is not None and record.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
            if now.timestamp() - (record.end_time or told.at) < AGAIN.total_seconds():
                return dg.SensorResult(skip_reason=f"run {record.dagster_run.run_id} could not send a mail: see there")
            told = told.withdrawn()
        states = read(context.instance, context.repository_def)
        wrong = wrong_now(states, told)
        written = letter(states, wrong, told, settings, now)
        if written is None:
            news = f"nothing is new: {len(wrong)} of {len(states)} checks are not green"
            return dg.SensorResult(skip_reason=news, cursor=told.dumps())
        new = Told(wrong, now.timestamp(), told.wrong, told.at)
        config: dict[str, Any] = {"ops": {"send": {"config": {"subject": written[0], "text": written[1]}}}}
        return dg.SensorResult([dg.RunRequest(run_key=new.key, run_config=config)], cursor=new.dumps())

    return [alerts]


def _letter_of(instance: dg.DagsterInstance, told: Told) -> dg.RunRecord | None:
    """The run that sends, or sent, what was told last; also one that a person has started again."""
    tags = {SENSOR_NAME_TAG: SENSOR, RUN_KEY_TAG: told.key}
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB, tags=tags), limit=1)
    return records[0] if records else None


def read(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> dict[str, State]:
    """How each check stands that was ever looked at, by a name for people."""
    records = latest_check_records(instance, sorted(repository.asset_graph.asset_check_keys, key=str))
    return {
        f"{key.name} ({key.asset_key.to_user_string()})": state(instance, record) for key, record in records.items()
    }


def state(instance: dg.DagsterInstance, record: CheckRecord) -> State:
    """What a check's last record tells; one that was begun is told by its run."""
    evaluation = record.evaluation
    if isinstance(evaluation, dg.AssetCheckEvaluation):
        words = {name: value.value for name, value in evaluation.metadata.items()}
        return State(evaluation.passed, evaluation.description or _numbers(words), str(words.get("what_to_do", "")))
    run = instance.get_run_by_id(record.run_id)
    if run is not None and run.status is dg.DagsterRunStatus.FAILURE:
        return State(False, "could not be looked at: the run failed", f"see run {record.run_id}")
    return State(None)


def _numbers(words: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in words.items() if isinstance(value, int))


def wrong_now(states: Mapping[str, State], told: Told) -> frozenset[str]:
    """Names of the checks that are not green; one that is being looked at is as it was."""
    return frozenset(
        name for name, each in states.items() if each.passed is False or (each.passed is None and name in told.wrong)
    )


def letter(
    states: Mapping[str, State], wrong: frozenset[str], told: Told, settings: MailSettings, now: datetime
) -> tuple[str, str] | None:
    """Subject and text of what is to be told; None: nothing is."""
    new, again, still = sorted(wrong - told.wrong), sorted(told.wrong - wrong), sorted(wrong & told.wrong)
    due = wrong and now.timestamp() - told.at >= timedelta(days=settings.remind_days).total_seconds()
    if not new and not again and not due:
        return None
    parts = [
        *_part("Not green any more:", new, states),
        *_part("Green again, or gone:", again, {}),
        *_part("Not green still:", still, states),
    ]
    if settings.ui_url:
        parts.append(f"All checks: {str(settings.ui_url).rstrip('/')}/assets")
    return f"[passari] {_subject(len(new), len(again), len(wrong))}", "\n\n".join(parts) + "\n"


def _subject(new: int, again: int, wrong: int) -> str:
    if not wrong:
        return "all checks are green again"
    details = [f"{number} {what}" for number, what in ((new, "new"), (again, "green again")) if number]
    return f"{wrong} check{'' if wrong == 1 else 's'} not green" + (f" ({', '.join(details)})" if details else "")


def _part(title: str, names: list[str], states: Mapping[str, State]) -> list[str]:
    return ["\n".join([title, *(line for name in names for line in _lines(name, states.get(name)))])] if names else []


def _lines(name: str, state: State | None) -> Iterator[str]:
    yield f"* {name}"
    if state is not None and state.text:
        yield f"  {state.text[:LONGEST]}"
    if state is not None and state.what_to_do:
        yield f"  What to do: {state.what_to_do[:LONGEST]}"
