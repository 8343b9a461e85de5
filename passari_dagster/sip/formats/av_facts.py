"""From MediaInfo's words to those of AudioMD and VideoMD: what a track is, and what is told of it.

The DPS takes its facts from MediaInfo as well and compares them, so that nothing here is corrected or guessed. Data
rates are in kbit/s for sound and in Mbit/s for pictures.
[Sources: file-scraper 3.0.0, mediainfo; dpres-ipt 1.0.0, comparator: what is `0` or `(:unav)` is not compared.]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from passari_dagster.sip.formats.facts import NOT_APPLICABLE, UNKNOWN, AudioFacts, VideoFacts

Track = Mapping[str, Any]
"""One of MediaInfo's tracks: the file itself, sound, pictures, or another."""

_MIMETYPES = {
    "AAC": "audio/aac",
    "FLAC": "audio/flac",
    "MPEG Audio": "audio/mpeg",
    "AVC": "video/h264",
    "HEVC": "video/h265",
    "MPEG Video": "video/mpeg",
    "FFV1": "video/x-ffv",
    "DV": "video/dv",
}
_VERSIONED = frozenset({"MPEG Audio", "MPEG Video", "FFV1"})
_PCM_BITS = frozenset({"8", "16", "20", "24"})
_OTHER_CODECS = frozenset(
    {"AC-3", "E-AC-3", "DTS", "ALAC", "ADPCM", "A-Law", "U-Law", "AMR", "Opus", "Vorbis", "WMA", "MPEG-4 Visual"}
    | {"VP8", "VP9", "AV1", "VC-1", "VC-3", "WMV1", "WMV2", "WMV3", "ProRes", "JPEG", "JPEG 2000", "H.263", "Theora"}
    | {"Cinepak", "Sorenson Spark", "HuffYUV", "RGB", "YUV"}
)
_DECODERS = {"MPEG Audio": "mp3", "AVC": "h264", "MPEG Video": "mpegvideo", "DV": "dvvideo"}
_FAMILIES = {"mp3float": "mp3", "mpeg1video": "mpegvideo", "mpeg2video": "mpegvideo"}
_VERSION = re.compile(r"([\d.]+)$")


def codec(track: Track) -> str:
    """What the codec of a track is called, in the reason of a frozen object: one of a closed list."""
    name = str(track.get("format"))
    if name == "ADPCM" and track.get("format_profile") in ("A-Law", "U-Law"):
        name = str(track["format_profile"])
    if name == "MPEG Audio" and _layer(track) != "3":
        return {"1": "MPEG Audio Layer 1", "2": "MPEG Audio Layer 2"}.get(_layer(track), name)
    return name if name in _MIMETYPES or name == "PCM" or name in _OTHER_CODECS else "unknown"


def mimetype(track: Track) -> tuple[str, str | None] | None:
    """MIME type and version of a track of sound or pictures; None: of a codec that the DPS takes in no file."""
    name = track.get("format")
    if name == "PCM":
        bits = _whole(track.get("bit_depth"))
        integers = track.get("format_profile") != "Float" and bits in _PCM_BITS
        return (f"audio/l{bits}", None) if integers else None
    if name == "MPEG Audio" and _layer(track) != "3":
        return None
    if name not in _MIMETYPES:
        return None
    version = version_of(track) if name in _VERSIONED else None
    if name == "FFV1" and version is not None:
        version = version.partition(".")[0]
    return _MIMETYPES[name], version


def decoder(track: Track) -> str:
    """The family of decoders that a track needs, to be compared with `decoder_family`."""
    name = str(track.get("format"))
    return _DECODERS.get(name, name.lower())


def decoder_family(name: str) -> str:
    """What FFmpeg's decoder of this name decodes."""
    return "pcm" if name.startswith("pcm_") else _FAMILIES.get(name, name)


def pixels(track: Track) -> float:
    """Size of a picture of a track; of sound 0."""
    return (_number(track.get("width")) or 0) * (_number(track.get("height")) or 0)


def version_of(track: Track) -> str | None:
    """The version of a format, as MediaInfo tells it: `4` of Matroska, `3.4` of FFV1, `2.5` of MPEG audio."""
    version = track.get("format_version")
    return None if version is None else str(version).removeprefix("Version ")


def audio_facts(track: Track, file: Track) -> AudioFacts:
    """What AudioMD wants of a track of sound.

    Arguments:
        file: MediaInfo's track of the file itself.
    """
    name = str(track.get("format"))
    creator, creator_version = _creator(file)
    rate = _number(track.get("bit_rate"))
    frequency = _number(track.get("sampling_rate"))
    return AudioFacts(
        encoding=name,
        codec=name,
        lossless=_lossless(track, otherwise=name == "PCM"),
        fixed_rate=track.get("bit_rate_mode") == "CBR",
        duration=_duration(track),
        data_rate="0" if rate is None else str(round(rate / 1000)),
        sampling_frequency="0" if frequency is None else _decimal(frequency / 1000),
        bits_per_sample=_whole(track.get("bit_depth")),
        channels=str(track.get("channel_s") or UNKNOWN),
        creator=creator,
        creator_version=creator_version,
    )


def video_facts(track: Track, file: Track, *, sound: bool) -> VideoFacts:
    """What VideoMD wants of a track of pictures.

    Arguments:
        file: MediaInfo's track of the file itself.
        sound: the file has sound too.
    """
    name = str(track.get("format"))
    creator, creator_version = _creator(file)
    rate, frame_rate = _number(track.get("bit_rate")), _number(track.get("frame_rate"))
    pixel_aspect, display_aspect = (
        _number(track.get("pixel_aspect_ratio")),
        _number(track.get("display_aspect_ratio")),
    )
    return VideoFacts(
        width=_whole(track.get("width")),
        height=_whole(track.get("height")),
        codec=name,
        lossless=_lossless(track, otherwise=False),
        fixed_rate=track.get("bit_rate_mode") == "CBR",
        sound=sound,
        color="Grayscale" if track.get("color_space") == "Y" else "Color",
        duration=_duration(track),
        data_rate="0" if rate is None else _decimal(rate / 1_000_000),
        frame_rate="0" if frame_rate is None else _decimal(frame_rate),
        bits_per_sample=_whole(track.get("bit_depth")),
        pixel_aspect="0" if pixel_aspect is None else _decimal(pixel_aspect),
        display_aspect=UNKNOWN if display_aspect is None else _decimal(display_aspect),
        sampling=str(track.get("chroma_subsampling") or UNKNOWN),
        signal_format=str(track.get("standard") or NOT_APPLICABLE),
        creator=creator,
        creator_version=creator_version,
    )


def iso_duration(seconds: float) -> str:
    """A length of time in ISO 8601, hundredths of a second at most: `PT1H2M3.5S`."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if rest or not (hours or minutes):
        parts.append(f"{_decimal(rest / 100)}S")
    return "PT" + "".join(parts)


def _duration(track: Track) -> str:
    milliseconds = _number(track.get("duration"))
    return UNKNOWN if milliseconds is None else iso_duration(milliseconds / 1000)


def _lossless(track: Track, *, otherwise: bool) -> bool:
    mode = track.get("compression_mode")
    return otherwise if mode is None else str(mode).lower() == "lossless"


def _creator(file: Track) -> tuple[str, str]:
    name = file.get("writing_application")
    if not name:
        return UNKNOWN, UNKNOWN
    version = _VERSION.search(str(name))
    return str(name), version[1] if version else UNKNOWN


def _layer(track: Track) -> str:
    return str(track.get("format_profile"))[-1:]


def _number(value: object) -> float | None:
    """A number that is not negative; None: there is none, or there are several."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return abs(number) if math.isfinite(number) and 0 <= number < 1e15 else None  # zero has a sign, too


def _whole(value: object) -> str:
    number = _number(value)
    return "0" if number is None or number >= 2**31 else str(int(number))


def _decimal(number: float) -> str:
    """A number without an exponent and without zeros at its end."""
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
