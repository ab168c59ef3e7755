"""How far an atom's surroundings are from those of the training set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dtrtri

Array = NDArray[np.float64]

_ROUNDING = 1e-7  # of a mean, of what is computed from squares in double precision
_RIDGE = 1e-6  # share of each feature's variance that is noise

_NEVER = 1e-3  # deviation, relative to the features' median, of a feature that has none


@dataclass(frozen=True, eq=False)
class Leverage:
    """Leverage of an atom's features b against those of the training set, of one species.

    ``grade = sqrt((b - mean)^T C^-1 (b - mean) / p)``, where C is the covariance of the features over all atoms of that
    species, each feature's variance increased by a small share, and p the effective number of features: the root mean
    square of the grade over the training set is 1. Whatever the labels say, surroundings with a grade far above 1 are
    unlike any that the members agree on.

    Attributes
    ----------
    mean, scale : ndarray, shape (F,)
        Of the features; one that never varied is scaled as if it had a little, so that it shows where it does.
    factor : ndarray, shape (F, F)
        Lower Cholesky factor of C in scaled features.
    p : float
        See above.
    """

    mean: Array
    scale: Array
    factor: Array
    p: float

    @classmethod
    def of(cls, squares: Array, total: Array, n: float) -> "Leverage":
        """From the sum of b b^T (its upper triangle; shape (F, F)), the sum of b (F,), and the number of atoms."""
        mean = total / max(n, 1.0)
        covariance = np.triu(squares) / max(n, 1.0)
        covariance = covariance + np.triu(covariance, 1).T - np.outer(mean, mean)
        # Scaled to correlations first: features differ by orders of magnitude, and one ridge for all would drown some.
        deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        # Of atoms that are all alike nothing but rounding is left of the difference of two sums.
        varies = deviation > _ROUNDING * np.abs(mean)
        covariance[~varies] = covariance[:, ~varies] = 0.0
        least = _NEVER * float(np.median(deviation[varies])) if varies.any() else 1.0
        scale = np.asarray(1.0 / np.maximum(deviation, least), dtype=np.float64)
        correlation = scale[:, None] * covariance * scale
        factor, ridge = _factorised(correlation)
        # Directions below the ridge are noise, and do not count among the p.
        inverse, _ = dtrtri(factor.T)  # of the transposed, which is how Fortran sees it
        p = len(factor) - ridge * float(np.sum(inverse**2))
        return cls(mean, scale, factor, max(p, 1e-12))

    def grade(self, features: Array) -> Array:
        """Of atoms whose features are the columns of (F, N); shape (N,)."""
        scaled = (features - self.mean[:, None]) * self.scale[:, None]
        white = solve_triangular(self.factor, scaled, lower=True, check_finite=False)
        return np.asarray(np.sqrt(np.sum(white**2, axis=0) / self.p))


def _factorised(correlation: Array) -> tuple[Array, float]:
    """Lower Cholesky factor of a matrix (F, F) and a ridge, and that ridge: the least that makes it positive."""
    # Of a few atoms that are nearly alike, covariances are what is left of sums that cancel: rounding may be more than
    # the usual ridge.
    ridge = _RIDGE
    while True:
        try:
            factor = np.linalg.cholesky(correlation + ridge * np.eye(len(correlation)))
        except np.linalg.LinAlgError:
            if ridge > 1.0:
                raise
            ridge *= 10.0
        else:
            return np.asarray(factor, dtype=np.float64), ridge
