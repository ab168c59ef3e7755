"""What a reference method is."""

import importlib
import json
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from alflow.errors import ConfigError, LabelError

_KINDS = {
    "tblite": ("alflow.reference.tblite", "TbliteMethod"),
    "ase": ("alflow.reference.calculators", "AseMethod"),
    "model": ("alflow.reference.calculators", "ModelMethod"),
}
_BUILTIN = {"tblite"}
"""Kinds that a description in a file may name: nothing that a file says is imported."""


class ReferenceMethod(Protocol):
    """A way to calculate energies and forces; its instances are small, frozen and can be sent to other processes."""

    def identity(self) -> str:
        """Everything that decides the result, as canonical JSON: part of the name of every calculation."""

    def code(self) -> str:
        """Program and version."""

    def calculate(self, atoms: Atoms) -> Atoms:
        """A copy with energy (eV), forces (eV/Å) and, if periodic, stress (eV/Å^3) as its calculator's results.

        ``atoms.info`` may hold ``charge`` (e) and ``multiplicity`` (2S + 1). The result does not depend on what was
        calculated before.

        Raises
        ------
        LabelError
            With one word of the taxonomy: not_converged, crashed, not_finite, ...
        """

    def calculator(self) -> Calculator:
        """An ASE calculator of this method, to serve as a baseline."""


def build(kind: str, **options: Any) -> ReferenceMethod:
    """The reference method of a kind with its options; ConfigError for a kind that there is not."""
    if kind not in _KINDS:
        msg = f"no reference method {kind!r}: expected one of {', '.join(_KINDS)}"
        raise ConfigError(msg)
    module, name = _KINDS[kind]
    method: ReferenceMethod = getattr(importlib.import_module(module), name)(**options)
    return method


def described(identity: str) -> ReferenceMethod | None:
    """The method of an identity that a file holds; None unless it is one of those built into alflow."""
    try:
        options = json.loads(identity)
        return build(**options) if options["kind"] in _BUILTIN else None
    except (ValueError, TypeError, KeyError):
        return None


def evaluate(atoms: Atoms, calculator: Calculator) -> Atoms:
    """A copy with energy, forces and, if periodic in three directions and implemented, stress, by an ASE calculator.

    Raises
    ------
    LabelError
        ``not_converged``, ``crashed`` or ``not_finite``.
    """
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)
    bare.calc = calculator
    try:
        results: dict[str, Any] = {"energy": float(bare.get_potential_energy()), "forces": np.array(bare.get_forces())}
        if atoms.pbc.all():
            with suppress(PropertyNotImplementedError):
                results["stress"] = np.array(bare.get_stress())
    except Exception as error:  # calculators raise whatever they like
        text = str(error) or type(error).__name__
        reason = "not_converged" if "converge" in text.lower() else "crashed"
        raise LabelError(reason, text) from error
    if not all(np.isfinite(value).all() for value in results.values()):
        msg = "energy, forces or stress are not finite"
        raise LabelError("not_finite", msg)
    done: Atoms = atoms.copy()
    done.calc = SinglePointCalculator(done, **results)
    return done
