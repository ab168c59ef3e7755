"""Statistical inefficiency and equilibrium against pymbar."""

import logging

import numpy as np
import pytest
from alflow.averages.statistics import equilibrated, inefficiency

logging.getLogger("pymbar").setLevel(logging.ERROR)
timeseries = pytest.importorskip("pymbar.timeseries")


def correlated(seed: int, n: int, tau: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    keep = np.exp(-1 / tau)
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


def test_what_does_not_vary_has_none() -> None:
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
