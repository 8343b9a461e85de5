"""Streams of containers and pages of a TIFF in the METS: the independent judge accepts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from passari_dagster.sip.build import Signer, build_sip
from passari_dagster.sip.formats.facts import AudioFacts, Examined, FileFormat, ImageFacts, Stream, VideoFacts
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, mets_of, multi_page_tiff

NS = {"mets": "http://www.loc.gov/METS/", "premis": "info:lc/xmlns/premis-v2"}
PAGE = ImageFacts(40, 30, "RGB", (8, 8, 8), "Uncompressed", byte_order="little endian")
PAGES = FileFormat("image/tiff", "6.0", streams=(Stream(PAGE), Stream(PAGE)))
FILM = FileFormat(
    "video/mp4",
    streams=(
        Stream(VideoFacts("320", "240", "AVC", lossless=False, fixed_rate=False, sound=True), "video/h264"),
        Stream(AudioFacts("AAC", "AAC", lossless=False, fixed_rate=True), "audio/aac"),
        Stream(AudioFacts("AAC", "AAC", lossless=False, fixed_rate=True), "audio/aac"),
    ),
)


@pytest.mark.parametrize(
    ("name", "file_format", "objects"), [("kirje.tif", PAGES, 0), ("elokuva.mp4", FILM, 3)], ids=["pages", "film"]
)
def test_the_judge_accepts_streams(
    name: str,
    file_format: FileFormat,
    objects: int,
    sip: Path,
    tmp_path: Path,
    signer: Signer,
    judge: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(path: Path, rules: Rules, sha256: str | None) -> Examined:
        seen = examine(path, rules, sha256)
        return replace(seen, format=file_format) if path.name == name else seen

    monkeypatch.setattr("passari_dagster.sip.build.examine", look)
    files = {"reports/Object.xml": MODULE_XML, "reports/lido.xml": LIDO, f"attachments/1/{name}": multi_page_tiff()}
    tar = tmp_path / "20260301_Object_1.tar"
    build_sip(sip, tar, describe(fill(sip, files)), signer)
    assert judge(tar) == []
    mets = mets_of(tar)
    streams = mets.findall(".//mets:stream", NS)
    assert len(streams) == len(file_format.streams)
    assert len({stream.get("ADMID") for stream in streams}) == len(streams)
    included = mets.findall(".//premis:relatedObjectIdentifierValue", NS)
    assert len(included) == objects
