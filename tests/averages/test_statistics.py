"""Statistical inefficiency and equilibrium against pymbar, errors against processes that are known."""

import logging

import numpy as np
import pytest
from alflow.averages.statistics import equilibrated, inefficiency, student, windowed

logging.getLogger("pymbar").setLevel(logging.ERROR)
timeseries = pytest.importorskip("pymbar.timeseries")


def correlated(seed: int, n: int, tau: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    keep = np.exp(-1 / tau)
    for k in range(1, n):
        x[k] = keep * x[k - 1] + np.sqrt(1 - keep**2) * x[k]
    return x


def known(seed: int, n_series: int, n: int, walkers: int, keep: float) -> np.ndarray:
    """Of mean 0 and variance 1, each value ``keep`` of the one before it: shape (n, walkers, n_series)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, walkers, n_series))
    for k in range(1, n):
        x[k] = keep * x[k - 1] + np.sqrt(1 - keep**2) * x[k]
    return x


@pytest.mark.parametrize("tau", [0.1, 3.0, 20.0])
def test_inefficiency_is_that_of_pymbar(tau: float) -> None:
    many = np.array([correlated(seed, 500, tau) for seed in range(5)])
    expected = [timeseries.statistical_inefficiency(x) for x in many]
    np.testing.assert_allclose(inefficiency([(many - many.mean(axis=1, keepdims=True)).T]), expected, rtol=1e-10)


def test_inefficiency_of_walkers_is_that_of_pymbar() -> None:
    walkers = [correlated(seed, n, 5.0) for seed, n in enumerate((400, 400, 400))]
    mean = np.concatenate(walkers).mean()
    expected = timeseries.statistical_inefficiency_multiple(walkers, fast=False)
    assert inefficiency([x - mean for x in walkers]) == pytest.approx(expected, rel=0.05)


def test_inefficiency_of_a_known_process() -> None:
    tau = 10.0
    x = correlated(0, 200_000, tau)
    keep = np.exp(-1 / tau)
    assert inefficiency([x - x.mean()]) == pytest.approx((1 + keep) / (1 - keep), rel=0.1)


@pytest.mark.parametrize("keep", [-0.2, 0.0, 0.4])
def test_the_windowed_inefficiency_has_no_bias(keep: float) -> None:
    x = known(0, 2000, 200, 1, keep)[:, 0]
    expected = (1 + keep) / (1 - keep)
    centred = x - x.mean(axis=0)
    assert windowed([centred])[0].mean() == pytest.approx(expected, rel=0.06)
    if keep == 0:  # as errors had it before
        assert inefficiency([centred]).mean() > 1.12


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.7])
@pytest.mark.parametrize(("walkers", "n"), [(1, 48), (1, 128), (1, 200), (4, 24), (4, 128)])
def test_one_error_holds_68_of_100_means(keep: float, walkers: int, n: int) -> None:
    x = known(1, 4000, n, walkers, keep)
    mean = x.mean(axis=(0, 1))
    deviations = x - mean
    g, freedom = windowed(list(deviations.swapaxes(0, 1)))
    count = n * walkers
    error = np.sqrt(g * np.mean(deviations**2, axis=(0, 1)) / (count - g)) * student(freedom)
    assert np.mean(np.abs(mean) < error) == pytest.approx(0.683, abs=0.05)


def test_student_is_a_table_s() -> None:
    # one sigma of Student's distribution: 1.837, 1.321, 1.197, ... (1.000 without end)
    np.testing.assert_allclose(student(np.array([1.0, 2.0, 3.0, 1e9])), [1.8373, 1.3213, 1.1969, 1.0], atol=2e-4)


def test_what_does_not_vary_has_none() -> None:
    assert np.isnan(windowed([np.zeros((5, 1))])[0]).all()
    g = inefficiency([np.array([[0.0, 1.0, np.nan], [0.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])])
    assert np.isnan(g).tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(4))
def test_equilibrium_is_that_of_pymbar(seed: int) -> None:
    """Of the same starts: what is left is as many independent values, or nearly."""
    x = correlated(seed, 256, 3.0) + 8 * np.exp(-np.arange(256) / 20.0)
    expected, _, best = timeseries.detect_equilibration(x, fast=False, nskip=8)
    found = equilibrated(x)
    assert found == expected
    assert (256 - found + 1) / timeseries.statistical_inefficiency(x[found:]) == pytest.approx(best)


def test_a_series_in_equilibrium_is_kept() -> None:
    assert equilibrated(correlated(1, 256, 1.0)) < 60
    assert equilibrated(np.zeros(100)) == 0
    assert equilibrated(np.zeros(1)) == 0
