"""Plays one audio or video file to its end, in a process that `guarded` starts. Judged in `av`.

Two libraries look at it: MediaInfo, which the DPS takes its facts from, and FFmpeg, which decodes every frame. Both
are large, and read what strangers send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

from passari_dagster.sip.formats import guarded

MAX_PIXELS = 70_000_000
"""Most pixels of one picture of a film: twice those of 8K."""
MAX_TRACKS = 100

DEMUXERS: Mapping[str, str] = {
    "Wave": "wav",
    "AIFF": "aiff",
    "FLAC": "flac",
    "MPEG Audio": "mp3",
    "ADTS": "aac",
    "MPEG-4": "mov",
    "QuickTime": "mov",
    "Matroska": "matroska",
    "AVI": "avi",
    "MPEG-PS": "mpeg",
    "MPEG-TS": "mpegts",
}
"""FFmpeg's reader for each format, by the name that MediaInfo has for it. No other is tried."""

_KEYS = frozenset(
    {"track_type", "format", "format_version", "format_profile", "codec_id", "internet_media_type", "istruncated"}
    | {"bit_depth", "bit_rate", "bit_rate_mode", "duration", "compression_mode", "writing_application", "cover"}
    | {"sampling_rate", "channel_s", "width", "height", "pixel_aspect_ratio", "display_aspect_ratio", "frame_rate"}
    | {"color_space", "chroma_subsampling", "standard", "source"}
)
_MAX_WORD = 200
_MAX_FAULTS, _MAX_COMPLAINTS = 5, 1000  # that are told, and after which a file is not decoded on
# Lossless codecs with a checksum in each frame, which FFmpeg compares only when it is asked to.
_CHECKED = frozenset({"flac", "ffv1"})


def examine(path: str) -> dict[str, object]:
    """What the two libraries see.

    Returns:
        `tracks` of MediaInfo, the first is the file itself, or `unread`: why there are none; `streams` of FFmpeg: type,
        codec and number of decoded frames of each that is sound or pictures; `faults`: what FFmpeg complains about. A
        file that is none of `DEMUXERS` is not decoded.

    Raises:
        MemoryError: the file needs more than there is.
        OSError: a fault of the file system.
    """
    try:
        with guarded.bounded():
            tracks = _tracks(path)
    except (ValueError, ElementTree.ParseError) as error:  # MediaInfo passes on what is no character, as it is
        return {"unread": f"a title or another text in it is no Unicode: {error}"[:_MAX_WORD]}
    streams: list[tuple[str, str, int]] = []
    faults: list[str] = []
    demuxer = DEMUXERS.get(str(tracks[0].get("format"))) if tracks else None
    if demuxer is not None:
        with Path(path).open("rb") as stream:
            streams, faults = _decode(stream, demuxer)
    return {"tracks": tracks, "streams": streams, "faults": faults}


def _tracks(path: str) -> list[dict[str, object]]:
    """MediaInfo's tracks, with what is wanted of each. It reads what it needs, and seeks."""
    import pymediainfo

    # By its path and without its neighbours, as the DPS does; from an open file MediaInfo tells less.
    found = pymediainfo.MediaInfo.parse(path, mediainfo_options={"File_TestContinuousFileNames": "0"})
    return [
        {key: _short(value) for key, value in track.to_data().items() if key in _KEYS}
        for track in found.tracks[: MAX_TRACKS + 1]
    ]


def _short(value: object) -> object:
    return value if isinstance(value, (int, float)) else str(value)[:_MAX_WORD]


def _decode(stream: BinaryIO, demuxer: str) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Let FFmpeg decode all sound and pictures. What it logs as an error is one, as in the DPS."""
    import av
    import av.error
    import av.logging

    found: list[tuple[str, str, int]] = []
    faults: list[str] = []
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture(local=False) as log:
        try:
            # Titles in Latin 1 are common, and no fault.
            with av.open(stream, format=demuxer, metadata_errors="replace") as container:
                found = _played(container, log)
        except MemoryError:  # FFmpeg's own is one too
            raise
        except Exception as error:  # hostile bytes find every way to fail
            if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):  # the disk does not
                raise
            faults.append(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    faults += [f"{name}: {message}" for _, name, message in log]
    return found, list(dict.fromkeys(" ".join(fault.split())[:_MAX_WORD] for fault in faults))[:_MAX_FAULTS]


def _played(container: Any, log: Sized) -> list[tuple[str, str, int]]:
    """Type, codec and number of frames of each stream; where there are many complaints, of those up to there."""
    wanted = [stream for stream in container.streams if stream.type in ("audio", "video")]
    if len(wanted) > MAX_TRACKS:
        raise ValueError(f"more than {MAX_TRACKS} streams")
    frames = {stream.index: 0 for stream in wanted}
    for stream in wanted:
        context = stream.codec_context
        if context is None:
            raise ValueError("a stream without a decoder")
        context.thread_count = 1  # each more keeps frames in memory
        checked = {"err_detect": "crccheck"} if context.name in _CHECKED else {}
        context.options = {"max_pixels": str(MAX_PIXELS), **checked}
    for packet in container.demux(wanted):
        for _ in packet.decode():
            frames[packet.stream.index] += 1
        if len(log) > _MAX_COMPLAINTS:
            break
    return [(stream.type, stream.codec_context.name, frames[stream.index]) for stream in wanted]


if __name__ == "__main__":
    guarded.serve(examine)
