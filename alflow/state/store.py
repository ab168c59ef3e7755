"""The run directory: commit, read, verify, lock. It knows no physics, and no record but by its class.

Progress is nothing but which files exist (:mod:`alflow.state.file`); temporary files, pieces of unfinished steps and
the lock do not count. Each step's file states the checksums of those it was made from, so the whole run is a chain,
which :meth:`Store.check` follows by the headers alone.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from alflow.errors import LockedError, StoreError
from alflow.state.atomic import is_litter
from alflow.state.file import (
    Header,
    check_origin,
    check_place,
    checksum,
    commit_file,
    make_folder,
    opened_file,
    origin,
    os_errors,
    read_file,
    read_header,
)

STEPS = ("sample", "select", "label", "train", "assess")
FIRST_STEPS = STEPS[2:]
"""Cycle 0 has nothing to sample with: it begins with the labels of the initial structures."""

BEGINNING = "begin.h5"
"""File of a production run that says what it is."""

_TRIES, _PAUSE = 20, 0.005  # s; to read who holds a lock
_PATIENCE = 0.5  # s that a writer waits for a lock: a reader's test for a writer holds it for microseconds
_SEGMENT = re.compile(r"(?P<walker>[0-9]+)-(?P<segment>[0-9]+)-(?P<driver>\w+)\.h5")
_FAILURE = re.compile(r"(?P<calculation>\w+)\.(?P<attempt>[0-9]+)\.h5")

T = TypeVar("T")


def segment_path(folder: Path, walker: int, index: int, driver: str) -> Path:
    """File of a segment of a walk; ``driver`` is the hash of what drives it."""
    return folder / f"{walker:03d}-{index:04d}-{driver}.h5"


def segment_place(path: Path) -> dict[str, str | int]:
    """What the header of a segment says of its place, by its name; empty for a name that is none of a segment."""
    found = _SEGMENT.fullmatch(path.name)
    if found is None:
        return {}
    return {"walker": int(found["walker"]), "segment": int(found["segment"]), "driver": found["driver"]}


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


def read_segment(path: Path, cls: type[T]) -> T:
    """Read a segment, of the walker and the number that its name says; StoreError as of ``read_file``."""
    return read_file(path, cls, segment_place(path))


def check_beginning(folder: Path) -> None:
    """StoreError if a production run has segments and nothing says any more what they are of."""
    with os_errors(folder):
        lost = not (folder / BEGINNING).exists() and any(folder.glob("[0-9]*.h5"))
    if lost:
        msg = f"{folder} has segments but no {BEGINNING}: restore it from a backup, or choose another --name"
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
        return self.directory / f"cycles/{cycle:03d}"

    def path(self, cycle: int, step: str) -> Path:
        """File that a finished step leaves."""
        return self.directory / f"cycles/{cycle:03d}/{step}.h5"

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
    def models(self) -> Path:
        """Folder of what training programs have written."""
        return self.directory / "models"

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

    def finished(self) -> list[tuple[int, str]]:
        """Cycle and step of every step that is finished, in order; each folder is listed once."""
        found: list[tuple[int, str]] = []
        for cycle in self.cycles():
            folder = self.folder(cycle)
            with os_errors(folder), os.scandir(folder) as entries:
                names = {entry.name for entry in entries}
            found += [(cycle, step) for step in self.steps(cycle) if f"{step}.h5" in names]
        return found

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
        done = set(self.finished())
        every = [(cycle, step) for cycle in range(last + 2) for step in self.steps(cycle)]
        missing = next(place for place in every if place not in done)
        later = [place for place in every[every.index(missing) :] if place in done]
        if later and not self.exists(*missing):  # otherwise a writer has got further meanwhile
            msg = (
                f"{self.path(*missing)} is missing, although {self.path(*later[0])} was made from it: restore it "
                "from a backup, or remove everything that was made after it and run `alflow resume` to make it again"
            )
            raise StoreError(msg)
        return missing

    @staticmethod
    def sources(cycle: int, step: str) -> list[tuple[int, str]]:
        """Cycle and step of the files that a step is made from.

        Of earlier labels the committee before was made, whose file states them: a chain is stated link by link, so that
        what is stated does not grow with the number of cycles.
        """
        before = {
            "sample": [(cycle - 1, "train")],
            "select": [(cycle, "sample"), (cycle - 1, "train")],
            "label": [(cycle, "select")],
            "train": [(cycle, "label"), (cycle - 1, "train")],
            "assess": [
                *((cycle - 1, name) for name in ("train", "assess")),
                *((cycle, name) for name in ("sample", "select", "label", "train")),
            ],
        }
        return [(k, name) for k, name in before[step] if k >= 0 and name in Store.steps(k)]

    # Steps

    def commit(self, cycle: int, step: str, record: Any, settings: str = "") -> None:
        """Make a finished step durable; its file states the checksums of those it was made from (:meth:`sources`).

        Parameters
        ----------
        cycle, step : int, str
            Which.
        record : dataclass instance
            What it leaves.
        settings : str
            Hash of the settings that made it.

        Raises
        ------
        StoreError
            The file exists, or cannot be written.
        """
        path = self.path(cycle, step)
        made_from = origin(path, [self.path(*place) for place in self.sources(cycle, step) if self.exists(*place)])
        commit_file(path, record, place={"cycle": cycle, "step": step}, made_from=made_from, settings=settings)

    def read(self, cycle: int, step: str, cls: type[T]) -> T:
        """Read what a finished step left, verified; StoreError as of :func:`alflow.state.file.read_file`."""
        return read_file(self.path(cycle, step), cls, {"cycle": cycle, "step": step})

    def header(self, cycle: int, step: str) -> Header:
        """What the file of a finished step says of itself; StoreError when it is of another place or made anew."""
        path = self.path(cycle, step)
        header = read_header(path)
        check_place(path, header, {"cycle": cycle, "step": step})
        return header

    def texts(self, cycle: int, step: str, name: str) -> set[str]:
        """The texts of one field of what a finished step left, the rest of it unread but verified."""
        with opened_file(self.path(cycle, step), {"cycle": cycle, "step": step}) as (_, file):
            return set(file[f"record/{name}"].asstr()[()]) if len(file[f"record/{name}"]) else set()

    def checksum(self, cycle: int, step: str) -> str:
        """SHA-256 of a step's content, as its file states it."""
        return checksum(self.path(cycle, step))

    def check(self) -> None:
        """Follow the chain of the run by the headers of its files: every command that uses a run begins with this.

        Raises
        ------
        StoreError
            A file is missing in between, was cut, belongs to another step, or is not the one that a later file was made
            from: of another run, or of another time.
        """
        self.next_step()
        headers = {self.path(*place): self.header(*place) for place in self.finished()}
        known = {path: header.checksum for path, header in headers.items()}
        for path, header in headers.items():
            check_origin(path, header, known)

    def make_cycle(self, cycle: int) -> None:
        """Make the folder of a cycle, and the folders of results."""
        for folder in (self.folder(cycle), self.directory / "labels", self.directory / "failed"):
            make_folder(folder)

    def tidy(self, cycle: int, step: str) -> None:
        """Remove what a committed step has made superfluous; nothing when it is not committed."""
        if not self.exists(cycle, step):
            return
        if step == "sample":
            shutil.rmtree(self.walkers(cycle), ignore_errors=True)
        if step == "assess":
            shutil.rmtree(self.scratch, ignore_errors=True)

    # Single reference calculations

    def is_labelled(self, name: str) -> bool:
        """Whether a reference calculation is finished and not yet gathered."""
        return self.label_path(name).exists()

    def labelled(self) -> list[str]:
        """Ids of all reference calculations that are finished and not yet gathered."""
        return sorted(path.stem for path in (self.directory / "labels").glob("[!.]*.h5"))

    def label_header(self, name: str) -> Header:
        """What the file of a finished calculation says of itself; StoreError when it is another's."""
        path = self.label_path(name)
        header = read_header(path)
        check_place(path, header, {"calculation": name})
        return header

    def read_label(self, name: str, cls: type[T]) -> T:
        """Read a finished calculation; StoreError as of :func:`alflow.state.file.read_file`."""
        return read_file(self.label_path(name), cls, {"calculation": name})

    def failures(self) -> dict[str, list[Path]]:
        """Files of the attempts that failed, in order, for each calculation that has some."""
        found: dict[str, list[Path]] = {}
        for path in (self.directory / "failed").glob("[!.]*.h5"):
            if match := _FAILURE.fullmatch(path.name):
                found.setdefault(match["calculation"], []).append(path)
        return {name: sorted(found[name], key=_attempt) for name in sorted(found)}

    @staticmethod
    def failure_header(path: Path) -> Header:
        """What the file of a failed attempt says of itself; StoreError when it is another's."""
        header = read_header(path)
        check_place(path, header, _failure_place(path))
        return header

    @staticmethod
    def read_failure(path: Path, cls: type[T]) -> T:
        """Read an attempt that failed, the one that its name says; StoreError as of ``read_file``."""
        return read_file(path, cls, _failure_place(path))

    def failed(self) -> list[str]:
        """Ids of all reference calculations that failed and have no label that is not yet gathered."""
        return [name for name in self.failures() if not self.is_labelled(name)]

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
        """Remove what a killed writer left: temporary files, and walks already gathered."""
        cycles = self.cycles()
        places = [self.directory / "labels", self.directory / "failed", *(self.directory / "production").glob("*")]
        for cycle in cycles:
            places += [self.folder(cycle), self.walkers(cycle)]
        for path in (path for place in places for path in place.glob(".*.tmp*")):
            if is_litter(path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        for cycle in cycles:
            if self.exists(cycle, "sample"):
                self.tidy(cycle, "sample")

    # All of it

    def verify(self, steps: Mapping[str, type], calculation: type, segment: type, beginning: type) -> list[str]:
        """Read every state file.

        Parameters
        ----------
        steps : mapping
            Record class of each step.
        calculation, segment, beginning : type
            Record classes of a single reference calculation, of a segment of a walk, and of a production run.

        Returns
        -------
        list of str
            One line a problem: a file that cannot be read, is another's, or was made from another input than the one
            that is there; a file missing in between.
        """
        walks = [folder for cycle in self.cycles() if (folder := self.walkers(cycle)).is_dir()]
        runs = [self.production(name) for name in self.productions()]
        failures = [path for paths in self.failures().values() for path in paths]
        reads: list[Callable[[], object]] = [
            *(partial(self.read, c, s, steps[s]) for c, s in self.finished()),
            *(
                partial(_unless_gone, self.label_path(name), partial(self.read_label, name, calculation))
                for name in self.labelled()
            ),
            *(partial(_unless_gone, path, partial(self.read_failure, path, calculation)) for path in failures),
            *(
                partial(_unless_gone, path, partial(read_segment, path, segment))
                for folder in [*walks, *runs]
                for path in _segments(folder)
            ),
            *(partial(_unless_gone, folder, partial(_check_walks, folder)) for folder in [*walks, *runs]),
            *(partial(check_beginning, folder) for folder in runs),
            *(partial(read_file, path, beginning) for folder in runs if (path := folder / BEGINNING).exists()),
            self.check,
        ]
        problems: list[str] = []
        for read in reads:
            try:
                read()
            except StoreError as error:
                problems.append(str(error))
        return list(dict.fromkeys(problems))


def _attempt(path: Path) -> int:
    """Number of a failed attempt, by the name of its file."""
    return int(path.suffixes[-2][1:])


def _failure_place(path: Path) -> dict[str, str | int]:
    """What the header of a failed attempt says of its place, by the name of its file."""
    return {"calculation": path.name.partition(".")[0], "attempt": _attempt(path)}


def _unless_gone(path: Path, read: Callable[[], object]) -> None:
    """Read what a writer may gather, and remove, while this looks: what is gone is no problem."""
    try:
        read()
    except StoreError:
        if path.exists():
            raise


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*.h5") if segment_place(path))


def _check_walks(folder: Path) -> None:
    """StoreError if a segment is missing in between."""
    places = [segment_place(path) for path in _segments(folder)]
    for walker, driver in sorted({(int(place["walker"]), str(place["driver"])) for place in places}):
        segment_paths(folder, walker, driver)


def _read_writer(path: Path) -> Writer:
    """Who holds the lock; unknown if it does not say so, which it does microseconds after it has it."""
    for _ in range(_TRIES):
        try:
            return Writer(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            time.sleep(_PAUSE)
    return Writer("(unknown)", 0, "just now")
