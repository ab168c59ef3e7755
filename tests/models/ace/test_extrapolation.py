"""The grade tells what is unlike the training set."""

import alflow
import numpy as np
import pytest
from alflow.models.ace import scaled
from alflow.models.ace.extrapolation import Leverage
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import given, settings
from hypothesis import strategies as st

from lj_frames import SMALL, bonded, labelled, water, with_label


def test_the_grade_is_one_in_the_training_set_and_large_outside() -> None:
    committee = alflow.fit(bonded(water(), 40), **SMALL)
    inside = np.concatenate([committee.grade(frame) for frame in committee.training.frames])
    assert np.sqrt(np.mean(inside**2)) == pytest.approx(1.0, abs=0.05)
    strange = water()
    strange.positions[3:] -= [0.0, 0.0, 0.9]
    assert committee.grade(strange).max() > 4.0
    close = water()
    close.positions[1] = close.positions[0] + 0.6 * (close.positions[1] - close.positions[0])
    grade = committee.grade(close)
    assert min(grade[0], grade[1]) > 5.0
    read = committee.predict(strange).grade
    np.testing.assert_array_equal(read, committee.grade(strange))


def test_the_grade_is_the_same_from_a_file(tmp_path) -> None:
    committee = alflow.fit(bonded(water(), 12), **SMALL)
    committee.save(tmp_path / "model.h5")
    strange = bonded(water(), 1, seed=77, scale=0.2)[0]
    np.testing.assert_allclose(alflow.load(tmp_path / "model.h5").grade(strange), committee.grade(strange), rtol=1e-6)


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_leverage_is_the_mahalanobis_distance(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(size, 200)) * rng.uniform(0.5, 2.0, size=(size, 1)) + 1.0
    leverage = Leverage.of(np.triu(b @ b.T), b.sum(axis=1), 200.0)
    x = rng.normal(size=(size, 3))
    difference = x - b.mean(axis=1, keepdims=True)
    squared = np.sum(difference * np.linalg.solve(np.cov(b, bias=True), difference), axis=0)
    np.testing.assert_allclose(leverage.grade(x), np.sqrt(squared / size), rtol=1e-3)


def test_members_agree_on_how_neighbours_share_their_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels do not say it, the prior does: what is left in atom_sigma is what is unknown."""
    test = bonded(water(), 1, seed=50)[0]
    committee = alflow.fit(bonded(water(), 30), **SMALL)
    prediction = committee.predict(test)
    monkeypatch.setattr(scaled, "_ATOM", 0.0)
    free = alflow.fit(bonded(water(), 30), **SMALL)
    assert prediction.atom_sigma.mean() < 0.3 * free.predict(test).atom_sigma.mean()
    far = bonded(water(), 1, seed=50)[0]
    far.positions[5] += [0.0, 0.0, 0.5]
    strange = committee.predict(far)
    assert np.argmax(strange.atom_sigma) == 5


def test_that_they_agree_costs_no_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of forces that are more than sums over pairs: of such the prior of atoms' energies can be seen."""

    def copper(n: int, seed: int) -> list[Atoms]:
        return labelled(bulk("Cu", cubic=True), n, seed=seed, calculator=EMT())

    errors = []
    for weight in (scaled._ATOM, 0.0):
        monkeypatch.setattr(scaled, "_ATOM", weight)
        committee = alflow.fit(copper(30, 0), **SMALL)
        found = [committee.predict(frame).forces - frame.get_forces() for frame in copper(40, 9)]
        errors.append(np.median(np.sqrt(np.mean(np.square(found), axis=(1, 2)))))
    assert errors[0] < 1.05 * errors[1]


@pytest.mark.parametrize("number", [1, 2])
def test_atoms_that_are_all_alike(number: int) -> None:
    """A perfect crystal, the commonest beginning: nothing varies but by rounding, and any displacement is unknown."""
    frames = [with_label(bulk("Cu", cubic=True), EMT()) for _ in range(number)]
    if number > 1:
        frames[1] = with_label(bulk("Si", "diamond", a=5.43, cubic=True), LennardJones(sigma=2.0, epsilon=0.1, rc=5.0))
    committee = alflow.fit(frames, n_members=8)
    known = frames[0].copy()
    assert committee.predict(known).energy == pytest.approx(frames[0].get_potential_energy(), abs=1e-3)
    assert np.isfinite(committee.grade(known)).all()
    moved = frames[0].copy()
    moved.rattle(0.1, seed=0)
    assert committee.grade(moved).min() > 100 * max(1.0, committee.grade(known).max())


def test_a_few_atoms_that_are_nearly_alike_have_a_grade() -> None:
    """Deviations of 3e-6 of the mean: of their squares four digits are left, less than the ridge asks for."""
    rng = np.random.default_rng(0)
    deviations = 3e-6 * rng.uniform(0.5, 1.5, size=20)
    deviations[:8] *= 1000
    features = rng.uniform(1, 3, size=20)[:, None] * (1.0 + deviations[:, None] * [1.0, -1.0])
    leverage = Leverage.of(features @ features.T, features.sum(axis=1), 2)
    assert leverage.grade(features) == pytest.approx([1.0, 1.0], abs=0.2)
    assert (leverage.grade(1.01 * features) > 2.0).all()
