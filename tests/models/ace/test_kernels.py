"""Densities, features and gradients against independent programs, closed forms and differences."""

import itertools

import numpy as np
import pytest
from alflow.models.ace.basis import make_basis
from alflow.models.ace.environment import Descriptor
from alflow.models.ace.kernels.functions import SOFT, make_work, pair_functions
from alflow.models.ace.lanes import LANES
from alflow.models.ace.settings import AceSettings, lengths
from ase import Atoms
from ase.build import bulk
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.spatial.transform import Rotation
from sphericart import SphericalHarmonics

from lj_frames import bonded, water


def descriptor(numbers: tuple[int, ...], n_features: int = 200, l_max: int = 3, cutoff: float = 4.0) -> Descriptor:
    return Descriptor(numbers, cutoff, make_basis(len(numbers), 5, l_max, n_features), lengths(numbers))


def test_harmonics_are_those_of_sphericart() -> None:
    found = descriptor((1,), l_max=5)
    work = make_work(found.functions)
    work.d[:] = np.random.default_rng(0).normal(size=(3, LANES))
    pair_functions(1.0, 0.0, found.functions, work)
    expected = SphericalHarmonics(5).compute(np.ascontiguousarray(work.d.T))
    np.testing.assert_allclose(work.y.T, expected, atol=1e-12)


def test_radial_functions_are_chebyshev_polynomials_and_end_smoothly() -> None:
    found = descriptor((1,), cutoff=4.0)
    work = make_work(found.functions)
    r = np.linspace(0.3, 4.0, LANES)
    work.d[:] = 0.0
    work.d[2] = r
    pair_functions(1.3, 0.0, found.functions, work)
    u, low = 1 / (1 + (r / 1.3) ** 2), 1 / (1 + (4.0 / 1.3) ** 2)
    for n in range(5):
        polynomial = np.polynomial.chebyshev.Chebyshev.basis(n)(2 * (u - low) / (1 - low) - 1)
        np.testing.assert_allclose(work.value[n], polynomial * (1 - (r / 4.0) ** 2) ** 3, atol=1e-12)
    assert np.abs(work.value[:, -1]).max() < 1e-14
    assert np.abs(work.slope[:, -1]).max() < 1e-14


def test_radial_functions_rest_below_the_shortest_distance() -> None:
    found = descriptor((1,))
    work = make_work(found.functions)
    r = np.linspace(0.5, 1.2, LANES)

    def functions(at: np.ndarray, inner: float) -> tuple[np.ndarray, np.ndarray]:
        work.d[:] = 0.0
        work.d[0] = at
        pair_functions(1.3, inner, found.functions, work)
        return work.value.copy(), work.slope.copy()

    slope = (functions(r + 1e-6, 1.0)[0] - functions(r - 1e-6, 1.0)[0]) / 2e-6
    np.testing.assert_allclose(functions(r, 1.0)[1], slope, atol=1e-6)
    assert np.abs(functions(r, 1.0)[1][:, r < 1.0 - SOFT]).max() == 0.0
    np.testing.assert_array_equal(functions(r, 1.0)[0][:, r > 1.0], functions(r, 0.0)[0][:, r > 1.0])


@pytest.mark.parametrize("numbers", [(29,), (1, 8)])
def test_features_of_every_order_are_invariant_and_their_rows_are_derivatives(numbers: tuple[int, ...]) -> None:
    found = descriptor(numbers, 400)
    assert set(found.basis.order) == {1, 2, 3, 4}
    rng = np.random.default_rng(1)
    atoms = Atoms(rng.permuted(np.resize(numbers, 7)), rng.uniform(-1.6, 1.6, size=(7, 3)))
    features = found.features(found.environment(atoms))
    turned = atoms.copy()
    turned.positions = atoms.positions @ Rotation.random(rng=rng).as_matrix().T + 1.0
    np.testing.assert_allclose(found.features(found.environment(turned)), features, rtol=1e-9, atol=1e-9)
    mirrored = atoms.copy()
    mirrored.positions = -atoms.positions
    np.testing.assert_allclose(found.features(found.environment(mirrored)), features, rtol=1e-9, atol=1e-9)

    def summed(structure: Atoms) -> np.ndarray:
        of_atoms = found.features(found.environment(structure))
        return np.concatenate([of_atoms[:, structure.numbers == z].sum(axis=1) for z in numbers])

    rows, _ = found.rows(found.environment(atoms), strain=False)
    for i, x in ((0, 0), (3, 1), (6, 2)):
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[i, x] += 1e-5
        moved[1].positions[i, x] -= 1e-5
        expected = -(summed(moved[0]) - summed(moved[1])) / 2e-5
        np.testing.assert_allclose(rows[:, 3 * i + x], expected, atol=1e-7 * np.abs(rows).max())


def test_rows_and_gradient_agree() -> None:
    """Forces by back-propagation are the rows times the coefficients."""
    found = descriptor((1, 8))
    env = found.environment(bonded(water(), 1)[0])
    coefficients = np.random.default_rng(2).normal(size=(2, 3, found.basis.n_features))
    forces, _ = found.gradient(env, coefficients, np.array([0.0, 1.0, 0.0]))
    expected = coefficients[:, 1].ravel() @ found.rows(env, strain=False)[0]
    np.testing.assert_allclose(forces.ravel(), expected, atol=1e-10 * np.abs(expected).max())


def test_rows_of_the_strain() -> None:
    """Against differences, and with coefficients against the gradient by back-propagation."""
    found = descriptor((13, 29))
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[1] = "Al"
    atoms.rattle(0.1, seed=3)
    env = found.environment(atoms)
    rows, strains = found.rows(env, strain=True)
    np.testing.assert_array_equal(rows, found.rows(env, strain=False)[0])

    def summed(strain: np.ndarray) -> np.ndarray:
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        of_atoms = found.features(found.environment(strained))
        return np.concatenate([of_atoms[:, strained.numbers == z].sum(axis=1) for z in found.numbers])

    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        strain = np.zeros((3, 3))
        strain[a, b] = strain[b, a] = 1e-5 if a == b else 0.5e-5  # a component off the diagonal is there twice
        expected = (summed(strain) - summed(-strain)) / 2e-5
        np.testing.assert_allclose(strains[:, column], expected, atol=1e-7 * np.abs(strains).max())
    coefficients = np.random.default_rng(2).normal(size=(2, 3, found.basis.n_features))
    _, gradient = found.gradient(env, coefficients, np.array([0.0, 1.0, 0.0]))
    expected = full_3x3_to_voigt_6_stress((gradient + gradient.T) / 2)
    np.testing.assert_allclose(coefficients[:, 1].ravel() @ strains, expected, atol=1e-10 * np.abs(expected).max())


def test_the_number_of_features_is_kept_and_follows_the_species() -> None:
    for n_species, n_features in itertools.product((1, 2, 3), (30, 100, 333)):
        assert 5 * n_species <= make_basis(n_species, 5, 3, n_features).n_features <= max(n_features, 5 * n_species)
    assert [AceSettings().features_of(n) for n in (1, 3, 4, 10)] == [1250, 1250, 1000, 400]
    assert AceSettings(n_features=77).features_of(10) == 77
