"""An ASE calculator whose work is done in another interpreter."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.calculator import CalculatorError as AseError

from alflow.workers.interpreters import CalculatorError, evaluate
from alflow.workers.recipe import Recipe

_STATE = ("charge", "multiplicity")


class ServedCalculator(Calculator):
    """Energy and forces, and whatever else the calculator of a recipe gives, calculated where that can be made.

    It can be sent to other processes: each starts an interpreter of its own.
    """

    implemented_properties = [  # noqa: RUF012 - as ASE declares it
        *("energy", "free_energy", "forces", "stress", "energies"),
        *("dipole", "magmom", "charges", "magmoms"),
    ]

    def __init__(self, recipe: Recipe, threads: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recipe, self.threads = recipe, threads

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What differs from the structure of the results; ASE looks at atoms and cell only."""
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
        same = self.atoms is None or all(atoms.info.get(name) == self.atoms.info.get(name) for name in _STATE)
        return changes if changes or same else ["info"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Calculate; ASE calls this.

        Raises
        ------
        ConfigError
            The calculator cannot be made there.
        ase.calculators.calculator.CalculatorError
            It failed, or its process died.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        try:
            (found,) = evaluate([self.recipe], [cast("Atoms", self.atoms)], self.threads)
        except CalculatorError as error:
            raise AseError(str(error)) from error
        if found.errors:
            raise AseError(found.errors[0])
        results: dict[str, Any] = {
            "energy": float(found.plain_energy[0]),
            "free_energy": float(found.energy[0]),
            "forces": found.forces,
            **{name: np.array(value) for name, value in found.extras[0].items()},
        }
        if np.isfinite(found.stress).all():
            results["stress"] = found.stress[0]
        if np.isfinite(found.energies).all():
            results["energies"] = found.energies
        self.results = results
