"""Atoms closer than any in the training set repel each other, and nothing else changes."""

import itertools

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace.core import WEAKEST, make_core, rising
from alflow.models.ace.kernels.core import pair_core, zbl
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from lj_frames import SMALL, bonded, water


def grown_dimer(committee: Committee, a: str, b: str, shortest: float) -> tuple[np.ndarray, np.ndarray]:
    r = np.linspace(shortest, 0.25 * shortest, 120)
    found = [committee.drive(Atoms([a, b], [[0, 0, 0], [x, 0, 0]]), "none") for x in r]
    return np.array([d.energy for d in found]), np.array([d.forces[1, 0] for d in found])


def copper(n: int) -> list[Atoms]:
    """Hot copper and gold with EMT's labels, far from dimers."""
    rng, frames = np.random.default_rng(4), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.numbers[rng.permutation(32)[:8]] = 79
        atoms.positions += 0.15 * rng.normal(size=(32, 3))
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        frames.append(atoms)
    return frames


def test_atoms_pushed_together_repel_each_other() -> None:
    """Every pair of species, in every committee: the force rises all the way from the shortest distance seen."""
    for frames in (bonded(water(), 20), copper(10)):
        committee = alflow.fit(frames, **SMALL | {"cutoff": 5.0})
        symbols = sorted(set(frames[0].symbols))
        for a, b in itertools.combinations_with_replacement(symbols, 2):
            apart = [f.get_all_distances(mic=True)[np.ix_(f.symbols == a, f.symbols == b)] for f in frames]
            shortest = min(d[d > 0].min() for d in apart)
            energies, forces = grown_dimer(committee, a, b, shortest)
            assert (np.diff(energies) > 0).all(), (a, b)
            assert forces[0] > 0.9 * WEAKEST, (a, b)
            assert (np.diff(forces) > -1e-6).all(), (a, b)


def test_a_pair_never_seen_repels() -> None:
    """He and Ar are both known, but never met."""
    frames = bonded(Atoms("He2", [[0, 0, 0], [2.4, 0, 0]]), 8) + bonded(Atoms("Ar2", [[0, 0, 0], [3, 0, 0]]), 8)
    committee = alflow.fit(frames, **SMALL)
    inner = committee.model.descriptor.functions.inner[0, 1]
    assert inner > 1.0
    energies, forces = grown_dimer(committee, "He", "Ar", 0.999 * inner)
    assert (np.diff(forces) > 0).all()  # it may attract at first, as the others do, but not for long
    assert (forces[np.linspace(1.0, 0.25, 120) < 0.95] > 0).all()
    assert energies[-1] > 10.0


def test_pairs_that_attract_in_training_are_not_overruled() -> None:
    """Two atoms alone are in the training set: then its forces count, beyond the shortest distance."""
    rng, frames = np.random.default_rng(0), []
    for r in rng.uniform(2.6, 4.0, size=20):
        atoms = Atoms("Cu2", [[0, 0, 0], [r, 0, 0]])
        force = np.array([[1.0, 0, 0], [-1.0, 0, 0]]) * (0.3 / r)
        atoms.calc = SinglePointCalculator(atoms, energy=0.3 * np.log(r), forces=force)
        frames.append(atoms)
    committee = alflow.fit(frames, **SMALL | {"cutoff": 6.0})
    found = committee.drive(frames[0], "none").forces[1, 0]
    assert found == pytest.approx(frames[0].get_forces()[1, 0], abs=0.02)


def test_the_training_set_does_not_feel_the_core() -> None:
    committee = alflow.fit(bonded(water(), 20), **SMALL)
    for frame in committee.training.frames:
        env = committee.model.descriptor.environment(frame)
        assert committee.model.descriptor.core_energies(env, committee.model.core).max() < 1e-12


@given(st.floats(0.2, 0.999), st.floats(0.5, 3.0), st.floats(0.0, 20.0))
@settings(max_examples=100, deadline=None)
def test_the_core_is_smooth_and_its_force_rises(share: float, d: float, c: float) -> None:
    core = make_core((8, 14), np.full((2, 2), d), np.full((2, 2), c))
    h = 1e-5 * d
    values = [pair_core(share * d + k * h, 0, 1, core) for k in (-1, 0, 1)]
    assert (values[2][0] - values[0][0]) / (2 * h) == pytest.approx(values[1][1], rel=1e-4, abs=1e-6)
    assert values[1][0] >= 0
    assert values[1][1] <= 0
    assert values[0][1] <= values[1][1] <= values[2][1]


def test_the_core_begins_with_three_derivatives_of_zero() -> None:
    core = make_core((8, 14), np.full((2, 2), 1.5), np.full((2, 2), 7.0))
    force = [pair_core(1.5 - x, 0, 1, core)[1] for x in (0.005, 0.01)]
    assert force[1] / force[0] == pytest.approx(8, rel=0.1)  # of the third order
    assert rising(8, 14, np.linspace(1.5, 1.3, 9), np.full(9, -50.0), 2.0) == 2.0  # no C can mend that: it says so


def test_a_little_closer_than_in_training_the_features_go_on_alone() -> None:
    """Argon 0.04 Å nearer than ever seen: what ZBL adds is of the fourth order, 0.1 meV and not 1."""
    d, gap, step = 2.0, 0.04, 1e-3
    core = make_core((18, 18), np.full((2, 2), d), np.zeros((2, 2)))
    third = [zbl(d + k * step, core.charge[0, 0], core.screening[0, 0])[3] for k in (-1, 1)]
    fourth = (third[1] - third[0]) / (2 * step)
    value, slope = pair_core(d - gap, 0, 1, core)
    assert value == pytest.approx(fourth * gap**4 / 24, rel=0.1)
    assert slope == pytest.approx(-fourth * gap**3 / 6, rel=0.1)
    assert value < 1e-4


def test_zbl_is_that_of_the_literature() -> None:
    """Two hydrogen atoms: 0.8854 a_0 / 2 is the screening length; at r -> 0 the energy is Coulomb's."""
    core = make_core((1, 1), np.ones((2, 2)), np.zeros((2, 2)))
    assert core.screening[0, 0] == pytest.approx(0.8854 * 0.529177 / 2, rel=1e-5)
    value = zbl(1e-6, core.charge[0, 0], core.screening[0, 0])[0]
    assert value == pytest.approx(14.39964 / 1e-6, rel=1e-4)
    x = 0.529177 / core.screening[0, 0]
    phi = 0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x)
    phi += 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x)
    found = zbl(0.529177, core.charge[0, 0], core.screening[0, 0])[0]
    assert found == pytest.approx(14.39964 / 0.529177 * phi, rel=1e-5)


def test_forces_inside_the_core_are_the_gradient() -> None:
    committee = alflow.fit(bonded(water(), 20), **SMALL)
    atoms = water()
    atoms.positions[1] = atoms.positions[0] + 0.7 * (atoms.positions[1] - atoms.positions[0])
    weights = np.random.default_rng(0).normal(size=(6, 8))
    for w in (weights, weights[0]):

        def energy(by: float, w: np.ndarray = w) -> float:
            moved = atoms.copy()
            moved.positions[1, 2] += by
            forward = committee.forward(moved)
            return float(np.sum(w * (forward.atom_energies if w.ndim == 2 else forward.energies)))

        committee.forward(atoms)
        assert committee.model.descriptor.core_energies(committee.model._last.env, committee.model.core).max() > 1e-3
        found = committee.backward(w).forces[1, 2]
        assert found == pytest.approx(-(energy(1e-5) - energy(-1e-5)) / 2e-5, rel=1e-5)
