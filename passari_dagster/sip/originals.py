"""Originals that the DPS does not take as they are, beside a copy that it does: kept as bits, where a museum wants it.

An original and its copy are files of one object with the same name and different suffixes: `kuva.psd` and `kuva.tif`.
Two kinds: a format that the DPS does not accept, which it then does not validate; and a file of an accepted format that
is broken, whose errors it then ignores. Either needs an event that leads from the original to the copy.
[dps-sip §2.9; mets_filesec.sch: an original that is not validated is the source of a normalization.]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from passari_dagster.errors import ContentProblem
from passari_dagster.sip.formats import accepted
from passari_dagster.sip.formats.facts import FileFormat
from passari_dagster.sip.names import RESERVED
from passari_dagster.sip.problems import FileProblem
from passari_dagster.sip.rules import Rules

UNVALIDATED = "fi-dpres-no-file-format-validation"
BROKEN = "fi-dpres-ignore-validation-errors"


@dataclass(frozen=True)
class Original:
    """A file that is kept as it is.

    Arguments:
        use: as `mets:file/@USE` has it.
        format: what the METS tells of it.
    """

    use: str
    format: FileFormat


def original(faults: Sequence[ContentProblem], rules: Rules) -> Original | None:
    """A file with these faults as an original; None: the rules, or the faults, do not let it be one."""
    fault = faults[0]
    if len(faults) > 1 or not isinstance(fault, FileProblem) or fault.identified is None:
        return None
    found = fault.identified
    if (found.mimetype, found.version) in accepted.table():
        return Original(BROKEN, found) if rules.broken_originals else None
    return Original(UNVALIDATED, found) if rules.unsupported_originals else None


def by_stem(whole: Iterable[PurePosixPath]) -> Mapping[str, Sequence[PurePosixPath]]:
    """Files that may be copies, for `copies`."""
    found: dict[str, list[PurePosixPath]] = {}
    for path in whole:
        if path.name.lower() != RESERVED:  # the metadata of another attachment
            found.setdefault(path.stem.casefold(), []).append(path)
    return found


def copies(path: PurePosixPath, whole: Mapping[str, Sequence[PurePosixPath]]) -> list[PurePosixPath]:
    """The copies of an original: with its name but for the suffix, in its directory or in one beside that.

    A file with the same name and suffix may be anything: cameras give every picture such a name.

    Arguments:
        whole: what `by_stem` made of the files that are whole.
    """
    return [
        other
        for other in whole.get(path.stem.casefold(), ())
        if other.suffix.casefold() != path.suffix.casefold()
        and (other.parent == path.parent or other.parent.parent == path.parent.parent)
    ]
