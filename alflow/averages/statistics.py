"""Errors of averages of correlated series, and where a series is in equilibrium.

The statistical inefficiency g is that of Chodera, Swope, Pitera, Seok and Dill, J. Chem. Theory Comput. 3, 26 (2007),
the detection of equilibrium that of Chodera, J. Chem. Theory Comput. 12, 1799 (2016). Both equal pymbar's, which does
one series at a time; here many series, of several walkers, go through at once.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
