"""Whatever the bytes of a file are: it has a format or a content problem, soon, and nothing else happens."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import PurePosixPath

import pytest

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster_tests.sip.content import look
from passari_dagster_tests.sip.test_matrix import SAMPLES

SECONDS = float(os.environ.get("PASSARI_FUZZ_SECONDS", "60"))
SLOW = 30.0
"""Seconds of computing that a small file may take at most: one that a library is lost in is allowed 20."""
AT_MOST = 200_000
"""Bytes of a sample that is mutated: the larger ones are cut."""


def mutated(data: bytes, other: bytes, random_: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or taken from another file."""
    changed = bytearray(data[:AT_MOST])
    for _ in range(random_.randint(1, 8)):
        if not changed:
            break
        at, size = random_.randrange(len(changed)), random_.choice((1, 1, 2, 4, 64, 1000))
        match random_.randrange(5):
            case 0:
                changed[at] ^= 1 << random_.randrange(8)
            case 1:
                changed[at : at + size] = random_.randbytes(size)
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size]
            case _:
                begin = random_.randrange(max(1, len(other)))
                changed[at : at + size] = other[begin : begin + size]
    return bytes(changed)


def computed() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("half", [0, 1])
def test_damaged_files_of_every_format(half: int) -> None:
    """Two processes, each with a seed of its own, which is told when something goes wrong."""
    seed = int(os.environ.get("PASSARI_FUZZ_SEED", time.time_ns())) + half
    random_ = random.Random(seed)
    contents = [(sample.filename, sample.make()) for sample in SAMPLES]
    until, number, taken = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < until:
        name, data = random_.choice(contents)
        if random_.random() < 0.1:
            name = random_.choice(contents)[0]
        broken = mutated(data, random_.choice(contents)[1], random_)
        begun = computed()
        try:
            found = look(broken, PurePosixPath(name).suffix)
        except Exception as error:
            raise AssertionError(f"PASSARI_FUZZ_SEED={seed - half}: file {number}, made of {name}") from error
        assert isinstance(found, FileFormat | ContentProblem)
        assert computed() - begun < SLOW, f"PASSARI_FUZZ_SEED={seed - half}: file {number}, made of {name}"
        number, taken = number + 1, taken + isinstance(found, FileFormat)
    assert number > taken > 0, "some are taken for good, and some are refused"
