"""A museum keeps its originals beside copies that the DPS takes, if it wants to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from passari_dagster.errors import ContentProblem
from passari_dagster.sip import originals
from passari_dagster.sip.build import Signer, build_sip
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, jpeg, mets_of, tiff, without_jfif

PSD = b"8BPS\0\x01" + bytes(40)
BROKEN_TIFF = tiff()[:-10]
NS = {
    "mets": "http://www.loc.gov/METS/",
    "premis": "info:lc/xmlns/premis-v2",
    "xlink": "http://www.w3.org/1999/xlink",
}
BOTH = Rules(unsupported_originals=True, broken_originals=True)
Build = Callable[[dict[str, bytes], Rules], Path]


@pytest.fixture
def build(sip: Path, tmp_path: Path, signer: Signer) -> Build:
    """Makes a package of an object with these attachments."""

    def make(attachments: dict[str, bytes], rules: Rules) -> Path:
        files = {"reports/Object.xml": MODULE_XML, "reports/lido.xml": LIDO}
        for path, data in attachments.items():
            files[f"attachments/{path}"] = data
            files[f"attachments/{path.split('/')[0]}/Multimedia.xml"] = MODULE_XML
        tar = tmp_path / "20260301_Object_1.tar"
        build_sip(sip, tar, describe(fill(sip, files), rules=rules), signer)
        return tar

    return make


def uses(tar: Path) -> dict[str, str | None]:
    """USE of each attachment, by path."""
    found = {}
    for element in mets_of(tar).iterfind(".//mets:file", NS):
        (location,) = element.iterfind("mets:FLocat", NS)
        path = str(location.get(f"{{{NS['xlink']}}}href")).removeprefix("file:///attachments/")
        if "Multimedia.xml" not in path and "reports" not in path:
            found[path] = element.get("USE")
    return found


def test_an_original_in_an_unsupported_format_is_kept_beside_its_copy(
    build: Build, judge: Callable[[Path], list[str]]
) -> None:
    tar = build({"7/kuva.psd": PSD, "8/Kuva.tif": tiff(), "9/muu.jpg": jpeg()}, Rules(unsupported_originals=True))
    assert judge(tar) == []
    assert uses(tar) == {"7/kuva.psd": "fi-dpres-no-file-format-validation", "8/Kuva.tif": None, "9/muu.jpg": None}
    (event,) = (
        event
        for event in mets_of(tar).iterfind(".//premis:event", NS)
        if event.findtext("premis:eventType", None, NS) == "normalization"
    )
    links = {
        link.findtext("premis:linkingObjectRole", "", NS): link.findtext("premis:linkingObjectIdentifierValue", "", NS)
        for link in event.iterfind("premis:linkingObjectIdentifier", NS)
    }
    assert links["source"].endswith("attachments/7/kuva.psd")
    assert links["outcome"].endswith("attachments/8/Kuva.tif")


def test_a_broken_original_is_kept_beside_a_copy_that_is_whole(
    build: Build, judge: Callable[[Path], list[str]]
) -> None:
    tar = build({"7/kuva.tif": BROKEN_TIFF, "8/kuva.jpg": jpeg()}, Rules(broken_originals=True))
    assert judge(tar) == []
    assert uses(tar) == {"7/kuva.tif": "fi-dpres-ignore-validation-errors", "8/kuva.jpg": None}


def test_a_jpeg_without_a_version_is_an_unsupported_original(build: Build, judge: Callable[[Path], list[str]]) -> None:
    tar = build({"7/kuva.jpg": without_jfif(jpeg()), "8/kuva.tif": tiff()}, BOTH)
    assert judge(tar) == []
    assert uses(tar)["7/kuva.jpg"] == "fi-dpres-no-file-format-validation"


@pytest.mark.parametrize(
    ("attachments", "rules", "reason"),
    [
        ({"7/kuva.psd": PSD, "8/kuva.tif": tiff()}, Rules(), "Unsupported file format: psd"),
        ({"7/kuva.psd": PSD, "8/kuva.tif": tiff()}, Rules(broken_originals=True), "Unsupported file format: psd"),
        ({"7/kuva.psd": PSD, "8/toinen.tif": tiff()}, BOTH, "Unsupported file format: psd"),
        ({"7/kuva.psd": PSD, "8/kuva.bmp": b"BM" + bytes(60)}, BOTH, "Unsupported file format: psd"),
        ({"7/Object.psd": PSD}, BOTH, "Unsupported file format: psd"),
        ({"7/Multimedia.psd": PSD, "8/kuva.tif": tiff()}, BOTH, "Unsupported file format: psd"),
        ({"7/kuva.tif": BROKEN_TIFF, "8/kuva.jpg": jpeg()}, Rules(), "TIFF file failed JHOVE validation"),
        ({"7/kuva.tif": BROKEN_TIFF, "8/kuva.tif": tiff()}, BOTH, "TIFF file failed JHOVE validation"),
        ({"7/kuva.tif": BROKEN_TIFF, "8/Kuva.TIF": tiff()}, BOTH, "TIFF file failed JHOVE validation"),
        ({"7/kuva.tif": BROKEN_TIFF, "8/kuva.jpg": jpeg()[:-9]}, BOTH, "TIFF file failed JHOVE validation"),
        ({"7/kuva.jpg": b"", "8/kuva.tif": tiff()}, BOTH, "File is empty"),
    ],
    ids=[
        "off",
        "the other one is on",
        "no copy",
        "the copy is refused",
        "not a copy",
        "not a copy either",
        "broken, off",
        "the same name",
        "the same suffix",
        "both broken",
        "empty",
    ],
)
def test_an_original_that_may_not_be_kept_freezes_the_object(
    build: Build, attachments: dict[str, bytes], rules: Rules, reason: str
) -> None:
    with pytest.raises(ContentProblem) as caught:
        build(attachments, rules)
    assert caught.value.reason == reason


def test_of_ten_thousand_originals_each_finds_its_own_copy_at_once() -> None:
    """To compare each with each would take minutes."""
    begun = time.process_time()
    whole = originals.by_stem(PurePosixPath(f"attachments/{n}/kuva{n}.tif") for n in range(10_000))
    for n in range(10_000):
        assert originals.copies(PurePosixPath(f"attachments/x{n}/Kuva{n}.psd"), whole) == [
            PurePosixPath(f"attachments/{n}/kuva{n}.tif")
        ]
    assert time.process_time() - begun < 5
