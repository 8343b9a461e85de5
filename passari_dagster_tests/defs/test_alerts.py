"""A person is written to when a check is not green any more: once, and when it is green again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from passari_dagster.defs import alerts, build_defs
from passari_dagster.errors import TransientFailure
from passari_dagster.run_queue.dagster_internals import latest_check_records
from passari_dagster.settings import MailSettings, load
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


@dataclass
class Office:
    """The sensor over a real mail server.

    Arguments:
        server: where it sends to.
        instance: has what the checks said.
        cursor: the sensor's.
    """

    server: PostOffice
    instance: dg.DagsterInstance
    cursor: str | None = None
    others: dict[str, object] = field(default_factory=dict)

    def look(self, **bad: str) -> None:
        """The checks are looked at; some are bad."""
        BAD.clear()
        BAD.update(bad)
        job = DEFS.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self) -> str:
        """The sensor's; what it says."""
        settings = MailSettings.model_validate(self.server.settings(**self.others))
        (sensor,) = alerts.build_sensors(settings)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=DEFS.get_repository_def()
        )
        try:
            said = sensor(context)
        finally:
            self.cursor = context.cursor
        assert isinstance(said, dg.SkipReason)
        return str(said.skip_message)

    def letters(self) -> list[tuple[str, str]]:
        """Subject and text of what came since it was asked last."""
        came = [(message["Subject"], message.get_content().replace("\r\n", "\n")) for message in self.server.messages]
        self.server.messages.clear()
        return came


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with post_office(tmp_path) as server, dg.DagsterInstance.ephemeral() as instance:
        yield Office(server, instance)


def test_one_letter_when_a_check_goes_wrong_and_one_when_it_is_right_again(office: Office) -> None:
    office.look()
    assert office.tick() == "0 of 2 checks are not green, and that was told"
    assert office.letters() == []

    office.look(no_gap="3 books are missing")
    office.tick()
    office.tick()
    ((subject, text),) = office.letters()
    assert subject == "[passari] 1 check not green"
    assert text.splitlines() == [
        "Not green any more:",
        "* no_gap (shelf)",
        "  3 books are missing",
        "  What to do: fetch a book",
    ]

    office.look(no_gap="2 books are missing", no_dust="dusty")
    office.tick()
    ((subject, text),) = office.letters()
    assert subject == "[passari] 2 checks not green, 1 of them since now"
    assert text.index("any more:") < text.index("no_dust") < text.index("still:") < text.index("2 books")

    office.look()
    office.tick()
    ((subject, text),) = office.letters()
    assert subject == "[passari] all checks are green again"
    assert text.splitlines() == ["Green again, or gone:", "* no_dust (shelf)", "* no_gap (shelf)"]


def test_nothing_is_lost_while_the_mail_server_is_away(office: Office) -> None:
    office.look(no_dust="dusty")
    office.server.refuses = "451 not now"
    with pytest.raises(TransientFailure, match="not now"):
        office.tick()
    office.server.refuses = ""
    assert office.tick() == "sent: [passari] 1 check not green"
    assert len(office.letters()) == 1


def test_what_is_not_put_right_is_told_again_after_some_days(office: Office) -> None:
    office.others["ui_url"] = "https://passari.example.org/"
    office.look(no_dust="dusty")
    office.tick()
    office.letters()
    told = alerts.Told.loads(office.cursor)
    office.cursor = alerts.Told(told.wrong, told.at - timedelta(days=8).total_seconds()).dumps()
    office.tick()
    ((_, text),) = office.letters()
    assert text.startswith("Not green still:\n* no_dust (shelf)\n  dusty")
    assert text.endswith("All checks: https://passari.example.org/assets\n")


def test_a_check_that_breaks_is_told_when_it_should_have_answered(office: Office) -> None:
    office.look(no_gap="breaks")
    office.tick()
    assert office.letters() == [], "it might be at it still"
    key = dg.AssetCheckKey(dg.AssetKey("shelf"), "no_gap")
    record = latest_check_records(office.instance, [key])[key]
    later = alerts.state(record, datetime.now(timezone.utc) + alerts.UNANSWERED)
    assert later.passed is False
    assert record.run_id in later.what_to_do


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_nobody_is_written_to_unless_the_settings_say_so(monkeypatch: pytest.MonkeyPatch, office: Office) -> None:
    monkeypatch.setenv("PASSARI_CONFIG", str(PROJECT / "passari.toml.example"))
    assert not build_defs(load()).get_repository_def().has_sensor_def("alerts")
    with_mail = build_defs(load(mail=office.server.settings())).get_repository_def()
    assert with_mail.get_sensor_def("alerts").description
