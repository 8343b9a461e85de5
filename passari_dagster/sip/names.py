"""Names that files of a package may have: the rules for one name and for a path inside the package.

Renaming belongs elsewhere, and so does reading the files: here a name is accepted or refused.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

from passari_dagster.sip import problems

RESERVED = "multimedia.xml"
"""In lower case, the name of the document that describes an attachment, beside it."""
MAX_NAME_BYTES = 255
"""Longest name that the usual file systems (and ours) can hold."""

_PACKAGE_FILES = frozenset({"mets.xml", "signature.sig", "varmiste.sig"})


def safe_name(filename: str, *, allow_non_ascii: bool = False) -> str:
    """The name under which an attachment may be kept: the same name, in Unicode's composed form (NFC).

    Arguments:
        filename: name of the attachment as the catalogue or an archive gives it; a name, not a path.
        allow_non_ascii: accept letters outside ASCII. The METS and the tar carry them as UTF-8; whether the
            live service takes them is not documented (specification of file names in the package).

    Raises:
        ContentProblem: `Multimedia.xml` (our own file beside the attachment), a name that would leave its
            directory, with control characters, too long, or not ASCII.
    """
    if filename.lower() == RESERVED:
        # Lower case too: on some file systems the two would be one file.
        raise problems.RESERVED_NAME.found(f"{filename!r} would hide the metadata of the attachment")
    name = unicodedata.normalize("NFC", filename)
    fault = _fault(name)
    if fault:
        raise problems.NAME_NOT_ALLOWED.found(f"{filename!r} {fault}")
    if not allow_non_ascii and not name.isascii():
        raise problems.NON_ASCII_NAME.found(repr(filename))
    return name


def check_path(path: PurePosixPath, *, allow_non_ascii: bool = False) -> None:
    """Accept or refuse a path relative to the root of the package.

    Arguments:
        path: path of a digital object, such as `attachments/7/kuva.jpg`.
        allow_non_ascii: see `safe_name`.

    Raises:
        ContentProblem: absolute, leaves the package, begins with a dot (the DPS strips dots and slashes from
            the beginning of a path and then does not find the file), is one of the package's own files, or has
            a part that is no safe name.
    """
    text = str(path)
    if path.is_absolute() or not path.parts:
        raise problems.NAME_NOT_ALLOWED.found(f"{text!r} is not a path inside the package")
    if text in _PACKAGE_FILES:
        raise problems.NAME_NOT_ALLOWED.found(f"{text!r} is a name of the package itself")
    if text.startswith("."):
        raise problems.NAME_NOT_ALLOWED.found(f"{text!r} begins with a dot")
    for part in path.parts:
        fault = _fault(part)
        if fault:
            raise problems.NAME_NOT_ALLOWED.found(f"{text!r} {fault}")
    if not allow_non_ascii and not text.isascii():
        raise problems.NON_ASCII_NAME.found(repr(text))


def _fault(name: str) -> str | None:
    """What is wrong with a single name, as the end of a sentence."""
    if name in ("", ".", ".."):
        return "is not a file name"
    if "/" in name or "\\" in name:
        return "has a path separator"
    # Cc: control characters, new lines and NUL; Cs: bytes that are no text; Zl, Zp: new lines of Unicode.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        return "has a control character"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    # Not representable in XML, so not in the METS either.
    if "\ufffe" in name or "\uffff" in name:
        return "has a character that is none"
    return None
