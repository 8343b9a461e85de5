"""The simulated DPS accepts what is right, and rejects each thing that is wrong, with the reason."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from passari_dagster.simulation import dps_ingest
from passari_dagster_tests.dps import tiny_sip
from passari_dagster_tests.dps.conftest import signer as signer  # the fixture
from passari_dagster_tests.dps.tiny_sip import JPEG, TIFF, UNALIGNED_TIFF, UNSORTED_TIFF, Signer

TEXT = "text/plain; charset=UTF-8"


def reasons(path: Path, signer: Signer, known: tuple[str, ...] = ()) -> list[str]:
    content = path.parent / "content"
    content.mkdir()
    wrong = list(dps_ingest.unpack(path, content))
    if wrong:
        return wrong
    return dps_ingest.inspect(
        content, certificate=signer.certificate_file, contract_id=tiny_sip.CONTRACT, known=known
    ).reasons


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_a_right_package_is_accepted(tmp_path: Path, signer: Signer, algorithm: str) -> None:
    files = {
        "attachments/1/kuva 1+ä.tif": (TIFF, "image/tiff"),
        "attachments/2/b.jpg": (JPEG, "image/jpeg"),
        "note.txt": ("ä €".encode("iso-8859-15"), "text/plain; charset=ISO-8859-15"),
        "reports/lido.xml": (b"<lido/>", "text/xml; charset=UTF-8"),
        "data.bin": (b"\0\1", "application/octet-stream"),
    }
    assert reasons(tiny_sip.write(tmp_path / "a.tar", signer, files=files, algorithm=algorithm), signer) == []


def test_an_update_of_an_object_known_before_is_accepted(tmp_path: Path, signer: Signer) -> None:
    path = tiny_sip.write(tmp_path / "a.tar", signer, objid="x", record_status="update")
    assert reasons(path, signer, known=("x",)) == []


def replace(old: str, new: str) -> dict[str, Any]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return {"edit_mets": edit}


def change(name: str, content: bytes | None) -> dict[str, Any]:
    def edit(members: dict[str, bytes]) -> None:
        members.pop(name, None)
        if content is not None:
            members[name] = content

    return {"after_signing": edit}


def add(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> dict[str, Any]:
    def edit(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)

    return {"edit_tar": edit}


def one(name: str, content: bytes, format_name: str) -> dict[str, Any]:
    return {"files": {name: (content, format_name)}}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (replace("mets-profiles/cultural-heritage", "mets-profiles/other"), "PROFILE is"),
        (replace(tiny_sip.CONTRACT, tiny_sip.CONTRACT[:-1] + "0"), "which is not the contract"),
        (replace('fi:CATALOG="1.8.0"', 'fi:CATALOG="1.7.7"'), "expected 1.8.0"),
        (replace('fi:CATALOG="1.8.0" fi:SPECIFICATION="1.8.0"', ""), "expected 1.8.0"),
        (replace('OBJID="Passari_Object_1"', 'OBJID="Ö"'), "OBJID is 'Ö'"),
        (replace('RECORDSTATUS="submission"', ""), "RECORDSTATUS is ''"),
        (replace("</mets:mets>", ""), "mets.xml: not well-formed"),
        (replace("<mets:mets ", '<!DOCTYPE x [<!ENTITY a "b">]><mets:mets '), "document type declaration"),
        (replace("file:///reports", "file:///../reports"), "reports/lido.xml: "),
        (replace("file:///reports", "http://reports"), "no file:// URL"),
        (replace('ADMID="t0"', 'ADMID="t9"'), "0 PREMIS objects"),
        (replace("<premis:messageDigestAlgorithm>SHA-256", "<premis:messageDigestAlgorithm>CRC"), "unknown digest"),
        (change("mets.xml", None), "mets.xml"),
        (change("signature.sig", None), "signature: signature.sig is missing"),
        (change("signature.sig", b"nonsense"), "signature: signature.sig is not multipart/signed"),
        (change("reports/lido.xml", None), "reports/lido.xml is in the METS but not in the package"),
        (change("reports/lido.xml", b"<other/>"), "reports/lido.xml: the SHA-256 is"),
        (change("extra.txt", b"x"), "extra.txt is in the package but not in the METS"),
        (add("../evil"), "unsafe path in the tar: '../evil'"),
        (add("/evil"), "unsafe path"),
        (add("link", tarfile.SYMTYPE, "/etc/passwd"), "link is neither a file nor a directory"),
        (add("device", tarfile.CHRTYPE), "device is neither a file nor a directory"),
        (add("mets.xml"), "mets.xml is in the tar twice"),
        ({"record_status": "update"}, "the OBJID Passari_Object_1 is unknown"),
        ({"objid": "known"}, "the OBJID known has been ingested before"),
        (one("a.tif", UNSORTED_TIFF, "image/tiff"), "TIFF-hul: Tag 256 out of sequence"),
        (one("a.tif", UNALIGNED_TIFF, "image/tiff"), "IFD offset not word-aligned: 9"),
        (one("a.tif", TIFF[:4] + b"\xff\xff\0\0", "image/tiff"), "IFD offset 65535 leads nowhere"),
        (one("a.tif", b"GIF89a..", "image/tiff"), "no TIFF header"),
        (one("a.jpg", JPEG[1:], "image/jpeg"), "does not begin with SOI"),
        (one("a.jpg", JPEG + b"\0", "image/jpeg"), "does not end with EOI"),
        (one("a.txt", b"\xff\xfe\xfa", TEXT), "does not decode as UTF-8"),
        (one("a.txt", b"x", "text/plain"), "no known charset"),
        (one("a.xml", b"<a>", "text/xml; charset=UTF-8"), "not well-formed"),
    ],
)
def test_each_wrong_thing_is_a_reason(tmp_path: Path, signer: Signer, options: dict[str, Any], reason: str) -> None:
    path = tiny_sip.write(tmp_path / "a.tar", signer, **options)
    found = reasons(path, signer, known=("known",))
    if reason == "reports/lido.xml: ":  # ../ is taken off, as the DPS does it: the file is found
        assert found == []
    else:
        assert [text for text in found if reason in text], found


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a plain tar"), (b"\x1f\x8b rest", "not a plain tar"), (b"\0" * 10240, "empty")],
)
def test_what_is_no_tar_is_rejected(tmp_path: Path, signer: Signer, content: bytes, reason: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    assert any(reason in text for text in reasons(path, signer))


def edit_signature(edit: Callable[[bytes], bytes]) -> dict[str, Any]:
    def after(members: dict[str, bytes]) -> None:
        members["signature.sig"] = edit(members["signature.sig"])

    return {"after_signing": after}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (edit_signature(lambda s: s.replace(b"mets.xml:sha256:", b"mets.xml:sha512:")), "not path:sha1|sha256"),
        (edit_signature(lambda s: s.replace(b"mets.xml:sha256:", b"x.xml:sha256:")), "x.xml is not in the package"),
        (edit_signature(lambda s: s.replace(b"x-pkcs7-signature", b"x-other")), "no pkcs7-signature part"),
        (change("mets.xml", b"<mets/>"), "the sha256 of mets.xml is not the signed one"),
    ],
)
def test_a_spoiled_signature_is_a_reason(tmp_path: Path, signer: Signer, options: dict[str, Any], reason: str) -> None:
    path = tiny_sip.write(tmp_path / "a.tar", signer, **options)
    assert [text for text in reasons(path, signer) if reason in text]


def test_a_manifest_changed_after_signing_is_a_reason(tmp_path: Path, signer: Signer) -> None:
    """Both the METS and its line in the manifest are exchanged; only the CMS tells."""
    other = tiny_sip.mets({}, objid="forged").encode()

    def forge(members: dict[str, bytes]) -> None:
        old = hashlib.sha256(members["mets.xml"]).hexdigest().encode()
        members["signature.sig"] = members["signature.sig"].replace(old, hashlib.sha256(other).hexdigest().encode())
        members["mets.xml"] = other

    found = reasons(tiny_sip.write(tmp_path / "a.tar", signer, after_signing=forge), signer)
    assert "signature: the signed digest is not the manifest's" in found


def test_another_signer_is_a_reason(tmp_path: Path, signer: Signer) -> None:
    (tmp_path / "stranger").mkdir()
    stranger = Signer(tmp_path / "stranger")
    found = reasons(tiny_sip.write(tmp_path / "a.tar", stranger), signer)
    assert found == ["signature: not signed with the registered certificate"]


def test_the_reports_escape_what_packages_bring() -> None:
    from datetime import datetime, timezone

    from passari_dagster.simulation import dps_reports

    facts = ("a.tar-1", "<b>&", "rejected", ["<script>alert(1)</script>\0\ud800"], datetime.now(timezone.utc))
    assert b"<script>" not in dps_reports.page(*facts)
    assert b"&lt;script&gt;" in dps_reports.page(*facts)
    document = etree.fromstring(dps_reports.premis(*facts))
    assert "<script>" in "".join(document.itertext())
