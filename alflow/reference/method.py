"""What a reference method is."""

import importlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from alflow.errors import ConfigError, LabelError

_KINDS = {
    "tblite": ("alflow.reference.codes.tblite", "TbliteMethod"),
    "pyscf": ("alflow.reference.codes.pyscf", "PyscfMethod"),
    "cp2k": ("alflow.reference.codes.cp2k", "Cp2kMethod"),
    "espresso": ("alflow.reference.codes.espresso", "EspressoMethod"),
    "orca": ("alflow.reference.codes.orca", "OrcaMethod"),
    "vasp": ("alflow.reference.codes.vasp", "VaspMethod"),
    "aims": ("alflow.reference.codes.aims", "AimsMethod"),
    "gpaw": ("alflow.reference.codes.gpaw", "GpawMethod"),
    "command": ("alflow.reference.codes.command", "CommandMethod"),
    "dataset": ("alflow.reference.codes.dataset", "DatasetMethod"),
    "manual": ("alflow.reference.codes.manual", "ManualMethod"),
    "ase": ("alflow.reference.codes.calculators", "AseMethod"),
    "model": ("alflow.reference.codes.calculators", "ModelMethod"),
}
_BUILTIN = {"tblite"}
"""Kinds that a description in a file may name: nothing that a file says is imported."""

REASONS = ("not_converged", "crashed", "timed_out", "out_of_memory", "no_output", "not_finite", "inconsistent")
"""Why a calculation can fail; a :class:`alflow.errors.LabelError` has one of them."""


@dataclass(frozen=True)
class Result:
    """What a reference calculation gave.

    Attributes
    ----------
    frame : Atoms
        The structure with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å^3) as results of its
        calculator.
    code : str
        Program and version, as it says itself.
    log : str
        The end of what it printed.
    extra : mapping
        What else is worth keeping, as JSON can hold it: ``fermi_energy`` (eV), ``eigenvalues`` (eV, a list for each
        spin), ``occupations``, ``weights`` (of k-points).
    """

    frame: Atoms
    code: str
    log: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


class ReferenceMethod(Protocol):
    """A way to calculate energies and forces; its instances are small, frozen and can be sent to other processes."""

    def identity(self) -> str:
        """Everything that decides the result, as canonical JSON: part of the name of every calculation."""

    def code(self) -> str:
        """Program and version, as far as it is known before it has run."""

    def check(self) -> None:
        """Look at all that can be looked at before a calculation; ConfigError with what is wrong."""

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Calculate a structure.

        Parameters
        ----------
        atoms : Atoms
            ``info`` may hold ``charge`` (e) and ``multiplicity`` (2S + 1). The result does not depend on what was
            calculated before.
        folder : Path, optional
            An empty one for the files of a program; by default a temporary one is made.

        Raises
        ------
        LabelError
            With one word of the taxonomy, :data:`REASONS`.
        """


class BaselineMethod(ReferenceMethod, Protocol):
    """A reference method that is cheap enough to drive walks."""

    def calculator(self) -> Calculator:
        """An ASE calculator of this method."""


def build(kind: str, **options: Any) -> Any:
    """The reference method of a kind with its options; ConfigError for a kind that there is not."""
    if kind not in _KINDS:
        msg = f"no reference method {kind!r}: expected one of {', '.join(_KINDS)}"
        raise ConfigError(msg)
    module, name = _KINDS[kind]
    return getattr(importlib.import_module(module), name)(**options)


def described(identity: str) -> BaselineMethod | None:
    """The method of an identity that a file holds; None unless it is one of those built into alflow."""
    try:
        options = json.loads(identity)
        method: BaselineMethod | None = build(**options) if options["kind"] in _BUILTIN else None
    except (ValueError, TypeError, KeyError):
        return None
    return method


def evaluate(atoms: Atoms, calculator: Calculator, code: str) -> Result:
    """Energy, forces and, if periodic in three directions and implemented, stress, by an ASE calculator.

    Raises
    ------
    LabelError
        ``not_converged``, ``out_of_memory``, ``crashed`` or ``not_finite``.
    """
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)
    bare.calc = calculator
    try:
        results: dict[str, Any] = {"energy": float(bare.get_potential_energy()), "forces": np.array(bare.get_forces())}
        if "free_energy" in bare.calc.implemented_properties:  # with smearing, forces are the gradient of this one
            results["energy"] = float(bare.get_potential_energy(force_consistent=True))
        if atoms.pbc.all():
            with suppress(PropertyNotImplementedError):
                results["stress"] = np.array(bare.get_stress())
    except ConfigError:
        raise
    except PropertyNotImplementedError as error:
        raise LabelError("no_output", f"{code} gives no {error}") from error
    except Exception as error:  # calculators raise whatever they like
        text = str(error) or type(error).__name__
        raise LabelError(reason_of(error, text), text) from error
    return Result(labelled(atoms, **results), code)


def labelled(atoms: Atoms, **results: Any) -> Atoms:
    """A copy with results; LabelError ``not_finite`` if they are not."""
    for name, value in results.items():
        if not np.isfinite(value).all():
            msg = f"{name}: {np.count_nonzero(~np.isfinite(value))} of {np.size(value)} values are not finite"
            raise LabelError("not_finite", msg)
    done: Atoms = atoms.copy()
    done.calc = SinglePointCalculator(done, **results)
    return done


_NOT_CONVERGED = ("not converge", "converge failure", "no convergence", "unconverged", "failed to converge",
                  "convergence not achieved")  # fmt: skip
_NO_MEMORY = ("out of memory", "cannot allocate memory", "bad_alloc", "memoryerror", "oom-kill", "oom_kill",
              "insufficient memory", "allocation failed")  # fmt: skip


def reason_of(error: BaseException | None, text: str) -> str:
    """One word of the taxonomy for an exception, or for what a program printed before it gave up."""
    text = text.lower()
    if isinstance(error, MemoryError) or any(word in text for word in _NO_MEMORY):
        return "out_of_memory"
    if any(word in text for word in _NOT_CONVERGED):
        return "not_converged"
    if error is not None and "converge" in f"{type(error).__name__} {text}".lower():
        return "not_converged"
    return "crashed"
