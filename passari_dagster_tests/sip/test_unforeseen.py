"""What reads content fails in a way that nobody foresaw: told with the file, and told from other faults."""

from __future__ import annotations

import struct
import zlib

import pytest
from lxml import etree

from passari_dagster.errors import ContentProblem, TransientFailure, UnforeseenContent
from passari_dagster.sip.unforeseen import unforeseen


@pytest.mark.parametrize(
    "error",
    [
        IndexError("list index out of range"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
        etree.XMLSyntaxError("mismatch", 1, 1, 1),
        struct.error("unpack"),
        zlib.error("invalid"),
        RecursionError("deep"),
    ],
)
def test_what_the_same_file_brings_about_each_time_names_the_file(error: Exception) -> None:
    with pytest.raises(UnforeseenContent, match=r"kuva\.tif.*no detector knows why") as failure, unforeseen("kuva.tif"):
        raise error
    assert failure.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        MemoryError(),
        ConnectionResetError(),
        ContentProblem("odd"),
        TransientFailure("later"),
        KeyboardInterrupt(),
    ],
)
def test_what_the_world_does_wrong_is_no_matter_of_the_content(error: BaseException) -> None:
    with pytest.raises(type(error)) as failure, unforeseen("kuva.tif"):
        raise error
    assert failure.value is error
