"""ASE calculators whose work others do: one in another interpreter, or one that is made for each charge and spin."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.calculator import CalculatorError as AseError

from alflow.structures import charge_and_multiplicity
from alflow.workers.interpreters import CalculatorError, evaluate
from alflow.workers.recipe import Recipe
from alflow.workers.server import evaluated

_PROPERTIES = (
    *("energy", "free_energy", "forces", "stress", "energies"),
    *("dipole", "magmom", "charges", "magmoms"),
)


class _SeesState(Calculator):
    """A calculator to which a structure with another charge or multiplicity is another one."""

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What differs from the structure of the results; ASE looks at atoms and cell only."""
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
        same = self.atoms is None or charge_and_multiplicity(atoms) == charge_and_multiplicity(self.atoms)
        return changes if changes or same else ["info"]


class OfStateCalculator(_SeesState):
    """What the calculator gives that is made for the charge and multiplicity of each structure.

    That finds them also in ``info`` of the structure, the multiplicity as ``spin``, which is where several packages
    look.

    Parameters
    ----------
    make : callable
        Makes the calculator for a charge and a multiplicity.
    """

    implemented_properties = list(_PROPERTIES)  # noqa: RUF012 - as ASE declares it

    def __init__(self, make: Callable[[int, int], Calculator]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._make = make
        self._made: dict[tuple[int, int], Calculator] = {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Calculate; ASE calls this. Errors as of the calculator that is made."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        structure: Atoms = cast("Atoms", self.atoms).copy()
        state = charge_and_multiplicity(structure)
        if state not in self._made:
            self._made[state] = self._make(*state)
        structure.info |= {"charge": state[0], "multiplicity": state[1], "spin": state[1]}
        found = evaluated(self._made[state], structure)
        results = {"energy": found["plain_energy"], "free_energy": found["energy"], "forces": found["forces"]}
        more = {name: found[name] for name in ("stress", "energies") if name in found}
        self.results = {**results, **more, **found["extras"]}


class ServedCalculator(_SeesState):
    """Energy and forces, and whatever else the calculator of a recipe gives, calculated where that can be made.

    It can be sent to other processes: each starts an interpreter of its own.
    """

    implemented_properties = list(_PROPERTIES)  # noqa: RUF012 - as ASE declares it

    def __init__(self, recipe: Recipe, threads: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recipe, self.threads = recipe, threads

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
