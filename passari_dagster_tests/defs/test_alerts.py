"""A person is written to when a check is not green any more: once, and when it is green again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned

from passari_dagster.defs import alerts, build_defs
from passari_dagster.settings import load
from passari_dagster_tests.conftest import PROJECT
from passari_dagster_tests.post_office import PostOffice, post_office

BAD: dict[str, str] = {}
"""What is wrong with each check, if anything is."""


@dg.asset
def shelf() -> None:
    """Something that is looked at."""


def _check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=shelf, name=name)
    def check() -> dg.AssetCheckResult:
        if BAD.get(name) == "breaks":
            raise ValueError("the ladder broke")
        if name not in BAD:
            return dg.AssetCheckResult(passed=True)
        return dg.AssetCheckResult(passed=False, description=BAD[name], metadata={"what_to_do": "fetch a book"})

    return check


DEFS = dg.Definitions(assets=[shelf], asset_checks=[_check("no_gap"), _check("no_dust")])


class Clock(datetime):
    """The sensor's clock, which may be ahead."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """As datetime's."""
        return datetime.now(tz) + cls.ahead


@dataclass
class Office:
    """The sensor and its job over a real mail server.

    Arguments:
        server: where it sends to.
        instance: has what the checks said.
        cursor: the sensor's.
    """

    server: PostOffice
    instance: dg.DagsterInstance
    cursor: str | None = None
    others: dict[str, object] = field(default_factory=dict)

    @property
    def job(self) -> dg.JobDefinition:
        """Sends a letter."""
        (job,) = alerts.build_jobs(self.server.settings(**self.others))
        return job

    def look(self, **bad: str) -> None:
        """The checks are looked at; some are bad."""
        BAD.clear()
        BAD.update(bad)
        job = DEFS.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self) -> str:
        """The sensor's; what it says, or the subject of the letter."""
        (sensor,) = alerts.build_sensors(self.server.settings(**self.others))
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=DEFS.get_repository_def()
        )
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or self.cursor
        if not result.run_requests:
            assert result.skip_reason is not None
            return str(result.skip_reason.skip_message)
        (request,) = result.run_requests
        self.job.execute_in_process(
            request.run_config,
            instance=self.instance,
            tags={"dagster/sensor_name": "alerts", "dagster/run_key": str(request.run_key)},
            raise_on_error=False,
        )
        return str(request.run_config["ops"]["send"]["config"]["subject"])

    def hours_pass(self, hours: float) -> None:
        """By the sensor's clock."""
        Clock.ahead += timedelta(hours=hours)

    def letters(self) -> list[tuple[str, str]]:
        """Subject and text of what came since it was asked last."""
        came = [(message["Subject"], message.get_content().replace("\r\n", "\n")) for message in self.server.messages]
        self.server.messages.clear()
        return came


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(alerts, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta())
    with post_office(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        yield Office(server, instance)


def test_one_letter_when_a_check_goes_wrong_and_one_when_it_is_right_again(office: Office) -> None:
    office.look()
    assert office.tick() == "nothing is new: 0 of 2 checks are not green"
    assert office.letters() == []

    office.look(no_gap="3 books are missing")
    assert office.tick() == "[passari] 1 check not green (1 new)"
    assert office.tick() == "nothing is new: 1 of 2 checks are not green"
    ((subject, text),) = office.letters()
    assert subject == "[passari] 1 check not green (1 new)"
    assert text.splitlines() == [
        "Not green any more:",
        "* no_gap (shelf)",
        "  3 books are missing",
        "  What to do: fetch a book",
    ]

    office.look(no_dust="dusty")
    office.tick()
    ((subject, _),) = office.letters()
    assert subject == "[passari] 1 check not green (1 new, 1 green again)"
    office.look(no_gap="2 books are missing", no_dust="dusty")
    office.tick()
    ((_, text),) = office.letters()
    assert text.index("any more:") < text.index("no_gap") < text.index("still:") < text.index("no_dust")

    office.look()
    office.tick()
    ((subject, text),) = office.letters()
    assert subject == "[passari] all checks are green again"
    assert text.splitlines() == ["Green again, or gone:", "* no_dust (shelf)", "* no_gap (shelf)"]


def test_a_letter_that_could_not_be_sent_is_written_anew_after_an_hour(office: Office) -> None:
    office.look(no_dust="dusty")
    office.server.refuses = "550 not you"
    office.tick()
    assert "could not send a mail" in office.tick()
    office.look()
    office.server.refuses = ""
    office.hours_pass(1.1)
    for _ in range(2):
        assert office.tick() == "nothing is new: 0 of 2 checks are not green", "it was told to nobody"

    office.look(no_dust="dusty")
    assert office.tick() == "[passari] 1 check not green (1 new)"
    office.look()
    office.server.refuses = "550 not you"
    office.tick()
    office.hours_pass(1.1)
    office.server.refuses = ""
    assert office.tick() == "[passari] all checks are green again"
    assert [subject for subject, _ in office.letters()] == [
        "[passari] 1 check not green (1 new)",
        "[passari] all checks are green again",
    ]


def test_a_letter_that_failed_moves_no_reminder(office: Office) -> None:
    office.look(no_dust="dusty")
    office.tick()
    office.hours_pass(24)
    office.look(no_dust="dusty", no_gap="3 books are missing")
    office.server.refuses = "550 not you"
    office.tick()
    office.server.refuses = ""
    office.look(no_dust="dusty")
    office.hours_pass(1.1)
    assert office.tick() == "nothing is new: 1 of 2 checks are not green"
    office.hours_pass(6 * 24)
    assert office.tick() == "[passari] 1 check not green"


def test_one_letter_at_a_time(office: Office) -> None:
    office.look(no_dust="dusty")
    office.tick()
    told = alerts.Told.loads(office.cursor)
    (record,) = office.instance.get_run_records(dg.RunsFilter(job_name="send_mail"))
    again = office.instance.create_run_for_job(
        office.job,
        run_config=record.dagster_run.run_config,
        tags={"dagster/sensor_name": "alerts", "dagster/run_key": told.key},
    )
    office.look()
    assert office.tick() == f"run {again.run_id} sends a mail", "a person has re-executed it"


def test_a_letter_of_another_day_that_is_sent_again_says_nothing_of_this_one(office: Office) -> None:
    office.look(no_dust="dusty")
    office.tick()
    (old,) = office.instance.get_run_records(dg.RunsFilter(job_name="send_mail"))
    office.look(no_dust="dusty", no_gap="3 books are missing")
    office.server.refuses = "550 not you"
    office.tick()
    office.server.refuses = ""
    office.instance.create_run_for_job(
        office.job,
        run_config=old.dagster_run.run_config,
        tags=old.dagster_run.tags,
        status=dg.DagsterRunStatus.SUCCESS,
    )
    office.hours_pass(1.1)
    assert office.tick() == "[passari] 2 checks not green (1 new)"


def test_who_is_refused_alone_is_named(office: Office) -> None:
    office.server.unknown = "archive@museum.example.org"
    config = {"ops": {"send": {"config": {"subject": "does it arrive?", "text": "It does."}}}}
    done = office.job.execute_in_process(config, instance=office.instance)
    assert office.letters() == [("does it arrive?", "It does.\n")]
    (warning,) = [
        entry.user_message for entry in office.instance.all_logs(done.run_id) if entry.level == logging.WARNING
    ]
    assert warning == "archive@museum.example.org was refused, and has no mail: 550 unknown"


def test_what_is_not_put_right_is_told_again_after_some_days(office: Office) -> None:
    office.others["ui_url"] = "https://passari.example.org/"
    office.look(no_dust="dusty")
    office.tick()
    office.letters()
    office.hours_pass(8 * 24)
    office.tick()
    ((subject, text),) = office.letters()
    assert subject == "[passari] 1 check not green"
    assert text.startswith("Not green still:\n* no_dust (shelf)\n  dusty")
    assert text.endswith("All checks: https://passari.example.org/assets\n")


def test_a_check_that_cannot_be_looked_at_is_told_whether_it_is_tried_again_or_not(office: Office) -> None:
    office.look()
    for _ in range(2):
        office.look(no_gap="breaks")
    office.tick()
    ((_, text),) = office.letters()
    assert "* no_gap (shelf)\n  could not be looked at: the run failed\n  What to do: see run " in text


def test_a_check_that_is_being_looked_at_is_as_it_was(office: Office) -> None:
    office.look(no_gap="3 books are missing")
    office.tick()
    job = DEFS.resolve_implicit_global_asset_job_def()
    run = office.instance.create_run_for_job(job)
    for check in ("no_gap", "no_dust"):
        planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey("shelf"), check_name=check)
        event = dg.DagsterEvent(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, job.name, event_specific_data=planned
        )
        office.instance.report_dagster_event(event, run.run_id)
    assert office.tick() == "nothing is new: 1 of 2 checks are not green"


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_nobody_is_written_to_unless_the_settings_say_so(monkeypatch: pytest.MonkeyPatch, office: Office) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    assert not build_defs(load()).get_repository_def().has_sensor_def("alerts")
    with_mail = build_defs(load(mail=office.server.section())).get_repository_def()
    assert with_mail.get_sensor_def("alerts").description
    assert with_mail.get_job("send_mail").description
