"""Densities of species, mixed into those of pseudo-species by weights that are given."""

import numpy as np
from alflow.models.ace.basis import make_basis
from alflow.models.ace.environment import Descriptor
from alflow.models.ace.settings import lengths

from lj_frames import SIX, crowded


def test_every_species_its_own_pseudo_species_changes_nothing() -> None:
    basis, atoms = make_basis(6, 4, 3, 300, 6), crowded()
    plain = Descriptor(SIX, 3.5, basis, lengths(SIX))
    mixed = plain.with_mixing(np.eye(6))
    one, two = (found.environment(atoms) for found in (plain, mixed))
    np.testing.assert_allclose(two.a, one.a, atol=1e-12)
    for a, b in zip(plain.rows(one, strain=True), mixed.rows(two, strain=True), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-10 * np.abs(a).max())
    coefficients = np.random.default_rng(2).normal(size=(6, 1, basis.n_features))
    for a, b in zip(*(f.gradient(e, coefficients, np.ones(1)) for f, e in ((plain, one), (mixed, two))), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-10 * np.abs(a).max())


def test_densities_are_weighted_sums_and_those_of_the_species() -> None:
    """Against the densities of a basis in which nothing is mixed."""
    atoms, n_own = crowded(), 2
    plain = Descriptor(SIX, 3.5, make_basis(6, 3, 2, 3000), lengths(SIX))
    weights = np.random.default_rng(1).normal(size=(2, 6))
    basis = make_basis(6, 3, 2, 400, n_pseudo=2, n_own=n_own)
    mixed = Descriptor(SIX, 3.5, basis, lengths(SIX), weights)
    start = basis.tables.radial_start
    np.testing.assert_array_equal(start, plain.basis.tables.radial_start)
    a = plain.environment(atoms).a.reshape(-1, 6, start[-1], plain.environment(atoms).a.shape[-1])
    found = mixed.environment(atoms).a
    np.testing.assert_allclose(
        found[:, : 2 * start[-1]], np.einsum("cs,bsil->bcil", weights, a).reshape(len(a), -1, a.shape[-1]), atol=1e-12
    )
    np.testing.assert_array_equal(found[:, 2 * start[-1] :], a[:, :, start[:n_own]].reshape(len(a), -1, a.shape[-1]))
