"""The checks that the simulated DPS makes of a package: structure, METS, fixity, signature, formats.

The rules are those of the DPS's specification 1.8.0, as far as they decide between accepted and rejected in
practice; schemas and schematron are left to a validator of METS. No packager's code is used here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_plus

from lxml import etree

from passari_dagster import safe_xml
from passari_dagster.simulation import dps_formats, dps_signature

PROFILE = "http://digitalpreservation.fi/mets-profiles/cultural-heritage"
CATALOG = "1.8.0"
MAX_MEMBERS = 200_000

_METS = "{http://www.loc.gov/METS/}"
_FI = "{http://digitalpreservation.fi/schemas/mets/fi-extensions}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_NAMES = {"mets": "http://www.loc.gov/METS/", "premis": "info:lc/xmlns/premis-v2"}
_HASHES = {
    "MD5": "md5",
    "SHA-1": "sha1",
    "SHA-224": "sha224",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
}
_OWN_FILES = frozenset({"mets.xml", "signature.sig", "varmiste.sig"})
_NO_VALIDATION = ("fi-dpres-no-file-format-validation", "fi-dpres-file-format-identification")


@dataclass
class Result:
    """What came out.

    Arguments:
        objid: OBJID of the METS, empty where it could not be read.
        contentid: CONTENTID of the METS.
        record_status: `submission` or `update`.
        reasons: why the package is rejected; none if it is accepted.
    """

    objid: str = ""
    contentid: str = ""
    record_status: str = ""
    reasons: list[str] = field(default_factory=list)


def inspect(directory: Path, *, certificate: Path, contract_id: str, known: Collection[str]) -> Result:
    """Check the content of a package.

    Arguments:
        directory: the unpacked package.
        certificate: PEM file with the registered certificate of the signer.
        contract_id: the contract, `urn:uuid:…`.
        known: OBJIDs ingested before.
    """
    result = Result()
    try:
        dps_signature.verify(directory, certificate)
    except dps_signature.SignatureError as error:
        result.reasons.append(f"signature: {error}")
    path = directory / "mets.xml"
    try:
        mets = safe_xml.parse(path.read_bytes(), source="mets.xml")
    except OSError:
        result.reasons.append("mets.xml is missing")
        return result
    except safe_xml.UnsafeXmlError as error:
        result.reasons.append(str(error))
        return result
    result.objid = mets.get("OBJID") or ""
    result.contentid = mets.get(f"{_FI}CONTENTID") or ""
    header = mets.find(f"{_METS}metsHdr")
    result.record_status = (header.get("RECORDSTATUS") or "") if header is not None else ""
    result.reasons += _root(mets, contract_id)
    result.reasons += _history(result, known)
    result.reasons += _files(mets, directory)
    return result


def unpack(tar: Path, directory: Path) -> Iterator[str]:
    """Unpack without trust; yields what is wrong with the archive."""
    seen: set[str] = set()
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))
                if len(seen) > MAX_MEMBERS:
                    yield f"more than {MAX_MEMBERS} files"
                    return
                if not _is_safe(member.name):
                    yield f"unsafe path in the tar: {member.name!r}"
                elif member.isdir():
                    (directory / name).mkdir(parents=True, exist_ok=True)
                elif not member.isfile():
                    yield f"{name} is neither a file nor a directory"
                elif name in seen:
                    yield f"{name} is in the tar twice"
                else:
                    seen.add(name)
                    target = directory / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source = archive.extractfile(member)
                    assert source is not None, "a regular file"
                    with source, target.open("xb") as out:
                        shutil.copyfileobj(source, out)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield f"not a plain tar: {error}"
        return
    if not seen:
        yield "the tar is empty"


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and name.isprintable()


def _root(mets: etree._Element, contract_id: str) -> Iterator[str]:
    if mets.tag != f"{_METS}mets":
        yield f"the root of mets.xml is {mets.tag!r}"
    if mets.get("PROFILE") != PROFILE:
        yield f"PROFILE is {mets.get('PROFILE')!r}, expected {PROFILE!r}"
    if mets.get(f"{_FI}CONTRACTID") != contract_id:
        yield f"CONTRACTID is {mets.get(f'{_FI}CONTRACTID')!r}, which is not the contract"
    versions = {mets.get(f"{_FI}CATALOG"), mets.get(f"{_FI}SPECIFICATION")} - {None}
    if versions != {CATALOG}:
        yield f"CATALOG or SPECIFICATION is {sorted(str(v) for v in versions)}, expected {CATALOG}"
    objid = mets.get("OBJID") or ""
    if not objid or not objid.isascii() or not objid.isprintable():
        yield f"OBJID is {objid!r}, expected printable ASCII"


def _history(result: Result, known: Collection[str]) -> Iterator[str]:
    if result.record_status == "submission":
        if result.objid in known:
            yield f"RECORDSTATUS is submission, but the OBJID {result.objid} has been ingested before"
    elif result.record_status == "update":
        if result.objid not in known:
            yield f"RECORDSTATUS is update, but the OBJID {result.objid} is unknown"
    else:
        yield f"RECORDSTATUS is {result.record_status!r}, expected submission or update"


def _files(mets: etree._Element, directory: Path) -> Iterator[str]:
    technical = {element.get("ID"): element for element in mets.iterfind(".//mets:techMD", _NAMES)}
    listed: set[str] = set()
    for element in mets.iterfind(".//mets:fileSec//mets:file", _NAMES):
        location = element.find("mets:FLocat", _NAMES)
        href = (location.get(_HREF) or "") if location is not None else ""
        # The DPS's own way with a reference: + is a space, and leading dots and slashes go.
        name = unquote_plus(href).replace("file://", "").lstrip("./")
        if not href.startswith("file://") or not _is_safe(name):
            yield f"the reference {href!r} is no file:// URL into the package"
            continue
        if name in listed:
            yield f"{name} is referenced twice"
        listed.add(name)
        path = directory / name
        if not path.is_file():
            yield f"{name} is in the METS but not in the package"
            continue
        sections = [technical[i] for i in (element.get("ADMID") or "").split() if i in technical]
        objects = [
            found
            for section in sections
            for found in section.iterfind(".//premis:object", _NAMES)
            if (found.get("{http://www.w3.org/2001/XMLSchema-instance}type") or "premis:file").endswith("file")
        ]
        if len(objects) != 1:
            yield f"{name} has {len(objects)} PREMIS objects, expected one"
            continue
        yield from (f"{name}: {fault}" for fault in _fixity(path, element, objects[0]))
        if (element.get("USE") or "") not in _NO_VALIDATION:
            mime, charset = _format(objects[0])
            yield from (f"{name}: {fault}" for fault in dps_formats.faults(path, mime, charset))
    for folder, _, files in sorted(os.walk(directory)):
        for file in sorted(files):
            name = str((Path(folder) / file).relative_to(directory))
            if name not in listed and name not in _OWN_FILES:
                yield f"{name} is in the package but not in the METS"


def _fixity(path: Path, element: etree._Element, premis: etree._Element) -> Iterator[str]:
    claims = [(_text(premis, "messageDigestAlgorithm"), _text(premis, "messageDigest"))]
    if element.get("CHECKSUM"):
        claims.append((element.get("CHECKSUMTYPE") or "", element.get("CHECKSUM") or ""))
    for algorithm, digest in claims:
        known = _HASHES.get(algorithm.upper())
        if known is None:
            yield f"unknown digest algorithm {algorithm!r}"
            continue
        actual = hashlib.new(known)
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                actual.update(block)
        if actual.hexdigest() != digest.lower():
            yield f"the {algorithm} is {actual.hexdigest()}, the METS says {digest}"


def _format(premis: etree._Element) -> tuple[str, str]:
    """MIME type and charset of a format name such as `text/xml; charset=UTF-8`."""
    mime, *parameters = (part.strip() for part in _text(premis, "formatName").split(";"))
    named = dict(part.split("=", 1) for part in parameters if "=" in part)
    return mime.lower(), named.get("charset", "")


def _text(premis: etree._Element, name: str) -> str:
    return (premis.findtext(f".//premis:{name}", namespaces=_NAMES) or "").strip()
