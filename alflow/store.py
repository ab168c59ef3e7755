"""The run directory: commit, read, verify, lock. It knows no physics.

A state file is written whole or not at all: into a temporary file in the same folder, flushed to disk, linked to its
name without ever overwriting, and the folder flushed too. In front of its HDF5 content (in the HDF5 user block, which
every HDF5 reader skips) stands one line of text with the SHA-256 of all that follows, checked before anything is parsed.
"""

import errno
import fcntl
import hashlib
import io
import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import h5py

from alflow import __version__, records
from alflow.errors import LockedError, StoreError
from alflow.records import LabelRecord

STEPS = ("sample", "select", "label", "train", "assess")
FIRST_STEPS = STEPS[2:]
"""Cycle 0 has nothing to sample with: it begins with the labels of the initial structures."""

SCHEMA = 1
_HEADER = 512  # bytes of the HDF5 user block
_MAGIC = b"alflow state file, sha256 of what follows: "
_PATIENCE = 0.5  # s that a writer waits for a lock: a reader's test for a writer holds it for microseconds

_REMEDY = (
    "restore it from a backup, or remove it together with everything that was made after it "
    "and run `alflow resume` to make it again"
)

T = TypeVar("T")
_counter = itertools.count()


@dataclass(frozen=True)
class Writer:
    """Who writes to a run directory."""

    host: str
    pid: int
    since: str


class Store:
    """State of a run on disk.

    Parameters
    ----------
    directory : Path
        The run directory; nothing is read or written before a method is called.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    # Where things are

    def folder(self, cycle: int) -> Path:
        """Folder of a cycle."""
        return self.directory / "cycles" / f"{cycle:03d}"

    def path(self, cycle: int, step: str) -> Path:
        """File that a finished step leaves."""
        return self.folder(cycle) / f"{step}.h5"

    def walkers(self, cycle: int) -> Path:
        """Folder of the segments of walks under way."""
        return self.folder(cycle) / "walkers"

    def label_path(self, name: str) -> Path:
        """File of one finished reference calculation."""
        return self.directory / "labels" / f"{name}.h5"

    def failure_path(self, name: str) -> Path:
        """File of one reference calculation that gave up."""
        return self.directory / "failed" / f"{name}.h5"

    # How far the run is

    @staticmethod
    def steps(cycle: int) -> tuple[str, ...]:
        """Steps of a cycle, in order."""
        return STEPS if cycle else FIRST_STEPS

    def cycles(self) -> list[int]:
        """Cycles that have begun."""
        folders = (self.directory / "cycles").glob("[0-9][0-9][0-9]*")
        return sorted(int(folder.name) for folder in folders if folder.name.isdigit())

    def exists(self, cycle: int, step: str) -> bool:
        """Whether a step is finished: its file exists."""
        return self.path(cycle, step).exists()

    def begun(self, cycle: int) -> bool:
        """Whether anything of a cycle is on disk."""
        return self.folder(cycle).is_dir()

    def next_step(self) -> tuple[int, str]:
        """The first step that is not finished.

        Raises
        ------
        StoreError
            A later step is finished: a file is missing in between.
        """
        last = max(self.cycles(), default=0)
        every = [(cycle, step) for cycle in range(last + 2) for step in self.steps(cycle)]
        missing = next(place for place in every if not self.exists(*place))
        later = [place for place in every[every.index(missing) :] if self.exists(*place)]
        if later:
            msg = f"{self.path(*missing)} is missing, although {self.path(*later[0])} was made from it: {_REMEDY}"
            raise StoreError(msg)
        return missing

    def previous(self, cycle: int, step: str) -> tuple[int, str] | None:
        """The step before; None for the very first."""
        position = self.steps(cycle).index(step)
        if position:
            return cycle, self.steps(cycle)[position - 1]
        return (cycle - 1, STEPS[-1]) if cycle else None

    # Steps

    def commit(self, cycle: int, step: str, record: Any, provenance: Mapping[str, str]) -> None:
        """Make a finished step durable.

        Parameters
        ----------
        cycle, step : int, str
            Which.
        record : dataclass instance
            What it leaves.
        provenance : mapping
            Hashes of the settings and inputs that made it.

        Raises
        ------
        StoreError
            The file exists, or cannot be written.
        """
        commit_file(self.path(cycle, step), record, {"cycle": cycle, "step": step, **provenance})

    def read(self, cycle: int, step: str, cls: type[T]) -> T:
        """Read what a finished step left, verified; StoreError if it is missing or damaged."""
        return read_file(self.path(cycle, step), cls, {"cycle": cycle, "step": step})

    def checksum(self, cycle: int, step: str) -> str:
        """SHA-256 of a step's content, as its file states it."""
        path = self.path(cycle, step)
        with _os_errors(path), path.open("rb") as file:
            return _stated(file.read(_HEADER), path)

    def make_cycle(self, cycle: int) -> None:
        """Make the folder of a cycle, and the folders of results."""
        for folder in (self.folder(cycle), self.directory / "labels", self.directory / "failed"):
            make_folder(folder)

    def tidy(self, cycle: int, step: str) -> None:
        """Remove the pieces that a committed step has gathered."""
        if step == "sample" and self.exists(cycle, step):
            shutil.rmtree(self.walkers(cycle), ignore_errors=True)
        if step == "label" and any((self.directory / "labels").glob("*.h5")):
            for name in self.read(cycle, step, LabelRecord).ids:
                self.label_path(name).unlink(missing_ok=True)

    # Single reference calculations

    def is_labelled(self, name: str) -> bool:
        """Whether a reference calculation is finished and not yet gathered."""
        return self.label_path(name).exists()

    def is_failed(self, name: str) -> bool:
        """Whether a reference calculation gave up."""
        return self.failure_path(name).exists()

    def failed(self) -> list[str]:
        """Ids of all reference calculations that gave up."""
        return sorted(path.stem for path in (self.directory / "failed").glob("*.h5"))

    def gather(self, names: Sequence[str], method: str) -> LabelRecord:
        """Join the results of a batch, in the batch's order; StoreError when one of them is neither done nor failed."""
        paths = [self.label_path(name) if self.is_labelled(name) else self.failure_path(name) for name in names]
        return LabelRecord.join([read_file(path, LabelRecord) for path in paths], method)

    # Who writes

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer; the lock dies with its process.

        Raises
        ------
        LockedError
            Another process writes; the message names its host and pid.
        """
        path = self.directory / ".lock"
        with _os_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(descriptor, path)
            me = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}
            with _os_errors(path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(me).encode(), 0)
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int, path: Path) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                writer = _read_writer(path)
                who = f"by pid {writer.pid} on host {writer.host} since {writer.since}" if writer else "by another process"
                msg = f"{self.directory} is in use {who}: wait until it ends, or stop it"
                raise LockedError(msg) from None
            except OSError as error:
                msg = f"{path} cannot be locked ({error.strerror}): put the run directory on a file system with flock"
                raise StoreError(msg) from None
            return

    def writer(self) -> Writer | None:
        """Who writes to this directory now; None when nobody does."""
        path = self.directory / ".lock"
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_writer(path)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return None

    def _sweep(self) -> None:
        """Remove what a killed writer left: temporary files, and pieces already gathered."""
        for folder in (*(self.directory / "cycles").glob("*"), self.directory / "labels", self.directory / "failed"):
            for path in itertools.chain(folder.glob(".*.tmp"), folder.glob("walkers/.*.tmp")):
                path.unlink(missing_ok=True)
        for cycle in self.cycles():
            for step in ("sample", "label"):
                if self.exists(cycle, step):
                    self.tidy(cycle, step)

    def verify(self, kinds: Mapping[str, type]) -> list[str]:
        """Read every state file; what is wrong with each that cannot be read, one line a problem."""
        problems: list[str] = []
        places = [(c, s) for c in self.cycles() for s in self.steps(c) if self.exists(c, s)]
        loose = [*(self.directory / "labels").glob("*.h5"), *(self.directory / "failed").glob("*.h5")]
        for read in (
            *((lambda c=c, s=s: self.read(c, s, kinds[s])) for c, s in places),
            *((lambda p=p: read_file(p, LabelRecord)) for p in sorted(loose)),
            self.next_step,
        ):
            try:
                read()
            except StoreError as error:
                problems.append(str(error))
        return problems


def make_folder(folder: Path) -> None:
    """Make a folder durable; StoreError when it cannot be made."""
    with _os_errors(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            _sync(folder.parent)


def commit_file(path: Path, record: Any, attributes: Mapping[str, Any] | None = None, *, exist_ok: bool = False) -> None:
    """Write a record into a file of its own: completely, durably and without overwriting.

    Parameters
    ----------
    path : Path
        Where; its folder must exist.
    record : dataclass instance
        What (:mod:`alflow.records`).
    attributes : mapping, optional
        Further attributes of the file: strings and numbers.
    exist_ok : bool
        Keep the file that is there already, instead of refusing.

    Raises
    ------
    StoreError
        The file exists, or cannot be written (disk full, read-only, no permission, ...); then no trace is left.
    """
    content = _encode(record, {"schema": SCHEMA, "alflow": __version__, **(attributes or {})})
    temporary = path.parent / f".{path.name}.{os.getpid()}-{next(_counter)}.tmp"
    with _os_errors(path):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _link(temporary, path, exist_ok=exist_ok)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        _sync(path.parent)


def _link(temporary: Path, path: Path, *, exist_ok: bool) -> None:
    """Give a file its name; a name that is taken is not overwritten."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        if not exist_ok:
            msg = f"{path} exists already and is never overwritten: it is the result of a finished step"
            raise StoreError(msg) from None
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK} or path.exists():
            raise
        temporary.rename(path)  # a file system without hard links; the lock keeps other writers away


def read_file(path: Path, cls: type[T], expected: Mapping[str, Any] | None = None) -> T:
    """Read a record, verified.

    Parameters
    ----------
    path : Path
        Where it is.
    cls : type
        What it must be.
    expected : mapping, optional
        Attributes that the file must have.

    Raises
    ------
    StoreError
        The file is missing, truncated, altered, of a newer version or not what it should be.
    """
    with _os_errors(path):
        content = path.read_bytes()
    stated = _stated(content[:_HEADER], path)
    if hashlib.sha256(content[_HEADER:]).hexdigest() != stated:
        msg = f"{path} is damaged: its content does not match its checksum (truncated or altered); {_REMEDY}"
        raise StoreError(msg)
    with h5py.File(io.BytesIO(content), "r") as file:
        if file.attrs["schema"] > SCHEMA:
            msg = f"{path} was written by alflow {file.attrs['alflow']}, which is newer than this one: update alflow"
            raise StoreError(msg)
        found = {key: file.attrs.get(key) for key in expected or {}}
        if found != dict(expected or {}):
            msg = f"{path} is the file of another step ({found}, expected {dict(expected or {})}); {_REMEDY}"
            raise StoreError(msg)
        try:
            return records.read(cls, file)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path} is not what it should be ({error}); {_REMEDY}"
            raise StoreError(msg) from error


def _encode(record: Any, attributes: Mapping[str, Any]) -> bytes:
    """The bytes of a state file. HDF5 writes into memory: a disk that fills up then fails in one plain place."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=_HEADER) as file:
        file.attrs.update(attributes)
        records.write(record, file)
    content = bytearray(buffer.getvalue())
    header = _MAGIC + hashlib.sha256(content[_HEADER:]).hexdigest().encode() + b"\n"
    content[:_HEADER] = header.ljust(_HEADER, b"\0")
    return bytes(content)


def _stated(header: bytes, path: Path) -> str:
    """The checksum that a file's header states."""
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        msg = f"{path} is damaged: it does not begin like a state file (truncated or altered); {_REMEDY}"
        raise StoreError(msg)
    return header[len(_MAGIC) :].split(b"\n")[0].decode(errors="replace")


def _read_writer(path: Path) -> Writer | None:
    try:
        return Writer(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_WHAT_TO_DO = {
    errno.ENOSPC: "free some space and run `alflow resume`; nothing that was finished is lost",
    errno.EDQUOT: "free some of your quota and run `alflow resume`; nothing that was finished is lost",
    errno.EFBIG: "raise the limit on file size and run `alflow resume`; nothing that was finished is lost",
    errno.EROFS: "make the file system writable, or copy the run directory to one that is",
    errno.EACCES: "check its permissions and owner",
    errno.ENOENT: "check the name of the run directory",
}


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one clear line."""
    try:
        yield
    except OSError as error:
        remedy = _WHAT_TO_DO.get(error.errno or 0, "check the file system")
        msg = f"{path}: {error.strerror or error}: {remedy}"
        raise StoreError(msg) from error
