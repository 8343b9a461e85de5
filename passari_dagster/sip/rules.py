"""What an installation lets pass: the choices that the DPS's specification leaves open, or that a museum makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from passari_dagster.sip.tools import Tools


@dataclass(frozen=True)
class Rules:
    """Each is documented with the setting of the same name, in `settings`.

    Arguments:
        non_ascii_filenames: accept file names that are not ASCII.
        multi_page_tiff: accept TIFF files of several pages.
        jpeg_exif_23: how a JPEG of Exif 2.3 or later is told to the DPS: by that version, by the JFIF version that it
            has besides, or not at all.
        unsupported_originals: keep files of formats that the DPS does not accept, beside a copy that it does.
        broken_originals: keep broken files of accepted formats, beside a copy that is whole.
        tools: outside tools that are asked as well.
    """

    non_ascii_filenames: bool = False
    multi_page_tiff: bool = False
    jpeg_exif_23: Literal["exif", "jfif", "freeze"] = "exif"
    unsupported_originals: bool = False
    broken_originals: bool = False
    tools: Tools = field(default_factory=Tools)
