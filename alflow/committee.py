"""Committees: spread and calibration. Pure functions of arrays.

Imbalzano et al., J. Chem. Phys. 154, 074102 (2021), doi:10.1063/5.0036522; the calibration is that of Musil et al.,
J. Chem. Theory Comput. 15, 906 (2019), doi:10.1021/acs.jctc.8b00959.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIN_JUDGED = 10
"""Fewest judged values from which a calibration factor is taken."""


_SILENT = 1e-2  # share of the root mean square spread


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


def calibration(errors: Array, sigma: Array, n_judges: int) -> tuple[float, str]:
    r"""Factor that makes the spread of a committee match its errors.

    :math:`\alpha^2 = -1/M + \frac{M-3}{M-1} \langle (E_\mathrm{ref} - \bar E)^2 / \sigma^2 \rangle`, over structures
    that none of the M judging members has seen.

    Parameters
    ----------
    errors : ndarray, shape (n,)
        Reference minus mean of the judges.
    sigma : ndarray, shape (n,)
        Spread of the judges, same unit. Values whose spread is below a hundredth of its root mean square (a force that
        symmetry forbids, but for rounding) say nothing about the factor and are left out.
    n_judges : int
        M: how many members judged each value.

    Returns
    -------
    alpha : float
        The factor; NaN when it cannot be determined.
    note : str
        Why not; empty when it can.
    """
    if n_judges <= 3:
        return float("nan"), f"{n_judges} members judge each structure, more than 3 are needed"
    usable = sigma > _SILENT * np.sqrt(np.mean(np.square(sigma))) if len(sigma) else sigma > 0
    if np.sum(usable) < MIN_JUDGED:
        return float("nan"), f"{int(np.sum(usable))} values to judge by, at least {MIN_JUDGED} are needed"
    ratio = float(np.mean((errors[usable] / sigma[usable]) ** 2))
    alpha2 = -1.0 / n_judges + (n_judges - 3.0) / (n_judges - 1.0) * ratio
    if alpha2 <= 0:
        return float("nan"), f"alpha^2 = {alpha2:.2g} is not positive: the errors are far below the spread"
    return float(np.sqrt(alpha2)), ""
