"""Mixtures of members' ensembles: free energies against a closed form and pymbar, overlap against its integral."""

import logging

import numpy as np
import pytest
from alflow.averages.multistate import Mixture
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

logging.getLogger("pymbar").setLevel(logging.ERROR)
pymbar = pytest.importorskip("pymbar")

Array = NDArray[np.float64]


def wells(
    centres: Array, stiffness: Array, zero: Array, counts: list[int], seed: int, kT: float
) -> tuple[list[Array], list[Array]]:
    """Positions (n,) in harmonic wells, of independent frames, and the energies (n, M) of all wells there."""
    rng = np.random.default_rng(seed)
    walks = [c + np.sqrt(kT / k) * rng.normal(size=n) for c, k, n in zip(centres, stiffness, counts, strict=True)]
    return walks, [0.5 * stiffness * (x[:, None] - centres) ** 2 + zero for x in walks]


CENTRES, STIFFNESS, ZERO = np.array([0.0, 1.0, -0.5, 2.0]), np.array([1.0, 2.0, 0.5, 1.0]), np.array([3.0, 40, -90, 0])


def mixture(counts: list[int], seed: int = 0, kT: float = 0.7) -> tuple[Mixture, list[Array]]:
    _, energies = wells(CENTRES, STIFFNESS, ZERO, counts, seed, kT)
    return Mixture.of(energies, range(4), kT), energies


def test_free_energies_are_those_of_the_wells() -> None:
    found, _ = mixture([20_000, 30_000, 20_000, 10_000])
    exact = ZERO / 0.7 + 0.5 * np.log(STIFFNESS)
    np.testing.assert_allclose(found.free - found.free[0], exact - exact[0], atol=0.03)


@pytest.mark.parametrize("counts", [[300, 300, 300, 300], [400, 50, 0, 150]])
def test_free_energies_and_weights_are_those_of_pymbar(counts: list[int]) -> None:
    found, energies = mixture(counts)
    every = np.concatenate(energies)
    theirs = pymbar.MBAR(every.T / 0.7, counts, solver_protocol="robust")
    np.testing.assert_allclose(found.free - found.free[0], theirs.f_k - theirs.f_k[0], atol=1e-6)
    np.testing.assert_allclose(found.weights(every), theirs.weights(), rtol=1e-5, atol=1e-12)


def test_every_weight_sums_to_one_and_shares_of_a_frame_do() -> None:
    found, energies = mixture([100, 200, 0, 100])
    weights = found.weights(np.concatenate(energies))
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose((found.counts * weights).sum(axis=1), 1, rtol=1e-12)


def test_weights_are_those_of_the_potential_of_the_mixture() -> None:
    found, energies = mixture([100, 200, 100, 100])
    every = np.concatenate(energies)
    from_mixture = np.exp((found.potential(every)[:, None] - every) / 0.7 + found.free)
    np.testing.assert_allclose(found.weights(every), from_mixture, rtol=1e-9)


def test_a_constant_added_to_all_members_in_a_frame_changes_nothing() -> None:
    found, energies = mixture([100, 200, 100, 100])
    rng = np.random.default_rng(1)
    moved = [e + rng.normal(scale=1e4, size=(len(e), 1)) for e in energies]
    np.testing.assert_allclose(Mixture.of(moved, range(4), 0.7).free, found.free, atol=1e-7)


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_overlap_is_its_integral(distance: float) -> None:
    """Of two wells of one width: the share of the other at each place, averaged over the first."""
    _, energies = wells(np.array([0.0, distance]), np.ones(2), np.array([0.0, 7.0]), [100_000] * 2, 3, 1.0)
    expected = quad(lambda x: norm.pdf(x) * expit(distance * x - distance**2 / 2), -10, 10)[0]
    found = Mixture.of(energies, [0, 1], 1.0)
    assert found.overlap[0, 1] == pytest.approx(expected, rel=0.05)
    assert found.overlap[1, 0] == found.overlap[0, 1]
    assert found.groups == (1 if expected > 0.03 else 2)


def test_groups_are_linked_by_way_of_others() -> None:
    """Three wells in a row, of which the ends do not overlap; without the one between them there are two groups."""
    centres = np.array([0.0, 3.0, 6.0])
    _, energies = wells(centres, np.ones(3), np.zeros(3), [2000] * 3, 0, 1.0)
    found = Mixture.of(energies, [0, 1, 2], 1.0)
    assert found.overlap[0, 2] < 0.01
    assert found.groups == 1
    assert Mixture.of([energies[0], energies[2]], [0, 2], 1.0).groups == 2


def test_wells_that_are_very_far_apart_keep_their_frames() -> None:
    _, energies = wells(np.array([0.0, 300.0]), np.ones(2), np.array([0.0, -500.0]), [50, 70], 0, 1.0)
    found = Mixture.of(energies, [0, 1], 1.0)
    expected = np.concatenate([np.tile([1 / 50, 0], (50, 1)), np.tile([0, 1 / 70], (70, 1))])
    np.testing.assert_allclose(found.weights(np.concatenate(energies)), expected, atol=1e-12)
