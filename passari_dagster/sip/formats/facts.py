"""What is known of a file when it has been read: the words in which the readers of formats answer."""

from __future__ import annotations

from dataclasses import dataclass

from passari_dagster.errors import ContentProblem

UNKNOWN = "(:unav)"
"""The specification's word for what is not known."""
NOT_APPLICABLE = "(:unap)"
"""The specification's word for what there is none of."""


@dataclass(frozen=True)
class Jpeg2000Coding:
    """What MIX tells of a JPEG 2000 image besides; tiles in pixels."""

    quality_layers: int
    resolution_levels: int
    tile_width: int
    tile_height: int


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
    jpeg2000: Jpeg2000Coding | None = None


@dataclass(frozen=True)
class AudioFacts:
    """Technical metadata of sound, in the words of AudioMD 2.0; as MediaInfo tells them, which the DPS compares.

    Arguments:
        encoding: what the samples are coded as: `PCM`, `MPEG Audio`.
        codec: name of the codec.
        lossless: nothing was lost by the compression.
        fixed_rate: the data rate is the same all through.
        duration: ISO 8601: `PT1M2.5S`.
        data_rate: kbit/s; 0: not known.
        sampling_frequency: kHz: `44.1`; 0: not known.
        bits_per_sample: 0: not known, as where a codec has none.
        channels: a number.
        creator: the program that wrote the file, and its version.
    """

    encoding: str
    codec: str
    lossless: bool
    fixed_rate: bool
    duration: str = UNKNOWN
    data_rate: str = "0"
    sampling_frequency: str = "0"
    bits_per_sample: str = "0"
    channels: str = UNKNOWN
    creator: str = UNKNOWN
    creator_version: str = UNKNOWN


@dataclass(frozen=True)
class VideoFacts:
    """Technical metadata of moving pictures, in the words of VideoMD 2.0; as MediaInfo tells them.

    Arguments:
        width, height: pixels.
        codec: name of the codec.
        lossless: nothing was lost by the compression.
        fixed_rate: the data rate is the same all through.
        sound: the file has sound too.
        color: `Color` or `Grayscale`.
        duration: ISO 8601: `PT1M2.5S`.
        data_rate: Mbit/s; 0: not known.
        frame_rate: pictures a second; 0: not known.
        bits_per_sample: of one colour; 0: not known.
        pixel_aspect, display_aspect: decimal ratios, width to height.
        sampling: of the colours: `4:2:0`.
        signal_format: `PAL`, `NTSC`; not applicable to most codecs.
        creator: the program that wrote the file, and its version.
    """

    width: str
    height: str
    codec: str
    lossless: bool
    fixed_rate: bool
    sound: bool
    color: str = "Color"
    duration: str = UNKNOWN
    data_rate: str = "0"
    frame_rate: str = "0"
    bits_per_sample: str = "0"
    pixel_aspect: str = "0"
    display_aspect: str = UNKNOWN
    sampling: str = UNKNOWN
    signal_format: str = NOT_APPLICABLE
    creator: str = UNKNOWN
    creator_version: str = UNKNOWN


@dataclass(frozen=True)
class Stream:
    """One of several parts of a file: sound or pictures in a container, or a page of a TIFF.

    Arguments:
        mimetype, version: of sound and pictures, which get a PREMIS object of their own; a page has none.
        facts: technical metadata of it.
    """

    facts: ImageFacts | AudioFacts | VideoFacts
    mimetype: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class TableFacts:
    """Technical metadata of a CSV file, in the words of ADDML.

    Arguments:
        fields: names of the columns.
        delimiter: the character between fields.
        record_separator: `CR+LF`, `LF` or `CR`.
        quote: the character around fields that need one; None: there are none.
    """

    fields: tuple[str, ...]
    delimiter: str
    record_separator: str
    quote: str | None


@dataclass(frozen=True)
class FileFormat:
    """A format, with the technical metadata that the DPS wants of it.

    Arguments:
        mimetype: as `accepted.csv` has it.
        version: exact; None: the format has no versions, or the file tells none.
        charset: of a text, as the METS names it.
        images: of an image file.
        audio: of a file that is sound and no container.
        streams: in a container; or the pages of a TIFF that has several, which is then without `images`.
        table: of a CSV file.
    """

    mimetype: str
    version: str | None = None
    charset: str | None = None
    images: tuple[ImageFacts, ...] = ()
    audio: AudioFacts | None = None
    streams: tuple[Stream, ...] = ()
    table: TableFacts | None = None

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
