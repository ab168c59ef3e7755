"""What ORCA, VASP, FHI-aims and GPAW share: inputs written and outputs read by ASE, which knows where the programs are.

Programs are run, and the end of their self-consistent field is verified, here: ASE reads energies of calculations that
did not converge all the same. Energies are those that forces are the gradient of: with smearing, free energies.
"""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field

from alflow.errors import ConfigError, LabelError
from alflow.reference.electrons import has
from alflow.reference.method import MethodSection
from alflow.section import kind_of
from alflow.workers import programs
from alflow.workers.programs import reason_of

OF_SYSTEM = "charge and multiplicity are those of [[system]]"
OF_ALFLOW = "alflow sets it"
SINGLE_POINT = "atoms are not moved: one calculation of the structure as it is"


class ProfiledMethod(MethodSection):
    """A program by ASE's calculator.

    A subclass adds ``kind`` and the class variables below.
    """

    parameters: dict[str, Any] = Field({}, description="keyword arguments of ASE's calculator, a table")
    command: str | None = Field(
        None,
        min_length=1,
        description="program with its arguments; by default what ASE's own configuration file says",
    )

    program: ClassVar[str]
    """Its name for a reader."""
    required: ClassVar[Mapping[str, str]] = {}
    """Parameters that must be there, with an example of each."""
    refused: ClassVar[Mapping[str, str]] = {}
    """Parameters that may not be there, and why."""

    def at(self, directory: Path) -> Self:
        """The method in a run directory: files that its command names are found from anywhere."""
        command = None if self.command is None else programs.located(self.command, directory)
        return self.model_copy(update={"command": command})

    def identity(self) -> str:
        """Canonical JSON of the parameters; not of the command, which decides only how fast it runs."""
        return canonical(kind_of(type(self)), self._deciding())

    def _deciding(self) -> dict[str, Any]:
        """What decides the result."""
        return dict(self.parameters)

    def code(self) -> str:
        """Program; its version is known when it has run."""
        return self.program

    def check(self) -> None:
        """ConfigError for parameters that cannot be, or no program."""
        check_parameters(self.parameters, self.required, self.refused)
        self.identity()
        programs.check_command(self._command(), "reference")

    def _command(self) -> str:
        """The command line; ConfigError when nothing says it."""
        if self.command is not None:
            return self.command
        from ase.config import cfg  # it reads files of the user

        kind = kind_of(type(self))
        if kind in cfg.parser and "command" in cfg.parser[kind]:
            return str(cfg.parser[kind]["command"])
        msg = (
            f"reference.command is missing, and ASE's configuration file has no section [{kind}] with a command: "
            f"give the program with its arguments"
        )
        raise ConfigError(msg)


def bare_atoms(atoms: Atoms, *kept: str) -> Atoms:
    """Without tags, momenta or constraints, which these programs would see; ``kept`` are arrays to begin from."""
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in kept:
        if has(atoms, name):
            bare.arrays[name] = atoms.arrays[name].copy()
    return bare


def canonical(kind: str, parameters: Mapping[str, Any]) -> str:
    """Canonical JSON of parameters; ConfigError when they have none."""
    try:
        return json.dumps({"kind": kind, "parameters": dict(parameters)}, sort_keys=True)
    except TypeError as error:
        msg = f"reference.parameters: {error}; expected text, numbers, lists or tables"
        raise ConfigError(msg) from error


def check_parameters(parameters: Mapping[str, Any], required: Mapping[str, str], refused: Mapping[str, str]) -> None:
    """ConfigError for a parameter that is missing, or may not be there."""
    for name, example in required.items():
        if name not in parameters:
            msg = f"reference.parameters.{name} is missing: {example}"
            raise ConfigError(msg)
    for name, why in refused.items():
        if name in parameters:
            msg = f"reference.parameters.{name}: {why}: leave it out"
            raise ConfigError(msg)


def of_shape(forces: Any, atoms: Atoms) -> NDArray[np.float64]:
    """Forces as an array; LabelError when there are not those of all atoms."""
    if forces is None or np.shape(forces) != (len(atoms), 3):
        found = "no forces" if forces is None else f"forces of shape {np.shape(forces)}"
        msg = f"{found} in the output: expected those of {len(atoms)} atoms"
        raise LabelError("no_output", msg)
    return np.array(forces, dtype=float)


def run_program(words: list[str], place: Path, output: Path, not_converged: re.Pattern[str]) -> str:
    """Run a program; a failure after its self-consistent field did not converge is one of that."""
    try:
        return programs.run(words, place, output)
    except LabelError as error:
        text = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
        if error.reason == "crashed" and not_converged.search(text):
            raise LabelError("not_converged", error.detail) from error
        raise


def unfinished(program: str, log: str) -> LabelError:
    """The error for an output without an end: for a reason that it tells, or none."""
    reason = reason_of(None, log)
    return LabelError("no_output" if reason == "crashed" else reason, f"{program}: the output has no end\n{log}")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what ASE deprecates: that it is told by environment variables, and its readers of FHI-aims."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def writing(program: str) -> Iterator[None]:
    """Errors of ASE that writes an input are LabelErrors."""
    try:
        with quiet():
            yield
    except LabelError:
        raise
    except Exception as error:  # it raises whatever it likes
        msg = f"{program}: the input cannot be written: {one_line(error)}"
        raise LabelError("crashed", msg) from error


@contextmanager
def reading(program: str, log: str) -> Iterator[None]:
    """Errors of ASE that reads an output are LabelErrors."""
    try:
        with quiet():
            yield
    except LabelError:
        raise
    except Exception as error:  # it raises whatever it likes
        msg = f"{program}: the output cannot be read: {one_line(error)}\n{log}"
        raise LabelError("no_output", msg) from error


def one_line(error: Exception) -> str:
    """The message of an error, or its name."""
    return " ".join((str(error) or type(error).__name__).split())
