"""VideoMD 2.0: technical metadata of moving pictures.

The facts are read in `formats/`. [Specification: every element below is required in a digital file.]
"""

from __future__ import annotations

from lxml import etree

from passari_dagster.sip.elements import add
from passari_dagster.sip.formats.facts import VideoFacts


def videomd(parent: etree._Element, facts: VideoFacts) -> None:
    """Add the VideoMD document of a stream to `parent`."""
    root = add(parent, "videomd:VIDEOMD", None, {"ANALOGDIGITALFLAG": "FileDigital"})
    file = add(root, "videomd:fileData")
    add(file, "videomd:duration", facts.duration)
    add(file, "videomd:dataRate", facts.data_rate)
    add(file, "videomd:bitsPerSample", facts.bits_per_sample)
    add(file, "videomd:color", facts.color)
    compression = add(file, "videomd:compression")
    add(compression, "videomd:codecCreatorApp", facts.creator)
    add(compression, "videomd:codecCreatorAppVersion", facts.creator_version)
    add(compression, "videomd:codecName", facts.codec)
    add(compression, "videomd:codecQuality", "lossless" if facts.lossless else "lossy")
    add(file, "videomd:dataRateMode", "Fixed" if facts.fixed_rate else "Variable")
    frame = add(file, "videomd:frame")
    add(frame, "videomd:pixelsHorizontal", facts.width)
    add(frame, "videomd:pixelsVertical", facts.height)
    add(frame, "videomd:PAR", facts.pixel_aspect)
    add(frame, "videomd:DAR", facts.display_aspect)
    add(file, "videomd:frameRate", facts.frame_rate)
    add(file, "videomd:sampling", facts.sampling)
    add(file, "videomd:signalFormat", facts.signal_format)
    add(file, "videomd:sound", "Yes" if facts.sound else "No")
