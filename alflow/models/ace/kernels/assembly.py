"""Sums over groups of structures, weighted and scaled: several at once."""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.kernels.compiled import compiled, part

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@compiled
def assemble(
    first: int,
    last: int,
    gram: Array,
    number: IntArray,
    some: IntArray,
    weights: Array,
    means: Array,
    scale: Array,
    crosses: Array,
    prior: Array,
    ridge: Array,
    out: Array,
) -> None:
    """Rows first .. last - 1 of K scaled matrices, in the format of :mod:`alflow.models.ace.packed`.

    Parameters
    ----------
    gram : ndarray, shape (G, h, w)
        Of the groups.
    number, some, weights : ndarray, shape (K,), (K, G) and (K, G)
        Of how many groups each sum is, of which, and their weights.
    means, scale : ndarray, shape (D,)
        Taken off the columns, each as often as there are atoms of its species, and multiplied; the last S means are 0.
    crosses : ndarray, shape (K, S, D)
        The last S rows of the weighted sums.
    prior : ndarray, shape (S, F, F)
        Added to the columns of each species.
    ridge : ndarray, shape (D,)
        Added to the diagonal.
    out : ndarray, shape (K, h, w)
        The matrices.
    """
    size, height = scale.size, out.shape[1]
    odd = size % 2
    for r in range(first, last):
        middle = r + 1 - odd  # where row r of the first half begins; the row of the second half ends there
        # One row of all sums, then the next: that row of all groups is then in the cache.
        for k in range(out.shape[0]):
            _add_up(gram, some[k, : number[k]], weights[k], r, out[k, r])
            if middle > 0:
                i = height + middle - 1
                _scale(i, height, i + 1, means, scale, crosses[k], prior, out[k, r, :middle])
                out[k, r, middle - 1] += ridge[i]
            _scale(r, r, size, means, scale, crosses[k], prior, out[k, r, middle:])
            out[k, r, middle] += ridge[r]


@part
def _add_up(gram: Array, some: IntArray, weights: Array, r: int, row: Array) -> None:
    """Row r of a weighted sum."""
    # Four groups a time: what is read and written then is mostly groups, and not the sum. In a fixed order.
    n = some.size
    row[:] = 0.0
    for g in range(0, n - n % 4, 4):
        a, b, c, d = weights[g], weights[g + 1], weights[g + 2], weights[g + 3]
        p, q, s, t = gram[some[g], r], gram[some[g + 1], r], gram[some[g + 2], r], gram[some[g + 3], r]
        for j in range(row.size):
            row[j] += a * p[j] + b * q[j] + c * s[j] + d * t[j]
    for g in range(n - n % 4, n):
        a, p = weights[g], gram[some[g], r]
        for j in range(row.size):
            row[j] += a * p[j]


@part
def _scale(i: int, begin: int, end: int, means: Array, scale: Array, crosses: Array, prior: Array, row: Array) -> None:
    """Of row i of a matrix the columns begin .. end - 1, which ``row`` holds: centred, scaled, with the prior."""
    n_species, n_features = prior.shape[0], prior.shape[1]
    last = n_species * n_features
    s = min(i // n_features, n_species - 1)  # of a count, the mean of which is 0, any
    for t in range(n_species + 1):
        here, stop = max(begin, t * n_features), min(end, (t + 1) * n_features)
        other = 0.0
        if t < n_species:
            other = crosses[t, i] - means[i] * crosses[t, last + s]
        else:
            stop = end
        mine, factor = means[i], scale[i]
        for j in range(here, stop):
            row[j - begin] = (row[j - begin] - mine * crosses[s, j] - means[j] * other) * (factor * scale[j])
        if t == s and i < last:
            k = i - s * n_features
            for j in range(here, stop):
                row[j - begin] += prior[s, k, j - s * n_features]
