"""`mets.xml`: the national METS profile for cultural heritage, catalogue and specification 1.8.0.

Only how the document is put together belongs here; `premis`, `mix`, `audiomd`, `videomd` and `addml` write their own
sections.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import quote

from lxml import etree

from passari_dagster import __version__
from passari_dagster.sip.addml import addml
from passari_dagster.sip.audiomd import audiomd
from passari_dagster.sip.description import SipDescription, SourceFile
from passari_dagster.sip.elements import NAMESPACES, add, iso, qname
from passari_dagster.sip.formats.facts import AudioFacts, Examined, FileFormat, ImageFacts, VideoFacts
from passari_dagster.sip.lido import Embedded
from passari_dagster.sip.mix import mix
from passari_dagster.sip.premis import Event, premis_agent, premis_bitstream, premis_event, premis_object
from passari_dagster.sip.videomd import videomd

PROFILE = "http://digitalpreservation.fi/mets-profiles/cultural-heritage"
SPECIFICATION = "1.8.0"
SCHEMA_LOCATION = "http://www.loc.gov/METS/ http://digitalpreservation.fi/schemas/mets/mets.xsd"
AGENT = f"passari_dagster-v{__version__}"

_Place = PurePosixPath | tuple[PurePosixPath, int]
"""What a metadata section is about: a file, a directory, or a stream of a file by its number."""

_ROOT = PurePosixPath()
_OTHER = frozenset({"AudioMD", "VideoMD", "ADDML"})
"""Kinds of metadata that METS itself does not know."""
_NAMESPACE = uuid.UUID("6f8f2a0e-5f0e-5b52-9d4b-3f1c0a1f7c11")  # of all ids below; any constant will do


@dataclass(frozen=True)
class PackedFile:
    """A file of the package that was examined, and accepted.

    Arguments:
        source: the file.
        examined: what was found.
        format: what the METS tells of it.
        use: `mets:file/@USE` of an original that is kept beside its copies.
        copies: those, by path.
    """

    source: SourceFile
    examined: Examined
    format: FileFormat
    use: str | None = None
    copies: tuple[PurePosixPath, ...] = ()

    @property
    def href(self) -> str:
        """URL in the METS. The DPS reads `+` as a space, so it is always quoted."""
        return "file:///" + quote(self.source.path.as_posix(), safe="/")


def mets_document(
    description: SipDescription, files: tuple[PackedFile, ...], lido: Embedded, *, now: datetime
) -> bytes:
    """The whole `mets.xml`, UTF-8.

    Arguments:
        description: the package.
        files: its files, examined, sorted by path.
        lido: the LIDO document; its root is moved into the METS.
        now: the time of the packaging.

    Raises:
        ValueError: an event about something that is not in the package, or a time without a zone.
    """
    return _Builder(description, files, lido, now).build()


class _Builder:
    """Collects which sections concern which file or directory while it writes them."""

    def __init__(
        self, description: SipDescription, files: tuple[PackedFile, ...], lido: Embedded, now: datetime
    ) -> None:
        self.description = description
        self.lido = lido
        self.files = files
        self.now = now
        # Ids are derived, so that the same package made again has the same; they differ between versions.
        version = iso(description.modified or description.created)
        self.scope = uuid.uuid5(_NAMESPACE, f"{description.objid} {version}")
        self.by_path = {file.source.path: file for file in files}
        self.directories = {_ROOT} | {parent for file in files for parent in file.source.path.parents}
        self.sections: dict[_Place, list[str]] = {path: [] for path in (*self.by_path, *self.directories)}

    def build(self) -> bytes:
        root = etree.Element(
            qname("mets:mets"),
            {
                qname(name): value
                for name, value in {
                    "xsi:schemaLocation": SCHEMA_LOCATION,
                    "PROFILE": PROFILE,
                    "OBJID": self.description.objid,
                    "fi:CONTRACTID": self.description.contract_id,
                    "fi:CONTENTID": self.description.content_id,
                    "fi:CATALOG": SPECIFICATION,
                    "fi:SPECIFICATION": SPECIFICATION,
                }.items()
            },
            nsmap=NAMESPACES,
        )
        self._header(root)
        self._descriptive(root)
        self._administrative(root)
        group = add(add(root, "mets:fileSec"), "mets:fileGrp")
        for file in self.files:
            self._file(group, file)
        structure = add(root, "mets:structMap", None, {"TYPE": "PHYSICAL"})
        self._divisions(structure)
        return etree.tostring(root, encoding="UTF-8", xml_declaration=True)

    def _header(self, root: etree._Element) -> None:
        modified = self.description.modified
        dates = {"CREATEDATE": iso(self.description.created)}
        if modified is not None:
            dates["LASTMODDATE"] = iso(modified)
        status = "submission" if modified is None else "update"
        header = add(root, "mets:metsHdr", None, {**dates, "RECORDSTATUS": status})
        agent = add(header, "mets:agent", None, {"ROLE": "CREATOR", "TYPE": "ORGANIZATION"})
        add(agent, "mets:name", self.description.organization)

    def _descriptive(self, root: etree._Element) -> None:
        section = add(root, "mets:dmdSec", None, {"ID": self._id("dmdSec"), "CREATED": iso(self.now)})
        wrap = add(section, "mets:mdWrap", None, {"MDTYPE": "LIDO", "MDTYPEVERSION": "1.0"})
        add(wrap, "mets:xmlData").append(self.lido.root)

    def _administrative(self, root: etree._Element) -> None:
        administrative = add(root, "mets:amdSec")
        # The schema wants all techMD before all digiprovMD.
        for file in self.files:
            path = file.source.path
            data = self._section(administrative, "techMD", "PREMIS:OBJECT", "2.3", f"object {path}", [path])
            streams = [
                self._bitstream(path, number) for number, stream in enumerate(file.format.streams) if stream.mimetype
            ]
            premis_object(data, file.source.identifier, file.examined, file.format, streams)
            for number, image in enumerate(file.format.images):
                self._technical(administrative, file, image, f"mix {number} {path}", path)
            if file.format.audio is not None:
                self._technical(administrative, file, file.format.audio, f"audio {path}", path)
            if file.format.table is not None:
                addml(
                    self._section(administrative, "techMD", "ADDML", "8.3", f"addml {path}", [path]),
                    file.format,
                    file.href,
                )
            self._streams(administrative, file)
        agent = self._uuid("agent")
        everywhere = [_ROOT, *self.by_path]
        data = self._section(administrative, "digiprovMD", "PREMIS:AGENT", "2.3", "agent md", everywhere)
        premis_agent(data, agent, AGENT)
        for event, places in (*self._past_events(), *self._normalizations(), *self._own_events()):
            key = f"event md {event.identifier}"
            data = self._section(administrative, "digiprovMD", "PREMIS:EVENT", "2.3", key, places)
            premis_event(data, event, [agent])

    def _streams(self, administrative: etree._Element, file: PackedFile) -> None:
        """What is known of the streams of a file."""
        path = file.source.path
        for number, stream in enumerate(file.format.streams):
            place = (path, number)
            self.sections[place] = []
            if stream.mimetype:
                key = f"stream object {number} {path}"
                data = self._section(administrative, "techMD", "PREMIS:OBJECT", "2.3", key, [place])
                premis_bitstream(data, self._bitstream(path, number), stream)
            self._technical(administrative, file, stream.facts, f"stream {number} {path}", place)

    def _technical(
        self,
        administrative: etree._Element,
        file: PackedFile,
        facts: ImageFacts | AudioFacts | VideoFacts,
        key: str,
        place: _Place,
    ) -> None:
        """A section of technical metadata, of the kind that fits the facts."""
        if isinstance(facts, ImageFacts):
            mix(self._section(administrative, "techMD", "NISOIMG", "2.0", key, [place]), facts, file.href)
        elif isinstance(facts, AudioFacts):
            audiomd(self._section(administrative, "techMD", "AudioMD", "2.0", key, [place]), facts)
        else:
            videomd(self._section(administrative, "techMD", "VideoMD", "2.0", key, [place]), facts)

    def _past_events(self) -> list[tuple[Event, list[PurePosixPath]]]:
        """The events that the caller tells about, each with the file or directory it is about."""
        events = []
        for number, past in enumerate(self.description.events):
            target = past.target or _ROOT
            if target not in self.sections:
                raise ValueError(f"an event is about {target}, which is not in the package")
            concerned = self._identifiers(target)
            identifier = self._uuid(f"past event {number}")
            event = Event(identifier, past.event_type, past.date, past.detail, past.outcome_note, tuple(concerned))
            events.append((event, [target]))
        return events

    def _identifiers(self, target: PurePosixPath) -> list[str]:
        """Of a file, or of all files in a directory; of none where it is the whole package."""
        if target in self.by_path:
            return [self.by_path[target].source.identifier]
        if target == _ROOT:
            return []
        return [file.source.identifier for path, file in self.by_path.items() if target in path.parents]

    def _normalizations(self) -> list[tuple[Event, list[PurePosixPath]]]:
        """What leads from an original that the DPS does not take to the copy that it does."""
        return [
            (
                Event(
                    self._uuid(f"normalization {path}"),
                    "normalization",
                    self.now,
                    "A copy in a format that is preserved was made of an original",
                    "The museum made the copy before the packaging; the date is that of the packaging",
                    sources=(file.source.identifier,),
                    outcomes=tuple(self.by_path[copy].source.identifier for copy in file.copies),
                ),
                [path, *file.copies],
            )
            for path, file in self.by_path.items()
            if file.copies
        ]

    def _own_events(self) -> list[tuple[Event, list[PurePosixPath]]]:
        """What the packaging did: one event of a kind for all the files that it was done to."""
        everything = list(self.by_path)
        valid = [path for path, file in self.by_path.items() if file.use is None]
        images = self._with_facts(ImageFacts)
        recordings = self._with_facts(AudioFacts, VideoFacts)
        tables = [path for path, file in self.by_path.items() if file.format.table is not None]
        # Type, detail, note, the files done to; and whether the event stands at the root instead.
        done: list[tuple[str, str, str, list[PurePosixPath], bool]] = [
            (
                "message digest calculation",
                "Checksum calculation for digital objects",
                "SHA-256 checksums calculated",
                everything,
                False,
            ),
            (
                "format identification",
                "Format and version identification from the content of the files",
                "File formats identified",
                everything,
                False,
            ),
            (
                "validation",
                "Validation of well-formedness and character encoding; decoding of images, audio and video",
                "Files are readable as the formats they were identified as",
                valid,
                False,
            ),
            (
                "metadata extraction",
                "Technical metadata extraction as MIX metadata from image files",
                "MIX metadata created",
                images,
                False,
            ),
            (
                "metadata extraction",
                "Technical metadata extraction as AudioMD and VideoMD metadata from audio and video files",
                "AudioMD and VideoMD metadata created",
                recordings,
                False,
            ),
            (
                "metadata extraction",
                "Technical metadata extraction as ADDML metadata from CSV files",
                "ADDML metadata created",
                tables,
                False,
            ),
            (
                "metadata extraction",
                "Descriptive metadata import to the METS document",
                self.lido.note,
                [self.description.lido],
                True,
            ),
            ("creation", "Creation of the structural metadata", "structMap created", [], True),
        ]
        events = []
        for event_type, detail, note, paths, at_root in done:
            if paths or at_root:
                identifiers = tuple(self.by_path[path].source.identifier for path in paths)
                event = Event(self._uuid(f"event {detail}"), event_type, self.now, detail, note, identifiers)
                events.append((event, [_ROOT] if at_root else paths))
        return events

    def _with_facts(self, *kinds: type) -> list[PurePosixPath]:
        """Files with technical metadata of a kind, in themselves or in their streams."""
        return [
            path
            for path, file in self.by_path.items()
            if any(
                isinstance(facts, kinds)
                for facts in (*file.format.images, file.format.audio, *(stream.facts for stream in file.format.streams))
            )
        ]

    def _file(self, group: etree._Element, file: PackedFile) -> None:
        path = file.source.path
        sections = " ".join(self.sections[path])
        attributes = {"ID": self._id(f"file {path}"), "ADMID": sections}
        if file.use is not None:
            attributes["USE"] = file.use
        element = add(group, "mets:file", None, attributes)
        where = {"LOCTYPE": "URL", "xlink:type": "simple", "xlink:href": file.href}
        add(element, "mets:FLocat", None, where)
        for number in range(len(file.format.streams)):
            add(element, "mets:stream", None, {"ADMID": " ".join(self.sections[path, number])})

    def _divisions(self, structure: etree._Element) -> None:
        """A division for each directory, in its place, and for each file."""
        root = {"TYPE": "directory", "DMDID": self._id("dmdSec"), "ADMID": " ".join(self.sections[_ROOT])}
        divisions = {_ROOT: add(structure, "mets:div", None, root)}
        for path in sorted(self.directories - {_ROOT}):  # a directory sorts before what is in it
            attributes = {"TYPE": "directory", "LABEL": path.name}
            if self.sections[path]:
                attributes["ADMID"] = " ".join(self.sections[path])
            divisions[path] = add(divisions[path.parent], "mets:div", None, attributes)
        for path in self.by_path:
            division = add(divisions[path.parent], "mets:div", None, {"TYPE": "file", "LABEL": path.name})
            add(division, "mets:fptr", None, {"FILEID": self._id(f"file {path}")})

    def _section(
        self,
        parent: etree._Element,
        name: str,
        kind: str,
        version: str,
        key: str,
        places: Sequence[_Place],
    ) -> etree._Element:
        """A metadata section that the given files, directories and streams refer to; returns its xmlData."""
        identifier = self._id(key)
        for place in places:
            self.sections[place].append(identifier)
        section = add(parent, f"mets:{name}", None, {"ID": identifier, "CREATED": iso(self.now)})
        known = {"MDTYPE": "OTHER", "OTHERMDTYPE": kind} if kind in _OTHER else {"MDTYPE": kind}
        wrap = add(section, "mets:mdWrap", None, {**known, "MDTYPEVERSION": version})
        return add(wrap, "mets:xmlData")

    def _bitstream(self, path: PurePosixPath, number: int) -> str:
        """Identifier of the PREMIS object of a stream."""
        return self._uuid(f"bitstream {number} {path}")

    def _uuid(self, key: str) -> str:
        return str(uuid.uuid5(self.scope, key))

    def _id(self, key: str) -> str:
        """An XML id; those begin with a letter or an underscore."""
        return f"_{self._uuid(key)}"
