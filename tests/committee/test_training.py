"""Structures that are there twice, energies that cannot be: left out or named."""

import warnings

import alflow
import numpy as np
import pytest
from alflow.committee.training import make_training_set
from alflow.errors import PotentialError, PotentialWarning, warnings_told
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import Hookean

from lj_frames import SMALL, bonded, water


def test_duplicates_are_left_out_and_named() -> None:
    frames = bonded(water(), 9)
    with pytest.warns(PotentialWarning, match=r"structure 9 \(H4O2\) is the same as structure 2, and left out$"):
        committee = alflow.fit([*frames, frames[2]], **SMALL)
    np.testing.assert_array_equal(committee.model.coefficients, alflow.fit(frames, **SMALL).model.coefficients)
    other = frames[4].copy()
    other.calc = SinglePointCalculator(other, energy=frames[4].get_potential_energy() + 0.5, forces=np.zeros((6, 3)))
    with pytest.warns(PotentialWarning, match=r"the same as structure 4, and left out, but their energies are"):
        committee.update([other])
    assert len(committee.training) == 9


def test_wild_energies_are_named() -> None:
    frames = bonded(water(), 12)
    frames[5].calc = SinglePointCalculator(frames[5], energy=-400.0, forces=frames[5].get_forces())
    with pytest.warns(PotentialWarning, match=r"structure 5 \(H4O2\): its energy of -400 eV is .* check its unit"):
        committee = alflow.fit(frames, **SMALL)
    bad = bonded(water(), 1, seed=9)[0]
    bad.calc = SinglePointCalculator(bad, energy=1e5)
    with pytest.warns(PotentialWarning, match="structure 12"):
        committee.update([bad])


def test_forces_that_nothing_can_exert_are_left_out_and_named() -> None:
    """A thousand times too large in one structure: the others are learned as without it, in one piece or two."""
    frames, others = bonded(water(), 16), bonded(water(), 20, seed=7)
    wrong = frames[5].copy()
    energy, forces = frames[5].get_potential_energy(), 1000 * frames[5].get_forces()
    wrong.calc = SinglePointCalculator(wrong, energy=energy, forces=forces)
    said = r"structure 5 \(H4O2\): forces of up to .* eV/Å, though no atoms are closer than 0\.6 .*: left out, but not"
    with pytest.warns(PotentialWarning, match=said):
        committee = alflow.fit([*frames[:5], wrong, *frames[6:]], **SMALL)
    assert committee.training.forces[5] is None
    assert committee.training.energies[5] == energy
    without = alflow.fit([*frames[:5], *frames[6:]], **SMALL)
    errors = [
        np.sqrt(np.mean([np.mean((one.drive(a).forces - a.get_forces()) ** 2) for a in others]))
        for one in (committee, without)
    ]
    assert errors[0] < 1.1 * errors[1]
    grown = alflow.fit(frames[:5], **SMALL)
    with pytest.warns(PotentialWarning, match="structure 5 "):
        grown.update([wrong, *frames[6:]])
    np.testing.assert_array_equal(grown.model.coefficients, committee.model.coefficients)


def test_forces_are_looked_at_before_a_baseline_is_taken_off() -> None:
    """A baseline with a steep wall is wrong by thousands of eV/Å, and that is no fault of the labels."""
    frames = bonded(bulk("Cu", cubic=True), 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wall = LennardJones(sigma=3.2, epsilon=1.0, rc=6.0)
        assert max(np.abs(wall.get_forces(frame.copy())).max() for frame in frames) > 500
        committee = alflow.fit(frames, baseline=wall, **SMALL)
    assert all(forces is not None for forces in committee.training.forces)


def test_large_forces_of_short_contacts_are_data() -> None:
    frames, close = bonded(bulk("Cu", cubic=True), 8), Atoms("Cu2", positions=[[0, 0, 0], [1.2, 0, 0]])
    usual = frames[0].get_potential_energy() / 2
    close.calc = SinglePointCalculator(close, energy=usual, forces=[[-300.0, 0, 0], [300.0, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        committee = alflow.fit([*frames, close], **SMALL)
    assert committee.training.forces[8] is not None


def test_warnings_are_told_and_others_pass() -> None:
    told: list[str] = []

    def warn() -> None:
        with warnings_told(told.append):
            warnings.warn("about a structure", PotentialWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        warn()
    assert told == ["warning: about a structure"]


def test_atoms_that_coincide_leave_the_committee_as_it_was() -> None:
    committee = alflow.fit(bonded(water(), 4), **SMALL)
    before = committee.model.coefficients.copy()
    bad = water()
    bad.positions[1] = bad.positions[0]
    bad.calc = SinglePointCalculator(bad, energy=0.0)
    with pytest.raises(PotentialError, match="at the same place"):
        committee.update([bad])
    np.testing.assert_array_equal(committee.model.coefficients, before)
    assert len(committee.training) == 4


def test_the_energy_of_a_constraint_is_no_part_of_a_label() -> None:
    """A spring between two atoms acts in a walk; what is learned is the reference's energy and forces."""
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.0]])
    atoms.set_constraint(Hookean(0, 1, 5.0, 1.0))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)))
    training = make_training_set([atoms], None)
    assert training.energies[0] == -1.0
    np.testing.assert_array_equal(training.forces[0], np.ones((2, 3)))
