"""The dossier as one HTML file, with the ingest reports inside.

Reports are pages that come from outside. Each is in a frame that is sandboxed without any permission, so that no script
of it runs; the page's own policy, which such a frame inherits, has nothing loaded from anywhere. Everything else is
escaped.
"""

from __future__ import annotations

from functools import partial

import jinja2

from passari_dagster.workflow import dossier_words as words
from passari_dagster.workflow.dossier import Dossier
from passari_dagster.workflow.shown import plain

_TEMPLATE = "dossier.html.j2"


def html(made: Dossier, base: str = "") -> str:
    """The page.

    Arguments:
        base: address of Dagster's UI, without a slash at its end; empty: not known.
    """
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("passari_dagster.workflow", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    pages.filters["plain"] = plain
    zone = made.time_zone
    template = pages.get_template(_TEMPLATE)
    return template.render(made=made, base=base, words=words, zone=zone, when=partial(words.when, time_zone=zone))
