"""Features of small l couple to larger ones."""

import alflow
import numpy as np
import pytest
from alflow.models.ace.basis import make_basis
from ase import Atoms
from scipy.spatial.transform import Rotation

from lj_frames import bonded, water


@pytest.mark.parametrize("l_max", range(6))
@pytest.mark.parametrize("n_features", [60, 1250, 3000])
def test_a_basis_of_any_size_can_be_made(l_max: int, n_features: int) -> None:
    assert 0 < make_basis(1, 4, l_max, n_features).n_features <= n_features


def test_pair_terms_have_more_radial_functions_than_products() -> None:
    few, many = (make_basis(2, 4, 2, 100, n_pair) for n_pair in (0, 9))
    assert many.n_features == few.n_features + 2 * 5
    assert many.degree[many.order == 1].tolist() == sorted([*range(1, 10)] * 2)
    assert (many.degree[many.order > 1] == few.degree[few.order > 1]).all()
    assert make_basis(2, 4, 2, 100, 3).n_features == few.n_features


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_products_couple_beyond_the_largest_l(l_max: int) -> None:
    """With the default number of features: invariant, and forces are the derivatives."""
    committee = alflow.fit(bonded(water(), 12), n_members=4, n_max=5, l_max=l_max)
    atoms = bonded(water(), 1, seed=7)[0]
    prediction = committee.predict(atoms)
    turned = Atoms(atoms.numbers, Rotation.random(random_state=1).apply(atoms.positions))
    assert committee.predict(turned).energy == pytest.approx(prediction.energy, abs=1e-8)
    step, numeric = 1e-4, np.zeros_like(prediction.forces)
    for i, x in np.ndindex(numeric.shape):
        moved = [atoms.copy() for _ in range(2)]
        for sign, copy in zip((1, -1), moved, strict=True):
            copy.positions[i, x] += sign * step
        plus, minus = (committee.predict(copy).energy for copy in moved)
        numeric[i, x] = (minus - plus) / (2 * step)
    np.testing.assert_allclose(prediction.forces, numeric, atol=1e-5 * np.abs(numeric).max())
