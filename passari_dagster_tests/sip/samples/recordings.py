"""Sound and films in every container and codec that FFmpeg can write, and what may be wrong with them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from passari_dagster_tests.sip.recorded import Recording, write
from passari_dagster_tests.sip.samples.sample import Broken, Sample

FFV1 = (("level", "3"),)
DV = (720, 576)

RECORDINGS: dict[str, tuple[str, Recording]] = {
    "aanite.wav": ("audio/x-wav", Recording("wav", audio="pcm_s16le")),
    "aanite24.wav": ("audio/x-wav", Recording("wav", audio="pcm_s24le")),
    "aanite8.WAV": ("audio/x-wav", Recording("wav", audio="pcm_u8", rate=8000)),
    "radio.wav": ("audio/x-wav 2", Recording("wav", audio="pcm_s16le", options=(("write_bext", "1"),))),
    "aanite.flac": ("audio/flac", Recording("flac", audio="flac")),
    "aanite.aiff": ("audio/x-aiff 1.3", Recording("aiff", audio="pcm_s16be")),
    "aanite.aifc": ("audio/x-aiff", Recording("aiff", audio="pcm_s16le")),
    "aanite.mp3": ("audio/mpeg 1", Recording("mp3", audio="libmp3lame")),
    "puhe.mp3": ("audio/mpeg 2", Recording("mp3", audio="libmp3lame", rate=22050)),
    "paljas.mp3": (
        "audio/mpeg 1",
        Recording("mp3", audio="libmp3lame", options=(("write_xing", "0"), ("id3v2_version", "0"))),
    ),
    "aanite.aac": ("audio/aac", Recording("adts", audio="aac")),
    "aanite.m4a": ("audio/mp4", Recording("ipod", audio="aac")),
    "elokuva.mp4": ("video/mp4", Recording("mp4", "libx264", "aac")),
    "mykka.mp4": ("video/mp4", Recording("mp4", "libx264")),
    "tarkka.mp4": ("video/mp4", Recording("mp4", "libx265", "aac")),
    "vanha.mp4": ("video/mp4", Recording("mp4", "mpeg2video", "libmp3lame")),
    "elokuva.mov": ("video/quicktime", Recording("mov", "libx264", "pcm_s24le")),
    "tarkka.mov": ("video/quicktime", Recording("mov", "libx265", "aac")),
    "nauha.mov": ("video/quicktime", Recording("mov", "dvvideo", "pcm_s16le", size=DV)),
    "elokuva.mkv": ("video/x-matroska 4", Recording("matroska", "ffv1", "flac", video_options=FFV1)),
    "pcm.mkv": ("video/x-matroska 4", Recording("matroska", "ffv1", "pcm_s16le", video_options=FFV1)),
    "tarkka.mkv": ("video/x-matroska 4", Recording("matroska", "libx265", "flac")),
    "harmaa.mkv": ("video/x-matroska 4", Recording("matroska", "ffv1", pixels="gray", video_options=FFV1)),
    "elokuva.avi": ("video/avi", Recording("avi", "mpeg2video", "libmp3lame")),
    "nauha.avi": ("video/avi", Recording("avi", "dvvideo", "pcm_s16le", size=DV)),
    "elokuva.mpg": ("video/MP1S", Recording("mpeg", "mpeg1video", "libmp3lame")),
    "levy.mpg": ("video/MP2P", Recording("vob", "mpeg2video", "libmp3lame")),
    "lahetys.ts": ("video/MP2T", Recording("mpegts", "libx264", "aac")),
}
"""By the name of a file: MIME type and version, and how it is made."""

SAMPLES = [Sample(name, partial(write, made), told) for name, (told, made) in RECORDINGS.items()]

_DAMAGED = "Audio or video file is damaged"


def _of(name: str, change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    return lambda: change(write(RECORDINGS[name][1]))


def _at(mark: bytes, offset: int, new: bytes) -> Callable[[bytes], bytes]:
    """Overwrite what stands `offset` bytes after the beginning of a mark."""

    def change(data: bytes) -> bytes:
        place = data.index(mark) + offset
        return data[:place] + new + data[place + len(new) :]

    return change


def _inverted(place: int, size: int) -> Callable[[bytes], bytes]:
    """Turn all bits of some bytes; a place is counted from the end if it is negative."""

    def change(data: bytes) -> bytes:
        begin = place % len(data)
        return data[:begin] + bytes(byte ^ 0xFF for byte in data[begin : begin + size]) + data[begin + size :]

    return change


def _without_samples(data: bytes) -> bytes:
    header = data[: data.index(b"data")] + b"data\0\0\0\0"
    return header[:4] + struct.pack("<I", len(header) - 8) + header[8:]


def _with_cover(data: bytes) -> bytes:
    """The MP3 with a picture in its tag. [Source: ID3v2.4, APIC.]"""
    from passari_dagster_tests.sip.content import image_file

    body = b"\0image/png\0\x03\0" + image_file("PNG")
    frame = b"APIC" + _synchsafe(len(body)) + b"\0\0" + body
    return b"ID3\x04\0\0" + _synchsafe(len(frame)) + frame + data


def _synchsafe(number: int) -> bytes:
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


def _codec(container: str, codec: str) -> str:
    return f"Codec not supported in {container} file: {codec}"


_CHANGED = [
    ("aanite.wav", _at(b"RIFF", 4, struct.pack("<I", 2**31)), "the header tells more than is there"),
    ("aanite.wav", _at(b"RIFF", 4, struct.pack("<I", 100)), "the header tells less than is there"),
    ("aanite.wav", _at(b"data", 4, struct.pack("<I", 2**31)), "a chunk tells more than is there"),
    ("aanite.wav", _at(b"data", 0, b"junk"), "there are no samples"),
    ("aanite.wav", _at(b"fmt ", 0, b"junk"), "the samples are not described"),
    ("aanite.wav", _without_samples, "the chunk of samples is empty"),
    ("aanite.wav", lambda data: data[:-1000], "cut off"),
    ("aanite.wav", lambda data: data[:10] + b"X", "cut off in the header"),
    ("radio.wav", lambda data: data + b"something", "something after the end"),
    ("aanite.aiff", lambda data: data[:-10], "cut off"),
    ("aanite.aiff", _at(b"FORM", 4, struct.pack(">I", 50)), "the header tells less than is there"),
    ("aanite.flac", _inverted(-5, 1), "a bit of the last frame is turned"),
    ("aanite.flac", lambda data: data[: len(data) * 2 // 3], "cut off"),
    ("aanite.mp3", lambda data: data[:-100], "cut off"),
    ("aanite.mp3", lambda data: data[: len(data) // 2] + bytes(2000), "the second half is zeros"),
    ("aanite.mp3", lambda data: b"ID3\x04" + bytes(500), "nothing after the tag"),
    ("aanite.aac", lambda data: data[:-50], "cut off"),
    ("aanite.aac", _inverted(2912, 40), "rubbish in the middle"),
    ("aanite.m4a", lambda data: data[: len(data) * 2 // 3], "cut off"),
    ("elokuva.mp4", lambda data: data[:-500], "cut off in the table of contents"),
    ("elokuva.mp4", lambda data: data[:32], "nothing but a header"),
    ("elokuva.mp4", lambda data: data.replace(b"moov", b"free"), "no table of contents"),
    ("elokuva.mp4", _at(b"stsz", 8, b"\xff" * 8), "sizes that lie"),
    ("elokuva.mov", lambda data: data[:-3000], "cut off"),
    ("elokuva.mkv", lambda data: data[:-700], "cut off"),
    ("elokuva.mkv", lambda data: _inverted(len(data) // 2, 1)(data), "a bit is turned"),
    ("elokuva.avi", lambda data: data[:-4000], "cut off"),
    ("lahetys.ts", lambda data: data[:-100], "cut off"),
    ("elokuva.mp4", lambda data: b"not a film", "a text with another suffix"),
    ("aanite.mp3", lambda data: b"\xff\xfb\x90\x00" + bytes(3000), "one header and zeros"),
]
_UNACCEPTED = [
    ("alaw.wav", Recording("wav", audio="pcm_alaw"), _codec("wav", "A-Law")),
    ("liukuluku.wav", Recording("wav", audio="pcm_f32le"), _codec("wav", "PCM")),
    ("tarkka32.wav", Recording("wav", audio="pcm_s32le"), _codec("wav", "PCM")),
    ("alaw.aifc", Recording("aiff", audio="pcm_alaw"), _codec("aiff", "unknown")),
    ("suuri.wav", Recording("wav", audio="pcm_s16le", options=(("rf64", "always"),)), "RF64"),
    ("taso2.mp3", Recording("mp2", audio="mp2"), _codec("mp3", "MPEG Audio Layer 2")),
    ("hidas.mp3", Recording("mp3", audio="libmp3lame", rate=11025), "Version of file format not supported: mp3"),
    ("alac.m4a", Recording("ipod", audio="alac"), _codec("m4a", "ALAC")),
    ("mpeg4.mp4", Recording("mp4", "mpeg4", "aac"), _codec("mp4", "MPEG-4 Visual")),
    ("prores.mov", Recording("mov", "prores_ks", "pcm_s16le", pixels="yuv422p10le"), _codec("mov", "ProRes")),
    ("mjpeg.mov", Recording("mov", "mjpeg", pixels="yuvj420p"), _codec("mov", "JPEG")),
    ("avc.mkv", Recording("matroska", "libx264"), _codec("mkv", "AVC")),
    ("ffv1.mkv", Recording("matroska", "ffv1", video_options=(("level", "1"),)), _codec("mkv", "FFV1")),
    ("aac.mkv", Recording("matroska", "ffv1", "aac", video_options=FFV1), _codec("mkv", "AAC")),
    ("puhelin.3gp", Recording("3gp", "libx264", "aac"), "3GPP"),
    ("kauppa.m4v", Recording("ipod", "libx264", "aac"), "M4V"),
    ("verkko.webm", Recording("webm", "libvpx", "libopus"), "Unsupported file format: webm"),
    ("aanite.ogg", Recording("ogg", audio="flac"), "Unsupported file format: ogg"),
    ("nauha.dv", Recording("dv", "dvvideo", "pcm_s16le", size=DV), "File format not yet packaged: dv"),
    ("lahetys.mxf", Recording("mxf", "mpeg2video", "pcm_s16le"), "File format not yet packaged: mxf"),
    ("paljas.m1v", Recording("mpeg1video", "mpeg1video"), "File format not yet packaged: mpeg-video"),
]
_BEGINNINGS = {
    "elokuva.mj2": ("mj2", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypmjp2"),
    "elokuva.asf": ("asf", bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),
}

BROKEN = [
    *(Broken(name, _of(name, change), _DAMAGED, fault) for name, change, fault in _CHANGED),
    *(
        Broken(
            name,
            partial(write, made),
            f"Audio or video variant not supported: {reason}" if " " not in reason else reason,
            "not accepted",
        )
        for name, made, reason in _UNACCEPTED
    ),
    *(
        Broken(name, partial(bytes, begin + bytes(100)), f"File format not yet packaged: {told}", "not packaged yet")
        for name, (told, begin) in _BEGINNINGS.items()
    ),
    Broken(
        "aanite.mp3",
        _of("paljas.mp3", _with_cover),
        "Audio or video file has a picture inside",
        "a cover",
    ),
    Broken(
        "vanha.mkv",
        _of("elokuva.mkv", _at(b"\x42\x87\x81\x04", 3, b"\x02")),
        "Version of file format not supported: mkv",
        "Matroska 2",
    ),
]
