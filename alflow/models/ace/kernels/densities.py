"""From neighbours to the densities of their atoms."""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.kernels.compiled import compiled, part
from alflow.models.ace.kernels.functions import Functions, Work, pair_functions
from alflow.models.ace.kernels.mixing import clear, mix
from alflow.models.ace.kernels.pairs import Pairs
from alflow.models.ace.lanes import LANES, fused, load, store

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@part
def load_neighbours(k: int, s: int, n_species: int, atoms: IntArray, pairs: Pairs, cutoff: float, w: Work) -> None:
    """The vectors from the atoms of a block to their k-th neighbours of species s, into w.d; of length r_c for none."""
    start, vector, d = pairs.start, pairs.vector, w.d
    for lane in range(LANES):
        atom = atoms[lane]
        p = start[atom * n_species + s] + k if atom >= 0 else 0
        if atom >= 0 and p < start[atom * n_species + s + 1]:
            d[0, lane], d[1, lane], d[2, lane] = vector[p, 0], vector[p, 1], vector[p, 2]
        else:
            # At the cutoff all radial functions are zero: it adds nothing, and no lane needs a branch of its own.
            d[0, lane], d[1, lane], d[2, lane] = cutoff, 0.0, 0.0


@part
def most_neighbours(s: int, n_species: int, atoms: IntArray, pairs: Pairs) -> int:
    """Largest number of neighbours of species s of an atom of a block."""
    largest, start = 0, pairs.start
    for lane in range(LANES):
        atom = atoms[lane]
        if atom >= 0:
            largest = max(largest, start[atom * n_species + s + 1] - start[atom * n_species + s])
    return largest


@compiled
def add_densities(
    begin: int,
    end: int,
    slots: IntArray,
    species: IntArray,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    w: Work,
    a: Array,
) -> None:
    """A of the blocks begin .. end - 1 of ``slots`` (blocks, LANES), into a (blocks, K, LANES), which holds zeros."""
    n_species, n_max, start = functions.length.shape[0], functions.n_max, tables.radial_start
    values, y, one, mixed = w.value, w.y, w.one, functions.mixing.shape[0] > 0
    # Species outermost, then the k-th neighbours: what a neighbour adds to lies side by side in memory.
    for block in range(begin, end):
        out = a[block]
        for s in range(n_species):
            r0, inner = functions.length[species[block], s], functions.inner[species[block], s]
            count = most_neighbours(s, n_species, slots[block], pairs)
            into, shift = (one, 0) if mixed else (out, s * start[-1])
            if mixed and count > 0:
                clear(one, tables)
            for k in range(count):
                load_neighbours(k, s, n_species, slots[block], pairs, functions.cutoff, w)
                pair_functions(r0, inner, functions, w)
                for n in range(n_max):
                    row, value = shift + start[n], load(values, n)
                    for lm in range(start[n + 1] - start[n]):
                        store(into, row + lm, fused(value, load(y, lm), load(into, row + lm)))
            if mixed and count > 0:
                mix(s, functions.mixing, one, tables, out)
