"""Sound and films: which format, which codecs, and whether all of it can be played.

`av_process` looks at the file, `av_facts` puts what it saw into the words of the METS, `accepted` knows what a
container may carry. Of WAV and AIFF the sizes of the chunks are looked at besides, since the libraries forgive them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passari_dagster.errors import ContentProblem
from passari_dagster.sip import problems
from passari_dagster.sip.formats import accepted, av_facts, chunks, guarded
from passari_dagster.sip.formats.av_facts import Track
from passari_dagster.sip.formats.av_process import DEMUXERS, MAX_PIXELS, MAX_TRACKS
from passari_dagster.sip.formats.facts import FileFormat, Stream
from passari_dagster.sip.formats.opened import Opened

SUFFIXES = frozenset(
    {".wav", ".bwf", ".flac", ".aif", ".aiff", ".aifc", ".mp3", ".aac", ".m4a"}
    | {".mp4", ".mov", ".mkv", ".avi", ".mpg", ".mpeg"}
)
"""What audio and video files are called."""

_PROCESS = "passari_dagster.sip.formats.av_process"
_MAX_MEMORY = 3 * 1024**3  # of address space: a decoder of 8K keeps many pictures
_MIN_SECONDS, _SECONDS_PER_MB, _MAX_SECONDS = 60, 4, 8 * 3600

_SOUNDS = {"FLAC": "audio/flac", "ADTS": "audio/aac", "MPEG Audio": "audio/mpeg"}
_CONTAINERS = {
    "AVI": "video/avi",
    "MPEG-TS": "video/MP2T",
    "Matroska": "video/x-matroska",
    "QuickTime": "video/quicktime",
}
_ISO_PROFILES = {"QuickTime": "video/quicktime", "Apple audio with iTunes info": "audio/mp4"}
_OTHER_BRANDS = frozenset({"M4V", "M4B", "M4P", "F4V"})
_UNSUPPORTED = {"WebM": "webm", "Ogg": "ogg"}

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_WAV_CODECS = {_FLOAT: "PCM", 0x0002: "ADPCM", 0x0006: "A-Law", 0x0007: "U-Law", 0x0055: "MPEG Audio"}
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # makes a GUID of an old format tag
_AIFC_PCM = frozenset({b"NONE", b"twos", b"sowt", b"in24"})
_LPCM_BITS = frozenset({8, 16, 24})  # FFmpeg's integers that file-scraper takes in WAV and AIFF


@dataclass(frozen=True)
class _Seen:
    """What the libraries agree on: the file, and its tracks of sound and pictures."""

    general: Track
    tracks: Sequence[Track]


def read(file: Opened) -> FileFormat:
    """The format of a file of sound or pictures, but for WAV and AIFF. See `Reader`."""
    seen = _played(file)
    name = str(seen.general.get("format"))
    if name in _SOUNDS:
        return _sound(seen, _SOUNDS[name])
    mimetype = _container(seen.general)
    sound = any(track.get("track_type") == "Audio" for track in seen.tracks)
    streams = tuple(_stream(track, seen.general, mimetype, sound=sound) for track in seen.tracks)
    version = av_facts.version_of(seen.general) if mimetype == "video/x-matroska" else None
    return FileFormat(mimetype, version and version.partition(".")[0], streams=streams)


def read_wav(file: Opened) -> FileFormat:
    """The format of a WAV file: plain, or Broadcast Wave, which has a chunk `bext`. See `Reader`."""
    if file.head[:4] != b"RIFF":
        raise problems.AV_VARIANT.found("save it in parts of less than 4 GB, or as FLAC", format="RF64")
    found = _chunks(file, "<", (b"fmt ", b"data"))
    data = _content(file, found[b"fmt "], 40)
    if len(data) < 16:
        raise problems.AV_DAMAGED.found("the description of the samples is too short")
    (tag,) = struct.unpack_from("<H", data)
    (bits,) = struct.unpack_from("<H", data, 14)
    if tag == _EXTENSIBLE and data[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", data, 24)
    if tag != _PCM or bits not in _LPCM_BITS:
        codec = "PCM" if tag == _PCM else _WAV_CODECS.get(tag, "unknown")
        raise problems.AV_CODEC.found(f"format tag {tag:#x}, {bits} bits", container="wav", codec=codec)
    return _sound(_played(file), "audio/x-wav", "2" if b"bext" in found else None)


def read_aiff(file: Opened) -> FileFormat:
    """The format of an AIFF file, or of an AIFF-C with uncompressed samples. See `Reader`."""
    found = _chunks(file, ">", (b"COMM", b"SSND"))
    data = _content(file, found[b"COMM"], 22)
    variant = file.head[8:12] == b"AIFC"
    if len(data) < (22 if variant else 18):
        raise problems.AV_DAMAGED.found("the description of the samples is too short")
    (bits,) = struct.unpack_from(">H", data, 6)
    kind = data[18:22] if variant else b"NONE"
    if kind not in _AIFC_PCM or bits not in _LPCM_BITS:
        codec = "PCM" if kind in _AIFC_PCM else "unknown"
        raise problems.AV_CODEC.found(f"compression {kind!r}, {bits} bits", container="aiff", codec=codec)
    return _sound(_played(file), "audio/x-aiff", None if variant else "1.3")


def _chunks(file: Opened, order: str, needed: tuple[bytes, bytes]) -> Mapping[bytes, tuple[int, int]]:
    """Chunks of the file; those that it needs are there, the description before the samples."""
    try:
        found = chunks.walk(file.stream, order)
    except chunks.BadChunkError as error:
        raise problems.AV_DAMAGED.found(str(error)) from error
    missing = [name for name in needed if name not in found]
    if missing:
        raise problems.AV_DAMAGED.found(f"the chunk {missing[0]!r} is missing")
    if order == "<" and found[needed[0]] > found[needed[1]]:
        raise problems.AV_DAMAGED.found("the samples come before their description")
    return found


def _content(file: Opened, chunk: tuple[int, int], most: int) -> bytes:
    place, size = chunk
    file.stream.seek(place)
    return file.stream.read(min(size, most))


def _played(file: Opened) -> _Seen:
    """What is in the file, which both libraries know and one of them has played to its end.

    Raises:
        ContentProblem: they do not, or something is in it that the DPS does not take in any file.
        OSError: a fault of the file system.
    """
    facts = guarded.facts(
        _PROCESS,
        file.path,
        problems.AV_DAMAGED,
        too_large=problems.AV_LIMIT,
        max_memory=_MAX_MEMORY,
        max_cpu_seconds=max_cpu_seconds(file.stream.seek(0, os.SEEK_END)),
    )
    if "unread" in facts:
        raise problems.AV_DAMAGED.found(facts["unread"])
    every: list[Track] = facts["tracks"]
    name = str(every[0].get("format")) if every else "None"
    if name == "None":
        raise problems.AV_DAMAGED.found("it begins as audio or video, and is none")
    if name not in DEMUXERS:
        raise problems.UNSUPPORTED.found(format=_UNSUPPORTED.get(name, "unknown"))
    tracks = [track for track in every[1:] if track.get("track_type") in ("Audio", "Video")]
    if len(every) > MAX_TRACKS or any(av_facts.pixels(track) > MAX_PIXELS for track in tracks):
        raise problems.AV_LIMIT.found(f"more than {MAX_TRACKS} tracks, or a picture of more than {MAX_PIXELS} pixels")
    if every[0].get("cover") or any(track.get("track_type") == "Image" for track in every):
        raise problems.AV_PICTURE.found()
    if any(track.get("istruncated") == "Yes" for track in every):
        raise problems.AV_DAMAGED.found("truncated: the end of the file is missing")
    others = [track["source"] for track in every[1:] if "source" in track]
    if others and name in ("MPEG-4", "QuickTime"):  # elsewhere it is a remark
        raise problems.AV_DAMAGED.found(f"its sound or pictures are in another file: {others[0]!r}")
    if not all("format" in track for track in tracks):
        raise problems.AV_DAMAGED.found("the codec of a stream is not told")
    _require_known(every[0], tracks)
    if facts["faults"]:
        raise problems.AV_DAMAGED.found("; ".join(facts["faults"]))
    _require_agreement(tracks, facts["streams"])
    return _Seen(every[0], tracks)


def max_cpu_seconds(size: int) -> int:
    """Most seconds of computing for a file of so many bytes, for a slow machine: see "Audio and video" in
    `docs/reference/formats.md` for what was measured.
    """
    return min(_MIN_SECONDS + _SECONDS_PER_MB * size // 1_000_000, _MAX_SECONDS)


def _require_known(general: Track, tracks: Sequence[Track]) -> None:
    """Before it is asked whether they can be played: FFmpeg complains about what it does not know."""
    for track in tracks:
        if av_facts.mimetype(track) is None:
            raise _codec_problem(track, accepted.name_of(_mimetype_of(general)))


def _mimetype_of(general: Track) -> str:
    name = str(general.get("format"))
    return {"Wave": "audio/x-wav", "AIFF": "audio/x-aiff", **_SOUNDS}.get(name) or _container(general)


def _codec_problem(track: Track, container: str) -> ContentProblem:
    detail = ", ".join(f"{key} {track[key]}" for key in ("format", "format_version", "bit_depth") if key in track)
    return problems.AV_CODEC.found(detail, container=container, codec=av_facts.codec(track))


def _require_agreement(tracks: Sequence[Track], streams: Sequence[tuple[str, str, int]]) -> None:
    """Both libraries see the same, and something came out of every stream."""
    seen = sorted((str(track["track_type"]).lower(), av_facts.decoder(track)) for track in tracks)
    decoded = sorted((kind, av_facts.decoder_family(codec)) for kind, codec, _ in streams)
    if not tracks or seen != decoded:
        raise problems.AV_DAMAGED.found(f"two libraries see different streams in it: {seen}, {decoded}")
    if not all(frames for _, _, frames in streams):
        raise problems.AV_DAMAGED.found("a stream is empty")


def _sound(seen: _Seen, mimetype: str, version: str | None = None) -> FileFormat:
    """The format of a file that is one stream of sound, and no container to the DPS."""
    if [track.get("track_type") for track in seen.tracks] != ["Audio"]:
        raise problems.AV_DAMAGED.found("there is more than one stream in it")
    if mimetype == "audio/mpeg":
        version = av_facts.version_of(seen.tracks[0])
    return FileFormat(mimetype, version, audio=av_facts.audio_facts(seen.tracks[0], seen.general))


def _container(general: Track) -> str:
    """MIME type of a container.

    Raises:
        ContentProblem: one of the family of MP4 that the DPS does not take.
    """
    name, profile = str(general.get("format")), str(general.get("format_profile"))
    if name == "MPEG-PS":
        return "video/MP2P" if general.get("internet_media_type") == "video/MP2P" else "video/MP1S"
    if name != "MPEG-4":
        return _CONTAINERS[name]
    if profile.startswith("Base Media"):
        return "video/mp4"
    if profile not in _ISO_PROFILES:
        brand = str(general.get("codec_id")).strip()
        variant = "3GPP" if profile.startswith("3GPP") else brand if brand in _OTHER_BRANDS else "MPEG-4"
        raise problems.AV_VARIANT.found(f"profile {profile}, brand {brand}", format=variant)
    return _ISO_PROFILES[profile]


def _stream(track: Track, general: Track, container: str, *, sound: bool) -> Stream:
    """A stream of a container.

    Raises:
        ContentProblem: the DPS does not take it in such a container.
    """
    found = av_facts.mimetype(track)
    if found is None or found not in accepted.streams(container):
        raise _codec_problem(track, accepted.name_of(container))
    if track.get("track_type") == "Audio":
        return Stream(av_facts.audio_facts(track, general), *found)
    return Stream(av_facts.video_facts(track, general, sound=sound), *found)
