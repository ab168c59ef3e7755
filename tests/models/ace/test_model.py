"""The built-in model finds the neighbours of a structure once, whatever is asked of it."""

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace.environment import Descriptor
from alflow.sampling.walker import Bounds, Walker, run_segment
from ase import Atoms
from ase.calculators.morse import MorsePotential

from lj_frames import SMALL, bonded, water


@pytest.fixture(scope="module")
def committee() -> Committee:
    return alflow.fit(bonded(water(), 12), **SMALL)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Atoms]:
    """Structures whose neighbours were searched for."""
    found: list[Atoms] = []
    pairs = Descriptor.pairs

    def counted(self: Descriptor, atoms: Atoms):
        found.append(atoms.copy())
        return pairs(self, atoms)

    monkeypatch.setattr(Descriptor, "pairs", counted)
    return found


def test_a_prediction_searches_once(committee: Committee, searches: list[Atoms]) -> None:
    (atoms,) = bonded(water(), 1, seed=3)
    committee.predict(atoms)
    assert len(searches) == 1


def test_driving_predicting_and_grading_share_their_neighbours(committee: Committee, searches: list[Atoms]) -> None:
    atoms = bonded(water(), 1, seed=4)[0].copy()
    atoms.calc = committee.calculator()
    atoms.get_forces()
    prediction = committee.predict(atoms)
    grade, features = committee.grade(atoms), committee.features(atoms)
    assert len(searches) == 1
    other = bonded(water(), 1, seed=5)[0]
    committee.predict(other)
    again = committee.predict(atoms)
    assert len(searches) == 3
    for name in ("energies", "forces", "forces_sigma", "atom_sigma", "grade"):
        np.testing.assert_array_equal(getattr(again, name), getattr(prediction, name))
    np.testing.assert_array_equal(committee.grade(atoms), grade)
    np.testing.assert_array_equal(committee.features(atoms), features)


def test_every_step_of_a_walk_searches_once(committee: Committee, searches: list[Atoms]) -> None:
    """A frame that is stored is driven, predicted and graded; one that is not is driven."""
    wide = Bounds(force_sigma=1e9, force=1e9, temperature=1e9, distance_ratio=0.0)
    for force_sigma in (True, False):
        searches.clear()
        plan = Walker(
            start=water(), temperature=300.0, timestep=0.5, friction=0.01, steps=12, stride=3, segment=12, bounds=wide,
            seed=7, key=(1, 0, 0), force_sigma=force_sigma,
        )  # fmt: skip
        segment = run_segment(plan, 0, None, committee)
        assert len(segment.frames) == 5
        assert len(searches) == 13


@pytest.mark.parametrize("change", ["position", "cell", "periodicity", "species"])
def test_another_structure_is_not_taken_for_the_last(committee: Committee, change: str) -> None:
    atoms = bonded(water(), 1, seed=6)[0].copy()
    atoms.set_cell([8.0, 8.0, 8.0])
    atoms.pbc = True
    committee.forward(atoms)
    other = atoms.copy()
    if change == "position":
        other.positions[0, 0] += 1e-9
    elif change == "cell":
        other.cell[0, 0] = 4.0
    elif change == "periodicity":
        other.pbc = [True, True, False]
        atoms.set_cell([4.0, 4.0, 4.0])
        other.set_cell([4.0, 4.0, 4.0])
        committee.forward(atoms)
    else:
        other.numbers[[0, 1]] = other.numbers[[1, 0]]
    before = committee.forward(atoms).energies
    found = committee.forward(other)
    assert not np.array_equal(found.energies, before)
    fresh = alflow.fit(bonded(water(), 12), **SMALL).forward(other)
    np.testing.assert_array_equal(found.energies, fresh.energies)


def test_what_is_returned_can_be_changed(committee: Committee) -> None:
    (atoms,) = bonded(water(), 1, seed=8)
    first = committee.forward(atoms)
    before = first.energies.copy(), first.atom_energies.copy()
    first.energies[:] = 0.0
    first.atom_energies[:] = 0.0
    again = committee.forward(atoms)
    np.testing.assert_array_equal(again.energies, before[0])
    np.testing.assert_array_equal(again.atom_energies, before[1])


def test_a_fit_forgets_the_last_structure() -> None:
    frames = bonded(water(), 12)
    grown = alflow.fit(frames[:10], **SMALL)
    (atoms,) = bonded(water(), 1, seed=9)
    before = grown.forward(atoms).energies
    grown.update(frames[10:])
    assert not np.array_equal(grown.forward(atoms).energies, before)


def test_a_committee_with_another_baseline_is_another() -> None:
    """Updating one of the two changes nothing of the other, and gives what it would give alone."""
    baseline = MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    frames = bonded(water(), 14)
    first = alflow.fit(frames[:10], baseline=baseline, **SMALL)
    second = first.with_baseline(baseline)
    (atoms,) = bonded(water(), 1, seed=9)
    before = first.forward(atoms).energies
    second.update(frames[10:])
    np.testing.assert_array_equal(first.forward(atoms).energies, before)
    first.update(frames[10:])
    np.testing.assert_allclose(first.forward(atoms).energies, second.forward(atoms).energies, atol=1e-6)
