"""What is removed from a document of MuseumPlus is told: in the log of the download, and by an event of the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from passari_dagster.errors import TransientFailure
from passari_dagster.museumplus.client import ItemModule, MuseumPlus
from passari_dagster.workflow import preserve
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.preserve import Outcome
from passari_dagster_tests.house import House, send
from passari_dagster_tests.sip.content import mets_of
from passari_dagster_tests.workflow.stories import JPEG, eligible_object, name_of, received

PREMIS = {"premis": "info:lc/xmlns/premis-v2"}
LOCATION = 'xsi:schemaLocation="http://www.zetcom.com/ria/ws/module http://museo.example/module_1_6.xsd"'


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The documents of a MuseumPlus that names its schema, by module and id."""
    given: dict[str, bytes] = {}
    item = MuseumPlus.item

    def with_location(self: MuseumPlus, module: ItemModule, item_id: int) -> bytes:
        declared = f'<application xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {LOCATION}'
        given[f"{module} {item_id}"] = item(self, module, item_id).replace(b"<application", declared.encode(), 1)
        return given[f"{module} {item_id}"]

    monkeypatch.setattr(MuseumPlus, "item", with_location)
    return given


def modifications(tar: Path) -> dict[str, str]:
    """The note of each event of that type, by the identifier of the file that it is about."""
    events = mets_of(tar).findall(".//premis:event", PREMIS)
    return {
        event.findtext(
            "premis:linkingObjectIdentifier/premis:linkingObjectIdentifierValue", "", PREMIS
        ): event.findtext(".//premis:eventOutcomeDetailNote", "", PREMIS)
        for event in events
        if event.findtext("premis:eventType", None, PREMIS) == "modification"
    }


def test_a_schema_that_the_dps_does_not_have_is_removed_and_the_package_says_so(
    house: House, env: Environment, judge: Callable[[Path], list[str]], originals: dict[str, bytes]
) -> None:
    object_id = eligible_object(house, env, ("a.jpg", JPEG), ("b.jpg", JPEG))
    first, second = house.museum.object(object_id).multimedia_ids
    lines: list[str] = []
    house.museum.faults.fail_next(3, path_contains=f"/{second}/attachment")
    with pytest.raises(TransientFailure):
        preserve.download_object(env, object_id, lines.append)
    # The second attempt keeps the first attachment, and what is told of it.
    preserve.download_object(env, object_id, lines.append)
    assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.wait_for(name_of(env, object_id))
    tar = received(house)[-1]
    assert judge(tar) == []
    paths = {
        f"Object {object_id}": "reports/Object.xml",
        f"Multimedia {first}": f"attachments/{first}/Multimedia.xml",
        f"Multimedia {second}": f"attachments/{second}/Multimedia.xml",
    }
    notes = {
        f"{key.replace(' ', ':')}:{path}": (
            f"Removed {LOCATION}; SHA-256 of the document before: {hashlib.sha256(originals[key]).hexdigest()}"
        )
        for key, path in paths.items()
    }
    assert modifications(tar) == notes
    for identifier, note in notes.items():
        assert f"{identifier.split(':', 2)[2]}: {note}" in lines


def test_a_document_that_names_no_schema_any_more_is_as_it_came(
    house: House, env: Environment, judge: Callable[[Path], list[str]]
) -> None:
    """What an earlier attempt changed is not told of a later one that did not."""
    object_id = eligible_object(house, env, ("a.jpg", JPEG))
    preserve.download_object(env, object_id, lambda line: None)
    manifest = house.directory / "packages" / str(object_id) / "manifest.json"
    told = {"reports/Object.xml": "Removed xsi:schemaLocation", "gone.xml": "the same"}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "changes": told}))
    (manifest.parent / "sip/reports/Object.xml").unlink()  # so that it is downloaded again
    assert send(env, object_id).outcome is Outcome.WAITING
    house.dps.wait_for(name_of(env, object_id))
    assert judge(received(house)[-1]) == []
    assert modifications(received(house)[-1]) == {}
