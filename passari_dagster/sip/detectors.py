"""Plug-ins that find content problems of their own: what a museum, or its DPS contract, minds beyond `formats/`.

A package names them under the entry point `passari_dagster.error_detectors`; the value is a `Detector` or several.
What the packager itself finds is in `problems`; here is also how both are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from passari_dagster.errors import ContentProblem, PermanentFailure
from passari_dagster.sip import plugins, problems
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.problems import Kind

GROUP = "passari_dagster.error_detectors"


@dataclass(frozen=True)
class FoundFile:
    """A file of a package, as a detector gets it; it has not changed since it was downloaded.

    Arguments:
        path: in the package: `attachments/7/kuva.jpg`.
        file: on disk, to be read only.
        size: in bytes.
        format: what it was identified as, or why it is refused.
    """

    path: PurePosixPath
    file: Path
    size: int
    format: FileFormat | ContentProblem


@dataclass(frozen=True)
class Detector:
    """Finds one kind of problem.

    Arguments:
        kind: code, reason, advice and example; the code is no other one's, and the reason has no places for words.
        detect: what is wrong with a file, in a few words; None: nothing. Whatever it raises stops the packaging as a
            fault of the installation, and freezes nothing.
    """

    kind: Kind
    detect: Callable[[FoundFile], str | None]


@cache
def installed() -> tuple[Detector, ...]:
    """The detectors of all packages that are installed, by code.

    Raises:
        PermanentFailure: one cannot be loaded, is no detector, or has a code that is taken or a reason with braces.
    """
    found = [
        detector for entry, value in plugins.load(GROUP, "the detector") for detector in _detectors(entry.value, value)
    ]
    codes = [kind.code for kind in problems.kinds()]
    for detector in found:
        if detector.kind.code in codes:
            raise PermanentFailure(f"a detector of content problems bears the code {detector.kind.code!r}, as another")
        codes.append(detector.kind.code)
    return tuple(sorted(found, key=lambda detector: detector.kind.code))


def known_kinds() -> tuple[Kind, ...]:
    """Every kind of content problem that can be found here: ours, in the catalogue's order, then the plug-ins'."""
    return (*problems.kinds(), *(detector.kind for detector in installed()))


def detect(file: FoundFile) -> Iterator[ContentProblem]:
    """What the installed detectors find in a file.

    Raises:
        PermanentFailure: a detector failed; nothing is known of the file then.
    """
    for detector in installed():
        try:
            detail = detector.detect(file)
        except Exception as error:
            raise PermanentFailure(
                f"{file.path}: the detector {detector.kind.code!r} failed: {type(error).__name__}: {error}; "
                "correct or uninstall its package"
            ) from error
        if detail is not None:
            yield detector.kind.found(detail)


def _detectors(name: str, value: Any) -> Iterable[Detector]:
    found = (value,) if isinstance(value, Detector) else tuple(value)
    if not all(isinstance(detector, Detector) for detector in found):
        raise PermanentFailure(f"{name} is no Detector")
    for detector in found:
        if set("{}") & set(detector.kind.reason):
            raise PermanentFailure(f"{name}: the reason of {detector.kind.code!r} has braces, which are not filled in")
    return found
