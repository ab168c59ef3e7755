"""A committee as an ASE calculator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from alflow.committee import spread

if TYPE_CHECKING:
    from alflow.potentials.ace import Committee


class CommitteeCalculator(Calculator):
    """The mean of a committee, for ASE: energy, forces, and stress where the structure is periodic.

    ``results`` holds besides ``energy_sigma`` (calibrated, eV) and ``committee_energies`` (calibrated members, shape
    (M,), eV). The uncertainty of forces costs as much as M forces: ask :meth:`Committee.predict` for it.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, committee: "Committee", **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.committee = committee

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate the mean; ASE calls this."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        energy, forces, stress, forward = self.committee.mean(cast("Atoms", self.atoms))
        alpha = self.committee.alphas[0]
        deviation = forward.energies - forward.energies.mean()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": forces,
            "energy_sigma": float(alpha * spread(forward.energies)),
            "committee_energies": np.asarray(energy + alpha * deviation),
        }
        if stress is not None:
            self.results["stress"] = stress
