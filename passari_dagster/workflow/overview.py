"""How many objects are where in the workflow: counted, and drawn."""

from __future__ import annotations

from collections.abc import Mapping

from passari_dagster.catalogue import eligibility, statistics
from passari_dagster.workflow import picture
from passari_dagster.workflow.environment import Environment

FLOW = {
    "eligible": "eligible",
    "downloading": "being\ndownloaded",
    "downloaded": "being\npackaged",
    "packaged": "being\nsent",
    "submitted": "with\nthe DPS",
    "confirming": "being\nconfirmed",
    "preserved": "preserved",
}
"""The way of an object, with what each place is called in the picture."""
ASIDE = {
    "failed": ("downloaded", "failed"),
    "frozen": ("downloading", "frozen"),
    "rejected": ("confirming", "rejected"),
}
"""Where objects leave the way, from which place, and what that is called."""
KEYS = (*FLOW, *ASIDE)
MEANING = {
    "eligible": "may be enqueued now, or wait in the queue; also those that are preserved and have changed since",
    "downloading": "are downloaded, or wait for their first step",
    "downloaded": "wait for their package, or it is made",
    "packaged": "wait to be sent, or are",
    "submitted": "were sent, and wait for the DPS's verdict",
    "confirming": "have a verdict, which is written to MuseumPlus and to the archive",
    "preserved": "their latest package was accepted",
    "failed": "their last run failed; they are counted in their place above, too",
    "frozen": "are kept out of the workflow, by the workflow or by a person",
    "rejected": "their latest package was rejected",
}
"""What the number of a place tells."""
_COLOURS = {"preserved": "#d5efdc", "failed": "#f8d3d0", "frozen": picture.FROZEN, "rejected": "#fae3c4"}
_HEIGHT = 2.4
"""Inches."""


def count(env: Environment) -> dict[str, int]:
    """How many objects are in each place of `KEYS`, but for `failed`, which only Dagster knows."""
    with env.transaction() as session:
        stages = statistics.objects_by_stage(session)
        eligible = eligibility.count_eligible(session, now=env.now(), delays=env.delays)
    return {"eligible": eligible, **{key: stages[key] for key in KEYS if key in stages}}


def markdown(counts: Mapping[str, int]) -> str:
    """The picture, and below it what the numbers mean, for Dagster's pages."""
    lines = [picture.in_markdown(draw(counts), "how many objects are where"), ""]
    lines += ["| objects | |", "|---|---|", *(f"| {counts[key]:,} | {MEANING[key]} |" for key in KEYS)]
    return "\n".join(lines)


def draw(counts: Mapping[str, int]) -> bytes:
    """The way of the objects as a picture (PNG, some kilobytes): a box for each place, with the number in it."""
    from matplotlib.patches import FancyBboxPatch  # here, as in `picture.paper`

    figure = picture.paper(_HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-0.5, len(FLOW) - 0.5)
    axes.set_ylim(-1.6, 0.6)
    places = {key: (float(column), 0.0) for column, key in enumerate(FLOW)}
    names = dict(FLOW)
    arrows = list(zip(FLOW, list(FLOW)[1:], strict=False))
    for key, (origin, name) in ASIDE.items():
        places[key] = (places[origin][0], -1.12)
        names[key] = name
        arrows.append((origin, key))
    for origin, goal in arrows:
        (x, y), (to_x, to_y) = places[origin], places[goal]
        start, end = ((x + 0.42, y), (to_x - 0.42, to_y)) if y == to_y else ((x, y - 0.4), (to_x, to_y + 0.4))
        axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": picture.INK})
    for key, (x, y) in places.items():
        box = FancyBboxPatch((x - 0.36, y - 0.36), 0.72, 0.72, boxstyle="round,pad=0.04", edgecolor=picture.INK)
        box.set_facecolor(_COLOURS.get(key, "#eef1f6"))
        axes.add_patch(box)
        axes.text(x, y + 0.16, f"{counts[key]:,}", ha="center", va="center", fontsize=11, fontweight="bold")
        axes.text(x, y - 0.18, names[key], ha="center", va="center", fontsize=8, color=picture.LETTERS)
    return picture.png(figure)
