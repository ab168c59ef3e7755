"""The run directory: commit, read, verify, lock. It knows no physics.

Progress is nothing but which files exist (:mod:`alflow.state.file`); temporary files, pieces of unfinished
steps and the lock do not count.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from alflow.errors import LockedError, StoreError
from alflow.records.label import LabelRecord
from alflow.records.production import ProductionRecord
from alflow.records.sample import Segment
from alflow.state.file import checksum, commit_file, is_litter, make_folder, os_errors, read_file
from alflow.structures import structure_id

__all__ = [
    "FIRST_STEPS",
    "STEPS",
    "Store",
    "Writer",
    "check_beginning",
    "commit_file",
    "make_folder",
    "read_file",
    "segment_path",
    "segment_paths",
]

STEPS = ("sample", "select", "label", "train", "assess")
FIRST_STEPS = STEPS[2:]
"""Cycle 0 has nothing to sample with: it begins with the labels of the initial structures."""

_PATIENCE = 0.5  # s that a writer waits for a lock: a reader's test for a writer holds it for microseconds

T = TypeVar("T")


def segment_path(folder: Path, walker: int, index: int, driver: str) -> Path:
    """File of a segment of a walk; ``driver`` is the hash of what drives it."""
    return folder / f"{walker:03d}-{index:04d}-{driver}.h5"


def segment_paths(folder: Path, walker: int, driver: str) -> list[Path]:
    """Files of the segments that a walk has, in order, also while it goes on; StoreError if one is missing between."""
    names = {path.name for path in folder.glob(f"{walker:03d}-*-{driver}.h5")}
    paths = [segment_path(folder, walker, index, driver) for index in range(len(names))]
    # One that appeared while the folder was listed may not be in the list, but is there.
    missing = next((path for path in paths if path.name not in names and not path.exists()), None)
    if missing is not None:
        msg = (
            f"{missing} is missing, although later segments are there: restore it from a backup, or run "
            "`alflow produce` to make it again"
        )
        raise StoreError(msg)
    return paths


def check_beginning(folder: Path) -> None:
    """StoreError if a production run has segments and nothing says any more what they are of."""
    with os_errors(folder):
        lost = not (folder / "begin.h5").exists() and any(folder.glob("[0-9]*.h5"))
    if lost:
        msg = f"{folder} has segments but no begin.h5: restore it from a backup, or choose another --name"
        raise StoreError(msg)


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

    def production(self, name: str) -> Path:
        """Folder of a production run."""
        return self.directory / "production" / name

    def productions(self) -> list[str]:
        """Names of the production runs that have begun, one whose beginning was lost included."""
        return sorted({path.parent.name for path in (self.directory / "production").glob("*/[!.]*.h5")})

    @property
    def scratch(self) -> Path:
        """Folder of what can be made again at any time."""
        return self.directory / "work"

    def label_path(self, name: str) -> Path:
        """File of one finished reference calculation."""
        return self.directory / "labels" / f"{name}.h5"

    def failure_path(self, name: str, attempt: int) -> Path:
        """File of an attempt at a reference calculation that failed, counted from 0."""
        return self.directory / "failed" / f"{name}.{attempt}.h5"

    def calculation_folder(self, name: str) -> Path:
        """Folder for the files of a program while it calculates."""
        return self.scratch / "calculations" / name

    # How far the run is

    @staticmethod
    def steps(cycle: int) -> tuple[str, ...]:
        """Name the steps of a cycle, in order."""
        return STEPS if cycle else FIRST_STEPS

    def cycles(self) -> list[int]:
        """Cycles that have begun."""
        place = self.directory / "cycles"
        with os_errors(place):  # a folder that cannot be listed must not look like a run that has not begun
            try:
                names = [path.name for path in place.iterdir()]
            except FileNotFoundError:
                return []
        return sorted(int(name) for name in names if re.fullmatch(r"[0-9]{3}|[1-9][0-9]{3,}", name))

    def exists(self, cycle: int, step: str) -> bool:
        """Whether a step is finished: its file exists."""
        path = self.path(cycle, step)
        with os_errors(path):
            return path.exists()

    def last(self, step: str) -> int:
        """The last cycle in which a step is finished; -1 when there is none."""
        return max((cycle for cycle in self.cycles() if self.exists(cycle, step)), default=-1)

    def begun(self, cycle: int) -> bool:
        """Whether anything of a cycle is on disk."""
        return self.folder(cycle).is_dir()

    def next_step(self) -> tuple[int, str]:
        """Find the first step that is not finished.

        Raises
        ------
        StoreError
            A later step is finished: a file is missing in between.
        """
        last = max(self.cycles(), default=0)
        every = [(cycle, step) for cycle in range(last + 2) for step in self.steps(cycle)]
        missing = next(place for place in every if not self.exists(*place))
        later = [place for place in every[every.index(missing) :] if self.exists(*place)]
        if later and not self.exists(*missing):  # otherwise a writer has got further meanwhile
            msg = (
                f"{self.path(*missing)} is missing, although {self.path(*later[0])} was made from it: restore it "
                "from a backup, or remove everything that was made after it and run `alflow resume` to make it again"
            )
            raise StoreError(msg)
        return missing

    def previous(self, cycle: int, step: str) -> tuple[int, str] | None:
        """Name the step before; None for the very first."""
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
            Hashes of the settings and inputs that made it; the checksum of the step before is added as ``input``.

        Raises
        ------
        StoreError
            The file exists, or cannot be written.
        """
        attributes = {"input": self._input(cycle, step), **provenance, "cycle": cycle, "step": step}
        commit_file(self.path(cycle, step), record, attributes)

    def _input(self, cycle: int, step: str) -> str:
        before = self.previous(cycle, step)
        return self.checksum(*before) if before and self.exists(*before) else ""

    def read(self, cycle: int, step: str, cls: type[T]) -> T:
        """Read what a finished step left, verified; StoreError if it is missing or damaged."""
        return read_file(self.path(cycle, step), cls, {"cycle": cycle, "step": step})

    def checksum(self, cycle: int, step: str) -> str:
        """SHA-256 of a step's content, as its file states it."""
        return checksum(self.path(cycle, step))

    def make_cycle(self, cycle: int) -> None:
        """Make the folder of a cycle, and the folders of results."""
        for folder in (self.folder(cycle), self.directory / "labels", self.directory / "failed"):
            make_folder(folder)

    def tidy(self, cycle: int, step: str) -> None:
        """Remove the pieces that a committed step has gathered; nothing when it is not committed."""
        if not self.exists(cycle, step):
            return
        if step == "sample":
            shutil.rmtree(self.walkers(cycle), ignore_errors=True)
        if step == "assess":
            shutil.rmtree(self.scratch, ignore_errors=True)
        if step == "label" and any((self.directory / "labels").glob("*.h5")):
            for name in self.read(cycle, step, LabelRecord).ids:
                with suppress(OSError):  # litter that stays does no harm, and the next writer tries again
                    self.label_path(name).unlink(missing_ok=True)

    # Single reference calculations

    def is_labelled(self, name: str) -> bool:
        """Whether a reference calculation is finished and not yet gathered."""
        return self.label_path(name).exists()

    def labelled(self) -> list[str]:
        """Ids of all reference calculations that are finished and not yet gathered."""
        return sorted(path.stem for path in (self.directory / "labels").glob("[!.]*.h5"))

    def labels_besides(self, names: Collection[str], method: str) -> dict[str, LabelRecord]:
        """Those that a method has made, but for some named ones: settings may have been others before.

        One that a writer gathers meanwhile may be missing: read these before the cycles' labels, and none is missed.
        StoreError when one is damaged.
        """
        found: dict[str, LabelRecord] = {}
        for name in self.labelled():
            if name in names:
                continue
            try:
                record = read_file(self.label_path(name), LabelRecord)
            except StoreError:
                if self.is_labelled(name):
                    raise
                continue
            if structure_id(record.frames[0], method) == name:
                found[name] = record
        return found

    def failures(self) -> dict[str, list[Path]]:
        """Files of the attempts that failed, in order, for each calculation that has some."""
        found: dict[str, list[Path]] = {}
        for path in (self.directory / "failed").glob("[!.]*.h5"):
            found.setdefault(path.name.split(".")[0], []).append(path)
        return {name: sorted(found[name], key=lambda path: int(path.suffixes[-2][1:])) for name in sorted(found)}

    def failed(self) -> list[str]:
        """Ids of all reference calculations that failed and have no label that is not yet gathered."""
        return [name for name in self.failures() if not self.is_labelled(name)]

    def gather(self, names: Sequence[str], method: str) -> LabelRecord:
        """Join the results of a batch, in the batch's order; StoreError when one of them is neither done nor failed."""
        failures = self.failures()
        paths: list[Path] = []
        for name in names:
            paths += failures.get(name, [])
            if self.is_labelled(name) or name not in failures:
                paths.append(self.label_path(name))
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
        with os_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(descriptor, path)
            me = {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            }
            text = json.dumps(me).encode()
            with os_errors(path):
                os.pwrite(descriptor, text, 0)
                os.ftruncate(descriptor, len(text))
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
                msg = (
                    f"{self.directory} is in use by pid {writer.pid} on host {writer.host} since {writer.since}: "
                    "wait until it ends, or stop it"
                )
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
        cycles = self.cycles()
        places = [self.directory / "labels", self.directory / "failed", *(self.directory / "production").glob("*")]
        for cycle in cycles:
            places += [self.folder(cycle), self.walkers(cycle)]
        for path in (path for place in places for path in place.glob(".*.tmp")):
            if is_litter(path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        for cycle in cycles:
            for step in ("sample", "label"):
                if self.exists(cycle, step):
                    self.tidy(cycle, step)

    def verify(self, kinds: Mapping[str, type]) -> list[str]:
        """Read every state file.

        Parameters
        ----------
        kinds : mapping
            Record class of each step.

        Returns
        -------
        list of str
            One line a problem: a file that cannot be read, is another's, or was made from another input than the one
            that is there; a file missing in between.
        """
        results = [*(self.directory / "labels").glob("*.h5"), *(self.directory / "failed").glob("*.h5")]
        segments = [path for cycle in self.cycles() for path in self.walkers(cycle).glob("*.h5")]
        segments += [path for name in self.productions() for path in self.production(name).glob("[0-9]*.h5")]
        reads: list[Callable[[], object]] = [
            *(partial(self._verify_step, c, s, kinds[s]) for c in self.cycles() for s in self.steps(c)),
            *(partial(read_file, path, LabelRecord) for path in sorted(results)),
            *(partial(read_file, path, Segment) for path in sorted(segments)),
            *(partial(self._verify_production, name) for name in self.productions()),
            self.next_step,
        ]
        problems: list[str] = []
        for read in reads:
            try:
                read()
            except StoreError as error:
                problems.append(str(error))
        return problems

    def _verify_production(self, name: str) -> None:
        """Read how a production run began, and look whether segments are missing in between."""
        folder = self.production(name)
        check_beginning(folder)
        record = read_file(folder / "begin.h5", ProductionRecord)
        for walker in range(len(record.frames)):
            segment_paths(folder, walker, record.driver)

    def _verify_step(self, cycle: int, step: str, cls: type) -> None:
        """Read a step's file, if there is one, and compare the input it names with the one that is there."""
        if not self.exists(cycle, step):
            return
        expected: dict[str, Any] = {"cycle": cycle, "step": step}
        with suppress(StoreError):  # an input that is damaged is a problem of its own
            if before := self._input(cycle, step):
                expected["input"] = before
        read_file(self.path(cycle, step), cls, expected)


def _read_writer(path: Path) -> Writer:
    """Who holds the lock; unknown in the microseconds until it has said so."""
    try:
        return Writer(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return Writer("(unknown)", 0, "just now")
