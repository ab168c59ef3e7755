"""Symmetric matrices of which half is stored, and what is done with them: sums of squares, products, solutions.

A matrix A of D columns is an array of D/2 rows (rounded up) that are D + 1 long, or D where that is odd: rectangular
full packed format (Gustavson, Wasniewski, Dongarra and Langou, ACM Trans. Math. Softw. 37, 18 (2010),
doi:10.1145/1731022.1731028), which LAPACK factorises as fast as a full matrix. With h = D/2, rounded up, row r is

====================================  ==========================================================================
of A[i, h], ..., A[i, i]              with i = h + r, or h + r - 1 where D is odd: row i from the middle to the
                                      diagonal (nothing for the first row of an odd matrix)
then A[r, r], ..., A[r, D - 1]        row r from the diagonal to the end
====================================  ==========================================================================

So what is done to elements one by one, as sums of matrices, is done to contiguous arrays; and the first and the second
half of the diagonal and what is beside them are three matrices for BLAS (:func:`parts`).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace import lapack

Array = NDArray[np.float64]

_SMALL = 256  # columns up to which a sum of squares is not worth to be shared


def shape(size: int) -> tuple[int, int]:
    """Of the array of a matrix with so many columns."""
    return (size + 1) // 2, size + 1 - size % 2


def size_of(packed: Array) -> int:
    """Number of columns of a matrix (or of each of several)."""
    height, width = packed.shape[-2:]
    return int(width - (width > 2 * height))


def parts(packed: Array) -> tuple[Array, Array, Array]:
    """Views of A[:h, :h], its upper triangle, of A[:h, h:], and of A[h:, h:], its lower triangle."""
    size, height = size_of(packed), packed.shape[-2]
    even = 1 - size % 2
    first, beside = packed[..., even : even + height], packed[..., even + height :]
    return first, beside, packed[..., 1 - even :, : size - height]


def diagonal(packed: Array) -> Array:
    """Of a matrix, or of several: shape (..., D)."""
    first, _, second = parts(packed)
    return np.concatenate([np.diagonal(x, axis1=-2, axis2=-1) for x in (first, second)], axis=-1)


def add_to_diagonal(packed: Array, values: Array) -> None:
    """Add (D,) to the diagonal of a matrix."""
    first, _, second = parts(packed)
    for part, mine in ((first, values[: len(first)]), (second, values[len(first) :])):
        part[np.diag_indices(len(mine))] += mine


def last_columns(packed: Array, n: int) -> Array:
    """The last n columns of a matrix, or of several: shape (..., D, n); n at most D/2."""
    _, beside, second = parts(packed)
    below = np.tril(second[..., -n:, -n:])
    corner = below + np.swapaxes(np.tril(below, -1), -1, -2)
    above = np.swapaxes(second[..., -n:, :-n], -1, -2)
    return np.concatenate([beside[..., -n:], above, corner], axis=-2)


def squares(packed: Array, rows: Array, factor: float = 1.0) -> list[Callable[[], None]]:
    """What adds ``factor rows rows^T`` to a matrix, rows (D, n): pieces that may be done at once, in any order.

    They are the same whatever number of threads there is, so no digit depends on it. The longest come first.
    """
    first, beside, second = parts(packed)
    half = len(first)
    a, b = rows[:half], rows[half:]
    if len(rows) <= _SMALL:
        return [
            partial(lapack.add_product, beside, a, b, factor),
            partial(lapack.add_square, first, a, factor),
            partial(lapack.add_square, second, b, factor, upper=False),
        ]
    m, n = half // 2, len(b) // 2
    return [
        partial(lapack.add_product, beside[:m], a[:m], b, factor),
        partial(lapack.add_product, beside[m:], a[m:], b, factor),
        partial(lapack.add_product, first[:m, m:], a[:m], a[m:], factor),
        partial(lapack.add_product, second[n:, :n], b[n:], b[:n], factor),
        partial(lapack.add_square, first[:m, :m], a[:m], factor),
        partial(lapack.add_square, first[m:, m:], a[m:], factor),
        partial(lapack.add_square, second[:n, :n], b[:n], factor, upper=False),
        partial(lapack.add_square, second[n:, n:], b[n:], factor, upper=False),
    ]


def times(packed: Array, vector: Array) -> Array:
    """Product of a matrix and a vector (D,)."""
    first, beside, second = parts(packed)
    x, y = vector[: len(first)], vector[len(first) :]
    above, below = beside @ y, x @ beside
    lapack.add_times(above, first, x)
    lapack.add_times(below, second, y, upper=False)
    return np.concatenate([above, below])


def solution(packed: Array, right: Array) -> tuple[Array, float]:
    """Solution and logarithm of the determinant, of a matrix that is overwritten; right (D,) or (D, n).

    NaN both where rounding has made the matrix indefinite.
    """
    size = len(right)
    if not lapack.factorise(packed, size):
        return np.full_like(right, np.nan), float("nan")
    found = np.array(right.T, order="C")
    lapack.solve_factorised(packed, size, found.reshape(-1, size))
    return found.T, 2.0 * float(np.sum(np.log(diagonal(packed))))


def with_diagonal(packed: Array, ridge: Array, out: Array | None = None) -> Array:
    """A copy of a matrix, in ``out`` where that is given, with the ridge (D,) on its diagonal."""
    out = np.empty_like(packed) if out is None else out
    np.copyto(out, packed)
    add_to_diagonal(out, ridge)
    return out


def scaled(packed: Array, scale: Array) -> Array:
    """A matrix with its rows and its columns multiplied by a scale (D,)."""
    out, odd = packed.copy(), len(scale) % 2
    for r, row in enumerate(out):
        middle = r + 1 - odd
        if middle:
            i = len(out) + middle - 1
            row[:middle] *= scale[i] * scale[len(out) : i + 1]
        row[middle:] *= scale[r] * scale[r:]
    return out


def full(packed: Array) -> Array:
    """The whole matrix, shape (D, D)."""
    first, beside, second = parts(packed)
    upper = np.block([[first, beside], [np.zeros_like(beside.T), second.T]])
    return np.asarray(np.triu(upper) + np.triu(upper, 1).T)
