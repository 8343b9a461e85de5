"""An administrator freezes, unfreezes and re-enqueues: what is done, what is refused, and what the audit log says."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from passari_dagster import locks
from passari_dagster.catalogue import freezing
from passari_dagster.catalogue.eligibility import why_not
from passari_dagster.catalogue.models import FreezeSource, MuseumObject
from passari_dagster.errors import PermanentFailure
from passari_dagster.workflow import enqueue, freeze, journal, preserve, reenqueue, unfreeze
from passari_dagster.workflow.audit import Actor, Event, events
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.unfreeze import Selection
from passari_dagster_tests.catalogue.rows import add_object, add_package
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.workflow.stories import (
    JPEG,
    Killed,
    eligible_object,
    in_transfer,
    killed_at,
    name_of,
    old_object,
    package,
    quiet,
)
from passari_dagster_tests.workflow.test_restored_backup import backup

ME = Actor("maija", run_id="run-1")
REASON = "Rights are not cleared"


@dataclass
class FakeRuns:
    """Runs as Dagster would tell of them."""

    live: dict[int, str] = field(default_factory=dict)
    waiting: dict[int, list[str]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def executing(self, object_id: int) -> str | None:
        return self.live.get(object_id)

    def queued(self, object_id: int) -> Sequence[str]:
        return [run for run in self.waiting.get(object_id, []) if run not in self.cancelled]

    def cancel(self, run_id: str) -> None:
        self.cancelled.append(run_id)


def do_freeze(env: Environment, *object_ids: int, runs: FakeRuns | None = None, **options: Any) -> Tally:
    arguments = {"reason": REASON, "runs": runs or FakeRuns(), "log": quiet, **options}
    return freeze.freeze(env, ME, object_ids, **arguments)


def do_unfreeze(env: Environment, selection: Selection, **options: Any) -> unfreeze.Unfrozen:
    return unfreeze.unfreeze(env, ME, selection, **{"reason": "mended", "log": quiet, **options})


def do_reenqueue(env: Environment, *object_ids: int, **options: Any) -> reenqueue.Reenqueued:
    arguments = {"reason": "the DPS was at fault", "in_flight": set(), "log": quiet, **options}
    return reenqueue.reenqueue(env, ME, object_ids, **arguments)


def told(tally: Tally) -> dict[int, tuple[str, str]]:
    return {entry.object_id: (entry.outcome, entry.detail) for entry in tally.entries}


def audited(env: Environment) -> list[Event]:
    with env.transaction() as session:
        return events(session, limit=100)


def freeze_as_passari_workflow_did(env: Environment, object_id: int) -> None:
    """Frozen, and its package is open still."""
    with env.transaction() as session:
        row = session.get_one(MuseumObject, object_id)
        row.frozen, row.freeze_reason = True, REASON


def is_eligible(env: Environment, object_id: int) -> bool:
    with env.transaction() as session:
        return why_not(session, object_id, now=env.now(), delays=env.delays) is None


def eligible_objects(house: House, env: Environment, number: int) -> list[int]:
    ids = [old_object(house, ("kuva.jpg", JPEG)) for _ in range(number)]
    synchronise_all(env)
    return ids


def rejected_object(house: House, env: Environment) -> int:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.damage_next()
    send(env, object_id)
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    assert package(env, object_id).rejected
    return object_id


def test_what_was_begun_is_cancelled_and_its_logs_stay(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    runs = FakeRuns(waiting={object_id: ["queued-1", "queued-2"]})
    preview = do_freeze(env, object_id, runs=runs, dry_run=True, delete_workspaces=True)
    assert not object_row(env, object_id).frozen
    assert (package(env, object_id).is_open, runs.cancelled, audited(env)) == (True, [], [])

    tally = do_freeze(env, object_id, runs=runs, delete_workspaces=True)
    assert told(tally) == told(preview)
    outcome, detail = told(tally)[object_id]
    assert outcome == "frozen"
    assert f"{name_of(env, object_id)} is cancelled; 2 queued runs are cancelled; its files are deleted" in detail
    row = object_row(env, object_id)
    assert (row.frozen, row.freeze_reason, row.freeze_source) == (True, REASON, FreezeSource.USER)
    assert package(env, object_id).cancelled
    assert runs.cancelled == ["queued-1", "queued-2"]
    assert not any(env.settings.package_dir.iterdir())
    assert list(env.settings.archive_dir.rglob("download-object.log.gz"))
    (event,) = audited(env)
    assert (event.who, event.action, event.reason, event.run_id) == ("maija", "freeze_objects", REASON, "run-1")
    assert event.object_ids == (object_id,)


def test_one_that_executes_is_refused_by_name_and_the_others_go_on(house: House, env: Environment) -> None:
    first, executing, locked, last = eligible_objects(house, env, 4)
    preserve.download_object(env, executing, quiet)
    runs = FakeRuns(live={executing: "run-7"}, waiting={executing: ["queued"]})
    with env.lock(locks.object_lock(locked), wait=1):
        preview = do_freeze(env, first, executing, locked, 99, last, first, runs=runs, dry_run=True)
        tally = do_freeze(env, first, executing, locked, 99, last, first, runs=runs)
    assert told(tally) == told(preview)
    assert tally.counts == {"frozen": 2, REFUSED: 3}
    assert "run-7" in told(tally)[executing][1]
    assert "lock" in told(tally)[locked][1]
    assert "object 99 is not in the database" in told(tally)[99][1]
    assert [bool(object_row(env, id_).frozen) for id_ in (first, executing, locked, last)] == [True, False, False, True]
    assert package(env, executing).is_open
    assert runs.cancelled == []
    (event,) = audited(env)
    assert event.object_ids == (first, last), "one action is one event"


def test_one_that_is_frozen_keeps_its_reason_unless_told(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    do_freeze(env, object_id, reason="Unsupported file format: psd")
    tally = do_freeze(env, object_id)
    assert told(tally)[object_id] == ("frozen already", "its reason stays: Unsupported file format: psd")
    assert object_row(env, object_id).freeze_reason == "Unsupported file format: psd"
    assert len(audited(env)) == 1, "nothing was changed, and nothing is told"
    assert told(do_freeze(env, object_id, replace_reason=True))[object_id][0] == "frozen already, new reason"
    assert object_row(env, object_id).freeze_reason == REASON
    assert len(audited(env)) == 2


def test_a_reason_is_kept_as_it_is_shown(house: House, env: Environment) -> None:
    """By a copy of what a table shows of it, the object is unfrozen."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    do_freeze(env, object_id, reason=" rights:  not\n cleared")
    assert object_row(env, object_id).freeze_reason == "rights: not cleared"
    do_unfreeze(env, Selection(" rights:  not\n cleared"), reason="cleared")
    assert not object_row(env, object_id).frozen


def test_without_a_reason_nothing_is_done(env: Environment) -> None:
    for reason in ("", "  \n"):
        with pytest.raises(PermanentFailure, match="reason"):
            do_freeze(env, 1, reason=reason)
        with pytest.raises(PermanentFailure, match="reason"):
            do_unfreeze(env, Selection("x"), reason=reason)
        with pytest.raises(PermanentFailure, match="reason"):
            do_reenqueue(env, 1, reason=reason)
    with pytest.raises(PermanentFailure, match="which objects"):
        Selection()


def test_what_the_dps_has_stays_watched_and_is_confirmed(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    send(env, object_id)
    tally = do_freeze(env, object_id, delete_workspaces=True)
    assert "stays watched" in told(tally)[object_id][1]
    assert package(env, object_id).is_open
    house.dps.wait_for(name_of(env, object_id))
    confirm(env, object_id)
    row = object_row(env, object_id)
    assert (row.frozen, row.preserved) == (True, True)


@pytest.mark.parametrize("point", ["before the intent", "after the intent"])
def test_what_a_cut_send_left_at_the_dps_is_removed_first(house: House, env: Environment, point: Any) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    with pytest.raises(Killed):
        send(killed_at(env, point), object_id)
    assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"]
    preview = do_freeze(env, object_id, dry_run=True)
    assert in_transfer(house) == [name_of(env, object_id) + ".incomplete"], "a preview removes nothing"
    tally = do_freeze(env, object_id)
    assert told(tally) == told(preview)
    assert "is cancelled" in told(tally)[object_id][1]
    assert in_transfer(house) == []
    assert package(env, object_id).cancelled
    do_unfreeze(env, Selection(object_ids=(object_id,)))
    send(env, object_id)
    assert [row.uploaded for row in package_rows(env, object_id)] == [False, True]


def test_what_may_have_been_sent_and_is_nowhere_stays_watched(house: House) -> None:
    with house.environment(dps={"rest": None}) as env:
        object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
        with pytest.raises(Killed):
            send(killed_at(env, "after the intent"), object_id)
        (house.dps.home / "transfer" / f"{name_of(env, object_id)}.incomplete").unlink()
        tally = do_freeze(env, object_id)
        assert "stays watched" in told(tally)[object_id][1]
        assert package(env, object_id).is_open
        assert "goes on" in told(do_unfreeze(env, Selection(REASON)).tally)[object_id][1]
        assert package(env, object_id).is_open
        assert object_row(env, object_id).latest_package_id == package(env, object_id).id


def test_a_dps_that_is_away_freezes_nothing_that_needs_it(house: House, env: Environment) -> None:
    needs, does_not = eligible_objects(house, env, 2)
    preserve.download_object(env, needs, quiet)
    preserve.create_sip(env, needs, quiet)
    house.dps.stop()
    tally = do_freeze(env, needs, does_not)
    assert [outcome for outcome, _ in told(tally).values()] == [REFUSED, "frozen"]
    assert package(env, needs).is_open
    assert not object_row(env, needs).frozen


def test_what_a_restored_backup_has_lost_is_found_before_it_is_frozen(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    restore = backup(env)
    send(env, object_id)
    restore()
    assert package(env, object_id).submission_date is None
    preview = do_freeze(env, object_id, dry_run=True)
    assert package(env, object_id).submission_date is None
    tally = do_freeze(env, object_id)
    for each in (preview, tally):
        assert "had lost that" in told(each)[object_id][1]
    assert package(env, object_id).submission_date is not None
    assert package(env, object_id).is_open


def test_killed_after_the_commit_the_rest_is_done_by_the_next_call(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)

    class Dying(FakeRuns):
        def cancel(self, run_id: str) -> None:
            raise Killed(run_id)

    waiting = {object_id: ["queued"]}
    with pytest.raises(Killed):
        do_freeze(env, object_id, runs=Dying(waiting=waiting), delete_workspaces=True)
    assert object_row(env, object_id).frozen
    runs = FakeRuns(waiting=waiting)
    do_freeze(env, object_id, runs=runs, delete_workspaces=True)
    assert runs.cancelled == ["queued"]
    assert not any(env.settings.package_dir.iterdir())
    assert list(env.settings.archive_dir.rglob("download-object.log.gz"))
    assert [event.objects for event in audited(env)] == [1, 1], "each call tells what it did"
    do_freeze(env, object_id, runs=runs, delete_workspaces=True)
    assert len(audited(env)) == 2


@pytest.mark.parametrize("left", ["a queued run", "files"])
def test_what_is_done_to_one_that_is_frozen_already_is_in_the_audit_log(
    house: House, env: Environment, left: str
) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    do_freeze(env, object_id)
    runs = FakeRuns(waiting={object_id: ["queued"]} if left == "a queued run" else {})
    tally = do_freeze(env, object_id, runs=runs, delete_workspaces=left == "files", reason="clean up")
    assert told(tally)[object_id][0] == "frozen already"
    event, _ = audited(env)
    assert (event.action, event.reason, event.object_ids) == ("freeze_objects", "clean up", (object_id,))


def test_an_unfreeze_that_is_killed_in_the_middle_is_in_the_audit_log(
    house: House, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, with_files = eligible_objects(house, env, 2)
    for object_id in (cancelled, with_files):
        preserve.download_object(env, object_id, quiet)
    do_freeze(env, with_files)
    freeze_as_passari_workflow_did(env, cancelled)

    def die(*_args: Any) -> None:
        raise Killed("before the objects are unfrozen")

    with monkeypatch.context() as patched:
        patched.setattr(freezing, "unfreeze", die)
        with pytest.raises(Killed):
            do_unfreeze(env, Selection(REASON))
    assert package(env, cancelled).cancelled
    assert not any(env.settings.package_dir.iterdir())
    event, *_ = audited(env)
    assert (event.action, event.object_ids) == ("unfreeze_objects", (cancelled, with_files))
    do_unfreeze(env, Selection(REASON))
    assert [event.object_ids for event in audited(env)][:2] == [(cancelled, with_files)] * 2


def test_what_is_told_with_the_cancelled_package_is_not_told_twice(house: House, env: Environment) -> None:
    cancelled, other = eligible_objects(house, env, 2)
    preserve.download_object(env, cancelled, quiet)
    for object_id in (cancelled, other):
        freeze_as_passari_workflow_did(env, object_id)
    assert do_unfreeze(env, Selection(REASON)).tally.counts == {"unfrozen": 2}
    (event,) = audited(env)
    assert event.object_ids == (cancelled, other)


def test_objects_are_unfrozen_by_their_exact_reason_by_ids_or_both(env: Environment) -> None:
    with env.transaction() as session:
        for number, reason in enumerate(["psd", "psd", "psd too", None, ""], 1):
            add_object(session, number, frozen=True, freeze_reason=reason, freeze_source=FreezeSource.AUTOMATIC)
        add_object(session, 9)
    preview = do_unfreeze(env, Selection("psd"), dry_run=True)
    assert object_row(env, 1).frozen
    done = do_unfreeze(env, Selection("psd"), keep=10)
    assert told(done.tally) == told(preview.tally)
    assert done.ids == [1, 2]
    assert [bool(object_row(env, id_).frozen) for id_ in range(1, 6)] == [False, False, True, True, True]
    assert object_row(env, 1).freeze_reason is None
    both = do_unfreeze(env, Selection("psd too", (3, 4, 9, 77)), keep=1)
    assert both.tally.counts == {"unfrozen": 1, "not frozen so": 3}
    assert both.ids == [3]
    assert do_unfreeze(env, Selection(object_ids=(4, 5))).tally.counts == {"unfrozen": 2}
    assert [(event.objects, event.details) for event in audited(env)] == [
        (2, "by ids"),
        (1, "frozen for: psd too; by ids"),
        (2, "frozen for: psd"),
    ]
    assert do_unfreeze(env, Selection("psd")).tally.counts == {}
    assert len(audited(env)) == 3


def test_those_without_a_reason_are_selected_as_they_are_shown(env: Environment) -> None:
    with env.transaction() as session:
        for number, reason in enumerate([None, "", "psd", None], 1):
            add_object(session, number, frozen=True, freeze_reason=reason)
    nameless = Selection("(none given)", (1, 2, 3))
    preview = do_unfreeze(env, nameless, dry_run=True)
    done = do_unfreeze(env, nameless)
    assert told(done.tally) == told(preview.tally)
    assert done.tally.counts == {"unfrozen": 2, "not frozen so": 1}
    assert audited(env)[0].details == "frozen for: (none given); by ids"
    do_freeze(env, 1, reason="(none given)")
    assert [entry.object_id for entry in do_unfreeze(env, Selection("(none given)")).tally.entries] == [1]
    assert [entry.object_id for entry in do_unfreeze(env, Selection("(none given)")).tally.entries] == [4]
    assert object_row(env, 3).frozen


def test_the_preview_of_an_unfreeze_refuses_what_the_act_refuses(house: House, env: Environment) -> None:
    locked, locked_open, with_dps, lost, cut, fine = eligible_objects(house, env, 6)
    preserve.download_object(env, locked, quiet)
    do_freeze(env, locked)
    for object_id in (locked_open, with_dps, lost, cut, fine):
        preserve.download_object(env, object_id, quiet)
        if object_id not in (locked_open, fine):
            preserve.create_sip(env, object_id, quiet)
    restore = backup(env)
    send(env, lost)
    send(env, with_dps)
    house.dps.wait_for(name_of(env, with_dps))
    with pytest.raises(Killed):
        send(killed_at(env, "before the intent"), cut)
    restore()
    # Of this one the archive has lost its record, too: only the DPS knows.
    next((house.directory / "archive").rglob(f"*Object_{with_dps}-*/{journal.FILE}")).unlink()
    for object_id in (locked_open, with_dps, lost, cut, fine):
        freeze_as_passari_workflow_did(env, object_id)
    before = len(audited(env))
    with env.lock(locks.object_lock(locked), wait=1), env.lock(locks.object_lock(locked_open), wait=1):
        preview = do_unfreeze(env, Selection(REASON), dry_run=True)
        assert len(audited(env)) == before
        assert all(object_row(env, id_).frozen for id_ in (locked, locked_open, with_dps, lost, cut, fine))
        assert package(env, lost).submission_date is None
        assert [name for name in in_transfer(house) if str(cut) in name], "a preview removes nothing"
        assert package(env, fine).is_open
        done = do_unfreeze(env, Selection(REASON))
    assert told(done.tally) == told(preview.tally)
    assert {object_id: outcome for object_id, (outcome, _) in told(done.tally).items()} == {
        **dict.fromkeys((locked, locked_open, with_dps, lost), REFUSED),
        **dict.fromkeys((cut, fine), "unfrozen"),
    }
    assert told(done.tally)[locked][1].startswith("its lock is held")
    assert "is with the DPS" in told(done.tally)[with_dps][1]
    assert "had lost that" in told(done.tally)[lost][1]


def test_a_preview_tells_which_objects_would_be_enqueued_then(env: Environment) -> None:
    states: dict[int, dict[str, Any]] = {
        3: {"preserved": False, "rejected": True},
        4: {"preserved": False, "uploaded": True},
        5: {"preserved": False, "uploaded": False, "submission_date": None},
    }
    with env.transaction() as session:
        for number in range(1, 8):
            row = add_object(
                session, number, frozen=True, freeze_reason="psd", metadata_hash=None if number == 2 else "a" * 64
            )
            if number in states:
                add_package(session, row, **states[number])
    cap = env.settings.workflow.partition_cap
    taken: dict[str, Any] = {"in_flight": {6}, "registered": range(100, 98 + cap)}
    preview = do_unfreeze(env, Selection("psd"), dry_run=True, keep=cap)
    would = unfreeze.would_enqueue(env, preview.ids, **taken)
    assert all(object_row(env, number).frozen for number in range(1, 8))
    assert object_row(env, 3).latest_package_id is not None
    done = do_unfreeze(env, Selection("psd"), keep=cap)
    chosen = enqueue.choose(env, count=None, object_ids=done.ids, random=False, **taken)
    assert would == chosen
    assert (would.ids, would.left, set(would.refused)) == ((1, 3), 2, {2, 4, 6})
    assert unfreeze.would_enqueue(env, [], **taken).ids == ()


def test_a_preview_of_a_reenqueue_tells_what_the_cap_leaves(env: Environment) -> None:
    with env.transaction() as session:
        for number in (1, 2):
            add_package(session, add_object(session, number), preserved=False, rejected=True)
    taken: dict[str, Any] = {"in_flight": (), "registered": range(100, 99 + env.settings.workflow.partition_cap)}
    preview = do_reenqueue(env, 1, 2, dry_run=True)
    would = reenqueue.would_enqueue(env, preview.ids, **taken)
    assert object_row(env, 1).latest_package_id is not None
    done = do_reenqueue(env, 1, 2)
    assert would == enqueue.choose(env, count=None, object_ids=done.ids, random=False, **taken)
    assert (would.ids, would.left) == ((1,), 1)


def test_many_are_unfrozen_in_sets_and_told_as_one_event(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfreeze, "BATCH", 10)
    with env.transaction() as session:
        for number in range(1, 36):
            add_object(session, number, frozen=True, freeze_reason="psd")
    done = do_unfreeze(env, Selection("psd"), keep=12)
    assert done.tally.counts == {"unfrozen": 35}
    assert len(done.tally.entries) == 20
    assert done.ids == list(range(1, 13))
    (event,) = audited(env)
    assert event.objects == 35
    assert "35 unfrozen" in done.tally.markdown()
    assert "… and 15 more" in done.tally.markdown()
    assert unfreeze.earlier(env, ["run-1"], limit=100) == list(range(1, 36))
    assert unfreeze.earlier(env, ["run-2"], limit=100) == []


@pytest.mark.parametrize(
    ("state", "eligible", "latest"),
    [
        ({"preserved": True}, False, True),
        ({"preserved": False, "rejected": True}, True, False),
        ({"preserved": False, "cancelled": True, "uploaded": False, "submission_date": None}, True, False),
        ({"preserved": False}, False, True),
        ({"preserved": False, "uploaded": False, "submission_date": None}, True, False),
    ],
    ids=["preserved", "rejected", "cancelled", "with the DPS", "open"],
)
def test_a_latest_package_that_was_not_preserved_counts_no_more(
    env: Environment, state: dict[str, Any], eligible: bool, latest: bool
) -> None:
    with env.transaction() as session:
        row = add_object(session, 1, frozen=True, freeze_reason="psd")
        add_package(session, row, **state)
    do_unfreeze(env, Selection("psd"))
    assert is_eligible(env, 1) is eligible
    assert (object_row(env, 1).latest_package_id is not None) is latest
    assert len(package_rows(env, 1)) == 1, "the row stays"


def test_a_rejected_object_is_sent_again_and_its_old_package_stays_visible(house: House, env: Environment) -> None:
    object_id = rejected_object(house, env)
    assert not is_eligible(env, object_id)
    preview = do_reenqueue(env, object_id, dry_run=True)
    assert not is_eligible(env, object_id)
    assert audited(env) == []
    done = do_reenqueue(env, object_id)
    assert told(done.tally) == told(preview.tally)
    assert done.ids == [object_id]
    (event,) = audited(env)
    assert (event.action, event.reason, event.object_ids) == ("reenqueue_objects", "the DPS was at fault", (object_id,))
    chosen = enqueue.choose(env, count=None, object_ids=[object_id], random=False, in_flight=set(), registered=set())
    assert chosen.ids == (object_id,)
    send(env, object_id)
    old, new = package_rows(env, object_id)
    assert (old.rejected, new.uploaded) == (True, True)
    reports = [path.name for path in env.settings.archive_dir.rglob("*-ingest-report.html.gz")]
    assert reports == [f"{old.transfer_id}-ingest-report.html.gz"]
    again = do_reenqueue(env, object_id)
    assert "in the workflow" in told(again.tally)[object_id][1]
    house.dps.wait_for(str(new.sip_filename))
    confirm(env, object_id)
    assert object_row(env, object_id).preserved
    assert "is preserved" in told(do_reenqueue(env, object_id).tally)[object_id][1]


def test_what_may_not_be_enqueued_again_is_refused_with_its_reason(env: Environment) -> None:
    refusals = {1: "it is frozen", 2: "a run of it", 3: "lock", 4: "it has none", 5: "not in the database", 6: "hash"}
    with env.transaction() as session:
        for number in (1, 2, 3, 6, 7):
            row = add_object(session, number, metadata_hash=None if number == 6 else "a" * 64, frozen=number == 1)
            add_package(session, row, preserved=False, rejected=True)
        add_object(session, 4)
    with env.lock(locks.object_lock(3), wait=1):
        preview = do_reenqueue(env, *range(1, 8), in_flight={2}, dry_run=True)
        done = do_reenqueue(env, *range(1, 8), in_flight={2})
    assert told(done.tally) == told(preview.tally)
    assert done.ids == [7]
    for object_id, words in refusals.items():
        outcome, detail = told(done.tally)[object_id]
        assert outcome == REFUSED
        assert words.removeprefix("it is ") in detail
    assert [object_row(env, id_).latest_package_id is None for id_ in (1, 2, 3, 6, 7)] == [False] * 4 + [True]


def test_a_workspace_of_a_frozen_object_does_not_get_into_its_next_package(house: House, env: Environment) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    preserve.download_object(env, object_id, quiet)
    do_freeze(env, object_id)
    assert any(env.settings.package_dir.iterdir()), "it was not asked to delete it"
    do_unfreeze(env, Selection(REASON))
    assert not any(env.settings.package_dir.iterdir())
    send(env, object_id)
    old, new = package_rows(env, object_id)
    assert (old.cancelled, new.uploaded) == (True, True)
    shutil.rmtree(env.settings.package_dir)
