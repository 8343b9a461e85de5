"""Audio and video, which the DPS takes and we do not package yet: recognised by their beginnings, and told by name."""

from __future__ import annotations

from functools import partial

from passari_dagster_tests.sip.samples.sample import Broken

_BEGINNINGS = {
    "aanite.wav": b"RIFF\0\1\0\0WAVEfmt ",
    "aanite.aiff": b"FORM\0\1\0\0AIFFCOMM",
    "aanite.flac": b"fLaC\0\0\0\x22",
    "aanite.mp3": b"ID3\3\0\0\0\0\0\0",
    "aanite.aac": b"\xff\xf1\x50\x80",
    "aanite.m4a": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "elokuva.mp4": b"\0\0\0\x20ftypisom\0\0\2\0",
    "elokuva.mov": b"\0\0\0\x14ftypqt  \0\0\0\0",
    "elokuva.mj2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypmjp2",
    "elokuva.mkv": b"\x1aE\xdf\xa3\x93\x42\x82\x88matroska",
    "elokuva.mxf": bytes.fromhex("060e2b34020501010d01020101020400"),
    "elokuva.avi": b"RIFF\0\1\0\0AVI LIST",
    "elokuva.asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "elokuva.dv": b"\x1f\x07\0\x3f",
}
_NAMED = {"elokuva.ts": ("mpeg-ts", b"\x47" + bytes(187) + b"\x47"), "elokuva.mpg": ("mpeg-2", b"\0\0\1\xba\x44")}
_NAMED["vanha.mpg"] = ("mpeg-1", b"\0\0\1\xba\x21")
_NAMED |= {name: (name.partition(".")[2], begin) for name, begin in _BEGINNINGS.items()}

BROKEN = [
    Broken(name, partial(bytes, begin + bytes(100)), f"File format not yet packaged: {format_}", "not packaged yet")
    for name, (format_, begin) in _NAMED.items()
] + [Broken("aanite.wav", partial(bytes, b"RF64" + bytes(100)), "Unsupported file format: rf64", "a WAV of 64 bits")]
