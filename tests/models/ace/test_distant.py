"""Species that met near the cutoff only: what labels say there, and that it says nothing of shorter distances."""

from itertools import combinations

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace import distant as module
from alflow.models.ace import packed
from alflow.models.ace.core import distant, inner_distances
from alflow.models.ace.distant import meeting
from alflow.models.ace.environment import Descriptor
from alflow.models.ace.scaled import FixedRidge, Scaled
from alflow.models.ace.settings import covalent
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from differences import assert_close, derivative, moved

CUTOFF = 4.5
SMALL = {"n_members": 8, "cutoff": CUTOFF, "n_features": 60, "n_max": 5, "l_max": 2, "n_pair": 8}


def labelled(atoms: Atoms) -> Atoms:
    atoms.calc = EMT()
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return atoms


def crystals(*kinds: str, n: int, seed: int) -> list[Atoms]:
    """Eight atoms of copper, of gold, or of both, hot and strained, with EMT's labels."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        symbols = kinds[k % len(kinds)].split("-")
        side = np.mean([{"Cu": 3.61, "Au": 4.08}[symbol] for symbol in symbols]) * rng.uniform(0.97, 1.03)
        atoms = bulk("Cu", a=side, cubic=True) * (2, 1, 1)
        atoms.symbols = rng.permutation(symbols * (8 // len(symbols)))
        atoms.positions += 0.1 * rng.normal(size=(8, 3))
        frames.append(labelled(atoms))
    return frames


def slabs(n: int, seed: int, near: float, far: float) -> list[Atoms]:
    """A slab of copper and one of gold, the nearest atoms of which are that far apart, in cutoffs."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        below, above = (bulk("Cu", a=3.85 * rng.uniform(0.97, 1.03), cubic=True) * (2, 1, 1) for _ in range(2))
        above.set_cell(below.cell, scale_atoms=True)
        below.symbols, above.symbols = "Cu8", "Au8"
        for slab in (below, above):
            slab.positions += 0.1 * rng.normal(size=(8, 3))
        atoms, wanted = below + above, rng.uniform(near, far) * CUTOFF
        atoms.pbc, atoms.cell[2, 2] = (True, True, False), 40.0
        height = 20.0
        for step in 10.0 * 0.5 ** np.arange(20):  # downwards as long as they are not too near
            atoms.positions[8:, 2] = above.positions[:, 2] + height - step
            if atoms.get_all_distances(mic=True)[:8, 8:].min() > wanted:
                height -= step
        atoms.positions[8:, 2] = above.positions[:, 2] + height
        frames.append(labelled(atoms))
    return frames


def known(near: float = 0.92, far: float = 0.99) -> list[Atoms]:
    return [*crystals("Cu", "Au", n=30, seed=1), *slabs(12, 2, near, far)]


@pytest.fixture(scope="module")
def committee() -> Committee:
    return alflow.fit(known(), **SMALL)


def judged(committee: Committee, frames: list[Atoms]) -> tuple[float, float, float]:
    """Error of forces, root mean square z-score of energies, share of forces within sigma."""
    errors, z, within = [], [], []
    for atoms in frames:
        found = committee.predict(atoms)
        errors.append(np.mean((found.forces - atoms.get_forces()) ** 2))
        z.append((found.energy - atoms.get_potential_energy()) / found.energy_sigma)
        within.append(np.mean(np.abs(found.forces - atoms.get_forces()) < found.forces_sigma))
    return float(np.sqrt(np.mean(errors))), float(np.sqrt(np.mean(np.square(z)))), float(np.mean(within))


def test_where_they_meet_it_is_as_if_they_had_never_met(committee: Committee) -> None:
    """Errors were tens of eV/Å, as what was learned near the cutoff went on inwards."""
    asked = crystals("Cu-Au", n=10, seed=3)
    error, z, share = judged(committee, asked)
    never = judged(alflow.fit(known(1.01, 1.1), **SMALL), asked)[0]
    assert error < 1.5 * never
    assert z < 2.5
    assert share > 0.4
    assert any("Cu-Au (nearest 4." in remark for remark in committee.remarks)


def salts(n: int, seed: int) -> list[Atoms]:
    """Rock salt of screened charges that repel each other closely; equal ions are beyond 3/4 of a cutoff of 4 Å."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("NaCl", "rocksalt", a=4.7 * rng.uniform(0.99, 1.02), cubic=True) * (2, 1, 1)
        atoms.positions += 0.04 * rng.normal(size=atoms.positions.shape)
        i, j, r, vectors = neighbor_list("ijdD", atoms, 9.0)
        charges = np.where(atoms.numbers == 11, 1.0, -1.0)
        coulomb = 14.4 * charges[i] * charges[j] * np.exp(-r / 1.5) / r
        repulsion = 900.0 * np.exp(-r / 0.3)
        slopes = -coulomb * (1 / 1.5 + 1 / r) - repulsion / 0.3
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, (slopes / r)[:, None] * vectors)
        atoms.calc = SinglePointCalculator(atoms, energy=0.5 * np.sum(coulomb + repulsion), forces=forces)
        frames.append(atoms)
    return frames


def test_where_all_the_crystal_depends_on_it_labels_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ions of a salt never meet, and repel each other all the same."""
    settings = {"n_members": 8, "cutoff": 4.0, "n_features": 100}
    frames, asked = salts(24, 0), salts(8, 1)
    found = alflow.fit(frames, **settings)
    assert any("Na-Na (nearest" in remark for remark in found.remarks)
    error = judged(found, asked)[0]
    assert error < 0.06 * np.std([atoms.get_forces() for atoms in asked])
    monkeypatch.setattr(module, "_STIFFNESS", 4 * [(1e2, 1e8)])
    assert judged(alflow.fit(frames, **settings), asked)[0] > 2.0 * error


def test_in_pieces_it_is_the_same(committee: Committee) -> None:
    frames = known()
    other = alflow.fit(frames[:33], **SMALL)
    other.update(frames[33:])
    assert (other.model.coefficients == committee.model.coefficients).all()
    assert (other.model.descriptor.functions.inner == committee.model.descriptor.functions.inner).all()


def test_once_they_meet_closely_it_is_a_fit_to_all() -> None:
    frames, new = known(), crystals("Cu-Au", n=10, seed=5)
    updated, whole = alflow.fit(frames, **SMALL), alflow.fit([*frames, *new], **SMALL)
    updated.update(new)
    assert (updated.model.coefficients == whole.model.coefficients).all()
    assert not any("never close" in remark for remark in whole.remarks)


def test_forces_are_derivatives_of_the_energy(committee: Committee) -> None:
    atoms, expected = crystals("Cu-Au", n=1, seed=6)[0], np.zeros((8, 3))
    for i, x in np.ndindex(expected.shape):
        expected[i, x] = -derivative(lambda by, i=i, x=x: committee.predict(moved(atoms, i, x, by)).energy, 2e-3)
    assert_close(committee.predict(atoms).forces, expected)


def test_a_single_species_that_is_nowhere_near_is_fitted_as_it_is() -> None:
    """Nothing else tells what to expect of it."""
    numbers, shortest = (18,), np.array([[0.8 * CUTOFF]])
    assert not distant(shortest, CUTOFF).any()
    assert inner_distances(numbers, shortest, CUTOFF) == shortest


def test_the_core_begins_where_that_of_a_pair_that_never_met_would() -> None:
    numbers, shortest = (29, 79), np.array([[2.3, 0.95 * CUTOFF], [0.95 * CUTOFF, 2.6]])
    radii, never = covalent(numbers), np.where(np.eye(2, dtype=bool), shortest, np.inf)
    assert (distant(shortest, CUTOFF) == ~np.eye(2, dtype=bool)).all()
    np.testing.assert_array_equal(inner_distances(numbers, shortest, CUTOFF), inner_distances(numbers, never, CUTOFF))
    assert inner_distances(numbers, shortest, CUTOFF)[0, 1] == pytest.approx(
        min(2.3 / radii[0, 0], 2.6 / radii[1, 1]) * radii[0, 1]
    )


def test_features_where_they_meet_are_those_of_structures_with_the_other_species(committee: Committee) -> None:
    descriptor = committee.model.descriptor
    frame = crystals("Cu", n=1, seed=7)[0]
    found = meeting(descriptor, [frame], ~np.eye(2, dtype=bool))
    expected = []
    for gold in combinations(range(8), 4):
        frame.symbols = "Cu8"
        frame.symbols[list(gold)] = "Au"
        env = descriptor.environment(frame)
        features = descriptor.features(env)
        parts = (features[:, env.pairs.species == s] for s in range(2))
        expected.append(np.array([mine @ mine.T / 4 for mine in parts]))
    assert sum(np.allclose(found, one, rtol=1e-9, atol=1e-12) for one in expected) == 1
    assert (meeting(descriptor, [frame], np.zeros((2, 2), dtype=bool)) == 0).all()


def test_equal_ions_meet_in_files_in_which_every_second_atom_is_one() -> None:
    committee = alflow.fit(salts(12, 0), **SMALL | {"cutoff": 4.0})
    descriptor, frames = committee.model.descriptor, list(committee.training.frames)
    products = descriptor.basis.products
    alone = np.array([len(channels) == 1 and channels[0].species == 1 for channels, _ in products])
    found = meeting(descriptor, frames, np.array([[False, False], [False, True]]))[1].diagonal()[alone]
    there = np.array([np.mean(_chlorine(descriptor, frame)[alone] ** 2, axis=1) for frame in frames]).mean(axis=0)
    assert found.sum() > 10 * there.sum()


def _chlorine(descriptor: Descriptor, frame: Atoms) -> np.ndarray:
    env = descriptor.environment(frame)
    return descriptor.features(env)[:, env.pairs.species == 1]


def test_what_a_model_says_is_taken_off_the_labels(committee: Committee) -> None:
    """Normal equations of labels less predictions are those of the labels less what the coefficients say."""
    fit = committee.model.fit
    frames = committee.training
    energies = frames.energies - frames.composition() @ frames.energy_zero()
    equations = fit.jury.with_energies(fit.equations, energies, fit.energy_weight)
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=len(equations.total))
    less = equations.less(coefficients)
    gram = sum(packed.full(one) for one in equations.gram)
    total, moment = equations.square.sum(), equations.moment.sum(axis=0)
    np.testing.assert_allclose(less.moment.sum(axis=0), moment - gram @ coefficients, rtol=1e-10)
    expected = total - 2 * moment @ coefficients + coefficients @ gram @ coefficients
    assert less.square.sum() == pytest.approx(expected)
    np.testing.assert_allclose(
        less.energies.targets, equations.energies.targets - equations.energies.rows @ coefficients
    )


def test_a_fixed_ridge_is_added_to_scaled_columns(committee: Committee) -> None:
    fit = committee.model.fit
    equations, rng = fit.equations, np.random.default_rng(1)
    n_species, n_features = equations.atomic.shape[:2]
    columns = np.zeros(len(equations.total), dtype=bool)
    columns[rng.permutation(n_species * n_features)[:9]] = True
    matrix = np.zeros_like(equations.atomic)
    for s in range(n_species):
        mine = np.flatnonzero(columns[s * n_features : (s + 1) * n_features])
        half = rng.normal(size=(len(mine), len(mine)))
        matrix[s][np.ix_(mine, mine)] = half @ half.T
    scale = np.where(columns, rng.uniform(1.0, 2.0, len(columns)), 0.0)
    systems = [Scaled.of(equations, fit.penalties, fixed=FixedRidge(columns, scale, x)) for x in (matrix, 0.0 * matrix)]
    ones, none = np.ones(len(equations.gram)), np.zeros(len(columns))
    found, without = (packed.full(system.assemble(ones, none)[0]) for system in systems)
    expected = np.zeros_like(found)
    for s in range(n_species):
        here = slice(s * n_features, (s + 1) * n_features)
        expected[here, here] = scale[here, None] * matrix[s] * scale[here]
    np.testing.assert_allclose(found - without, expected, atol=1e-9 * np.abs(found).max())
    assert (systems[0].ridges[:, columns] < 1e-3).all()
    vectors = rng.normal(size=(len(columns), 2))
    np.testing.assert_allclose(
        FixedRidge(columns, scale, matrix).times(vectors)[columns],
        np.concatenate([matrix[s] @ vectors[s * n_features : (s + 1) * n_features] for s in range(n_species)])[
            columns[: n_species * n_features]
        ],
    )
