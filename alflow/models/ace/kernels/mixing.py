"""From densities of species to those of pseudo-species, and back; see :mod:`alflow.models.ace.pseudo_species`.

``A[c, i] = sum_s W[c, s] A[s, i]`` for all (n, lm) = i. The neighbours of a species are summed up before they are
multiplied with its weights: one product for each pseudo-species, not for each neighbour.
"""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.kernels.compiled import part
from alflow.models.ace.lanes import fill, fused, load, store

Array = NDArray[np.float64]


@part
def clear(one: Array, tables: Tables) -> None:
    """Set the densities of one species, the first rows of ``one``, to zero."""
    zero = fill(0.0)
    for i in range(tables.radial_start[-1]):
        store(one, i, zero)


@part
def mix(s: int, mixing: Array, one: Array, tables: Tables, a: Array) -> None:
    """Add the densities ``one`` of species s to those of all pseudo-species, and set its own, in a (K, LANES)."""
    start, n_own = tables.radial_start, tables.n_own
    width = start[-1]
    for c in range(mixing.shape[0]):
        for i in range(width):
            store(a, c * width + i, fused(mixing[c, s], load(one, i), load(a, c * width + i)))
    for n in range(n_own):
        store(a, mixing.shape[0] * width + s * n_own + n, load(one, start[n]))


@part
def gather(s: int, mixing: Array, da: Array, tables: Tables, one: Array) -> None:
    """The derivatives by the densities of species s, into ``one``, from those by all densities: da (K, LANES)."""
    start, n_own = tables.radial_start, tables.n_own
    width = start[-1]
    for i in range(width):
        total = fill(0.0)
        for c in range(mixing.shape[0]):
            total = fused(mixing[c, s], load(da, c * width + i), total)
        store(one, i, total)
    for n in range(n_own):
        store(one, start[n], load(one, start[n]) + load(da, mixing.shape[0] * width + s * n_own + n))
