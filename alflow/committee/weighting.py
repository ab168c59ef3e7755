"""Committees: their spread, and the weighted baseline. Pure functions of arrays.

Imbalzano et al., J. Chem. Phys. 154, 074102 (2021), doi:10.1063/5.0036522.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def spread(values: Array, axis: int = -1) -> Array:
    """Standard deviation of the members: sigma^2 = sum_m (E_m - mean)^2 / (M - 1).

    Parameters
    ----------
    values : ndarray, shape (..., M, ...)
        One value for each of M > 1 members.
    axis : int
        Axis of the members.

    Returns
    -------
    ndarray
        ``values``' shape without ``axis``.
    """
    return np.asarray(np.std(values, axis=axis, ddof=1))


def weighted(values: Array, alpha: float, s_b: float) -> tuple[Array, Array, Array]:
    r"""Weight a learned correction by how sure the committee is of it.

    :math:`w = s_b^2 / (s_b^2 + \sigma^2)`, and :math:`wV` with
    :math:`\partial (wV) / \partial V_m = w/M - 2 V s_b^2/(s_b^2+\sigma^2)^2\, \alpha^2 (V_m - V)/(M-1)`:
    the weights of the members whose sum has the exact gradient.

    Parameters
    ----------
    values : ndarray, shape (..., M)
        V_m, the members' corrections of the baseline, of a whole structure or of each atom, counted from their zero;
        eV. V is their mean.
    alpha : float
        Calibration factor: sigma is alpha times their spread.
    s_b : float
        Uncertainty of the baseline, eV, of a structure or of an atom as ``values`` are.

    Returns
    -------
    correction : ndarray, shape (...)
        w V, eV.
    weight : ndarray, shape (...)
        w, from 0 (baseline alone) to 1.
    member_weights : ndarray, shape (..., M)
        Derivative of ``correction`` with respect to each of ``values``.
    """
    n_members = values.shape[-1]
    mean = values.mean(axis=-1, keepdims=True)
    scaled = alpha * (values - mean) / s_b
    with np.errstate(over="ignore"):
        weight = 1.0 / (1.0 + np.sum(scaled**2, axis=-1, keepdims=True) / (n_members - 1))
    # In this order nothing overflows: w falls with the square of what it is multiplied with.
    steep = (weight * mean / s_b) * (weight * scaled) * (2.0 * alpha / (n_members - 1))
    return (weight * mean)[..., 0], weight[..., 0], weight / n_members - steep
