"""Species that never met: what is expected of them, how surely, and what that changes elsewhere."""

import copy
from collections.abc import Callable

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace.basis import make_basis, orders
from alflow.models.ace.core import inner_distances
from alflow.models.ace.settings import covalent
from alflow.models.ace.unmet import Rule, unmet
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st

from differences import assert_close, derivative, moved

SMALL = {"n_members": 8, "cutoff": 4.5, "n_features": 60, "n_max": 5, "l_max": 2, "n_pair": 8}


def drawn(n_members: int) -> Callable[[Rule], np.ndarray]:
    def draws(rule: Rule) -> np.ndarray:
        z = np.random.default_rng([k + 1 for k in rule]).normal(size=n_members)
        z -= z.mean()
        return z / np.std(z, ddof=1)

    return draws


def labelled(atoms: Atoms) -> Atoms:
    atoms.calc = EMT()
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return atoms


def alloys(*pairs: str, n: int, seed: int) -> list[Atoms]:
    """Eight atoms of two metals in any shares, hot and strained, with EMT's labels."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Ag", cubic=True) * (2, 1, 1)
        atoms.set_cell(atoms.cell * rng.uniform(0.92, 0.98), scale_atoms=True)
        a, b = pairs[k % len(pairs)].split("-")
        atoms.symbols = rng.permutation([a, b, *rng.choice([a, b], 6)])
        atoms.positions += 0.1 * rng.normal(size=(8, 3))
        frames.append(labelled(atoms))
    return frames


@pytest.fixture(scope="module")
def committee() -> Committee:
    """Of copper and silver, and silver and gold."""
    return alflow.fit(alloys("Cu-Ag", "Ag-Au", n=40, seed=1), **SMALL)


def test_errors_and_their_bars_where_two_metals_never_met(committee: Committee) -> None:
    """Copper and gold; with coefficients of zero instead errors are twice as large, and no sigma sees them."""
    model = committee.model
    met = np.zeros(model.coefficients.shape[:2], dtype=bool)
    for frame in committee.training.frames:
        env = model.descriptor.environment(frame)
        features = model.descriptor.features(env)
        met |= np.array([features[:, env.pairs.species == s].any(axis=1) for s in range(3)])
    blank = copy.copy(committee)
    blank.model = copy.copy(model)
    blank.model.set_coefficients(np.where(met[:, :, None], model.coefficients, 0.0))

    def judged(one: Committee) -> tuple[float, float, float]:
        """Error of forces, root mean square z-score of energies, share of forces within sigma."""
        errors, z, within = [], [], []
        for atoms in alloys("Cu-Au", n=10, seed=2):
            found = one.predict(atoms)
            errors.append(found.forces - atoms.get_forces())
            z.append((found.energy - atoms.get_potential_energy()) / found.energy_sigma)
            within.append(np.abs(errors[-1]) < found.forces_sigma)
        return float(np.sqrt(np.mean(np.square(errors)))), float(np.sqrt(np.mean(np.square(z)))), np.mean(within)

    (error, rms_z, share), (of_blank, z_of_blank, share_of_blank) = judged(committee), judged(blank)
    assert error < 0.5 * of_blank
    assert rms_z < 1.5 < z_of_blank
    assert share > 0.8 > 0.4 > share_of_blank


def test_it_is_said(committee: Committee) -> None:
    assert any(r.startswith("never close to each other: Cu-Au;") for r in committee.remarks)


def test_what_was_met_is_as_before(committee: Committee) -> None:
    """The training set has no such feature: it cannot tell."""
    coefficients = committee.model.coefficients
    env = committee.model.descriptor.environment(committee.training.frames[0])
    features = committee.model.descriptor.features(env)
    gold = np.array([c.species == 2 for c in (p[0][0] for p in committee.model.descriptor.basis.products)])
    assert not features[:, env.pairs.species == 0][gold].any()
    assert np.abs(coefficients[0, gold]).max() > 0


def test_forces_of_what_never_met_are_derivatives_of_the_energy(committee: Committee) -> None:
    atoms, expected = alloys("Cu-Au", n=1, seed=3)[0], np.zeros((8, 3))
    for i, x in np.ndindex(expected.shape):
        expected[i, x] = -derivative(lambda by, i=i, x=x: committee.predict(moved(atoms, i, x, by)).energy, 2e-3)
    assert_close(committee.predict(atoms).forces, expected)


def test_in_pieces_it_is_the_same(committee: Committee) -> None:
    frames = alloys("Cu-Ag", "Ag-Au", n=40, seed=1)
    other = alflow.fit(frames[:21], **SMALL)
    other.update(frames[21:])
    assert (other.model.coefficients == committee.model.coefficients).all()


def test_once_they_have_met_nothing_is_drawn(committee: Committee) -> None:
    met = alflow.fit([*alloys("Cu-Ag", "Ag-Au", n=40, seed=1), *alloys("Cu-Au", n=20, seed=5)], **SMALL)
    assert not any("never close" in r for r in met.remarks)
    spread = [c.predict(alloys("Cu-Au", n=1, seed=6)[0]).energy_sigma for c in (met, committee)]
    assert spread[0] < 0.1 * spread[1]


@given(st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_a_potential_that_does_not_tell_species_apart_is_recognised(n_species: int, seed: int) -> None:
    """Its coefficients are those of one species, times the orders of channels; the others have nothing to add."""
    basis = make_basis(n_species, 3, 2, 150)
    rng = np.random.default_rng(seed)
    blind: dict[object, float] = {}
    coefficients = np.zeros(basis.n_features)
    for k, (channels, l) in enumerate(basis.products):
        key = tuple((c.n, c.l) for c in channels), l
        coefficients[k] = blind.setdefault(key, float(rng.normal())) * orders((channels, l))
    every = np.tile(coefficients, (n_species, 1))
    met = rng.random(every.shape) < 0.7
    squares = np.where(met, rng.uniform(0.1, 1.0, met.shape), 0.0)
    close = np.ones((n_species, n_species), dtype=bool)
    _, mean, _, deviations = unmet(basis, squares, close, np.where(met, every, np.nan), drawn(6))
    share = mean[~met] / every[~met]
    assert ((share == 0) | ((share > 0.1) & (share < 1.0))).all()
    assert (mean[met] == 0).all()
    assert (deviations[met] == 0).all()
    np.testing.assert_allclose(deviations.sum(axis=2), 0, atol=1e-12)


def test_mean_and_variance_are_those_of_the_hierarchical_model() -> None:
    """Two species, one radial function: of gold around copper two analogues are known, 1 and 3, not equally well."""
    basis = make_basis(2, 1, 0, 2)
    squares, close = np.array([[0.01, 0.0], [1.0, 0.005]]), np.ones((2, 2), dtype=bool)  # weights of 1/2, 1/3
    found = unmet(basis, squares, close, np.array([[1.0, 0.0], [5.0, 3.0]]), drawn(200_000))
    a, n, q = 1.8, 25 / 13, 2.0
    share = q * n / (q * n + 1)
    v = 0.6 * (1 - a) ** 2 + 0.4 * (3 - a) ** 2 + a**2 / (q * n + 1)
    assert found.mean[0, 1] == pytest.approx(share * a)
    assert found.variance[0, 1] == pytest.approx((1 + share / n) * v)
    assert np.var(found.deviations[0, 1]) == pytest.approx((1 + share / n) * v, rel=0.01)
    assert found.guessed.tolist() == [[False, True], [False, False]]


def test_a_pair_that_met_near_the_cutoff_tells_nothing_of_others() -> None:
    """Its coefficients are enormous, as its features are tiny: a gold atom far from silver spoiled copper and gold."""
    far = []
    for seed in range(6):
        atoms = bulk("Ag", cubic=True) * (2, 1, 1)
        atoms.pbc = False
        atoms.rattle(0.1, seed=seed)
        atoms += Atoms("Au", [atoms.positions[atoms.positions[:, 2].argmax()] + [0, 0, 4.2]])
        far.append(labelled(atoms))
    alone = [labelled(Atoms(symbol)) for symbol in ("Cu", "Ag", "Au")]
    known = [*alloys("Cu-Ag", n=40, seed=1), *alloys("Au-Au", n=10, seed=4), *alone]
    errors = []
    for frames in (known, [*known, *far]):
        found = alflow.fit(frames, **SMALL)
        asked = alloys("Cu-Au", n=5, seed=2)
        errors.append(np.std([found.predict(atoms).forces - atoms.get_forces() for atoms in asked]))
    assert errors[1] < 2.0 * errors[0]
    assert any("Ag-Au (nearest 4." in remark for remark in found.remarks)


def test_a_pair_that_never_met_may_come_as_close_as_those_that_did() -> None:
    numbers = (29, 47, 79)
    radii, shortest = covalent(numbers), np.full((3, 3), np.inf)
    shortest[1, 1] = 0.9 * radii[1, 1]
    shortest[0, 1] = shortest[1, 0] = 0.8 * radii[0, 1]
    inner = inner_distances(numbers, shortest, 6.0)
    np.testing.assert_allclose(inner[[0, 0, 2], [0, 2, 1]], 0.8 * radii[[0, 0, 2], [0, 2, 1]])
    assert inner[2, 2] == pytest.approx(0.8 * radii[2, 2])  # of gold nothing met: as the closest of all
    np.testing.assert_allclose(inner_distances(numbers, np.full((3, 3), np.inf), 6.0), 1.5 * radii)
