"""Errors of averages of correlated series, and where a series is in equilibrium.

The statistical inefficiency g of :func:`inefficiency` is that of Chodera, Swope, Pitera, Seok and Dill, J. Chem. Theory
Comput. 3, 26 (2007), the detection of equilibrium that of Chodera, J. Chem. Theory Comput. 12, 1799 (2016). Both equal
pymbar's, which does one series at a time; here many series, of several walkers, go through at once.

Errors are not taken from it: it is never below one and ends where a correlation is first not positive, so of values
that do not correlate it is too large, by 15 to 20 % for 128 to 256 of them. :func:`windowed` has neither bias.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

_WINDOW = 2.0  # lags that are summed, in values that count as one
_LEAST = 0.5  # of g: correlations of few values may sum up to less than nothing
_ONE_SIGMA = 0.8413447460685429  # of a normal distribution is below its standard deviation
_LAGS = 3  # that are summed in any case: noise must not end the sum at once
_GAIN = 1.5  # in independent values, for which a beginning is dropped
_TRIES = 32  # starts that are tried for equilibrium


def inefficiency(series: Sequence[Array]) -> Array:
    """Statistical inefficiency of the mean of several walkers' series.

    Parameters
    ----------
    series : sequence of ndarray, shape (K_w, ...)
        Deviations from the *common* mean of all walkers: walkers that disagree with each other count as correlated.

    Returns
    -------
    ndarray, shape (...)
        g >= 1: so many values count as one. NaN where the series do not vary or are not numbers.
    """
    n = sum(len(x) for x in series)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = sum((x**2).sum(axis=0) for x in series) / n
        g = np.where(variance > 0, 1.0, np.nan)
        going = np.isfinite(g)
        for lag in range(1, max(len(x) for x in series) - 1):
            longer = [x for x in series if len(x) > lag]
            pairs = sum(len(x) - lag for x in longer)
            c = sum((x[:-lag] * x[lag:]).sum(axis=0) for x in longer) / pairs / variance
            going &= (c > 0) | (lag <= _LAGS)
            if not going.any():
                break
            g = g + np.where(going, 2 * c * pairs / n, 0.0)
    return np.maximum(g, 1.0)


def windowed(series: Sequence[Array]) -> tuple[Array, Array]:
    """Statistical inefficiency of the mean of several walkers' series, without bias where they hardly correlate.

    Correlations are summed up to the lag W >= 2 g: long enough for what is left out to be small (exp(-4) where they
    decay exponentially), and short enough for noise not to pile up. The automatic window of Madras and Sokal, J. Stat.
    Phys. 50, 109 (1988), doi:10.1007/BF01022990.

    Parameters
    ----------
    series : sequence of ndarray, shape (K_w, ...)
        Deviations from the common mean of all walkers.

    Returns
    -------
    g : ndarray, shape (...)
        So many values count as one; below 1 where neighbours differ more than others. NaN as of :func:`inefficiency`.
    freedom : ndarray, shape (...)
        Degrees of freedom of a variance that is estimated with it: the relative variance of g is 2 (2 W + 1)/K (same
        source), that of a chi-square distribution of K/(2 W + 1) degrees. As many as there are walkers to compare, at
        least, and one or more.
    """
    n = sum(len(x) for x in series)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = sum((x**2).sum(axis=0) for x in series) / n
        g = np.where(variance > 0, 1.0, np.nan)
        window = _WINDOW * g
        going = np.isfinite(g)
        for lag in range(1, max(len(x) for x in series) - 1):
            if not going.any():
                break
            longer = [x for x in series if len(x) > lag]
            c = sum((x[:-lag] * x[lag:]).sum(axis=0) for x in longer) / n / variance
            g = g + np.where(going, 2 * c, 0.0)
            window = np.where(going, np.maximum(_WINDOW * np.maximum(g, 1.0), lag), window)
            going &= lag < window
    return np.maximum(g, _LEAST), np.fmax(n / (2 * window + 1), max(len(series) - 1.0, 1.0))


def student(freedom: Array) -> Array:
    """By what an error is larger than the square root of a variance of so many degrees of freedom.

    So that it holds the truth as often as the standard deviation of a normal distribution: Student's distribution.
    """
    return np.asarray(stdtrit(freedom, _ONE_SIGMA))


def pooled(variances: Array, freedom: Array) -> tuple[Array, Array]:
    """Sum (...) of independent variances (..., M), and its degrees of freedom from theirs.

    Welch, Biometrika 34, 28 (1947), doi:10.1093/biomet/34.1-2.28: ``(sum s^2)^2 / sum (s^4/nu)``.
    """
    total = variances.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return total, np.fmax(total**2 / (variances**2 / freedom).sum(axis=-1), 1.0)


def equilibrated(series: Array) -> int:
    """First value of a series (K,) that is in equilibrium: from there on most independent values are left.

    0 unless these are half as many again as there are without dropping any. Of a short series in equilibrium the best
    start is often a late one by chance: of 75 values with a correlation time of 2, dropping for any gain makes errors
    2.2 times as large as stated, and with this margin 1.4 times. Slow drifts of short series are found by neither.
    """
    starts = range(0, max(len(series) - 1, 1), max(1, len(series) // _TRIES))
    independent: list[float] = []
    for start in starts:
        rest = series[start:]
        g = inefficiency([rest - rest.mean()])
        independent.append((len(rest) + 1) / float(g) if np.isfinite(g) else 1.0)
    best = int(np.argmax(independent))
    return starts[best] if independent[best] > _GAIN * independent[0] else 0
