"""What is known of a file when it has been read: the words in which the readers of formats answer."""

from __future__ import annotations

from dataclasses import dataclass

from passari_dagster.errors import ContentProblem


@dataclass(frozen=True)
class ImageFacts:
    """Technical metadata of one image, in the words of MIX 2.0."""

    width: int
    height: int
    color_space: str
    bits_per_sample: tuple[int, ...]
    compression: str
    sample_unit: str = "integer"
    byte_order: str | None = None
    extra_samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileFormat:
    """A format, with the technical metadata that the DPS wants of it.

    Arguments:
        mimetype: as `accepted.csv` has it.
        version: exact; None: the format has no versions, or the file tells none.
        charset: of a text, as the METS names it.
        images: of an image file; several for the pages of a TIFF.
    """

    mimetype: str
    version: str | None = None
    charset: str | None = None
    images: tuple[ImageFacts, ...] = ()

    @property
    def name(self) -> str:
        """PREMIS formatName: the MIME type, with the charset where there is one."""
        return f"{self.mimetype}; charset={self.charset}" if self.charset else self.mimetype


@dataclass(frozen=True)
class Examined:
    """A file that was read: size in bytes, SHA-256, modification time, format, or what is wrong with it."""

    size: int
    sha256: str
    modified: float
    format: FileFormat | ContentProblem
