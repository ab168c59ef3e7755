"""Hadamard matrices: square matrices of ones and minus ones whose rows, and columns, are orthogonal to each other."""

from functools import cache

import numpy as np
from numpy.typing import NDArray


def hadamard(n_rows: int) -> NDArray[np.int64]:
    """A Hadamard matrix of the smallest order of at least ``n_rows`` that two constructions reach, shape (K, K).

    Sylvester, Phil. Mag. 34, 461 (1867): from one of order K one of order 2 K. Paley, J. Math. Phys. 12, 311 (1933),
    its first: of order q + 1, from the squares modulo a prime q = 3, 7, 11, ... (q mod 4 = 3).
    """
    order = n_rows
    while (matrix := _of_order(order)) is None:
        order += 1
    return matrix


@cache
def _of_order(order: int) -> NDArray[np.int64] | None:
    """None where neither construction reaches it."""
    if order == 1:
        return np.ones((1, 1), dtype=np.int64)
    if order % 2 == 0 and (half := _of_order(order // 2)) is not None:
        return np.kron(np.array([[1, 1], [1, -1]]), half)
    q = order - 1
    if q % 4 != 3 or any(q % divisor == 0 for divisor in range(2, int(q**0.5) + 1)):
        return None
    # Whether a number is a square modulo q: 1 if so, -1 if not, 0 of zero itself.
    legendre = np.full(q, -1)
    legendre[np.arange(1, q) ** 2 % q] = 1
    legendre[0] = 0
    matrix = np.ones((order, order), dtype=np.int64)
    matrix[1:, 1:] = legendre[(np.arange(q)[:, None] - np.arange(q)) % q] - np.eye(q, dtype=np.int64)
    return matrix
