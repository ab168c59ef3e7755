"""The folder ``models`` of a run: what training programs have written, never opened here, and the attempts that failed.

A member is a folder ``models/HASH`` that appears as a whole: ``model``, the file or folder that the program left at
{output}; ``training.log``, all that it printed; and ``member.h5``, which says what they are.
"""

import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alflow.errors import ConfigError, StoreError
from alflow.models.trained.records import FailedTraining, MemberRecord
from alflow.state.atomic import is_litter, sync, whole_file
from alflow.state.file import commit_file, make_folder, os_errors, read_file
from alflow.workers.programs import content_hash

MODEL, RECORD, LOG = "model", "member.h5", "training.log"
_FAILED, _ENDED = "failed", "ended.json"


def is_trained(models: Path, name: str) -> bool:
    """Whether a member is finished."""
    return (models / name / RECORD).is_file()


def look(models: Path) -> None:
    """Look into the folders anew: a network file system may remember what was not there."""
    for folder in (models, models / _FAILED):
        with suppress(OSError):
            list(folder.iterdir())


def model_of(models: Path, name: str) -> Path:
    """What a program left of a member, verified; ConfigError when it is missing, or is not what was written."""
    folder = models / name
    try:
        check_member(folder)
    except StoreError as error:
        raise ConfigError(str(error)) from error
    return folder / MODEL


def check_member(folder: Path) -> None:
    """StoreError if a member is not what was written."""
    record = read_file(folder / RECORD, MemberRecord, {"training": folder.name})
    for name, checksum in zip(record.files, record.checksums, strict=True):
        path = folder / name
        with os_errors(path):
            found = content_hash(path)
        if found != checksum:
            msg = f"{path} is damaged: its content is not what the training program wrote; restore it from a backup"
            raise StoreError(msg)


def members(models: Path) -> list[Path]:
    """Folders of all members that are finished."""
    return sorted(path.parent for path in models.glob(f"[!.]*/{RECORD}"))


@contextmanager
def new_member(models: Path, name: str) -> Iterator[Path]:
    """A folder in which a member is put together; it gets its name in the end, with everything in it on the disk."""
    folder = models / f".{name}.{os.urandom(4).hex()}.{os.getpid()}@{socket.gethostname()}.tmp"
    with os_errors(folder):
        folder.mkdir(parents=True)
        try:
            yield folder
            for path in sorted(folder.rglob("*"), reverse=True):
                _flush(path)
            sync(folder)
            _named(folder, models, name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        sync(models)


def _named(folder: Path, models: Path, name: str) -> None:
    """Give a folder its name, unless a worker that was lost sight of has finished the same member."""
    try:
        folder.rename(models / name)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise
        if not is_trained(models, name):  # somebody has taken things out of it
            (models / name).rename(folder.with_name(f"{folder.name.removesuffix('.tmp')}.old.tmp"))
            folder.rename(models / name)


def _flush(path: Path) -> None:
    if path.is_dir():
        sync(path)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its place there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def say_ended(folder: Path, seconds: float, log: str) -> None:
    """Say in the folder of a training that its program has ended well, before what it left is kept."""
    with whole_file(folder / _ENDED, overwrite=True) as temporary:
        temporary.write_text(json.dumps({"seconds": seconds, "log": log}), encoding="utf-8")


def ended_before(folder: Path) -> tuple[float, str] | None:
    """How a training ended that is not kept yet: wall time, s, and the end of its log; None if there is none."""
    try:
        found = json.loads((folder / _ENDED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found["seconds"], found["log"]


def put(source: Path, target: Path) -> None:
    """Move a file or folder; where there are links in it, what they lead to is copied."""
    if not any(path.is_symlink() for path in [source, *source.rglob("*")]):
        shutil.move(source, target)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def commit_member(folder: Path, record: MemberRecord) -> None:
    """Write what a member is into its folder."""
    commit_file(folder / RECORD, record, place={"training": record.name})


def failure_path(models: Path, name: str, attempt: int) -> Path:
    """File of an attempt that failed, counted from 0."""
    return models / _FAILED / f"{name}.{attempt}.h5"


def failures(models: Path) -> dict[str, list[Path]]:
    """Files of the attempts that failed, in order, by the name of the member."""
    found: dict[str, list[Path]] = {}
    for path in (models / _FAILED).glob("[!.]*.[0-9]*.h5"):
        found.setdefault(path.name.partition(".")[0], []).append(path)
    return {name: sorted(found[name], key=_attempt) for name in sorted(found)}


def read_failure(path: Path) -> FailedTraining:
    """An attempt that failed; StoreError as of ``read_file``."""
    return read_file(path, FailedTraining, _place(path))


def commit_failure(path: Path, record: FailedTraining) -> None:
    """Keep an attempt that failed."""
    make_folder(path.parent)
    commit_file(path, record, place=_place(path), exist_ok=True)


def _place(path: Path) -> dict[str, str | int]:
    return {"training": path.name.partition(".")[0], "attempt": _attempt(path)}


def _attempt(path: Path) -> int:
    return int(path.suffixes[-2][1:])


def sweep(models: Path) -> None:
    """Remove what killed workers have left half-finished."""
    for path in models.glob(".*.tmp"):
        if is_litter(path):
            shutil.rmtree(path, ignore_errors=True)
