"""How errors compare with the uncertainties that were given for them.

The plain numbers alone, apart from what computes them: whoever reads a record of them needs no statistics.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """How errors compare with the uncertainties that were given for them, z being their ratio.

    Attributes
    ----------
    n : int
        Number of values.
    n_forbidden : int
        Force components left out that symmetry forbids, of which the members and the reference are sure.
    rms_z : float
        Root mean square of z; 1 is ideal.
    coverage_1, coverage_2 : float
        Share of values with abs(z) below 1 and 2; 0.683 and 0.954 for a normal distribution.
    nll : float
        Mean negative log-likelihood of the errors under normal distributions; their unit is that of the errors.
    crps : float
        Mean continuous ranked probability score (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007)) of the same
        distributions, in the unit of the errors.
    spearman : float
        Rank correlation of abs(error) with sigma; NaN where all sigmas are the same.
    bins : ndarray, shape (B, 3)
        Reliability diagram: root mean square of sigma, root mean square error and number of values, in bins of equally
        many values in the order of sigma.
    """

    n: int = 0
    n_forbidden: int = 0
    rms_z: float = float("nan")
    coverage_1: float = float("nan")
    coverage_2: float = float("nan")
    nll: float = float("nan")
    crps: float = float("nan")
    spearman: float = float("nan")
    bins: Array = field(default_factory=lambda: np.zeros((0, 3)))
