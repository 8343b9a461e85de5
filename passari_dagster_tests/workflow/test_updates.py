"""Packages after the first one: what the DPS has preserved is updated, what it rejected is submitted anew."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, confirm, object_row, package_rows, send, synchronise_all
from passari_dagster_tests.sip.content import image_file, jpeg, mets_of
from passari_dagster_tests.workflow.stories import JPEG, TEXT, eligible_object, received

Judge = Callable[[Path], list[str]]
METS = "{http://www.loc.gov/METS/}"


@pytest.fixture
def env(house: House) -> Iterator[Environment]:
    """A museum that does not wait before it preserves what changed."""
    with house.environment(workflow={"update_delay": timedelta(0)}) as env:
        yield env


def preserve_again(house: House, env: Environment, object_id: int, title: str) -> str:
    """Edit the object, send it, and hear the verdict; returns it."""
    house.museum.edit_object(object_id, title=title)
    synchronise_all(env)
    return preserve_it(house, env, object_id)


def preserve_it(house: House, env: Environment, object_id: int) -> str:
    assert send(env, object_id).outcome is Outcome.WAITING
    name = package_rows(env, object_id)[-1].sip_filename
    status = house.dps.wait_for(str(name)).status
    assert confirm(env, object_id).outcome is (Outcome.REJECTED if status == "rejected" else Outcome.PRESERVED)
    return status


def header(tar: Path) -> tuple[str | None, str | None, str | None, str | None]:
    """OBJID, RECORDSTATUS, CREATEDATE and LASTMODDATE."""
    root = mets_of(tar)
    element = root.find(f"{METS}metsHdr")
    assert element is not None
    return root.get("OBJID"), element.get("RECORDSTATUS"), element.get("CREATEDATE"), element.get("LASTMODDATE")


def test_the_second_and_the_third_package_update_the_first(house: House, env: Environment, judge: Judge) -> None:
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    verdicts = [preserve_it(house, env, object_id)]
    verdicts += [preserve_again(house, env, object_id, title) for title in ("Kirves", "Kirves, korjattu")]
    assert verdicts == ["accepted"] * 3
    first, second, third = map(header, received(house))
    objid, created = f"Passari_Object_{object_id}", first[2]
    assert first == (objid, "submission", created, None)
    assert second[:3] == third[:3] == (objid, "update", created)
    assert str(created) <= str(second[3]) <= str(third[3]), "each was made when it says, to the second"
    assert [judge(tar) for tar in received(house)] == [[], [], []]
    names = {row.sip_filename for row in package_rows(env, object_id)}
    assert len(names) == 3


def test_after_a_rejected_first_package_comes_another_submission_and_then_an_update_of_that(
    house: House, env: Environment, judge: Judge
) -> None:
    """What was rejected is not in the DPS: there is nothing to update, and its date counts no longer."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    house.dps.damage_next()
    assert preserve_it(house, env, object_id) == "rejected"
    assert not object_row(env, object_id).preserved
    assert preserve_again(house, env, object_id, "Kirves") == "accepted"
    assert preserve_again(house, env, object_id, "Kirves, korjattu") == "accepted"
    first, second, third = map(header, received(house))
    objid, created = f"Passari_Object_{object_id}", second[2]
    assert first[:2] == (objid, "submission")
    assert second == (objid, "submission", created, None)
    assert str(created) >= str(first[2])
    assert third[:3] == (objid, "update", created)
    assert [judge(tar) for tar in received(house)] == [[], [], []]


def test_after_a_rejected_update_comes_another_update_of_the_first(
    house: House, env: Environment, judge: Judge
) -> None:
    """The object is preserved, whatever became of its last package."""
    object_id = eligible_object(house, env, ("kuva.jpg", JPEG))
    assert preserve_it(house, env, object_id) == "accepted"
    house.dps.damage_next()
    assert preserve_again(house, env, object_id, "Kirves") == "rejected"
    assert object_row(env, object_id).preserved
    assert preserve_again(house, env, object_id, "Kirves, korjattu") == "accepted"
    first, second, third = map(header, received(house))
    assert second[:3] == third[:3] == (first[0], "update", first[2])
    assert str(third[3]) >= str(second[3])
    assert judge(received(house)[-1]) == []


@pytest.mark.parametrize("count", [0, 1])
def test_an_object_with_so_many_attachments_and_its_update(
    house: House, env: Environment, judge: Judge, count: int
) -> None:
    kinds = [("kuva.jpg", jpeg()), ("kuvaus.txt", TEXT), ("skannaus.tif", image_file("TIFF"))]
    object_id = eligible_object(house, env, *(kinds[number % len(kinds)] for number in range(count)))
    assert preserve_it(house, env, object_id) == "accepted"
    assert preserve_again(house, env, object_id, "Kirves") == "accepted"
    for tar, status in zip(received(house), ("submission", "update"), strict=True):
        assert header(tar)[1] == status
        assert judge(tar) == []
        with tarfile.open(tar) as archive:
            names = archive.getnames()
        assert len(names) == 4 + 2 * count, "METS, signature, object, LIDO; of each attachment the document and file"


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_an_object_with_a_thousand_attachments(house: House, env: Environment, judge: Judge) -> None:
    object_id = eligible_object(house, env, *[("kuva.jpg", jpeg())] * 1000)
    assert preserve_it(house, env, object_id) == "accepted"
    (tar,) = received(house)
    with tarfile.open(tar) as archive:
        assert len(archive.getnames()) == 4 + 2 * 1000
    assert judge(tar) == []
