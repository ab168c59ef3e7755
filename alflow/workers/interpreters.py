"""Calculators that are served by other processes: one for each interpreter, which holds all calculators made in it."""

import atexit
import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.errors import ConfigError
from alflow.structures import charge_and_multiplicity
from alflow.workers import server
from alflow.workers.recipe import Recipe

Array = NDArray[np.float64]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_ARRAYS = ("initial_magmoms", "initial_charges")
_TAIL = 2000  # bytes of what a process printed that are told when it dies
_LINES = 5
_LOG = 2**24  # bytes of it that are kept at most, about


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set, else 1: with more, packages give other last digits every time."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else 1


class CalculatorError(Exception):
    """A calculator failed; one line."""


@dataclass(frozen=True, eq=False)
class Evaluations:
    """What one calculator says of n structures, whose atoms stand one after the other in ``forces`` and ``energies``.

    Attributes
    ----------
    energy, plain_energy : ndarray, shape (n,)
        eV; the first is the one whose gradient the forces are.
    forces : ndarray, shape (sum N, 3)
        eV/Å.
    stress : ndarray, shape (n, 6)
        eV/Å^3, ASE's sign and order; NaN where there is none.
    energies : ndarray, shape (sum N,)
        Of atoms, eV; NaN where there are none.
    extras : list of n dicts
        What else was found, by ASE's names.
    errors : mapping of int to str
        Why there is nothing, by the number of the structure; NaN stands there.
    """

    energy: Array
    plain_energy: Array
    forces: Array
    stress: Array
    energies: Array
    extras: Sequence[Mapping[str, Any]]
    errors: Mapping[int, str]


class Interpreter:
    """A process that makes and holds calculators.

    It is started when it is first asked, and again when it has died. It is the leader of a session, so Ctrl-C does not
    reach it, and it ends when this process does.

    Parameters
    ----------
    python : str
        Program.
    folder : str
        Where modules of the user's own are found besides; may be empty.
    threads : int
        Of each calculation.
    """

    def __init__(self, python: str, folder: str, threads: int) -> None:
        self.python, self.folder, self.threads = python, folder, threads
        self.packages: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._numbers: dict[str, int] = {}
        self._busy = threading.RLock()

    def make(self, recipe: Recipe) -> int:
        """The number of a calculator, which is made unless it has been.

        Raises
        ------
        ConfigError
            The interpreter cannot be started, has no ASE, or the calculator cannot be made.
        """
        with self._busy:
            self._start()
            if recipe.key not in self._numbers:
                answer = self._made(recipe.name, recipe.parameters)
                self._numbers[recipe.key] = int(answer["number"])
                self.packages[recipe.key] = str(answer["package"])
            return self._numbers[recipe.key]

    def find(self, name: str) -> str:
        """The package of what makes a calculator, which is only looked for; ConfigError as of :meth:`make`."""
        with self._busy:
            self._start()
            return str(self._made(name, None)["package"])

    def _made(self, name: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            self._send({"do": "make", "name": name, "parameters": parameters}, {})
            answer, _ = self._receive()
        except CalculatorError as error:
            msg = f"{name} in {self.python}: {error}"
            raise ConfigError(msg) from error
        if "error" in answer:
            msg = f"calculator {answer['error']} (in {self.python})"
            raise ConfigError(msg)
        return answer

    def ask(self, recipes: Sequence[Recipe], frames: Sequence[Atoms]) -> None:
        """Begin to evaluate structures with each of some calculators; :meth:`answers` waits for what comes of it.

        Raises
        ------
        ConfigError
            As of :meth:`make`.
        CalculatorError
            The process has died.
        """
        with self._busy:
            numbers = [self.make(recipe) for recipe in recipes]
            self._shorten_log()
            self._send({"do": "evaluate", "numbers": numbers, "info": [_info(f) for f in frames]}, _arrays(frames))

    def answers(self, recipes: Sequence[Recipe]) -> list[Evaluations]:
        """What comes of :meth:`ask`, for each calculator; CalculatorError when the process has died."""
        with self._busy:
            answer, columns = self._receive()
            if "error" in answer:
                raise CalculatorError(answer["error"])
            errors = [answer["errors"][str(self._numbers[recipe.key])] for recipe in recipes]
            return [
                Evaluations(
                    **{name: column[m] for name, column in columns.items()},
                    extras=answer["extras"][m],
                    errors={int(number): text for number, text in errors[m].items()},
                )
                for m in range(len(recipes))
            ]

    def close(self) -> None:
        """End the process."""
        with self._busy:
            process, self._process, self._numbers = self._process, None, {}
            if process is not None and process.poll() is None:  # otherwise its number may be another's by now
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()
                process.wait()
            pipes = [] if process is None else [process.stdin, process.stdout]
            for pipe in (*pipes, self._log):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._log = None

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        for name in ("PYTHONPATH", "PYTHONHOME"):  # of this interpreter: another one has its own
            if Path(self.python) != Path(Recipe("").interpreter):
                environment.pop(name, None)
        command = [self.python, server.__file__, *([self.folder] if self.folder else [])]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            msg = f"python = {self.python}: {error.strerror or error}: expected an interpreter that has ase"
            raise ConfigError(msg) from error
        try:
            greeting, _ = self._receive()
        except CalculatorError as error:
            msg = f"python = {self.python}: {error}: expected an interpreter of Python that has ase"
            raise ConfigError(msg) from error
        if "error" in greeting:
            self.close()
            msg = (
                f"python = {self.python}: {greeting['error']}: alflow needs ase and numpy there: "
                f"{self.python} -m pip install ase"
            )
            raise ConfigError(msg)

    def _shorten_log(self) -> None:
        """Forget what was printed before: a calculator may print at every structure, for days."""
        if self._log is not None and 512 * os.fstat(self._log.fileno()).st_blocks > _LOG:
            os.ftruncate(self._log.fileno(), 0)  # the process goes on behind a hole that takes no room

    def _send(self, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        try:
            server.send(self._process.stdin, header, arrays)
        except (BrokenPipeError, ConnectionError) as error:
            raise CalculatorError(self._epitaph()) from error
        except BaseException:
            self.close()  # half a message: what would follow could not be understood
            raise

    def _receive(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        try:
            message = server.receive(self._process.stdout)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            printed = self._printed()
            self.close()
            msg = f"it does not answer as Python would ({error}{f'; {printed}' if printed else ''})"
            raise CalculatorError(msg) from error
        except BaseException:
            self.close()
            raise
        if message is None:
            raise CalculatorError(self._epitaph())
        return message

    def _epitaph(self) -> str:
        """How a process that has died ended, and what it printed last; it is forgotten."""
        assert self._process is not None  # noqa: S101
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        text = self._printed()
        self.close()
        return f"its process ended {how}{f' ({text})' if text else ''}"

    def _printed(self) -> str:
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL))
        lines = self._log.read().decode(errors="replace").replace("\0", "").splitlines()
        return " | ".join(line.strip() for line in lines[-_LINES:] if line.strip())


_running: dict[tuple[int, str, str, int], Interpreter] = {}
_making = threading.Lock()


@atexit.register
def close_all() -> None:
    """End the processes that this one has started."""
    for (pid, *_), place in list(_running.items()):
        if pid == os.getpid():
            place.close()
    _running.clear()


def interpreter(recipe: Recipe, threads: int) -> Interpreter:
    """The one in which a calculator is made; the same for all that can share it."""
    key = os.getpid(), recipe.interpreter, recipe.folder, threads
    with _making:
        return _running.setdefault(key, Interpreter(*key[1:]))


def evaluate(recipes: Sequence[Recipe], frames: Sequence[Atoms], threads: int = 1) -> list[Evaluations]:
    """What every calculator says of every structure; those in different interpreters calculate at once.

    Parameters
    ----------
    recipes : sequence of Recipe
        The calculators.
    frames : sequence of Atoms
        ``info`` may hold ``charge`` and ``multiplicity``.
    threads : int
        Of each interpreter.

    Raises
    ------
    ConfigError
        An interpreter or a calculator that cannot be made.
    CalculatorError
        A process that died.
    """
    places: dict[Interpreter, list[int]] = {}
    for index, recipe in enumerate(recipes):
        places.setdefault(interpreter(recipe, threads), []).append(index)
    found: dict[int, Evaluations] = {}
    with contextlib.ExitStack() as stack:
        for place in sorted(places, key=id):  # in one order, or two threads may wait for each other
            stack.enter_context(place._busy)  # noqa: SLF001 - from question to answer
        asked: list[Interpreter] = []
        try:
            for place, indices in places.items():
                asked.append(place)
                place.ask([recipes[k] for k in indices], frames)
            for place, indices in places.items():
                found |= zip(indices, place.answers([recipes[k] for k in indices]), strict=True)
                asked.remove(place)
        finally:
            for place in asked:  # its answer would be taken for that of the next question
                place.close()
    return [found[k] for k in range(len(recipes))]


def _info(atoms: Atoms) -> dict[str, int]:
    """What a calculator may need to know besides; ``spin`` is what several packages call the multiplicity."""
    charge, multiplicity = charge_and_multiplicity(atoms)
    return {"charge": charge, "multiplicity": multiplicity, "spin": multiplicity}


def _arrays(frames: Sequence[Atoms]) -> dict[str, NDArray[Any]]:
    """Structures as plain arrays."""
    arrays: dict[str, NDArray[Any]] = {
        "lengths": np.array([len(frame) for frame in frames], dtype=np.int64),
        "numbers": np.concatenate([np.zeros(0, dtype=np.int64), *(frame.numbers for frame in frames)]),
        "positions": np.concatenate([np.zeros((0, 3)), *(frame.positions for frame in frames)]),
        "cells": np.array([frame.cell.array for frame in frames]),
        "pbc": np.array([frame.pbc for frame in frames]),
    }
    for name in _ARRAYS:
        if any(name in frame.arrays for frame in frames):
            parts = [np.asarray(f.arrays.get(name, np.full(len(f), np.nan)), dtype=float) for f in frames]
            arrays[name] = np.concatenate(parts)
    return arrays
