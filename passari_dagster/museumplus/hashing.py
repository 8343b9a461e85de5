"""The metadata hash: tells whether the museum changed what it says about an object or an attachment.

The same as the hashes of the original toolkit, digit for digit, so that objects keep theirs when a museum moves
over: SHA-256 of the inclusive canonical XML, without comments, of the item where it stands in the search answer
(namespaces declared on the answer's root count).
"""

from __future__ import annotations

import hashlib

from lxml import etree

from passari_dagster.museumplus.fields import DATA_FIELD, SYSTEM_FIELD

_CHANGED_BY_EVERY_WRITE = ("__lastModified", "__lastModifiedUser")


def object_hash(item: etree._Element, log_field: str | None) -> str:
    """The metadata hash of an Object. Read the item's fields first: it loses those that do not count.

    Arguments:
        item: the module item, still in the document it came in.
        log_field: the preservation log field, which we write ourselves: it does not count, and neither does what
            MuseumPlus changes when we do. None where there is none.
    """
    for field in list(item.iterchildren(SYSTEM_FIELD, DATA_FIELD)):
        name = field.get("name")
        if (name == log_field) if field.tag == DATA_FIELD else (name in _CHANGED_BY_EVERY_WRITE):
            item.remove(field)
    return _canonical_hash(item)


def attachment_hash(item: etree._Element) -> str:
    """The metadata hash of a Multimedia item: everything counts, as we never write there."""
    return _canonical_hash(item)


def _canonical_hash(item: etree._Element) -> str:
    canonical = etree.tostring(item, method="c14n", exclusive=False, with_comments=False)
    return hashlib.sha256(canonical).hexdigest()
