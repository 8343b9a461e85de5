"""Sound and films: two libraries agree on what they are, and the METS tells what MediaInfo tells."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passari_dagster.errors import ContentProblem, TransientFailure
from passari_dagster.sip.build import Signer, build_sip
from passari_dagster.sip.elements import NAMESPACES
from passari_dagster.sip.formats import av as recordings
from passari_dagster.sip.formats import av_facts, av_process, guarded
from passari_dagster.sip.formats.facts import AudioFacts, FileFormat, Stream, VideoFacts
from passari_dagster.sip.formats.identify import examine
from passari_dagster.sip.rules import Rules
from passari_dagster_tests.sip.content import LIDO, MODULE_XML, describe, fill, look, mets_of
from passari_dagster_tests.sip.recorded import Recording, write
from passari_dagster_tests.sip.samples.recordings import RECORDINGS

FFMPEG_FORMATS = {
    "audio/x-wav": "wav",
    "audio/x-aiff": "aiff",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/mp4": "mov,mp4,m4a,3gp,3g2,mj2",
    "video/mp4": "mov,mp4,m4a,3gp,3g2,mj2",
    "video/quicktime": "mov,mp4,m4a,3gp,3g2,mj2",
    "video/x-matroska": "matroska,webm",
    "video/avi": "avi",
    "video/MP1S": "mpeg",
    "video/MP2P": "mpeg",
    "video/MP2T": "mpegts",
}
FFMPEG_CODECS = {
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/mpeg": "mp3float",
    "audio/l16": "pcm_s16le",
    "audio/l24": "pcm_s24le",
    "video/h264": "h264",
    "video/h265": "hevc",
    "video/x-ffv": "ffv1",
    "video/dv": "dvvideo",
}
PEAK_OF_CHILD = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def known(name: str) -> FileFormat:
    found = look(write(RECORDINGS[name][1]), "." + name.rpartition(".")[2])
    assert isinstance(found, FileFormat), found
    return found


@pytest.mark.parametrize("name", RECORDINGS)
def test_ffmpeg_agrees_with_mediainfo(name: str) -> None:
    """FFmpeg guesses the format by itself here."""
    found = known(name)
    streams = found.streams or (Stream(found.audio or AudioFacts("", "", True, True), found.mimetype, found.version),)
    with av.open(io.BytesIO(write(RECORDINGS[name][1]))) as container:
        assert container.format.name == FFMPEG_FORMATS[found.mimetype]
        assert len(container.streams) == len(streams)
        theirs: list[Any] = sorted(container.streams, key=lambda stream: stream.type)
        ours = sorted(streams, key=lambda stream: isinstance(stream.facts, VideoFacts))
        for stream, seen in zip(ours, theirs, strict=True):
            context, facts = seen.codec_context, stream.facts
            if stream.mimetype in FFMPEG_CODECS:
                assert context.name == FFMPEG_CODECS[stream.mimetype]
            elif stream.mimetype == "video/mpeg":
                assert context.name == f"mpeg{stream.version}video"
            if isinstance(facts, VideoFacts):
                assert (facts.width, facts.height) == (str(context.width), str(context.height))
                assert facts.frame_rate in ("0", "25")
            elif isinstance(facts, AudioFacts):
                assert float(facts.sampling_frequency) * 1000 == context.sample_rate
                assert facts.channels == str(context.channels)
                assert facts.encoding.lower() in ("pcm", "mpeg audio", context.name)


def test_facts_of_sound() -> None:
    facts = known("aanite24.wav").audio
    assert facts == AudioFacts(
        encoding="PCM",
        codec="PCM",
        lossless=True,
        fixed_rate=True,
        duration="PT0.33S",
        data_rate="2304",
        sampling_frequency="48",
        bits_per_sample="24",
        channels="2",
        creator=facts.creator if facts else "",
        creator_version=facts.creator_version if facts else "",
    )
    assert re.fullmatch(r"Lavf[\d.]+", facts.creator)
    assert facts.creator == f"Lavf{facts.creator_version}"
    mp3 = known("puhe.mp3").audio
    assert mp3 is not None
    assert (mp3.lossless, mp3.data_rate, mp3.sampling_frequency, mp3.bits_per_sample) == (False, "64", "22.05", "0")


def test_facts_of_pictures() -> None:
    streams = known("elokuva.mp4").streams
    pictures, sound = streams[0].facts, streams[1].facts
    assert isinstance(sound, AudioFacts)
    assert isinstance(pictures, VideoFacts)
    assert pictures.sound
    assert (pictures.duration, pictures.frame_rate, pictures.bits_per_sample) == ("PT0.32S", "25", "8")
    assert (pictures.pixel_aspect, pictures.display_aspect, pictures.sampling) == ("1", "1.333", "4:2:0")
    assert 0 < float(pictures.data_rate) < 1
    tape = known("nauha.mov").streams[0].facts
    assert isinstance(tape, VideoFacts)
    assert (tape.signal_format, tape.fixed_rate) == ("PAL", True)
    gray = known("harmaa.mkv").streams[0].facts
    assert isinstance(gray, VideoFacts)
    assert (gray.color, gray.lossless, gray.sound, gray.data_rate) == ("Grayscale", True, False, "0")


def test_the_mets_tells_of_every_stream(sip: Path, tmp_path: Path, signer: Signer) -> None:
    files = {"reports/Object.xml": MODULE_XML, "reports/lido.xml": LIDO}
    files |= {f"attachments/1/{name}": write(RECORDINGS[name][1]) for name in ("elokuva.mkv", "radio.wav")}
    tar = tmp_path / "20260301_Object_1.tar"
    build_sip(sip, tar, describe(fill(sip, files)), signer)
    mets = mets_of(tar)

    def texts(path: str) -> list[str | None]:
        return [element.text for element in mets.findall(path, NAMESPACES)]

    assert texts(".//audiomd:bitsPerSample") == ["16", "16"]
    assert texts(".//videomd:pixelsHorizontal") == ["64"]
    assert texts(".//videomd:codecQuality") == ["lossless"]
    assert "AudioMD and VideoMD metadata created" in texts(".//premis:eventOutcomeDetailNote")
    names = texts(".//premis:formatName")
    assert {"video/x-matroska", "video/x-ffv", "audio/flac", "audio/x-wav"} <= set(names)
    assert texts(".//premis:relationshipSubType") == ["includes"]


@pytest.mark.parametrize(
    "text", [b"The free world\n", b"ID3 is a tag\n", b"Good news, and plenty\n" * 40, b"FORM 27 AIF\n", b"RIFF-raff\n"]
)
def test_a_text_that_begins_like_a_recording_is_a_text(text: bytes) -> None:
    found = look(text, ".txt")
    assert isinstance(found, FileFormat)
    assert found.mimetype == "text/plain"


def test_a_suffix_makes_no_recording() -> None:
    sound = write(RECORDINGS["aanite.m4a"][1])
    found = look(sound, ".mp3")
    assert isinstance(found, FileFormat)
    assert found.mimetype == "audio/mp4"
    assert found == look(sound, ".attachment")


TITLE = "Kirves ja vasara"
TAGGED = [name for name in RECORDINGS if not name.endswith((".aac", ".mpg", "paljas.mp3"))]


def titled(name: str, title: bytes) -> FileFormat | ContentProblem:
    """What is said of a recording with this title, whatever its bytes are."""
    recording = write(replace(RECORDINGS[name][1], title=TITLE))
    assert TITLE.encode() in recording
    return look(recording.replace(TITLE.encode(), title.ljust(len(TITLE))), "." + name.rpartition(".")[2])


@pytest.mark.parametrize("name", TAGGED)
def test_a_title_in_latin_1_is_no_fault(name: str) -> None:
    assert isinstance(titled(name, "Äänite".encode("latin-1")), FileFormat)


@pytest.mark.parametrize("title", [b"\xed\xa0\x80", b"\xef\xbf\xbf", b"\xf4\x90\x80\x80", b"\x01\x0b]]>&\x1b"])
@pytest.mark.parametrize(
    "name", ["aanite.wav", "aanite.flac", "aanite.mp3", "elokuva.mp4", "elokuva.mkv", "elokuva.avi"]
)
def test_a_title_of_no_characters_stops_nothing(name: str, title: bytes) -> None:
    """Half a surrogate pair, a number that is none of a character: the DPS's reading of such a file fails."""
    found = titled(name, title)
    if isinstance(found, ContentProblem):
        assert found.reason == "Audio or video file is damaged"
        assert "no Unicode" in found.detail


def test_a_path_that_is_not_ascii_needs_no_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    path = tmp_path / "äänite ☃.wav"
    path.write_bytes(write(RECORDINGS["aanite.wav"][1]))
    assert isinstance(examine(path, Rules()).format, FileFormat)


def test_a_film_that_is_in_another_file_is_not_followed_there(tmp_path: Path) -> None:
    """MediaInfo opens what an alias of QuickTime names, wherever it is, and tells of that instead."""
    other = tmp_path / "muu.wav"
    other.write_bytes(write(RECORDINGS["aanite.wav"][1]))
    found = look(with_alias(write(RECORDINGS["elokuva.mov"][1]), str(other)), ".mov")
    assert isinstance(found, ContentProblem)
    assert found.detail == "its sound or pictures are in another file: 'muu.wav'"


def with_alias(film: bytes, target: str) -> bytes:
    """The first track of a QuickTime film is said to be elsewhere."""
    path = target.encode()
    name = path.rpartition(b"/")[2]
    record = struct.pack(">HH28s4s2sH4xB63s16xhh16x", 2, 0, b"\4disk", bytes(4), b"H+", 5, len(name), name, -1, -1)
    record += struct.pack(">HH", 18, len(path)) + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    record = struct.pack(">4xH", len(record) + 6) + record
    entry = struct.pack(">I4s4x", len(record) + 12, b"alis") + record
    at = film.index(b"dref") - 4
    changed = bytearray(film[: at + 16] + entry + film[at + 28 :])
    place = 0
    while place <= at:  # every atom around it grows
        (size,) = struct.unpack_from(">I", film, place)
        if place + size <= at:
            place += size
        else:
            struct.pack_into(">I", changed, place, size + len(entry) - 12)
            place += 8
    return bytes(changed)


def test_a_film_full_of_faults_is_not_decoded_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    film = bytearray(write(RECORDINGS["nauha.avi"][1]))
    for place in range(200_000, len(film) - 5000, 1000):
        film[place : place + 40] = bytes(40)
    _, all_faults = av_process._decode(io.BytesIO(film), "avi")
    whole = av_process._decode(io.BytesIO(film), "avi")[0]
    monkeypatch.setattr(av_process, "_MAX_COMPLAINTS", 0)
    streams, faults = av_process._decode(io.BytesIO(film), "avi")
    assert faults
    assert faults[0] == all_faults[0]
    assert sum(frames for _, _, frames in streams) < sum(frames for _, _, frames in whole)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    film = write(RECORDINGS["elokuva.mkv"][1])
    with monkeypatch.context() as patch:
        patch.setattr(recordings, "MAX_PIXELS", 64 * 48 - 1)
        large = look(film, ".mkv")
    with monkeypatch.context() as patch:
        patch.setattr(recordings, "MAX_TRACKS", 2)
        many = look(film, ".mkv")
    with monkeypatch.context() as patch:
        patch.setattr(guarded, "MAX_SECONDS", 0.001)
        with pytest.raises(TransientFailure):
            look(film, ".mkv")
    for problem in (large, many):
        assert isinstance(problem, ContentProblem)
        assert problem.reason == "Audio or video file too large to be checked"


@pytest.mark.parametrize(
    ("size", "at_least", "at_most"),
    [
        (100_000, 30, 90),  # a few seconds of film, on a slow machine; a bomb
        (30_000_000, 3 * 40, 300),  # ten minutes of slides in 4K
        (57_000_000, 3 * 60, 300),  # a sound with one picture, for an hour
        (1_000_000_000, 3 * 730, 4500),  # nine minutes of HEVC in 4K
        (100_000_000_000, 3 * 9100, 8 * 3600),  # a film in FFV1
    ],
)
def test_time_to_decode_is_what_real_files_take(size: int, at_least: int, at_most: int) -> None:
    """Three times what was measured; no file has a worker for more than a day."""
    seconds = recordings.max_cpu_seconds(size)
    assert at_least <= seconds <= at_most
    assert 5 * 60 < guarded.wall_seconds(seconds) <= 25 * 3600


def test_a_file_in_which_mediainfo_is_lost_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """MediaInfo 24.12 computes for ever where x265's settings begin twice. The file is none that is too large."""
    film, begin = write(RECORDINGS["tarkka.mkv"][1]), b" - options: "
    again = film.index(begin) + 100
    monkeypatch.setattr(recordings, "_MIN_SECONDS", 6)
    problem = look(film[:again] + begin + film[again + len(begin) :], ".mkv")
    assert isinstance(problem, ContentProblem)
    assert problem.reason == "Audio or video file is damaged"


def test_a_picture_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg is told, too: another size may be told inside the stream than in the container."""
    monkeypatch.setattr(av_process, "MAX_PIXELS", 64 * 48 - 1)
    streams, faults = av_process._decode(io.BytesIO(write(RECORDINGS["elokuva.mkv"][1])), "matroska")
    assert not streams
    assert faults


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for size in (2_000_000, 60_000_000):
        tone = write(Recording("wav", audio="pcm_s16le"))
        begin, samples = tone.index(b"data"), bytes(size)
        header = tone[:begin] + b"data" + size.to_bytes(4, "little")
        path = tmp_path / "aanite.wav"
        path.write_bytes(header[:4] + (len(header) + size - 8).to_bytes(4, "little") + header[8:] + samples)
        command = [sys.executable, "-I", "-m", av_process.__name__, str(path), str(3 * 1024**3), "60"]
        # Started by a small process: the peak of a child begins with the memory of its parent.
        done = subprocess.run(
            [sys.executable, "-c", PEAK_OF_CHILD, *command], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) * 1024)
    assert peaks[1] - peaks[0] < 20_000_000, peaks


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "PT0S"),
        (0.001, "PT0S"),
        (1.1, "PT1.1S"),
        (60, "PT1M"),
        (59.999, "PT1M"),
        (3601, "PT1H1S"),
        (3723.456, "PT1H2M3.46S"),
    ],
)
def test_durations(seconds: float, told: str) -> None:
    assert av_facts.iso_duration(seconds) == told


@given(
    st.fixed_dictionaries(
        {"format": st.sampled_from(["PCM", "AVC", "MPEG Audio", "x"])},
        optional={
            key: st.one_of(st.text(), st.floats(), st.integers())
            for key in ("bit_rate", "duration", "sampling_rate", "bit_depth", "width", "frame_rate", "channel_s")
        },
    )
)
def test_whatever_mediainfo_tells(track: dict[str, object]) -> None:
    """Numbers are numbers in the METS: several in one value, or none, are not known."""
    sound = av_facts.audio_facts(track, {})
    pictures = av_facts.video_facts(track, {}, sound=False)
    assert re.fullmatch(r"\d+", sound.bits_per_sample)
    assert re.fullmatch(r"\d+", sound.data_rate)
    assert re.fullmatch(r"\d+", pictures.width)
    assert re.fullmatch(r"\d+(\.\d+)?", sound.sampling_frequency)
    assert re.fullmatch(r"\d+(\.\d+)?", pictures.frame_rate)
    assert re.fullmatch(r"PT(\d+H)?(\d+M)?(\d+(\.\d+)?S)?|\(:unav\)", sound.duration)
