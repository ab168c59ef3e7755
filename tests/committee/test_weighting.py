"""The weights of a baseline: exact derivatives, no overflow, and the same numbers as i-PI."""

import numpy as np
import pytest
from alflow.committee.weighting import weighted
from hypothesis import given
from hypothesis import strategies as st

from differences import derivative
from ipi_committee import DATA, ffcommittee, reference_data


@given(st.integers(2, 20), st.floats(0.1, 5.0), st.floats(1e-3, 1e2), st.integers(0, 10**6))
def test_member_weights_are_the_derivative(members: int, alpha: float, s_b: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, members)) + 0.5
    _, weight, found = weighted(values, alpha, s_b)
    assert ((weight > 0) & (weight <= 1)).all()
    for m in range(members):
        step = np.eye(members)[m]
        expected = [
            derivative(lambda h, v=v, step=step: float(weighted(v + h * step, alpha, s_b)[0]), 1e-3 * min(1, s_b))
            for v in values
        ]
        np.testing.assert_allclose(found[:, m], expected, atol=1e-5)


def test_nothing_overflows() -> None:
    """Far outside members may be anything."""
    for size in (1e20, 1e100, 1e150):
        correction, weight, found = weighted(size * np.array([1.0, -2.0, 5.0]), 3.0, 0.1)
        assert np.isfinite([correction, weight, *found]).all()
        assert abs(correction) < 1.0 / size + 1e-12
        assert weight < 1e-30


def test_random_members_as_i_pi_combines_them() -> None:
    """Energy, forces, virial and weight to 1e-9; virials of no symmetry tell a transpose."""
    pytest.importorskip("ipi", reason="i-PI is not there: pip install ipi")
    rng = np.random.default_rng(0)
    for members, alpha, s_b in ((2, 1.0, 0.3), (4, 2.5, 1.0), (16, 0.7, 5.0)):
        energies = rng.normal(size=members) + 0.7
        forces, virials = rng.normal(size=(members, 7, 3)), rng.normal(size=(members, 3, 3))
        baseline = (float(rng.normal()), rng.normal(size=(7, 3)), rng.normal(size=(3, 3)))
        energy, force, virial, mixing = ffcommittee(energies, forces, virials, alpha, s_b, baseline)
        correction, weight, found = weighted(energies, alpha, s_b)
        np.testing.assert_allclose(baseline[0] + correction, energy, rtol=1e-9)
        np.testing.assert_allclose(weight, mixing, rtol=1e-9)
        np.testing.assert_allclose(baseline[1] + np.tensordot(found, forces, 1), force, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(baseline[2] + np.tensordot(found, virials, 1), virial, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not DATA.exists(), reason="the published data (../shared/data) are not there")
def test_the_numbers_of_i_pis_regression_test() -> None:
    """Its two members as differences from nothing, alpha 1.5, s_b 0.1 eV; steps 0, 4 and 10."""
    s_b = 0.1 / 27.211386245988  # eV in Ha, CODATA 2018
    data = reference_data()
    rows = data["energies"][[0, 2, 5]]
    correction, weight, found = weighted(rows, 1.5, s_b)
    np.testing.assert_allclose(weight, [0.297090575449, 0.339975303987, 0.223812777044], rtol=1e-9)
    np.testing.assert_allclose(correction, [-0.607254859344, -0.984074598222, -0.557090717055], rtol=1e-9)
    pytest.importorskip("ipi", reason="i-PI is not there: pip install ipi")
    n_atoms = data["forces"].shape[2]
    nothing = (0.0, np.zeros((n_atoms, 3)), np.zeros((3, 3)))
    for k, step in enumerate((0, 2, 5)):
        forces = data["forces"][step]
        virials = data["virials"][step]
        energy, force, virial, mixing = ffcommittee(rows[k], forces, virials, 1.5, s_b, nothing)
        np.testing.assert_allclose(np.tensordot(found[k], virials, 1), virial, rtol=0, atol=1e-9 * np.abs(virial).max())
        assert correction[k] == pytest.approx(energy, rel=1e-9)
        assert weight[k] == pytest.approx(mixing, rel=1e-9)
        np.testing.assert_allclose(np.tensordot(found[k], forces, 1), force, rtol=0, atol=1e-9 * np.abs(force).max())
