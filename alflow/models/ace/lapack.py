"""BLAS and LAPACK as SciPy has them, called by their addresses: other threads of Python then go on.

SciPy's functions of Python hold the lock of the interpreter while they compute (seen with 1.17.1), so that of several
threads one works at a time.
"""

from collections.abc import Callable
from ctypes import CFUNCTYPE, byref, c_double, c_int64, c_void_p
from typing import Any

import numpy as np
from numba.extending import get_cython_function_address
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _routine(library: str, name: str, n_arguments: int) -> Callable[..., None]:
    """A routine of Fortran: characters, numbers and arrays, all by their addresses."""
    address = get_cython_function_address(f"scipy.linalg.cython_{library}", name)
    found = CFUNCTYPE(None, *[c_void_p] * n_arguments)(address)

    def call(*arguments: Any) -> None:
        found(*map(_address, arguments))

    return call


def _address(argument: Any) -> Any:
    """By which Fortran finds an argument."""
    if isinstance(argument, str):
        return argument.encode()
    if isinstance(argument, int):
        return byref(c_int64(argument))  # where integers have 32 bits, these are the first
    if isinstance(argument, float):
        return byref(c_double(argument))
    return argument.ctypes.data if isinstance(argument, np.ndarray) else byref(argument)


_dgemm = _routine("blas", "dgemm", 13)
_dsyrk = _routine("blas", "dsyrk", 10)
_dsymv = _routine("blas", "dsymv", 10)
_dpftrf = _routine("lapack", "dpftrf", 5)
_dpftrs = _routine("lapack", "dpftrs", 8)


def add_product(out: Array, left: Array, right: Array, factor: float = 1.0) -> None:
    """Add ``factor left right^T`` to ``out`` (m, n); left (m, k), right (n, k). All of them with contiguous rows."""
    (m, n), k = out.shape, left.shape[1]
    if min(m, n, k) > 0:
        _dgemm("T", "N", n, m, k, factor, right, _stride(right), left, _stride(left), 1.0, out, _stride(out))


def add_square(out: Array, rows: Array, factor: float = 1.0, *, upper: bool = True) -> None:
    """Add ``factor rows rows^T`` to the upper or else the lower triangle of ``out`` (n, n); rows (n, k)."""
    n, k = rows.shape
    if min(n, k) > 0:
        # What is upper in rows is lower in columns, as Fortran stores matrices.
        _dsyrk("L" if upper else "U", "T", n, k, factor, rows, _stride(rows), 1.0, out, _stride(out))


def add_times(out: Array, matrix: Array, vector: Array, *, upper: bool = True) -> None:
    """Add a symmetric matrix, of which one triangle is there, times a vector (n,) to ``out`` (n,)."""
    if len(vector):
        uplo = "L" if upper else "U"
        _dsymv(uplo, len(vector), 1.0, matrix, _stride(matrix), vector, 1, 1.0, out, 1)


def factorise(packed: Array, size: int) -> bool:
    """Cholesky factor of a packed matrix (:mod:`alflow.models.ace.packed`), in its place; False if not positive."""
    info = c_int64(0)  # room for either size
    _dpftrf("N", "L", size, packed, info)
    return info.value == 0


def solve_factorised(packed: Array, size: int, right: Array) -> None:
    """Solve with a factor of :func:`factorise` for right-hand sides (n, size), in their place."""
    info = c_int64(0)
    _dpftrs("N", "L", size, len(right), packed, right, size, info)


def _stride(matrix: Array) -> int:
    """From one row of a matrix to the next, in numbers; ValueError for what Fortran would read as something else."""
    if matrix.dtype != np.float64 or (matrix.shape[1] > 1 and matrix.strides[1] != matrix.itemsize):
        msg = f"expected contiguous rows of double precision, found {matrix.dtype}, strides {matrix.strides}"
        raise ValueError(msg)
    return max(int(matrix.strides[0]) // matrix.itemsize, int(matrix.shape[1]))
