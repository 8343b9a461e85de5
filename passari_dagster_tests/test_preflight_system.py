"""The job preflight on the whole system, launched and read as the UI does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from passari_dagster_tests.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("system"), pytest.mark.timeout(600)]

QUERY = """query($id: ID!) { runOrError(runId: $id) { ...on Run {
    assetCheckEvaluations: eventConnection { events { ...on AssetCheckEvaluationEvent { evaluation {
        checkName success severity
        metadataEntries { label ...on IntMetadataEntry { intValue } ...on MarkdownMetadataEntry { mdStr } } } } } }
    assetMaterializations { metadataEntries { label
        ...on IntMetadataEntry { intValue } ...on MarkdownMetadataEntry { mdStr } ...on PathMetadataEntry { path } } }
    } } }"""


def test_a_preflight_in_the_ui_tells_the_problems_and_launches_nothing(running: Running) -> None:
    museum = running.house.museum
    good = running.good_objects()[0]
    bad = next(
        id_
        for id_ in museum.object_ids
        if any((museum.attachment(m).filename or "").endswith(".psd") for m in museum.object(id_).multimedia_ids)
    )
    stages, received = running.stages(bad), len(list(running.house.dps.received.iterdir()))
    run = running.run("preflight", {"ops": {"preflight_report": {"config": {"object_ids": [good, bad]}}}})
    assert not [tag for tag in run["tags"] if tag["key"] == "dagster/partition"]
    answer = running.webserver.ask(QUERY, id=run["runId"])["runOrError"]
    (check,) = [event["evaluation"] for event in answer["assetCheckEvaluations"]["events"] if event.get("evaluation")]
    assert (check["checkName"], check["success"], check["severity"]) == ("no_content_problems", False, "WARN")
    told = {entry["label"]: entry for entry in check["metadataEntries"]}
    assert told["objects"]["intValue"] == 2
    assert told["problems"]["intValue"] >= 1
    assert ".psd" in told["sample"]["mdStr"]
    (materialization,) = answer["assetMaterializations"]
    table = next(entry["path"] for entry in materialization["metadataEntries"] if entry["label"] == "csv")
    with Path(table).open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == told["problems"]["intValue"]
    assert running.stages(bad) == stages
    assert len(list(running.house.dps.received.iterdir())) == received
