"""The standing list: objects that wait for a person, since they failed, were rejected, or wait too long for a verdict.

Which runs have failed is Dagster's to know, and is not known here; what a failed run said is made comparable here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from passari_dagster.catalogue import eligibility, packages, statistics
from passari_dagster.catalogue.statistics import Listed
from passari_dagster.errors import UnforeseenContent
from passari_dagster.workflow import audit, cancel
from passari_dagster.workflow.environment import Environment
from passari_dagster.workflow.shown import in_markdown

SAMPLE = 20
"""Objects of a list that are told by id."""
CLUSTERS = 25
"""Most messages of a table."""
_LENGTH = 300
"""Characters by which messages are compared."""

# In this order: what is quoted may hold anything, a path may hold numbers.
_VARIABLE = (
    (re.compile(r"https?://[^\s'\"]+"), "<url>"),
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|“[^”\n]*”"), "<name>"),
    (re.compile(r"(?<!\S)\(?(?:\S*/\S+|\S+\.[A-Za-z][A-Za-z0-9]{0,4})(?=[\s,:;)]|\.?$)"), "<file>"),
    (
        re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{12,}\b", re.IGNORECASE),
        "<id>",
    ),
    (re.compile(r"\d+(?:[.,:T-]\d+)*"), "<n>"),
)


@dataclass(frozen=True)
class Failure:
    """How the last run of an object failed.

    Arguments:
        run_id: Dagster's.
        step: the op that failed; empty: the run itself, for instance killed.
        message: the error's.
        final: whether it was not tried again, since that could not help; else the retries are spent.
        error: class of the error; empty: not known.
    """

    object_id: int
    run_id: str
    step: str
    message: str
    final: bool
    error: str = ""

    @property
    def of_the_content(self) -> bool:
        """Whether it is the object's, and no detector knows it yet."""
        return self.error == UnforeseenContent.__name__


@dataclass
class Cluster:
    """Failures of one step that say the same, but for names and numbers.

    Arguments:
        message: what they say, with placeholders.
        example: what the first of them said.
    """

    step: str
    message: str
    final: bool
    error: str
    example: str
    failures: list[Failure] = field(default_factory=list)

    @property
    def candidate(self) -> bool:
        """Whether they are of the content: no detector knows it yet."""
        return self.failures[0].of_the_content


def rejections(env: Environment) -> Listed:
    """Objects whose latest package was rejected and that nobody has done anything about, the latest verdict first."""
    with env.transaction() as session:
        return statistics.rejected(session, most=SAMPLE)


def overdue(env: Environment) -> Listed:
    """Objects that wait for their verdict longer than `workflow.overdue_days`, the longest wait first."""
    before = env.now() - timedelta(days=env.settings.workflow.overdue_days)
    with env.transaction() as session:
        return statistics.without_verdict(session, before=before, most=SAMPLE)


def unfinished(env: Environment, failed: Mapping[int, datetime]) -> set[int]:
    """Those of the objects that are not done with: in the workflow, or eligible for it, unless a person has cancelled
    the package since, or it is with the DPS, whose verdict is waited for (`overdue` has those that wait too long).

    Arguments:
        failed: the objects, and when the last run of each failed.
    """
    if not failed:
        return set()
    with env.transaction() as session:
        eligible = set(eligibility.eligible_ids(session, now=env.now(), delays=env.delays, among=failed))
        cancelled = audit.last_time(session, cancel.ACTION, eligible)
        handled = {object_id for object_id, when in cancelled.items() if when > failed[object_id]}
        sent = {object_id for object_id, uploaded in packages.latest_open(session, failed).items() if uploaded}
        watched = sent.difference(packages.unconfirmed_among(session, failed))
        return (packages.in_the_workflow(session, failed) | eligible - handled) - watched


def normalised(message: str) -> str:
    """The message with placeholders for names, files, ids and numbers, so that messages of one kind are equal."""
    text = " ".join(message.split())[: 2 * _LENGTH]
    for pattern, placeholder in _VARIABLE:
        text = pattern.sub(placeholder, text)
    return text[:_LENGTH]


def clustered(failures: Iterable[Failure]) -> list[Cluster]:
    """Failures by what they say, the most frequent first."""
    found: dict[tuple[str, str, bool, str], Cluster] = {}
    for failure in failures:
        key = (failure.step, normalised(failure.message), failure.final, failure.error)
        cluster = found.setdefault(key, Cluster(*key, example=failure.message))
        cluster.failures.append(failure)
    return sorted(found.values(), key=lambda cluster: (-len(cluster.failures), cluster.step, cluster.message))


def markdown_clusters(clusters: Iterable[Cluster]) -> str:
    """The clusters as a table for Dagster's pages, with links to the first runs of each."""
    lines = ["| objects | step | tried again | message | for instance | runs |", "|---|---|---|---|---|---|"]
    for cluster in list(clusters)[:CLUSTERS]:
        runs = ", ".join(f"[{each.object_id}](/runs/{each.run_id})" for each in cluster.failures[:3])
        cells = (
            str(len(cluster.failures)),
            in_markdown(cluster.step or "the run itself"),
            "no" if cluster.final else "retries spent",
            in_markdown(cluster.message),
            in_markdown(cluster.example),
            runs,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "none"
