"""AudioMD 2.0: technical metadata of sound.

The facts are read in `formats/`. [Specification: every element below is required in a digital file.]
"""

from __future__ import annotations

from lxml import etree

from passari_dagster.sip.elements import add
from passari_dagster.sip.formats.facts import AudioFacts


def audiomd(parent: etree._Element, facts: AudioFacts) -> None:
    """Add the AudioMD document of a file or of a stream to `parent`."""
    root = add(parent, "audiomd:AUDIOMD", None, {"ANALOGDIGITALFLAG": "FileDigital"})
    file = add(root, "audiomd:fileData")
    add(file, "audiomd:audioDataEncoding", facts.encoding)
    add(file, "audiomd:bitsPerSample", facts.bits_per_sample)
    compression = add(file, "audiomd:compression")
    add(compression, "audiomd:codecCreatorApp", facts.creator)
    add(compression, "audiomd:codecCreatorAppVersion", facts.creator_version)
    add(compression, "audiomd:codecName", facts.codec)
    add(compression, "audiomd:codecQuality", "lossless" if facts.lossless else "lossy")
    add(file, "audiomd:dataRate", facts.data_rate)
    add(file, "audiomd:dataRateMode", "Fixed" if facts.fixed_rate else "Variable")
    add(file, "audiomd:samplingFrequency", facts.sampling_frequency)
    info = add(root, "audiomd:audioInfo")
    add(info, "audiomd:duration", facts.duration)
    add(info, "audiomd:numChannels", facts.channels)
