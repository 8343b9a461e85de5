"""Sound and films for tests: a third of a second of a tone, eight small pictures, by any of FFmpeg's encoders."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np

_PICTURES, _PICTURES_A_SECOND, _SECONDS = 8, 25, 1 / 3


@dataclass(frozen=True)
class Recording:
    """What is to be written.

    Arguments:
        container: FFmpeg's name of the format.
        video, audio: FFmpeg's names of the encoders; None: none.
        size: of the pictures, pixels.
        pixels: FFmpeg's format of them.
        rate: of the sound, Hz.
        options: of the container.
        video_options: of the encoder of pictures.
        title: of the whole.
    """

    container: str
    video: str | None = None
    audio: str | None = None
    size: tuple[int, int] = (64, 48)
    pixels: str = "yuv420p"
    rate: int = 48000
    options: tuple[tuple[str, str], ...] = ()
    video_options: tuple[tuple[str, str], ...] = ()
    title: str = ""


@cache
def write(recording: Recording) -> bytes:
    """The file."""
    out = io.BytesIO()
    with av.open(out, "w", format=recording.container, options=dict(recording.options)) as container:
        if recording.title:
            container.metadata["title"] = recording.title
        streams: list[Any] = []
        if recording.video is not None:
            options = dict(recording.video_options)
            stream: Any = container.add_stream(recording.video, rate=_PICTURES_A_SECOND, options=options)
            (stream.width, stream.height), stream.pix_fmt = recording.size, recording.pixels
            streams.append((stream, _pictures(recording.size)))
        if recording.audio is not None:
            sound: Any = container.add_stream(recording.audio, rate=recording.rate, layout="stereo")
            streams.append((sound, _tone(sound.codec_context, recording.rate)))
        for encoder, frames in streams:
            for frame in [*frames, None]:
                for packet in encoder.encode(frame):
                    container.mux(packet)
    return out.getvalue()


def _pictures(size: tuple[int, int]) -> list[Any]:
    """They become lighter."""
    width, height = size
    return [
        av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * number, dtype="u1"), format="rgb24")
        for number in range(_PICTURES)
    ]


def _tone(context: Any, rate: int) -> list[Any]:
    wave = (10_000 * np.sin(2 * np.pi * 440 * np.arange(int(rate * _SECONDS)) / rate)).astype("<i2")
    frame: Any = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None, :], format="s16", layout="stereo")
    frame.sample_rate, frame.pts = rate, 0
    resampler: Any = av.AudioResampler(
        format=context.format, layout="stereo", rate=rate, frame_size=context.frame_size or None
    )
    return [*resampler.resample(frame), *resampler.resample(None)]
