"""After an older backup of the museum database was restored: what was sent since is put back, from the archive."""

from __future__ import annotations

from dataclasses import dataclass

from passari_dagster.errors import PermanentFailure
from passari_dagster.workflow import journal
from passari_dagster.workflow.audit import Actor, Deed
from passari_dagster.workflow.bulk import REFUSED, Tally
from passari_dagster.workflow.environment import Environment, Log

ACTION = "recover"
RECOVERED = "put back from the archive"


@dataclass
class Recovered:
    """What was, or would be, done.

    Arguments:
        tally: of the objects of which the database has lost something, and of those that are refused.
        archived: how many objects have packages in the archive.
    """

    tally: Tally
    archived: int = 0

    @property
    def summary(self) -> str:
        """One line for people."""
        known = f"the database knows all packages of the {self.archived} objects in the archive"
        if not self.tally.counts:
            return known
        still = self.tally.dry_run or self.tally.refused
        return f"{self.tally.summary}; {f'{self.archived} objects are in the archive' if still else known}"


def recover(
    env: Environment, actor: Actor, *, log: Log, reason: str = "", dry_run: bool = False, sample: int | None = 20
) -> Recovered:
    """Put back what the database has lost of packages that were sent. Safe to repeat.

    Each object is a transaction of its own, under its lock; those that are refused do not keep the others.

    Arguments:
        reason: for the audit log; may be empty.
        dry_run: only find out what would be put back.
        sample: how many objects of each outcome the answer tells by id; None: all.

    Raises:
        PermanentFailure: the archive cannot be read.
        TransientFailure: it is not there.
    """
    deed = None if dry_run else Deed(env.now, actor, ACTION, reason.strip())
    answer = Recovered(Tally(dry_run=dry_run, sample=sample))
    try:
        for found in journal.recover_each(env, log, deed):
            answer.archived += 1
            if found.fault:
                answer.tally.add(found.object_id, REFUSED, found.fault)
            elif found.restored:
                answer.tally.add(found.object_id, RECOVERED, str(found.restored))
                if dry_run:
                    log(f"object {found.object_id}: would be {RECOVERED}: {found.restored}")
    except OSError as error:
        raise PermanentFailure(f"the archive cannot be read: {error}") from error
    return answer
