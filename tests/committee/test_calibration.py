"""Calibration recovers what was put in; the measures of reliability have closed forms for normal errors."""

import re

import numpy as np
import pytest
from alflow.committee.calibration import calibrate, reliability
from alflow.committee.weighting import spread
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm


def judged(
    seed: int, n: int, members: int, alpha: float, floor: float, scale: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and spreads of members drawn around a centre, from which the truth is ``alpha`` times as far, and more."""
    rng = np.random.default_rng(seed)
    scale = np.broadcast_to(scale, n)
    deviations = scale[:, None] * rng.normal(size=(n, members))
    truth = alpha * scale * rng.normal(size=n) + floor * rng.normal(size=n)
    return truth - deviations.mean(axis=1), spread(deviations)


@given(st.integers(6, 40), st.floats(0.7, 5.0), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None, derandomize=True)  # 1 in 20 data sets of 6 members loses more to the floor
def test_the_factor_is_recovered(members: int, alpha: float, seed: int) -> None:
    errors, sigma = judged(seed, 4000, members, alpha, 0.0)
    found = calibrate(errors, sigma, members, np.arange(4000))
    assert found.note == ""
    total = np.hypot(found.alpha, found.floor)  # all spreads are alike: a small floor can hide among them
    assert total == pytest.approx(alpha, rel=0.08)
    assert found.alpha > 0.7 * alpha


@pytest.mark.parametrize("members", [8, 16, 40])
def test_without_a_floor_it_is_the_formula_of_the_paper(members: int) -> None:
    """Musil et al.: alpha^2 = -1/M + (M-3)/(M-1) <(error/sigma)^2>."""
    errors, sigma = judged(1, 200_000, members, 1.7, 0.0)
    paper = -1 / members + (members - 3) / (members - 1) * np.mean((errors / sigma) ** 2)
    found = calibrate(errors, sigma, members, np.arange(len(errors)))
    assert np.hypot(found.alpha, found.floor) == pytest.approx(np.sqrt(paper), rel=0.02)
    assert found.alpha == pytest.approx(np.sqrt(paper), rel=0.05)


@given(st.floats(0.7, 3.0), st.floats(0.5, 3.0), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_factor_and_floor_are_told_apart_where_spreads_differ(alpha: float, floor: float, seed: int) -> None:
    scale = 10.0 ** np.random.default_rng(seed).uniform(-2, 1, 20_000)
    errors, sigma = judged(seed, 20_000, 16, alpha, floor, scale)
    found = calibrate(errors, sigma, 16, np.arange(20_000))
    assert found.alpha == pytest.approx(alpha, rel=0.1)
    assert found.floor == pytest.approx(floor, rel=0.15)
    assert found.reliability.rms_z == pytest.approx(1.0, abs=0.12)
    assert found.reliability.coverage_1 == pytest.approx(0.683, abs=0.03)


@pytest.mark.parametrize("n", [10, 20, 200])
def test_energies_start_from_the_alpha_of_forces(n: int) -> None:
    """What is expected is right: it is found, and scatters less than without."""
    found, alone = (
        np.array(
            [
                calibrate(*judged(seed, n, 8, 2.0, 0.0), 8, np.arange(n), np.ones(n), expected=expected).alpha
                for seed in range(60)
            ]
        )
        for expected in (2.0, float("nan"))
    )
    assert np.median(found) == pytest.approx(2.0, rel=0.06)
    assert np.nanstd(np.log(found)) < np.nanstd(np.log(alone)) or n == 200


def test_what_is_expected_gives_way_to_the_data() -> None:
    errors, sigma = judged(0, 2000, 8, 2.0, 0.0, 10.0 ** np.random.default_rng(0).uniform(-1, 1, 2000))
    found = calibrate(errors, sigma, 8, np.arange(2000), np.ones(2000), expected=1.0)
    assert found.alpha == pytest.approx(2.0, rel=0.1)


def test_the_floor_grows_with_the_size() -> None:
    rng = np.random.default_rng(3)
    size = np.sqrt(rng.integers(3, 300, 5000))
    scale = 10.0 ** rng.uniform(-2, 1, 5000)
    errors, sigma = judged(4, 5000, 16, 2.0, 1.0, scale)
    found = calibrate(errors * size, sigma * size, 16, np.arange(5000), size)
    assert (found.alpha, found.floor) == pytest.approx((2.0, 1.0), rel=0.1)
    np.testing.assert_allclose(
        found.sigma(sigma, size), np.sqrt((found.alpha * sigma) ** 2 + (found.floor * size) ** 2)
    )


@pytest.mark.parametrize("n", [10, 30, 100])
def test_like_spreads_do_not_become_a_floor(n: int) -> None:
    """Where nothing tells the two apart, alpha keeps most of the error: averages are reweighted with it alone."""
    alphas = []
    for seed in range(20):
        errors, sigma = judged(seed, n, 16, 2.0, 0.0)
        alphas.append(calibrate(errors, sigma, 16, np.arange(n)).alpha)
    assert np.median(alphas) > 1.2
    assert np.nanmin(alphas) > 0.5


def test_forbidden_components_and_wild_labels_do_not_rule() -> None:
    """A third of the components are zero by symmetry; one label in a thousand is wrong by a thousand times."""
    scale = 10.0 ** np.random.default_rng(5).uniform(-1, 1, 6000)
    errors, sigma = judged(5, 6000, 16, 2.0, 0.5, scale)
    clean = calibrate(errors, sigma, 16, np.arange(6000) // 6)
    errors[::3], sigma[::3] = 1e-15, 1e-16
    forbidden = calibrate(errors, sigma, 16, np.arange(6000) // 6)
    assert forbidden.reliability.n_forbidden == 2000
    assert (forbidden.alpha, forbidden.floor) == pytest.approx((clean.alpha, clean.floor), rel=0.15)
    errors[1::1000] *= 1000
    wild = calibrate(errors, sigma, 16, np.arange(6000) // 6)
    assert (wild.alpha, wild.floor) == pytest.approx((clean.alpha, clean.floor), rel=0.25)


@pytest.mark.parametrize("wild", [False, True])
def test_zero_spread_with_an_error_gives_a_floor(wild: bool) -> None:
    """Symmetric structures: all members agree, and all are wrong. A wild label among the others changes nothing."""
    scale = 10.0 ** np.random.default_rng(6).uniform(-1, 1, 1000)
    errors, sigma = judged(6, 1000, 16, 2.0, 0.5, scale)
    sigma[:400] = 0.0
    errors[:400] = 0.5 * np.random.default_rng(7).normal(size=400)
    if wild:
        errors[700] *= 1000
    found = calibrate(errors, sigma, 16, np.arange(1000))
    assert found.reliability.n_forbidden < 150
    assert found.floor == pytest.approx(0.5, rel=0.25)
    assert found.alpha == pytest.approx(2.0, rel=0.2)


def test_of_energies_nothing_is_forbidden() -> None:
    """Small structures beside large ones have small errors and spreads, and count."""
    size = np.sqrt(np.repeat([2, 512], 50))
    errors, sigma = judged(8, 100, 16, 2.0, 0.0, size)
    found = calibrate(errors, sigma, 16, np.arange(100), size)
    assert (found.reliability.n, found.reliability.n_forbidden) == (100, 0)


def test_why_there_is_no_factor() -> None:
    ones = np.ones(20)
    cases = {
        "3 members judge each structure, at least 4": (ones, ones, 3, np.arange(20)),
        "9 structures to judge by, at least 10": (ones, ones, 8, np.arange(20) % 9),
        "alpha.2 = .* is not positive": (1e-3 * ones, ones, 8, np.arange(20)),
        "the members do not differ": (ones, 0 * ones, 8, np.arange(20)),
        "not finite": (np.where(np.arange(20) == 3, np.inf, 1.0), ones, 8, np.arange(20)),
        "or beyond all measure": (ones, np.where(np.arange(20) == 3, 1e200, 1.0), 8, np.arange(20)),
        "that are not finite": (ones, np.where(np.arange(20) == 3, np.nan, 1.0), 8, np.arange(20)),
    }
    for message, arguments in cases.items():
        found = calibrate(*arguments)
        assert np.isnan(found.alpha), message
        assert re.search(message, found.note), (message, found.note)
        assert found.factor == 1.0
        assert found.floor == (1.0 if "differ" in message else 0.0)  # all that is known is how wrong they are
        np.testing.assert_array_equal(found.sigma(ones), np.hypot(ones, found.floor))


def test_reliability_of_exact_uncertainties() -> None:
    rng = np.random.default_rng(0)
    sigma = 10.0 ** rng.uniform(-1, 1, 100_000)
    found = reliability(sigma * rng.normal(size=100_000), sigma)
    assert found.rms_z == pytest.approx(1.0, abs=0.01)
    assert found.coverage_1 == pytest.approx(norm.cdf(1) - norm.cdf(-1), abs=0.005)
    assert found.coverage_2 == pytest.approx(norm.cdf(2) - norm.cdf(-2), abs=0.005)
    assert found.nll == pytest.approx(np.mean(np.log(sigma)) + 0.5 * np.log(2 * np.pi) + 0.5, abs=0.01)
    assert found.crps == pytest.approx(np.mean(sigma) / np.sqrt(np.pi), rel=0.01)
    assert 0.5 < found.spearman < 1
    assert found.bins.shape == (10, 3)
    np.testing.assert_allclose(found.bins[:, 0], found.bins[:, 1], rtol=0.05)
    assert found.bins[:, 2].sum() == 100_000


@pytest.mark.parametrize(("error", "sigma"), [(0.0, 1.0), (0.7, 1.0), (-3.0, 0.5), (2.0, 0.0)])
def test_scores_are_their_definitions(error: float, sigma: float) -> None:
    """CRPS: the integral of (F(x) - 1[x > error])^2, by quadrature."""
    found = reliability(np.array([error]), np.array([sigma]))
    if sigma == 0:
        assert found.crps == abs(error)
        assert found.nll == np.inf
        return
    below = quad(lambda x: norm.cdf(x / sigma) ** 2, -20, error)[0]
    above = quad(lambda x: (norm.cdf(x / sigma) - 1) ** 2, error, 20)[0]
    assert found.crps == pytest.approx(below + above, abs=1e-6)
    assert found.nll == pytest.approx(-norm.logpdf(error, scale=sigma))


def test_nothing_to_compare() -> None:
    found = reliability(np.zeros(0), np.zeros(0))
    assert (found.n, found.bins.shape) == (0, (0, 3))
    assert np.isnan(found.rms_z)
    exact = reliability(np.zeros(5), np.zeros(5))
    assert (exact.rms_z, exact.coverage_1, exact.crps) == (0.0, 1.0, 0.0)  # sure, and right
    same = reliability(np.array([1.0, 2.0, 3.0]), np.ones(3))
    assert np.isnan(same.spearman)
    assert same.coverage_1 == 0.0
