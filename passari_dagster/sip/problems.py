"""Every kind of content problem that the packager finds: one catalogue, which the documentation is made from.

The reason is the key by which objects are frozen and unfrozen, so that a text here, once released, stays as it is;
those of passari are kept to the letter. What exactly was found, and where, is told by who raises it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.formats.facts import FileFormat


class FileProblem(ContentProblem):
    """A content problem of a file whose format is known all the same.

    Arguments:
        identified: the format; None: it is not known.
    """

    def __init__(self, reason: str, detail: str, *, code: str, advice: str, identified: FileFormat | None) -> None:
        super().__init__(reason, detail, code=code, advice=advice)
        self.identified = identified


@dataclass(frozen=True)
class Kind:
    """A kind of content problem.

    Arguments:
        code: short, for settings and reports: `jpeg-damaged`.
        reason: stable text; may have places for words from a closed list: `Unsupported file format: {format}`.
        advice: what an archivist can do about it.
        example: what such a file is like, in a few words.
    """

    code: str
    reason: str
    advice: str
    example: str

    def found(self, detail: str = "", *, identified: FileFormat | None = None, **words: str) -> FileProblem:
        """The problem, to be raised.

        Arguments:
            detail: what exactly was found.
            identified: what the file is nevertheless; see `originals`.
            words: for the places in the reason.
        """
        reason = self.reason.format(**words)
        return FileProblem(reason, detail, code=self.code, advice=self.advice, identified=identified)


MOST_TOLD, LONGEST_LINE = 100, 500
"""Most lines in the text of several problems, and most characters of one: an object may have 100,000 files."""


def told(lines: Sequence[str]) -> str:
    """The text of several problems, which is kept with a frozen object: the first ones, and how many there are more."""
    more = len(lines) - MOST_TOLD
    shown = [line[:LONGEST_LINE] for line in lines[:MOST_TOLD]]
    return "\n".join([*shown, f"and {more} more"] if more > 0 else shown)


def together(found: Sequence[tuple[PurePosixPath, ContentProblem]]) -> ContentProblem:
    """All problems of an object as one, which has the reason of the first.

    Arguments:
        found: at least one, each with its file: a path in the package.
    """
    lines = [line for path, problem in found for line in f"{str(path)!r}: {problem}".splitlines()]
    first = found[0][1]
    single = [(str(path), problem) for path, problem in found]
    return ContentProblem(first.reason, told(lines), code=first.code, advice=first.advice, problems=single)


def kinds() -> tuple[Kind, ...]:
    """All kinds below, in their order."""
    return tuple(value for value in globals().values() if isinstance(value, Kind))


# Names of files

RESERVED_NAME = Kind(
    "reserved-name",
    "Filename 'Multimedia.xml' not allowed for attachment",
    "Rename the attachment in MuseumPlus: the package keeps its metadata under that name.",
    "an attachment called multimedia.xml",
)
NON_ASCII_NAME = Kind(
    "non-ascii-name",
    "Filename contains non-ASCII characters",
    "Rename the attachment in MuseumPlus, or set `dps.non_ascii_filenames` when the DPS takes such names.",
    "an attachment called Äyräpää.jpg",
)
NAME_NOT_ALLOWED = Kind(
    "name-not-allowed",
    "Filename not allowed for attachment",
    "Rename the file.",
    "a name with a slash, a new line, or of more than 255 bytes",
)
SAME_NAMES = Kind(
    "same-names",
    "Filenames differ only in white space",
    "Rename one of the files.",
    "`a b.jpg` and `a  b.jpg` in one attachment",
)
SYMBOLIC_LINK = Kind(
    "symbolic-link",
    "Symbolic links are not allowed",
    "Replace the link by the file.",
    "a link in an archive",
)

TOO_MANY_FILES = Kind(
    "too-many-files",
    "Object has too many files",
    "Divide it into several objects, or leave archives of many files out.",
    "six archives of 10,000 files each",
)

# Archives

ARCHIVE_DAMAGED = Kind(
    "archive-damaged",
    "Archive is damaged",
    "Make the archive again.",
    "a ZIP that was cut off, or with a wrong checksum",
)
ARCHIVE_ENCRYPTED = Kind(
    "archive-encrypted",
    "Archive is encrypted",
    "Make the archive again without a password.",
    "a ZIP that asks for a password",
)
ARCHIVE_EMPTY = Kind(
    "archive-empty", "Archive has no files", "Remove the attachment, or upload what it should hold.", "a ZIP of nothing"
)
ARCHIVE_VARIANT = Kind(
    "archive-variant",
    "Archive variant not supported",
    "Make the archive again as an ordinary ZIP.",
    "a ZIP by Deflate64, a 7z by PPMd, a sparse file in a TAR",
)
ARCHIVE_NESTED = Kind(
    "archive-nested",
    "Archive in an archive",
    "Unpack the inner archive, and make one of all files.",
    "a ZIP in a ZIP",
)
ARCHIVE_TOO_MANY_FILES = Kind(
    "archive-too-many-files",
    "Archive has too many files",
    "Divide it into several attachments, or raise `sip.archive_max_files`.",
    "more than 10,000 files and directories",
)
ARCHIVE_TOO_LARGE = Kind(
    "archive-too-large",
    "Archive is too large when unpacked",
    "Divide it into several attachments, or raise `sip.archive_max_bytes`.",
    "more than 100 GB",
)
ARCHIVE_RATIO = Kind(
    "archive-ratio",
    "Archive is compressed beyond measure",
    "Look whether it is what it should be; then upload the files themselves, or raise `sip.archive_max_ratio`.",
    "a gigabyte of zeros in a megabyte",
)
ARCHIVE_PATH = Kind(
    "archive-path",
    "Archive has a path that leads out of it",
    "Find out who made the archive, and make it again.",
    "../../etc/passwd, C:\\autoexec.bat",
)
ARCHIVE_SPECIAL_FILE = Kind(
    "archive-special-file",
    "Archive has something that is no file",
    "Make the archive again without it.",
    "a hard link, a device, a pipe in a TAR",
)
ARCHIVE_SAME_NAMES = Kind(
    "archive-same-names",
    "Archive has names that cannot be kept apart",
    "Rename one of the files, and make the archive again.",
    "kuva.jpg and Kuva.JPG, which are one file on many computers",
)
ARCHIVE_NAME_ENCODING = Kind(
    "archive-name-encoding",
    "Archive has a name in an unknown encoding",
    "Make the archive again with a program that writes names as Unicode.",
    "a name in a code page of Windows that is not Western",
)

# All formats

EMPTY = Kind("empty", "File is empty", "Upload the file to MuseumPlus again.", "a file of 0 bytes")
UNSUPPORTED = Kind(
    "unsupported-format",
    "Unsupported file format: {format}",
    "Convert the file to a format that the DPS accepts.",
    "a Photoshop file",
)
NOT_PACKAGED = Kind(
    "not-packaged",
    "File format not yet packaged: {format}",
    "The DPS accepts it, this version of passari_dagster does not package it: convert the file, or wait.",
    "a DPX film scan",
)
VERSION = Kind(
    "version-not-supported",
    "Version of file format not supported: {format}",
    "Save the file in a version that the DPS accepts.",
    "a PDF 2.0",
)

# Images

JPEG_VERSION = Kind(
    "jpeg-version",
    "JPEG version not supported",
    "Save the image again with JFIF or Exif metadata.",
    "a JPEG of an old Photoshop, without JFIF and Exif",
)
JPEG_DAMAGED = Kind("jpeg-damaged", "JPEG file is damaged", "Export the image again.", "a JPEG that was cut off")
JPEG_UNDETECTED = Kind(
    "jpeg-undetected",
    "JPEG MIME type detection failed",
    "Export the image again; if it is another format, give it the suffix of that.",
    "something else that is called kuva.jpg",
)
MPO = Kind(
    "mpo",
    "MPO JPEG files not supported",
    "Save the first image of the file alone.",
    "a picture of a stereo camera, or of a telephone with a second image for its depth",
)
TIFF_DAMAGED = Kind(
    "tiff-damaged",
    "TIFF file failed JHOVE validation",
    "Save the image again with another program.",
    "a TIFF that was cut off, or whose tags are not in order",
)
TIFF_VARIANT = Kind(
    "tiff-variant", "TIFF variant not supported", "Save as classic TIFF 6.0.", "a BigTIFF, or a GeoTIFF"
)
MULTI_PAGE_TIFF = Kind(
    "multi-page-tiff",
    "Multi-page TIFF not allowed",
    "Save each page as a file of its own, or set `sip.multi_page_tiff`.",
    "a letter scanned into one TIFF of three pages",
)
PNG_DAMAGED = Kind("png-damaged", "PNG file is damaged", "Export the image again.", "a PNG with a wrong checksum")
GIF_DAMAGED = Kind("gif-damaged", "GIF file is damaged", "Export the image again.", "a GIF that was cut off")
JP2_DAMAGED = Kind(
    "jp2-damaged", "JPEG 2000 file is damaged", "Export the image again.", "a JP2 that jpylyzer finds not to be valid"
)
WEBP_DAMAGED = Kind("webp-damaged", "WebP file is damaged", "Export the image again.", "a WebP that was cut off")
DNG_DAMAGED = Kind(
    "dng-damaged",
    "DNG file is damaged",
    "Export it from the camera's own file again.",
    "a DNG whose raw image is cut off",
)
IMAGE_TOO_LARGE = Kind(
    "image-too-large",
    "Image too large to be checked",
    "Save the image as TIFF without compression, as JPEG that is not progressive, or in parts.",
    "a progressive JPEG of 10,000 × 10,000 pixels",
)

# Audio and video

AV_DAMAGED = Kind(
    "av-damaged",
    "Audio or video file is damaged",
    "Export the file again from its source.",
    "a film that was cut off, or a sound that cannot be decoded to its end",
)
AV_CODEC = Kind(
    "av-codec",
    "Codec not supported in {container} file: {codec}",
    "Convert the sound or the pictures to a codec that the DPS accepts in such a file.",
    "an MP4 with MPEG-4 Visual, a WAV with A-law, H.264 in Matroska",
)
AV_PICTURE = Kind(
    "av-picture",
    "Audio or video file has a picture inside",
    "Save the cover picture as a file of its own, and the file without it.",
    "an MP3 with the cover of its record",
)
AV_VARIANT = Kind(
    "av-variant",
    "Audio or video variant not supported: {format}",
    "Save the file as plain WAV, MP4 or Matroska.",
    "a WAV of the kind RF64, a film of a telephone (3GPP)",
)
AV_LIMIT = Kind(
    "av-limit",
    "Audio or video file too large to be checked",
    "Save the file in parts, or with smaller pictures.",
    "a film whose pictures have 20,000 × 20,000 pixels",
)

# Outside tools

TOOL = Kind(
    "tool",
    "File failed validation by {tool}",
    "Read what the tool found wrong, and save the file again; a real run keeps all its words in the package's log.",
    "a PDF/A that veraPDF finds not to be one",
)

# Documents

PDF_DAMAGED = Kind("pdf-damaged", "PDF file is damaged", "Export the document again.", "a PDF that was cut off")
PDF_ENCRYPTED = Kind(
    "pdf-encrypted",
    "PDF file is encrypted",
    "Save the document without password and restrictions.",
    "a PDF that may not be printed",
)
PDF_VERSIONS = Kind(
    "pdf-versions",
    "PDF file tells two versions",
    "Save the document anew, best as PDF/A: the tools of the DPS do not agree on its version.",
    "a PDF 1.4 that was changed by a program for PDF 1.7",
)
PDFA_INVALID = Kind(
    "pdfa", "PDF/A file is not valid", "Export the document as PDF/A again.", "a PDF/A-1 with compressed metadata"
)
OFFICE_DAMAGED = Kind(
    "office-damaged", "Office file is damaged", "Save the document again.", "a text document that was cut off"
)
OFFICE_PASSWORD = Kind(
    "office-password",
    "Office file is protected by a password",
    "Save the document without a password.",
    "a spreadsheet that asks for a password",
)
EPUB_DAMAGED = Kind("epub-damaged", "EPUB file is damaged", "Export the book again.", "an EPUB without its chapters")
EPUB_PROTECTED = Kind(
    "epub-protected", "EPUB file is protected", "Get the book without copy protection.", "a book from a shop"
)
TOO_MUCH_WORK = Kind(
    "too-much-work",
    "Document too large to be checked",
    "Save the document in parts.",
    "a decompression bomb: a text of 1 MB that grows to 1 GB",
)

# Text and XML

TEXT_ENCODING = Kind(
    "text-encoding", "Text encoding not supported", "Save the text as UTF-8.", "a text in a code page of Windows"
)
TEXT_CONTROL = Kind(
    "text-control",
    "Text file has control characters",
    "Remove them, or find out what the file is.",
    "a form feed of old",
)
TEXT_TOO_LARGE = Kind(
    "text-too-large",
    "Text file too large to be checked",
    "Save it in parts, or as another format.",
    "an HTML page of 50 megabytes, or a table of 20,000 columns",
)
CSV_DAMAGED = Kind(
    "csv-damaged",
    "CSV file is not a table",
    "Save the table again, with the same number of fields in every row; if it is no table, as .txt.",
    "a row that has one field more than the first",
)
JSON_DAMAGED = Kind(
    "json-damaged", "JSON file is not valid", "Correct the file, or export it again as UTF-8.", "a comma at the end"
)
HTML_DAMAGED = Kind(
    "html-damaged",
    "HTML file is not valid",
    "Correct the page; validator.w3.org tells what is wrong with it.",
    "an image without a text instead, or an element that is not closed",
)
HTML_DOCTYPE = Kind(
    "html-doctype",
    "HTML file has no document type declaration",
    "Begin the page with <!DOCTYPE html>.",
    "a page that begins with <html>",
)
HTML_ENCODING = Kind(
    "html-encoding",
    "HTML encoding not supported",
    'Save the page as UTF-8, with <meta charset="utf-8">.',
    "a page that says it is in windows-1252",
)
XML_DAMAGED = Kind(
    "xml-damaged", "XML file is not well-formed", "Correct the document.", "an element that is not closed"
)
XML_ENCODING = Kind("xml-encoding", "XML encoding not supported", "Save as UTF-8.", 'encoding="windows-1252"')
XML_VERSION = Kind("xml-version", "XML version not supported", "Save as XML 1.0.", 'version="1.1"')
XML_DOCTYPE = Kind(
    "xml-doctype", "XML file has a document type declaration", "Remove it.", "<!DOCTYPE …> before the root element"
)
XML_SCHEMA = Kind(
    "xml-schema",
    "XML file names a schema that the DPS does not know",
    "Remove xsi:schemaLocation.",
    "a schema of the museum's own",
)
LIDO_INVALID = Kind(
    "lido", "LIDO document not valid", "Correct the export template in MuseumPlus.", "an export that is no LIDO"
)
