"""MIX 2.0: technical metadata of one image.

The facts are read in `formats/`. [Specification: MIX is required for every image; byteOrder for TIFF, before
Compression; Colormap/colormapReference for a palette; JPEG2000/EncodingOptions for JPEG 2000, and for nothing else.]
"""

from __future__ import annotations

from lxml import etree

from passari_dagster.sip.elements import add, qname
from passari_dagster.sip.formats.facts import ImageFacts


def mix(parent: etree._Element, facts: ImageFacts, href: str) -> None:
    """Add the MIX document of an image to `parent`.

    Arguments:
        facts: what is known of the image.
        href: URL of the file in the package; the palette is inside it.
    """
    root = etree.SubElement(parent, qname("mix:mix"))
    digital = add(root, "mix:BasicDigitalObjectInformation")
    if facts.byte_order:
        add(digital, "mix:byteOrder", facts.byte_order)
    add(add(digital, "mix:Compression"), "mix:compressionScheme", facts.compression)

    basic_information = add(root, "mix:BasicImageInformation")
    basic = add(basic_information, "mix:BasicImageCharacteristics")
    add(basic, "mix:imageWidth", facts.width)
    add(basic, "mix:imageHeight", facts.height)
    add(add(basic, "mix:PhotometricInterpretation"), "mix:colorSpace", facts.color_space)

    if facts.jpeg2000 is not None:
        special = add(add(basic_information, "mix:SpecialFormatCharacteristics"), "mix:JPEG2000")
        options = add(special, "mix:EncodingOptions")
        tiles = add(options, "mix:Tiles")
        add(tiles, "mix:tileWidth", facts.jpeg2000.tile_width)
        add(tiles, "mix:tileHeight", facts.jpeg2000.tile_height)
        add(options, "mix:qualityLayers", facts.jpeg2000.quality_layers)
        add(options, "mix:resolutionLevels", facts.jpeg2000.resolution_levels)

    encoding = add(add(root, "mix:ImageAssessmentMetadata"), "mix:ImageColorEncoding")
    bits = add(encoding, "mix:BitsPerSample")
    for value in facts.bits_per_sample:
        add(bits, "mix:bitsPerSampleValue", value)
    add(bits, "mix:bitsPerSampleUnit", facts.sample_unit)
    add(encoding, "mix:samplesPerPixel", len(facts.bits_per_sample))
    for meaning in facts.extra_samples:
        add(encoding, "mix:extraSamples", meaning)
    if facts.color_space == "PaletteColor":
        add(add(encoding, "mix:Colormap"), "mix:colormapReference", href)
