"""What was sent, told beside the database: `package.json` in the package's directory of the archive.

The database is the truth about an object, but a backup of it may be older than a send. What it lost is put back from
here before a package is begun, sent or cancelled, so that nothing is sent twice. A record is written after the
commit that it tells of: it never says more than the database said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.orm import Session

from passari_dagster import durable, locks
from passari_dagster.catalogue import recovery
from passari_dagster.catalogue.recovery import Restored
from passari_dagster.errors import PermanentFailure, TransientFailure
from passari_dagster.sip.workspace import archive_path, archived_objects, object_archive_path
from passari_dagster.workflow.audit import Deed
from passari_dagster.workflow.environment import Environment, Log

FILE = "package.json"
MAX_BYTES = 10 * 1024 * 1024
"""Of a record: room for a hundred thousand attachments and more."""


def write(env: Environment, package_id: int) -> None:
    """Record what the database says of a package that was, or is about to be, sent. Safe to repeat.

    Raises:
        OSError: the archive cannot be written.
    """
    with env.transaction() as session:
        record = recovery.record(session, package_id)
    package = record.package
    directory = archive_path(env.settings.archive_dir, package.museum_object_id, package.sip_filename)
    durable.make_directory(directory)
    durable.write_bytes(directory / FILE, record.model_dump_json(indent=1).encode())


def forget(env: Environment, object_id: int, sip_filename: str) -> None:
    """The package was given up: it does not count as sent any more."""
    (archive_path(env.settings.archive_dir, object_id, sip_filename) / FILE).unlink(missing_ok=True)


def recover(env: Environment, object_id: int, log: Log, deed: Deed | None = None) -> Restored:
    """Put back what the database has lost of an object's packages; to be called under the object's lock.

    Arguments:
        deed: what a person does, of which this is a part; None: it is found by the way.

    Returns:
        what was put back; nothing, where no backup was restored.

    Raises:
        PermanentFailure: a record cannot be read; names the file.
        TransientFailure, OSError: the archive cannot. That is never taken for "no records": the object would be sent
            twice.
    """
    records = list(_records(env.settings.archive_dir, object_id))
    if not records:
        return Restored()
    with env.transaction() as session:
        restored = recovery.restore(session, object_id, records)
        if restored and deed is not None:
            deed.record(session, [object_id])
    for name in restored.names:
        log(f"the database had lost that {name} was sent: put back from the archive")
    for name in restored.given_up:
        log(f"{name} is cancelled: it was begun by what did not know that, and not sent")
    return restored


def restore(env: Environment, session: Session, object_id: int) -> Restored:
    """As `recover`, in a transaction of the caller's, who wants to know only and rolls it back."""
    records = list(_records(env.settings.archive_dir, object_id))
    return recovery.restore(session, object_id, records) if records else Restored()


@dataclass(frozen=True)
class Recovery:
    """An object with records, and what was, or would be, put back.

    Arguments:
        restored: of its packages.
        fault: why nothing can be put back now; empty: nothing is in the way.
    """

    object_id: int
    restored: Restored
    fault: str = ""


def recover_each(env: Environment, log: Log, deed: Deed | None) -> Iterator[Recovery]:
    """Put back what the database has lost of all packages, object by object; one that cannot be keeps no other.

    Arguments:
        deed: for the audit log; None: it is only found out what would be put back, and nothing is changed.

    Raises:
        TransientFailure, OSError: the archive cannot be read.
    """
    _require(env.settings.archive_dir)
    for object_id in archived_objects(env.settings.archive_dir):
        try:
            restored = _would_recover(env, object_id) if deed is None else _recover_locked(env, object_id, log, deed)
            found = Recovery(object_id, restored)
        except (PermanentFailure, locks.LockBusyError) as failure:
            log(str(failure))
            found = Recovery(object_id, Restored(), str(failure))
        yield found


def _would_recover(env: Environment, object_id: int) -> Restored:
    with env.undone() as session:
        return restore(env, session, object_id)


def _recover_locked(env: Environment, object_id: int, log: Log, deed: Deed) -> Restored:
    # A run that was just killed has its object's lock for a while yet.
    with env.lock(locks.object_lock(object_id), wait=env.settings.workflow.lock_expiry + 1):
        return recover(env, object_id, log, deed)


def would_recover_all(env: Environment) -> Iterator[tuple[int, Restored]]:
    """What `recover_all` would put back of each object. Nothing is changed.

    Raises:
        PermanentFailure: a record cannot be read, or put back.
        TransientFailure, OSError: the archive cannot be read.
    """
    for found in recover_each(env, lambda _line: None, None):
        if found.fault:
            raise PermanentFailure(found.fault)
        if found.restored:
            yield found.object_id, found.restored


def recover_all(
    env: Environment, log: Log, deed: Deed, told: Callable[[int, Restored], object] = lambda _id, _restored: None
) -> int:
    """Put back what the database has lost of all packages; for who has restored a backup.

    Arguments:
        deed: for the audit log.
        told: called with each object of which something was put back, and what.

    Returns:
        how many objects have records.

    Raises:
        PermanentFailure: some records could not be put back; each was logged, and all others are.
        TransientFailure, OSError: the archive cannot be read.
    """
    objects = failed = 0
    for found in recover_each(env, log, deed):
        objects += 1
        failed += bool(found.fault)
        if found.restored:
            told(found.object_id, found.restored)
    if failed:
        raise PermanentFailure(f"{failed} of {objects} objects were not recovered; the messages above say why")
    return objects


def _require(archive_dir: Path) -> None:
    """A share that is not mounted is not an empty archive."""
    if not archive_dir.is_dir():
        raise TransientFailure(f"archive_dir {archive_dir} is not there: mount or create it")


def _records(archive_dir: Path, object_id: int) -> Iterator[recovery.Record]:
    try:
        packages = sorted(object_archive_path(archive_dir, object_id).iterdir())
    except FileNotFoundError:
        _require(archive_dir)
        return
    for package in packages:
        path = package / FILE
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            record = recovery.Record.model_validate_json(data)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]["msg"]
            what = f"object {object_id}: {path} is damaged: {fault}"
            raise PermanentFailure(f"{what}. Restore it from a backup") from None
        if (record.package.museum_object_id, record.package.sip_filename) != (object_id, package.name):
            raise PermanentFailure(f"object {object_id}: {path} is of another package. Restore it from a backup")
        yield record
