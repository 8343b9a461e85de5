"""The tables of accepted formats say what the DPS's own registry says."""

from __future__ import annotations

import json

from passari_dagster.sip.formats import accepted
from passari_dagster_tests.conftest import shared

GRADES = {"fi-dpres-recommended-file-format": "recommended", "fi-dpres-acceptable-file-format": "acceptable"}


def test_formats_and_grades() -> None:
    registry = json.loads(shared("dps-schemas/file-formats/file_formats.json").read_text())["file_formats"]
    known = {
        (entry["mimetype"], version["version"].replace("(:unap)", "") or None): version
        for entry in registry
        for version in entry["versions"]
        if version["active"] and version["grade"] in GRADES
    }
    for key, row in accepted.table().items():
        assert row.grade == GRADES[known[key]["grade"]], key
        assert row.ingest == known[key]["support_in_dps_ingest"], key


def test_streams_of_containers() -> None:
    text = shared("dps-schemas/file-formats/av_container_grading.json").read_text()
    for container in {entry["mimetype"] for entry in json.loads(text)["file_formats"]}:
        known = {
            (stream["mimetype"].lower(), stream["version"].replace("(:unap)", "") or None)
            for entry in json.loads(text)["file_formats"]
            if entry["mimetype"] == container and entry["grade"] in GRADES
            for stream in (*entry["audio_streams"], *entry["video_streams"])
        }
        # The registry says of 20 bits that they are not ingested yet.
        assert accepted.streams(container) == known - {("audio/l20", None)}, container
    assert not accepted.streams("audio/x-wav")
