"""How the kernels are compiled."""

from typing import Any

from numba import njit

_options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
makes_arrays = njit(cache=True, **_options)
compiled = njit(cache=True, _nrt=False, **_options)  # without counting references to arrays, which it does not make
# What others call is compiled with them, never read from the cache: only then can it be inlined well.
part = njit(_nrt=False, **_options)
