"""The product's toolkit: MuseumPlus, our packager and the DPS, brought together.

Here the words of the three meet: what of MuseumPlus goes into a package, and how a sending that was cut short goes on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from datetime import timezone
from pathlib import Path, PurePosixPath

from passari_dagster import durable
from passari_dagster.catalogue.packages import PackageFacts
from passari_dagster.dps.service import Dps
from passari_dagster.dps.verdicts import Place, Verdict
from passari_dagster.errors import ContentProblem, PermanentFailure, TransientFailure
from passari_dagster.museumplus import items
from passari_dagster.museumplus.client import Download, Missing, MuseumPlus, NotInMuseumPlus
from passari_dagster.museumplus.preservation_log import LogEntry
from passari_dagster.settings import Settings
from passari_dagster.sip import problems
from passari_dagster.sip.archives.unpack import Limits, kind_of, unpack_in_place
from passari_dagster.sip.build import (
    PackageEvent,
    SipDescription,
    SourceFile,
    build_sip,
    require_few_files,
    require_sound,
)
from passari_dagster.sip.files import FilesChanged
from passari_dagster.sip.names import safe_name
from passari_dagster.sip.rules import Rules
from passari_dagster.sip.schema_location import Stripped, strip_schema_location
from passari_dagster.sip.signature import load_signer
from passari_dagster.sip.tools import Tools
from passari_dagster.sip.unforeseen import unforeseen
from passari_dagster.workflow import premis_events
from passari_dagster.workflow.content import LIDO, OBJECT, Content, activity_document, attachment_document, identifier
from passari_dagster.workflow.manifest import Manifest, UnpackedArchive
from passari_dagster.workflow.toolkit import Downloaded, Log, Packaged


def objid(object_id: int) -> str:
    """The package's id at the DPS, the same for every version of the object."""
    return f"Passari_Object_{object_id}"


class MuseumToolkit:
    """`PreservationToolkit` over the services that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def download(self, package: PackageFacts, root: Path, log: Log) -> Downloaded:
        """Bring documents and files, and unpack archives. A file that is here from a cut attempt, or all that was in an
        archive, is kept if it and its document are the same; all others are fetched. The manifest, which the packager
        goes by, records each.

        What is wrong with names and archives is raised when all is here, together with what is wrong with the files:
        who mends an object is told all of it at once.
        """
        downloaded, found = self._download(package, root, log)
        if found:
            raise problems.together([*found, *self._problems_of_files(package, root, log)])
        return downloaded

    def download_all(self, package: PackageFacts, root: Path, log: Log) -> list[tuple[str, ContentProblem]]:
        """Bring all of it, also files whose names cannot be kept: those under the attachment's number. An archive that
        cannot be unpacked is left out.
        """
        return [(str(path), problem) for path, problem in self._download(package, root, log)[1]]

    def _problems_of_files(
        self, package: PackageFacts, root: Path, log: Log
    ) -> list[tuple[PurePosixPath, ContentProblem]]:
        """What the packager would say."""
        try:
            content = Content(package.object_id, root / "sip", Manifest(root))
            require_sound(content.directory, self._description(package, content, ()), log)
        except ContentProblem as problem:
            return [(PurePosixPath(path), single) for path, single in problem.problems] or [(OBJECT, problem)]
        return []

    def _download(
        self, package: PackageFacts, root: Path, log: Log
    ) -> tuple[Downloaded, list[tuple[PurePosixPath, ContentProblem]]]:
        """Download, and tell what is wrong with names and archives."""
        object_id = package.object_id
        files, scratch = _Files(root / "sip", Manifest(root), log), root / "workspace" / "unpacked"
        found: list[tuple[PurePosixPath, ContentProblem]] = []
        with MuseumPlus(self._settings.museumplus) as museum:
            document = museum.item("Object", object_id)
            item = items.read_object(document)
            # Written as the last: with it, the download is complete.
            (files.sip / OBJECT).unlink(missing_ok=True)
            log(f"object {object_id}, modified {item.modified}, {len(item.attachment_ids)} attachments")
            files.write(LIDO, museum.export_lido(object_id))
            modified = [item.modified]
            for attachment_id in item.attachment_ids:
                modified.append(self._download_attachment(museum, attachment_id, files, scratch, log, found).modified)
                require_few_files(files.number)
            for activity_id in item.collection_activity_ids:
                activity = museum.item("CollectionActivity", activity_id)
                files.write_document(activity_document(activity_id), strip_schema_location(activity))
            if museum.item("Object", object_id) != document:
                raise TransientFailure(f"object {object_id} was changed in MuseumPlus while it was downloaded")
        files.write_document(OBJECT, strip_schema_location(document))
        files.remove_others()
        dates = [date for date in modified if date is not None]
        return Downloaded(object_modified=max(dates, default=None), attachment_ids=item.attachment_ids), found

    def _download_attachment(
        self,
        museum: MuseumPlus,
        attachment_id: int,
        files: _Files,
        scratch: Path,
        log: Log,
        found: list[tuple[PurePosixPath, ContentProblem]],
    ) -> items.AttachmentItem:
        stripped = strip_schema_location(museum.item("Multimedia", attachment_id))
        document = stripped.data
        attachment = items.read_attachment(document)
        metadata = attachment_document(attachment_id)
        try:
            name = safe_name(attachment.filename, allow_non_ascii=self._settings.dps.non_ascii_filenames)
        except ContentProblem as problem:
            found.append((metadata.parent / attachment.filename, problem))
            log(f"attachment {attachment_id}: {problem}")
            name = f"Multimedia_{attachment_id}{_plain_suffix(attachment.filename)}"
        file = metadata.with_name(name)
        if files.has(metadata, document) and (files.has(file) or files.has_unpacked(file)):
            log(f"attachment {attachment_id}: {name!r} is here already")
            files.tell_change(metadata, stripped)
            return attachment
        files.begin_anew(metadata.parent)
        download = museum.download_attachment(attachment_id, files.sip / file)
        if isinstance(download, Missing):
            log(f"attachment {attachment_id}: {name!r}: {download.value}: only its metadata is packaged")
        else:
            log(f"attachment {attachment_id}: {name!r}, {download.size} bytes, SHA-256 {download.sha256}")
            if kind_of(files.sip / file, self._limits) is None:
                files.add(file, download.sha256)
            else:
                try:
                    self._unpack(file, download, files, scratch, log)
                except ContentProblem as problem:
                    found.append((file, problem))
                    log(f"attachment {attachment_id}: {problem}")
        files.write_document(metadata, stripped)
        return attachment

    def _unpack(self, file: PurePosixPath, download: Download, files: _Files, scratch: Path, log: Log) -> None:
        """The archive's files instead of the archive."""
        with unforeseen(repr(str(file))):
            done = unpack_in_place(
                files.sip / file,
                scratch,
                file,
                self._limits,
                sha256=download.sha256,
                allow_non_ascii=self._settings.dps.non_ascii_filenames,
                leave_out_leftovers=self._settings.sip.leave_out_leftovers,
            )
        archive = UnpackedArchive(done.kind, download.size, download.sha256, done.date, tuple(map(str, done.leftovers)))
        files.add_unpacked(file, archive, {file / path: digest for path, digest in done.files.items()})
        log(f"{str(file)!r}: {done.kind}, unpacked to {len(done.files)} files")
        for what, paths in (("leftovers of operating systems", done.leftovers), ("empty directories", done.empty)):
            if paths:
                log(f"{str(file)!r}: {what} are left out: {', '.join(repr(str(path)) for path in paths)}")

    @property
    def _limits(self) -> Limits:
        sip = self._settings.sip
        return Limits(files=sip.archive_max_files, size=sip.archive_max_bytes, ratio=sip.archive_max_ratio)

    def package(self, package: PackageFacts, root: Path, log: Log) -> Packaged:
        """Make the tar in one process and one pass."""
        sip = root / "sip"
        signer = load_signer(self._settings.dps.sign_key)
        content = Content(package.object_id, sip, Manifest(root))
        try:
            with unforeseen(f"object {package.object_id}"):
                description = self._description(package, content, premis_events.events(content))
                kind = "submission" if description.modified is None else "update"
                log(f"{kind} SIP of {len(description.files)} files")
                built = build_sip(sip, root / package.sip_filename, description, signer, log=log)
        except FilesChanged as failure:
            # Without this one the next launch downloads them anew.
            (sip / OBJECT).unlink(missing_ok=True)
            raise FilesChanged(
                f"object {package.object_id}, which is downloaded anew when it is launched again: {failure}"
            ) from failure
        return Packaged(size=built.size, sha256=built.sha256)

    def _description(self, package: PackageFacts, content: Content, events: tuple[PackageEvent, ...]) -> SipDescription:
        dps = self._settings.dps
        return SipDescription(
            objid=objid(package.object_id),
            content_id=f"Object_{package.object_id}",
            contract_id=dps.contract_id,
            organization=dps.organization,
            created=package.first_preserved or package.created,
            modified=package.created if package.first_preserved is not None else None,
            lido=LIDO,
            files=tuple(
                SourceFile(path, identifier(package.object_id, path), content.manifest.digests[str(path)])
                for path in content.paths
            ),
            events=events,
            rules=_rules(self._settings),
        )

    def submit(self, package: PackageFacts, root: Path, intend: Callable[[], None], log: Log) -> None:
        """Send the tar, unless the DPS has it; see `docs/architecture.md`, "Never twice"."""
        name, tar = package.sip_filename, root / package.sip_filename
        with Dps(self._settings.dps) as dps:
            found = dps.find(name, objid(package.object_id), package.created)
            if found.place in (Place.TRANSFER, Place.ACCEPTED, Place.REJECTED):
                log(f"{name} is with the DPS already ({found.place.value}): nothing is sent")
                return
            if package.intended and found.place is Place.NOWHERE:
                log(f"{name} was perhaps sent at {package.submission_date}, and is nowhere: it counts as sent")
                return
            if package.intended and found.size == package.sip_size:
                # All bytes are there; only the new name is missing. Not sent anew: the rename that was cut short
                # may still happen, and must then find the whole file.
                if dps.rename_incomplete(name):
                    log(f"{name} had been sent, and has its name now")
                else:
                    log(f"{name} had been sent, and has got its name meanwhile")
                return
            # passari-workflow recorded no digest: what it made is not known, and is neither sent nor removed by us.
            if package.sip_sha256 is None or durable.sha256_of(tar) != package.sip_sha256:
                fault = f"{tar} is gone, or not the file that was made"
                if package.intended:
                    # Not made anew under this name: a rename that was cut short may still hand over what lies there.
                    raise PermanentFailure(
                        f"{name} is with the DPS in part only, and {fault}: give it up with "
                        f"`passari-dagster cancel {package.object_id}`, and enqueue the object again"
                    )
                tar.unlink(missing_ok=True)
                raise PermanentFailure(f"{fault}: launch object {package.object_id} again")
            log(f"sending {name}, {package.sip_size} bytes, SHA-256 {package.sip_sha256}")
            dps.submit(tar, name, before_rename=intend, sha256=package.sip_sha256)

    def confirm(self, package: PackageFacts, root: Path, log: Log) -> None:
        """Reports first, so that nothing is removed of which we have no evidence."""
        if package.verdict is None or package.verdict_date is None or package.transfer_id is None:
            raise PermanentFailure(f"{package.sip_filename} has no verdict")
        day = package.report_day or package.verdict_date.astimezone(timezone.utc).date()
        verdict = Verdict(
            name=package.sip_filename,
            objid=objid(package.object_id),
            status=package.verdict.value,
            date=day,
            reported=package.verdict_date,
            transfer_id=package.transfer_id,
        )
        with Dps(self._settings.dps) as dps:
            for report in dps.fetch_reports(verdict, root / "logs"):
                log(f"fetched {report.name}")
            self._tell_museum(package, verdict, log)
            if verdict.status == "rejected" and dps.remove_rejected(verdict.name, day):
                log("removed the rejected content at the DPS")

    def _tell_museum(self, package: PackageFacts, verdict: Verdict, log: Log) -> None:
        museumplus = self._settings.museumplus
        if not museumplus.add_log_entries or museumplus.log_field is None:
            return
        entry = LogEntry(
            filename=verdict.name,
            status=verdict.status,
            object_modify_date=package.object_modified,
            date=verdict.reported,
        )
        try:
            with MuseumPlus(museumplus) as museum:
                written = museum.add_log_entry(package.object_id, entry)
        except NotInMuseumPlus:
            log("MuseumPlus has no such object any more: nobody is told")
            return
        log("told MuseumPlus" if written else "MuseumPlus knew already")


def _rules(settings: Settings) -> Rules:
    tools = settings.sip.tools
    return Rules(
        non_ascii_filenames=settings.dps.non_ascii_filenames,
        multi_page_tiff=settings.sip.multi_page_tiff,
        jpeg_exif_23=settings.sip.jpeg_exif_23,
        unsupported_originals=settings.sip.unsupported_originals,
        broken_originals=settings.sip.broken_originals,
        tools=Tools(tools.jhove, tools.verapdf, tools.scraper, tools.timeout),
    )


class _Files:
    """The files of a download, and the manifest that records them."""

    def __init__(self, sip: Path, manifest: Manifest, log: Log) -> None:
        self.sip, self._manifest, self._log = sip, manifest, log
        self._present: set[str] = set()

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self._present)

    def write(self, path: PurePosixPath, data: bytes) -> None:
        """A document that is here whole."""
        (self.sip / path).parent.mkdir(exist_ok=True)
        durable.write_bytes(self.sip / path, data)
        self.add(path, hashlib.sha256(data).hexdigest())

    def write_document(self, path: PurePosixPath, document: Stripped) -> None:
        """A document that was perhaps changed by us, which is told."""
        self.tell_change(path, document)
        self.write(path, document.data)

    def tell_change(self, path: PurePosixPath, document: Stripped) -> None:
        """What was changed in a document, or that nothing was: the log and the package have it."""
        if document.note is not None:
            self._log(f"{path}: {document.note}")
        self._manifest.tell_change(str(path), document.note)

    def add(self, path: PurePosixPath, sha256: str) -> None:
        """A file that was written by somebody else."""
        self._manifest.add({str(path): sha256})
        self._present.add(str(path))

    def add_unpacked(
        self, path: PurePosixPath, archive: UnpackedArchive, contents: Mapping[PurePosixPath, str]
    ) -> None:
        """What became of an archive; one write, so that there are not some of its files without the others."""
        files = {str(file): sha256 for file, sha256 in contents.items()}
        self._manifest.add(files, {str(path): archive})
        self._present |= files.keys()

    def has(self, path: PurePosixPath, data: bytes | None = None) -> bool:
        """Whether the file is the one that an earlier attempt recorded, and holds `data` if that is given."""
        file = self.sip / path
        if not self._manifest.holds(str(path), file) or (data is not None and file.read_bytes() != data):
            return False
        self._present.add(str(path))
        return True

    def has_unpacked(self, path: PurePosixPath) -> bool:
        """Whether an earlier attempt unpacked an archive of this name, and all that was in it is here still."""
        recorded = self._manifest.below(str(path))
        if str(path) not in self._manifest.archives or not all(
            self._manifest.holds(name, self.sip / name) for name in recorded
        ):
            return False
        self._present |= recorded.keys()
        return True

    def begin_anew(self, directory: PurePosixPath) -> None:
        """An empty directory."""
        self._present.difference_update(self._manifest.forget(str(directory)))
        shutil.rmtree(self.sip / directory, ignore_errors=True)
        (self.sip / directory).mkdir()

    def remove_others(self) -> None:
        """Remove what the object had in an earlier attempt and has no longer."""
        self._manifest.keep_only(self._present)
        for path in sorted(self.sip.rglob("*"), reverse=True):
            name = path.relative_to(self.sip).as_posix()
            if path.is_dir() and not path.is_symlink():
                if path.parent != self.sip and not any(path.iterdir()):
                    path.rmdir()
            elif name not in self._present:
                path.unlink()


def _plain_suffix(filename: str) -> str:
    """The suffix of a file that is kept under another name; with it its format is told as with its own."""
    suffix = PurePosixPath(filename).suffix
    return suffix if suffix.isascii() and suffix[1:].isalnum() and len(suffix) < 16 else ".attachment"
