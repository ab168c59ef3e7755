"""Structures that all but coincide are found, and others are not taken for them."""

import re
from pathlib import Path

import alflow
import ase.io
import numpy as np
import pytest
from alflow.committee.twins import TOLERANCE, Twins, fingerprint
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lj_frames import SMALL, labelled, water

CASES = Path(__file__).parents[3] / "shared" / "cases"


def crystal(n: int = 2, seed: int = 0) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat((n, 1, 1))
    atoms.rattle(0.1, seed=seed)
    return atoms


def first(*frames: Atoms) -> list[int]:
    twins = Twins()
    twins.add(frames)
    return twins.first


@given(st.integers(0, 10**6), st.sampled_from([water(), molecule("CH3CH2OH"), crystal(), bulk("Si") * (2, 2, 1)]))
@settings(max_examples=40, deadline=None)
def test_moved_turned_wrapped_and_reordered_is_the_same(seed: int, start: Atoms) -> None:
    rng = np.random.default_rng(seed)
    atoms = start.copy()
    atoms.rattle(0.2, seed=seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    other: Atoms = atoms[rng.permutation(len(atoms))]
    other.set_cell(atoms.cell.array @ turn.T)
    other.positions = other.positions @ turn.T + rng.normal(size=3)
    other.wrap()
    assert np.abs(fingerprint(other) - fingerprint(atoms)).max() < 1e-6
    shifted = atoms.copy()
    shifted.positions += 3e-4 * rng.uniform(-1, 1, size=shifted.positions.shape)
    assert first(atoms, other, shifted) == [0, 0, 0]
    apart = atoms.copy()
    apart.rattle(0.02, seed=seed + 1)
    assert first(atoms, apart) == [0, 1]


def test_three_decimals_are_enough() -> None:
    atoms = crystal(3)
    rounded = atoms.copy()
    rounded.positions = rounded.positions.round(3)
    rounded.cell[:] = rounded.cell.array.round(3)
    assert first(atoms, rounded) == [0, 0]


def test_structures_of_finite_displacements_are_apart() -> None:
    """One atom of a crystal moved by 0.01 Å, as for phonons: each tells other force constants."""
    perfect = bulk("Cu", cubic=True).repeat(2)
    moved = [perfect.copy() for _ in range(3)]
    moved[0].positions[0, 0] += 0.01
    moved[1].positions[0, 0] += 0.01
    moved[1].positions[0, 1] += 0.01
    moved[2].positions[0, 0] += 0.01
    moved[2].positions[7, 2] += 0.01
    assert first(perfect, *moved) == [0, 1, 2, 3]


def test_packings_and_orders_are_told_apart() -> None:
    fcc, hcp = bulk("Cu", a=3.6) * (2, 1, 1), bulk("Cu", "hcp", a=3.6 / np.sqrt(2), c=3.6 * 2 / np.sqrt(3))
    assert first(fcc, hcp) == [0, 1]
    one, other = bulk("Cu", cubic=True) * (2, 1, 1), bulk("Cu", cubic=True) * (2, 1, 1)
    one.numbers[[0, 1]] = 79
    other.numbers[[0, 4]] = 79
    assert first(one, other) == [0, 1]


def test_what_no_potential_may_take_for_one_is_apart() -> None:
    atoms = water()
    charged = atoms.copy()
    charged.info = {"charge": 1, "multiplicity": 2}
    boxed = atoms.copy()
    boxed.set_cell([9, 9, 9])
    boxed.pbc = True
    assert first(atoms, charged, boxed) == [0, 1, 2]


def test_frames_that_creep_are_not_all_one() -> None:
    """Each a twin of the one before: sets are no wider than some tolerances."""
    frames = [Atoms("O2", [[0, 0, 0], [1.2 + 0.002 * k, 0, 0]]) for k in range(40)]
    found = first(*frames)
    assert 4 < len(set(found)) < 20
    prints = np.array([fingerprint(frame) for frame in frames])
    assert np.abs(prints - prints[found]).max() <= 4 * TOLERANCE + 1e-6


def test_twins_out_of_order_are_found_in_pieces() -> None:
    frames = [crystal(2, seed) for seed in range(20)]
    close = [frame.copy() for frame in frames]
    for frame in close:
        frame.positions += 1e-5
    twins = Twins()
    for part in (frames[:7], frames[7:], close[::-1]):
        twins.add(part)
    assert twins.first == [*range(20), *range(19, -1, -1)]


def test_twins_do_not_judge_each_other() -> None:
    """Out-of-bag errors of 16 structures that come twice are those of the 16, not the fourteenth part."""
    once = labelled(water(), 16)
    again = [frame.copy() for frame in once]
    for frame, copy in zip(once, again, strict=True):
        copy.positions = copy.positions.round(5)
        copy.calc = SinglePointCalculator(copy, **{name: frame.calc.results[name] for name in ("energy", "forces")})
    alone, both = alflow.fit(once, **SMALL), alflow.fit([*once, *again], **SMALL)
    assert both.judgement.force_rmse == pytest.approx(alone.judgement.force_rmse, rel=0.2)
    assert both.judgement.energy_rmse == pytest.approx(alone.judgement.energy_rmse, rel=0.2)
    assert "16 structures nearly coincide with earlier ones (structure 16 with structure 0, ...)" in both.remarks[1]


@pytest.mark.parametrize("case", ["duplicates-rounded", "duplicates-moved-and-reordered"])
def test_cases_of_twins(case: str) -> None:
    """The reported errors are those of the structures once."""
    if not CASES.is_dir():
        pytest.skip("the cases are not there")
    twice, once = (ase.io.read(CASES / case / name, ":") for name in ("train.xyz", "same-once.xyz"))
    both, alone = alflow.fit(twice), alflow.fit(once)
    assert both.judgement.force_rmse == pytest.approx(alone.judgement.force_rmse, rel=0.3)
    assert both.judgement.energy_rmse == pytest.approx(alone.judgement.energy_rmse, rel=0.5)
    assert any(re.match("16 structures nearly coincide", remark) for remark in both.remarks)
