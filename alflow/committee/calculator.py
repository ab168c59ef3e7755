"""A committee as an ASE calculator."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from alflow.committee.judgement import Judgement
from alflow.committee.protocol import Driving, Weighting
from alflow.committee.weighting import spread


class Driver(Protocol):
    """What the calculator needs of a committee."""

    has_baseline: bool

    @property
    def judgement(self) -> Judgement:
        """Errors and calibration."""

    def drive(
        self,
        atoms: Atoms,
        weighting: Weighting | None = None,
        error: float | None = None,
        member: int | None = None,
    ) -> Driving:
        """Energy, forces and stress to simulate with."""

    def check_weighting(self, weighting: Weighting | None, error: float | None, member: int | None = None) -> None:
        """Refuse what no structure can be driven with."""


class CommitteeCalculator(Calculator):
    """What a committee gives to drive with, for ASE: energy, forces, and stress where the structure is periodic.

    See :meth:`alflow.committee.committee.Committee.drive`.

    ``results`` holds besides ``energy_spread`` (raw, eV), ``energy_sigma`` (calibrated, eV), ``committee_energies``
    (calibrated members, baseline included, shape (M,), eV), ``weight`` (of the learned correction, shape () or (N,))
    and ``calibrated``; of the mean without a baseline, where members tell them, also ``energies`` of atoms, shape (N,).
    The uncertainty of forces costs as much as M forces: ask ``Committee.predict`` for it.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012 - as ASE declares it

    def __init__(
        self,
        committee: Driver,
        weighting: Weighting | None = None,
        error: float | None = None,
        member: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        committee.check_weighting(weighting, error, member)
        self.committee = committee
        self.weighting = weighting
        self.error = error
        self.member = member

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate; ASE calls this."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        driving = self.committee.drive(cast("Atoms", self.atoms), self.weighting, self.error, self.member)
        members, calibration = driving.forward.energies, self.committee.judgement.energy
        mean = driving.mean_energy
        self.results = {
            "energy": driving.energy,
            "free_energy": driving.energy,
            "forces": driving.forces,
            "energy_spread": float(spread(members)),
            "energy_sigma": float(calibration.sigma(float(spread(members)), np.sqrt(len(driving.forces)))),
            "committee_energies": mean + calibration.factor * (members - members.mean()),
            "weight": driving.weight,
            "calibrated": driving.calibrated,
        }
        if driving.stress is not None:
            self.results["stress"] = driving.stress
        of_atoms = driving.forward.atom_energies
        if of_atoms is not None and not self.committee.has_baseline and self.member is None:
            self.results["energies"] = of_atoms.mean(axis=1)
