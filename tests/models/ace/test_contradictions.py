"""Labels whose energies and forces are not of one potential are named; others are not."""

import alflow
import numpy as np
import pytest
from alflow.models.ace import scaled
from alflow.models.ace.consistency import energies_over_forces
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from lj_frames import bonded, labelled, water

KINDS = {
    "molecules": lambda: bonded(water(), 24),
    "crystals": lambda: labelled(bulk("Cu", cubic=True), 24),
    "metal": lambda: labelled(bulk("Cu", cubic=True).repeat(2), 12, calculator=EMT()),
}
FINER = {"n_members": 8, "n_features": 200, "cutoff": 5.5}


def multiplied(frames: list[Atoms], factor: float) -> list[Atoms]:
    """With all forces multiplied."""
    out = []
    for frame in frames:
        other = frame.copy()
        energy, forces = frame.get_potential_energy(), factor * frame.get_forces()
        other.calc = SinglePointCalculator(other, energy=energy, forces=forces)
        out.append(other)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [-1.0, units.Bohr / units.Hartree, 3.0, units.kcal / units.mol])
def test_another_sign_or_unit_of_forces_is_named(kind: str, factor: float) -> None:
    committee = alflow.fit(multiplied(KINDS[kind](), factor), **FINER)
    (said,) = (remark for remark in committee.remarks if "what their forces say" in remark)
    assert said.endswith(": check the units and the sign of energies and forces")
    slope = float(said.split("change by ")[1].split()[0])
    assert slope == pytest.approx(1 / factor, rel=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_right_labels_are_not(kind: str) -> None:
    assert not any("forces say" in remark for remark in alflow.fit(KINDS[kind](), **FINER).remarks)


def test_of_few_energies_or_without_forces_nothing_is_said() -> None:
    few = multiplied(bonded(water(), 9), -1.0)
    alone = bonded(water(), 12)
    for frame in alone:
        frame.calc = SinglePointCalculator(frame, energy=-frame.get_potential_energy())
    for frames in (few, alone):
        assert not any("forces say" in remark for remark in alflow.fit(frames, **FINER).remarks)


def test_the_slope_is_that_of_a_fit_to_forces_alone() -> None:
    """By another way: a committee that is told no energies but one."""
    frames = multiplied(labelled(bulk("Cu", cubic=True), 20), 0.5)
    committee = alflow.fit(frames, **FINER)
    fit, training = committee.model.fit, committee.training
    energies = training.energies - training.composition() @ training.energy_zero()
    equations = fit.jury.with_energies(fit.equations, energies, fit.energy_weight)
    slope = energies_over_forces(scaled.Scaled.of(equations, fit.penalties), 0)
    blind = alflow.fit(frames, **FINER, energy_weight=1e-6)
    told = np.array([blind.drive(frame).energy for frame in frames])
    labels = np.array([frame.get_potential_energy() for frame in frames])
    assert slope == pytest.approx(np.polyfit(told, labels, 1)[0], rel=0.05)
    assert slope == pytest.approx(2.0, rel=0.1)
