"""Who judges what, and what is not claimed."""

import alflow
import numpy as np
import pytest
from alflow.committee.calibration import calibrate
from alflow.committee.judgement import Judgement, Statements, judge, share_of_whole
from alflow.committee.resampling import seen_groups
from alflow.committee.weighting import spread
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from lj_frames import SMALL, bonded, water, with_label


def statements(members: np.ndarray, composition: np.ndarray, groups: list[int], without: np.ndarray) -> Statements:
    """Of energies that all are zero."""
    return Statements(
        composition=composition,
        groups=groups,
        energies=[0.0] * len(groups),
        members=members,
        with_forces=[],
        forces=[],
        force_members=(),
        without=without,
    )


@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_structures_are_judged_by_those_that_have_not_seen_them(seed: int, share: float) -> None:
    """By hand: error of the judges' mean, moved to the fit without the group; members that saw it are not heard."""
    rng = np.random.default_rng(seed)
    seen = seen_groups(8)
    groups = rng.integers(0, 8, size=40).tolist()
    members, without = rng.normal(size=(40, 8)), rng.normal(size=40)
    expected, spreads = [], []
    for k, group in enumerate(groups):
        theirs = members[k, ~seen[:, group]]
        expected.append(-(theirs.mean() + share * (without[k] - theirs.mean())))
        spreads.append(spread(theirs))
        members[k, seen[:, group]] = 1e6 * rng.normal(size=4)
    found = judge(statements(members, np.full((40, 1), 3.0), groups, without), seen, share)
    assert found.energy_rmse == pytest.approx(np.sqrt(np.mean(np.square(expected))) / 3)
    by_hand = calibrate(
        np.array(expected), np.array(spreads), 4, np.arange(40), np.full(40, np.sqrt(3.0)), own=1.0 - share
    )
    assert found.energy.alpha == pytest.approx(by_hand.alpha, nan_ok=True)
    assert found.energy.note == by_hand.note


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_mean_moves_to_where_errors_are_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen, groups = seen_groups(8), rng.integers(0, 8, size=30).tolist()
    members = rng.normal(size=(30, 8)) + rng.normal(size=(30, 1))
    without = rng.uniform(0, 1.5) * members.mean(axis=1) + rng.uniform(0, 1) * rng.normal(size=30)
    best = share_of_whole(statements(members, np.ones((30, 1)), groups, without), seen)
    errors = {
        share: judge(statements(members, np.ones((30, 1)), groups, without), seen, share).energy_rmse
        for share in (best, *np.linspace(0, 1, 21))
    }
    assert errors[best] == pytest.approx(min(errors.values()), rel=1e-9)


def test_nothing_is_claimed_of_a_single_structure() -> None:
    committee = alflow.fit(bonded(water(), 1), **SMALL)
    assert np.isnan([committee.judgement.energy_rmse, committee.judgement.force_rmse]).all()
    assert committee.judgement.accuracy == (
        "of energies nothing can be told (members that have not seen a structure have seen nothing like it: add "
        "structures); of forces nothing can be told (members that have not seen a structure have seen nothing like "
        "it: add structures)"
    )
    assert "not calibrated" in committee.judgement.note


def test_twins_alone_are_a_single_structure() -> None:
    frame = bonded(water(), 1)[0]
    twin = frame.copy()
    twin.positions += 1e-6
    twin.calc = SinglePointCalculator(twin, energy=frame.get_potential_energy(), forces=frame.get_forces())
    assert np.isnan(alflow.fit([frame, twin], **SMALL).judgement.energy_rmse)


def test_a_composition_that_only_its_own_label_tells_is_not_judged() -> None:
    """Oxygen among water: its error would be that of knowing nothing."""
    frames = bonded(water(), 16)
    other = Atoms("O2", [[0, 0, 0], [0, 0, 1.2]])
    other.calc = SinglePointCalculator(other, energy=-432.1, forces=np.zeros((2, 3)))
    without, with_it = alflow.fit(frames, **SMALL), alflow.fit([*frames, other], **SMALL)
    assert with_it.judgement.energy.reliability.n == 16
    assert with_it.judgement.energy_rmse < 3 * without.judgement.energy_rmse


def test_atoms_alone_are_known_to_all_and_spoil_nothing() -> None:
    """As MACE and GAP files have them: in no fold, in no error, and exact; the others are fitted as without."""
    frames = []
    for seed in range(16):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        frames.append(with_label(atoms, EMT()))
    alone = with_label(Atoms("Cu", cell=[20, 20, 20], pbc=True), EMT())
    without, with_it = alflow.fit(frames, **SMALL), alflow.fit([alone, *frames], **SMALL)
    assert with_it.judgement.energy_rmse < 1.3 * without.judgement.energy_rmse
    assert with_it.judgement.force_rmse == pytest.approx(without.judgement.force_rmse, rel=0.3)
    assert with_it.judgement.energy.reliability.n == 16
    assert with_it.remarks[1] == "isolated atoms, seen by all members and judged by none: 1"
    energies = with_it.forward(alone).energies
    np.testing.assert_allclose(energies, alone.get_potential_energy(), atol=0.1)
    np.testing.assert_array_equal(with_it.resampling.seen.sum(axis=0)[with_it.resampling.groups], [8] + [4] * 16)
    only = alflow.fit([alone], **SMALL)
    assert only.predict(alone).energy == pytest.approx(alone.get_potential_energy(), abs=1e-6)
    assert np.isnan(only.judgement.energy_rmse)


def test_what_no_judge_has_seen_a_species_of_is_not_judged() -> None:
    """Methane among water: what is said of its forces, of several eV/Å, is no prediction."""
    frames, odd = bonded(water(), 16), bonded(molecule("CH4"), 1)
    without, with_it = alflow.fit(frames, **SMALL), alflow.fit([*frames, *odd], **SMALL)
    assert with_it.judgement.force.reliability.n + with_it.judgement.force.reliability.n_forbidden == 16 * 18
    assert with_it.judgement.force_rmse < 4 * without.judgement.force_rmse


def test_forces_are_judged_where_energies_cannot_be() -> None:
    """By calculators that were there before, where only its own label tells from where its energies count."""
    rng = np.random.default_rng(0)
    of_two = Statements(
        composition=np.array([[3.0, 0.0], [0.0, 2.0]]),
        groups=[0, 0],
        energies=[0.0, 0.0],
        members=np.full((2, 4), np.nan),
        with_forces=[0, 1],
        forces=[np.ones(9), np.ones(6)],
        force_members=[1.0 + rng.normal(size=(9, 4)), 1.0 + rng.normal(size=(6, 4))],
    )
    found = judge(of_two, None)
    assert np.isnan(found.energy_rmse)
    assert found.energy.note == "members and labels have no common zero of energy: add structures"
    assert 0 < found.force_rmse < 2


def test_one_wild_label_does_not_move_the_mean() -> None:
    rng = np.random.default_rng(0)
    seen, groups = seen_groups(8), list(range(8)) * 5
    members = rng.normal(size=(40, 8)) + rng.normal(size=(40, 1))
    without = 0.5 * members.mean(axis=1) + 0.5 * rng.normal(size=40)
    usual = share_of_whole(statements(members, np.ones((40, 1)), groups, without), seen)
    members[3], without[3] = 300.0, 30.0
    wild = share_of_whole(statements(members, np.ones((40, 1)), groups, without), seen)
    assert wild == pytest.approx(usual, abs=0.15)


def test_forces_that_vanish_by_symmetry_show_nothing() -> None:
    frames = []
    for scale in np.linspace(0.97, 1.03, 12):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(scale * atoms.cell, scale_atoms=True)
        frames.append(with_label(atoms, EMT()))
    judgement = alflow.fit(frames, **SMALL).judgement
    assert judgement.accuracy.startswith("out-of-bag RMSE ")
    assert judgement.accuracy.endswith("; of forces nothing can be told (all forces vanish, by symmetry)")


def test_seven_members_are_calibrated_by_four_judges() -> None:
    """Of the structures that the member without a complement has seen three judge: too few, the others count."""
    judgement = alflow.fit(bonded(water(), 24), **{**SMALL, "n_members": 7}).judgement
    assert judgement.note == ""
    assert 0 < judgement.energy.alpha < 10
    few = alflow.fit(bonded(water(), 24), **{**SMALL, "n_members": 6}).judgement
    assert few.energy.note == "3 members judge each structure, at least 4 are needed"


def test_the_accuracy_in_words() -> None:
    assert Judgement(1.5e-3, 0.08).accuracy == "out-of-bag RMSE 1.5 meV/atom and 80 meV/Å"
